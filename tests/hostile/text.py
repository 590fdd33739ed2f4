"""A text as somebody would write it who wants to be more than text, and how to tell that it stayed text."""

from __future__ import annotations

import unicodedata

#: Terminal commands in both forms, a title, a beep, overrides of direction, lines that pass for others'.
HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07\x9b31m\x00\x08\x7f\r\u202elive\u2066\u2028FAKE a\u0085FAKE b"
    "\nFAKE  1.0.0  committed\n$ FAKE | sh\n\tFAKE\x1bP\udcff"
)
_BAD = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def steering(output: str | bytes) -> set[str]:
    """All characters of an output that could do anything but be seen, or be a line's end."""
    text = output.decode() if isinstance(output, bytes) else output
    return {c for c in text if unicodedata.category(c) in _BAD} - {"\n"}


def posing(output: str | bytes) -> list[str]:
    """The lines of an output that ``HOSTILE`` would have for lines of somebody else's."""
    text = output.decode() if isinstance(output, bytes) else output
    return [line for line in text.split("\n") if line.strip().removeprefix("$ ").startswith("FAKE")]
