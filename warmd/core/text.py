"""Text that others wrote, made fit to be seen. Pure.

Notes, tags, log lines of containers and answers of services end in tables, logs and alerts. There
they must not steer a terminal, turn around what stands beside them, or pass for a line of ours. This
module is the only one that says what may be shown; whoever makes text into output uses it.
"""

from __future__ import annotations

import re
import unicodedata

#: What stands where something can't be shown.
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

_TAB = "    "
# Everything but printable ASCII and newlines: looked at one by one, and rare.
_SUSPECT = re.compile(r"[^\x20-\x7e\n]")


def plain(text: object) -> str:
    """``text`` with nothing but newlines and characters that can be seen where they stand.

    Tabs and odd spaces become spaces, the return before a newline goes, and every control or format
    character (C0, C1, escapes, overrides of direction, lone surrogates) becomes a replacement.
    """
    return _SUSPECT.sub(_shown, str(text).replace("\r\n", "\n"))


def one_line(text: object) -> str:
    """``plain`` in one line: newlines, and spaces around them, become one space."""
    return " ".join(part for line in plain(text).split("\n") if (part := line.strip()))


def escaped(json_text: str) -> str:
    """A JSON text that says the same with ``\\u`` escapes where ``plain`` would replace something.

    JSON itself only escapes C0. Newlines of the JSON text's own layout stay.
    """
    return _SUSPECT.sub(_escape, json_text)


def _shown(found: re.Match[str]) -> str:
    char = found[0]
    if char.isprintable():
        return char
    if char == "\t":
        return _TAB
    return " " if unicodedata.category(char) == "Zs" else REPLACEMENT


def _escape(found: re.Match[str]) -> str:
    char = found[0]
    if char.isprintable() or unicodedata.category(char) == "Zs":
        return char
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
