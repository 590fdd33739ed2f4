"""The pieces that everything shown is made of: the console, times, sizes, and one kind of table."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from warmd.core import durations
from warmd.core.text import escaped
from warmd.core.text import plain as fit_to_see

Answer = dict[str, Any]

#: Columns where the output is no terminal: nobody's window, and a folded line can't be searched for.
WIDE = 200
#: Columns that are left for a table's notes, or they stand on lines of their own.
NOTE_ROOM = 28
GAP = "  "

_STYLES = {
    "healthy": "green",
    "noop-healthy": "green",
    "committed": "green",
    "unhealthy": "bold red",
    "stuck": "bold red",
    "error": "bold red",
    "critical": "bold red",
    "warning": "yellow",
    "rolled-back": "red",
    "drift": "yellow",
    "inconclusive": "yellow",
    "interrupted": "yellow",
    "failed-unchanged": "yellow",
    "owned-elsewhere": "yellow",
}


def console() -> Console:
    """Where people look: stdout, in colour on a terminal, as wide as ``$COLUMNS`` says if it is none."""
    return _console(sys.stdout)


def stderr() -> Console:
    """Where a question and what it is about go, so that answers can be piped."""
    return _console(sys.stderr)


def _console(file: TextIO) -> Console:
    if isinstance(file, io.TextIOWrapper):
        file.reconfigure(errors="replace")  # an old terminal's encoding is no reason to fail
    made = Console(file=file, highlight=False, markup=False, emoji=False)
    if not made.is_terminal and not os.environ.get("COLUMNS"):
        made.width = WIDE
    return made


def as_json(answer: object) -> None:
    """Print for programs, and for terminals that they pass it on to."""
    sys.stdout.write(escaped(json.dumps(answer, indent=2, ensure_ascii=False)) + "\n")


def plain(text: object) -> str:
    """Text that can't move the cursor, turn around what stands beside it, or begin a line of its own: a
    line of a table or a command to type is only ever ours. Whoever shows several lines splits them."""
    return fit_to_see(text).replace("\n", " ")


def word(text: str | None, style: str = "") -> Text:
    """One value; known words (states, outcomes, health) in their colour, ``-`` for none."""
    if not text:
        return Text("-", style="dim")
    known = _STYLES.get(text) or ("yellow" if text.startswith("held-") else "")
    return Text(plain(text), style=style or known)


def line(*parts: str | Text) -> Text:
    """Parts as one text; strings are data."""
    return Text.assemble(*(p if isinstance(p, Text) else Text(plain(p)) for p in parts))


def tell(to: Console, *parts: str | Text, indent: int = 0, hang: int = 0) -> None:
    """Print one paragraph, ``indent`` columns in; what folds goes on ``hang`` columns further in."""
    folded = line(*parts).wrap(to, max(to.width - indent - hang, 20), overflow="fold")
    for number, part in enumerate(folded):
        _whole(to, Text(" " * (indent + (hang if number else 0))) + part)


def lines(*texts: str, to: Console | None = None) -> None:
    """Plain sentences, a line each."""
    to = to or console()
    for text in texts:
        tell(to, text)


def heading(to: Console, text: str) -> None:
    to.print()
    to.print(Text(plain(text), style="bold"))


# --- times and sizes -----------------------------------------------------------------------------


def moment(value: str | datetime | None) -> datetime | None:
    """A time of an answer."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def when(value: str | datetime | None) -> str:
    """``2026-01-31 03:12:07``, UTC."""
    at = moment(value)
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if at else "-"


def ago(value: str | datetime | None, now: datetime) -> str:
    """``3 min ago``: enough to know whether it was just now, today or long ago."""
    at = moment(value)
    if at is None:
        return "-"
    seconds = (now - at).total_seconds()
    if seconds < 1:
        return "just now"
    for limit, unit, size in ((90, "s", 1), (5400, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds / 86_400:.0f} days ago"


def since(value: str | datetime | None, now: datetime) -> str:
    """``2026-01-31 03:12:07 UTC (3 min ago)``."""
    return f"{when(value)} UTC ({ago(value, now)})" if value else "-"


def took(seconds: float | None) -> str:
    """A duration as short as it is useful: ``430ms``, ``7.2s``, ``2m12s``."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    return f"{seconds:.1f}s" if seconds < 60 else durations.format(timedelta(seconds=round(seconds)))


def size(count: int) -> str:
    """Bytes as people say them: ``4.2 MB``."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


# --- tables --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """Cells that are never cut, and notes that may fold."""

    cells: tuple[Text, ...]
    notes: tuple[Text, ...] = ()


def table(to: Console, titles: Sequence[str], rows: Sequence[Row], *, notes: str = "NOTE") -> None:
    """Columns as wide as what stands in them, and the notes in what is left of the window, or under
    their row where too little is left."""
    widths = [
        max([len(title), *(row.cells[place].cell_len for row in rows)]) for place, title in enumerate(titles)
    ]
    keys = sum(widths) + len(GAP) * len(widths)
    beside = to.width - keys >= NOTE_ROOM
    with_notes = any(row.notes for row in rows)
    head = GAP.join(title.ljust(width) for title, width in zip(titles, widths, strict=True))
    if with_notes and beside:
        head += GAP + notes
    _whole(to, Text(head.rstrip(), style="bold"))
    for row in rows:
        begun = Text(GAP).join(_left(cell, width) for cell, width in zip(row.cells, widths, strict=True))
        folded = [
            part
            for note in row.notes
            for part in note.wrap(to, to.width - keys if beside else to.width - 4, overflow="fold")
        ]
        if not beside:
            _whole(to, begun)
            for part in folded:
                _whole(to, Text("    ") + part)
            continue
        for number, part in enumerate(folded or [Text("")]):
            _whole(to, (begun + Text(GAP) if number == 0 else Text(" " * keys)) + part)


def _left(cell: Text, width: int) -> Text:
    padded = cell.copy()
    padded.pad_right(width - cell.cell_len)
    return padded


def _whole(to: Console, text: Text) -> None:
    """A line that is not folded or cut, whatever the width: a name in two pieces is no name."""
    text.rstrip()
    to.print(text, soft_wrap=True)
