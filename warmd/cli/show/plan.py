"""``plan``: what would happen, and why, so that a person can decide."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from warmd.cli.show.base import Answer, Row, ago, console, count, heading, line, table, tell, word


def plans(answers: Sequence[Answer], *, to: Console | None = None, now: datetime | None = None) -> None:
    """Several services' plans, one under the other."""
    to = to or console()
    for place, answer in enumerate(answers):
        if place:
            to.print()
        plan(answer, to=to, now=now)


def plan(answer: Answer, *, to: Console | None = None, now: datetime | None = None) -> None:
    """One service's plan. ``answer`` is one of the answers to ``plan``."""
    to, now = to or console(), now or datetime.now(UTC)
    if "error" in answer:
        tell(to, word(answer["service"], "bold"), ": ", word("error"), f": {answer['error']}")
        return
    aim = f" to {answer['target']}" if answer["target"] else ""
    tell(
        to,
        word(answer["service"], "bold"),
        f" (stack {answer['stack']}): ",
        word(answer["decision"]),
        word(aim, "bold") if aim else "",
    )
    tell(to, f"why      {answer['reason'] or '-'}", indent=2, hang=9)
    tell(to, f"current  {answer['current'] or 'not known'}", indent=2)
    tell(to, f"health   {answer['health']}", indent=2, hang=9)
    for held in answer["held"]:
        tell(to, "held     ", word(held, "yellow"), indent=2, hang=9)
    for odd in answer.get("warnings", ()):
        tell(to, "odd      ", word(odd, "yellow"), indent=2, hang=9)
    _releases(to, answer, now)
    _changes(to, answer)
    _steps(to, answer)
    _next(to, answer)


def _releases(to: Console, answer: Answer, now: datetime) -> None:
    releases, ignored = answer["releases"], answer["ignored_tags"]
    if releases:
        above = f" above {answer['current']}" if answer["current"] else ""
        heading(to, f"Releases{above}")
        table(
            to, ("RELEASE", "PUBLISHED", "VERDICT"), [_release(to, r, now) for r in releases], notes="RULES"
        )
    elif answer["current"]:
        heading(to, f"No release above {answer['current']}")
    if ignored:
        tell(to, Text(f"{count(ignored, 'tag')} that {'is' if ignored == 1 else 'are'} no version: ignored"))
    with_notes = [r for r in releases if r["notes"]]
    if with_notes:
        heading(to, f"Notes to read (warmd alerts {answer['service']} shows those that hold it)")
    for release in with_notes:
        for path in release["notes"]:
            tell(to, f"{release['version']}  {path}  (at commit {release['commit'][:12]})", indent=2)


def _release(to: Console, release: Answer, now: datetime) -> Row:
    verdict = word("passes", "green") if release["passes"] else word(release["hold"])
    yes, no = _marks(to)
    passed = [v["rule"] for v in release["verdicts"] if v["passed"]]
    notes = [line(Text(yes, style="green"), f" {', '.join(passed)}")] if passed else []
    # An approval lets through what the rules about the way hold: they are shown, but don't count.
    excused = release["approved"] and release["passes"]
    style = "dim" if excused else "red"
    for v in release["verdicts"]:
        if not v["passed"]:
            notes.append(line(Text(no, style=style), f" {v['rule']}: {v['reason']}"))
    if release["crossed"]:
        notes.append(line(Text(no, style=style), f" crosses {release['crossed']}"))
    if release["approved"]:
        notes.append(line(Text(yes, style="green"), " approved"))
    return Row(
        (word(release["version"], "bold"), word(ago(release["published"], now)), verdict), tuple(notes)
    )


def _marks(to: Console) -> tuple[str, str]:
    return ("✓", "✗") if to.encoding.lower().startswith("utf") else ("ok", "NO")


def _changes(to: Console, answer: Answer) -> None:
    if answer["changes"]:
        heading(to, "Differences")
    for change in answer["changes"]:
        tell(to, change, indent=2)


def _steps(to: Console, answer: Answer) -> None:
    if not answer["steps"]:
        heading(to, "Nothing would be done.")
        return
    heading(to, "What would happen")
    for number, step in enumerate(answer["steps"], 1):
        tell(to, f"{number}. {step}", indent=2, hang=3)
    tell(to, f"Expected outage: {answer['outage']}")


def _next(to: Console, answer: Answer) -> None:
    if answer["commands"]:
        heading(to, f"{'Nothing was changed. ' if answer['steps'] else ''}What you may type:")
        for command in answer["commands"]:
            tell(to, Text("$ ", style="dim"), word(command, "cyan"), indent=2)
