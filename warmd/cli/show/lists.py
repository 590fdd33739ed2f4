"""``alerts`` and ``snapshots``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from warmd.cli.show.base import Answer, Row, ago, console, count, since, size, table, tell, when, word


def alerts(
    bodies: Sequence[Answer], *, texts: bool = False, to: Console | None = None, now: datetime | None = None
) -> None:
    """Open alerts, each with what it is about and what to type; ``texts``: the notes' too."""
    to, now = to or console(), now or datetime.now(UTC)
    if not bodies:
        tell(to, "No alert is open.")
        return
    for body in sorted(bodies, key=lambda b: str(b["opened_at"])):
        tell(to, word(body["severity"]), "  ", word(body["summary"], "bold"))
        tell(to, Text(f"since {since(body['opened_at'], now)}", style="dim"), indent=4)
        for text in _details(body):
            tell(to, "| ", text, indent=4, hang=2)  # a line of it must not look like a command
        for note in body.get("notes") or ():
            tell(to, "read ", word(note["path"], "bold"), indent=4)
            for text in (note["text"] or "(not text, or too big)").splitlines() if texts else ():
                tell(to, "| ", text, indent=4, hang=2)
        for command in body["commands"]:
            tell(to, Text("$ ", style="dim"), word(command, "cyan"), indent=4)
        to.print()
    tell(to, f"{count(len(bodies), 'alert')} open")


def _details(body: Answer) -> list[str]:
    """The lines of the detail that the summary does not say already."""
    return [
        text
        for text in str(body.get("detail") or "").splitlines()
        if (text.partition(": ")[2] or text) not in body["summary"]
    ]


def snapshots(
    known: Sequence[Answer], service: str, *, to: Console | None = None, now: datetime | None = None
) -> None:
    """A service's snapshots, oldest first."""
    to, now = to or console(), now or datetime.now(UTC)
    if not known:
        tell(to, f"{service} has no snapshot.")
        return
    rows = [
        Row(
            (
                word(snapshot["id"], "bold"),
                word(when(snapshot["at"])),
                word(ago(snapshot["at"], now)),
                word(snapshot["version"]),
                word(size(snapshot["data_bytes"])),
                word(size(snapshot["archive_bytes"])),
                word(str(snapshot["files"])),
                word("verified", "green") if snapshot["sealed"] else word("not verified", "bold red"),
            ),
            (word(f"volumes: {', '.join(snapshot['volumes']) or 'none'}", "dim"),),
        )
        for snapshot in known
    ]
    titles = ("SNAPSHOT", "TAKEN (UTC)", "", "VERSION", "DATA", "ON DISK", "FILES", "STATE")
    table(to, titles, rows, notes="OF")
    to.print()
    tell(to, f"{count(len(known), 'snapshot')}. To put one back: warmd restore {service} {known[-1]['id']}")
