"""Where each key of a TOML document stands.

tomllib keeps no positions. This scanner reads a document that tomllib has accepted, so it need not
find errors: it only has to skip values rightly and follow tables, dotted keys, inline tables,
arrays and arrays of tables.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from typing import TypeAlias

Key: TypeAlias = tuple[str | int, ...]

_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_KEY_PART = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_VALUE = re.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}(?!")'''
    r"""|'''.*?'{3,5}(?!')"""
    r'''|"(?:[^"\\\n]|\\.)*"'''
    r"""|'[^'\n]*'"""
    r"""|[^,\]}\n#"']+""",
    re.DOTALL,
)


def locate(text: str) -> dict[Key, int]:
    """Key path -> line, from 1. Array elements have their index in the path. ``text`` is valid TOML."""
    return _Scanner(text).document()


def line_of(lines: dict[Key, int], key: Sequence[str | int]) -> int | None:
    """The key's line, else that of the nearest table around it, else None."""
    for end in range(len(key), 0, -1):
        if tuple(key[:end]) in lines:
            return lines[tuple(key[:end])]
    return None


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text.replace("\r\n", "\n")
        self.at = 0
        self.lines: dict[Key, int] = {}
        self.last: dict[Key, int] = {}  # arrays of tables: the index of the newest table
        self.counted = (0, 1)  # (position, its line): positions only grow, so lines are counted once

    def document(self) -> dict[Key, int]:
        table: Key = ()
        while (here := self.next()) != "":
            if here == "[":
                table = self.header()
            else:
                self.pair(table)
        return self.lines

    def header(self) -> Key:
        array = self.text.startswith("[[", self.at)
        start = self.at
        self.at += 2 if array else 1
        parts = self.key()
        self.at += 2 if array else 1
        path: Key = ()
        for number, part in enumerate(parts, 1):
            path = (*path, part)
            self.note(path, start)
            if array and number == len(parts):
                self.last[path] = self.last.get(path, -1) + 1
            if path in self.last:
                path = (*path, self.last[path])
                self.note(path, start)
        return path

    def pair(self, table: Key) -> None:
        start = self.at
        path = table
        for part in self.key():
            path = (*path, part)
            self.note(path, start)
        self.at += 1  # the equals sign
        self.value(path)

    def key(self) -> list[str]:
        """A dotted key, and the space after it."""
        parts: list[str] = []
        while True:
            self.skip(_SPACE)
            found = _KEY_PART.match(self.text, self.at)
            assert found is not None, "tomllib accepted this document"
            raw = found[0]
            # A quoted key is written as a basic or literal string is: let tomllib undo the escapes.
            parts.append(tomllib.loads(f"k = {raw}")["k"] if raw[0] in "\"'" else raw)
            self.at = found.end()
            self.skip(_SPACE)
            if not self.text.startswith(".", self.at):
                return parts
            self.at += 1

    def value(self, path: Key) -> None:
        self.skip(_SPACE)
        opening = self.text[self.at]
        if opening not in "[{":
            self.skip(_VALUE)
            return
        self.at += 1
        index = 0
        while self.next() not in "]}":
            if opening == "{":
                self.pair(path)
            else:
                self.note((*path, index), self.at)
                self.value((*path, index))
                index += 1
            if self.next() == ",":
                self.at += 1
        self.at += 1

    def note(self, path: Key, position: int) -> None:
        """Remember where a key stands first."""
        before, line = self.counted
        if position > before:
            self.counted = (position, line + self.text.count("\n", before, position))
        self.lines.setdefault(path, self.counted[1])

    def next(self) -> str:
        """The next character that is no space, newline or comment; "" at the end."""
        self.skip(_BLANK)
        return self.text[self.at : self.at + 1]

    def skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self.text, self.at)
        self.at = found.end() if found else self.at
