"""``history``: what was done to a service, and how long it took."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from warmd.cli.show.base import (
    Answer,
    Row,
    console,
    count,
    heading,
    moment,
    since,
    table,
    tell,
    took,
    when,
    word,
)

#: Runs in the table; a person looks for the newest.
SHOWN = 15

_HOW = {
    "taken-over": "found running and taken over",
    "adopted": "adopted by a person",
    "committed": "deployed by warmd",
    "went-back": "put back by warmd",
    "unchanged": "the old version, after an interrupted run",
}


def history(answer: Answer, *, to: Console | None = None, now: datetime | None = None) -> None:
    """One service's history. ``answer`` is the answer to ``history``."""
    to, now = to or console(), now or datetime.now(UTC)
    good, runs = answer["last_good"], answer["runs"]
    if good:
        version = word(good["version"] or "unknown version", "bold")
        tell(to, word(answer["service"], "bold"), ": last good is ", version)
        tell(to, f"{_HOW.get(good['how'], good['how'])}, {since(good['at'], now)}", indent=2)
        if good["commit"]:
            tell(to, f"commit {good['commit'][:12]}", indent=2)
    else:
        tell(to, word(answer["service"], "bold"), ": no version is known to be good yet")
    if runs:
        to.print()
        titles = ("RUN", "KIND", "TO", "STARTED (UTC)", "TOOK", "OUTAGE", "OUTCOME")
        table(to, titles, [_row(run) for run in runs[-SHOWN:]], notes="DETAIL")
        if len(runs) > SHOWN:
            tell(to, f"{count(len(runs) - SHOWN, 'older run')} in --json", indent=2)
        _last(to, runs[-1], now)
    else:
        tell(to, "No run yet.", indent=2)
    _taken_over(to, answer)
    _failures(to, answer)
    _approvals(to, answer, now)


def _row(run: Answer) -> Row:
    begun, ended = moment(run["started"]), moment(run["ended"])
    length = (ended - begun).total_seconds() if begun and ended else None
    notes = [word(run["detail"])] if run["detail"] else []
    if run["asked_by"]:
        notes.append(word(f"asked by {run['asked_by']}{': ' if run['why'] else ''}{run['why']}", "dim"))
    return Row(
        (
            word(run["id"], "bold"),
            word(run["kind"]),
            word(run["to_version"]),
            word(when(run["started"])),
            word(took(length)),
            word(took(run["outage_seconds"])),
            word(run["state"]),
        ),
        tuple(notes),
    )


def _last(to: Console, run: Answer, now: datetime) -> None:
    """Each state of the newest run with how long it lasted; an unfinished one lasts until now."""
    heading(to, f"Last run, {run['id']}")
    begins = [(state, moment(at)) for state, at in run["states"]]
    ends = [at for _, at in begins[1:]] + [None if run["ended"] else now]
    rows = []
    for (state, begun), end in zip(begins, ends, strict=True):
        length = (end - begun).total_seconds() if begun and end else None
        rows.append(Row((word(state), word(when(begun)), Text("" if length is None else took(length)))))
    table(to, ("STATE", "SINCE (UTC)", "LASTED"), rows)
    if run["snapshot"]:
        tell(to, f"snapshot {run['snapshot']}")


def _taken_over(to: Console, answer: Answer) -> None:
    """Versions that came without a run."""
    if answer.get("taken_over"):
        heading(to, "Deployed by somebody else")
    for taken in answer.get("taken_over", ()):
        by = f" (uid {taken['uid']})" if taken["uid"] is not None else ""
        tell(to, f"{taken['version']}  {_HOW[taken['how']]}{by}, {when(taken['at'])} UTC", indent=2)


def _failures(to: Console, answer: Answer) -> None:
    if answer["failures"]:
        heading(to, "Not tried again by itself")
    for failure in answer["failures"]:
        tell(to, failure["version"], "  ", word(failure["outcome"]), f"  {failure['detail']}", indent=2)
        tell(to, word(f"$ warmd retry {answer['service']} {failure['version']}", "cyan"), indent=4)


def _approvals(to: Console, answer: Answer, now: datetime) -> None:
    if answer["approvals"]:
        heading(to, "Approved and not used yet")
    for given in answer["approvals"]:
        tell(
            to,
            f"{given['version']}  by uid {given['uid']}, {since(given['at'], now)}: {given['why']}",
            indent=2,
        )
