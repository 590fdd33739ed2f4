"""Version strings of published releases, and their order.

A version is ``10.7.1+26.6.2``: the recipe's semver, ``+``, the application's own version. A source
without a recipe has only the first half. The rules come from Co-op Cloud recipes, where a recipe
major means that the operator has work to do and the second half is not compared unless the first
halves tie.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering

# Semantic Versioning 2.0.0, rule 2 (no leading zeros); a pre-release is not a version warmd moves to.
_VERSION = re.compile(
    r"v?(?P<major>0|[1-9]\d{0,17})\.(?P<minor>0|[1-9]\d{0,17})\.(?P<patch>0|[1-9]\d{0,17})"
    r"(?:\+(?P<app>[0-9A-Za-z][0-9A-Za-z._-]{0,127}))?",
    re.ASCII,
)
_CHUNK = re.compile(r"\d+|[A-Za-z]+", re.ASCII)


def _app_key(app: str | None) -> tuple[tuple[int, int, str], ...]:
    """Sort key of an application version: numbers by value, words by letter, a word before any number.

    ``26.6.2-rc1 < 26.6.2`` does not follow from this, and need not: the key only breaks ties
    between releases of one recipe version, and only has to be total.
    """
    if app is None:
        return ()
    return tuple((1, int(c), "") if c.isdigit() else (0, 0, c) for c in _CHUNK.findall(app))


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """One version: ``text`` as published, ``recipe`` = (major, minor, patch), ``app`` or None."""

    text: str
    recipe: tuple[int, int, int]
    app: str | None

    @classmethod
    def parse(cls, text: str) -> Version | None:
        """The version that ``text`` is, or None where it is none: such tags are counted and ignored."""
        found = _VERSION.fullmatch(text)
        if found is None:
            return None
        major, minor, patch = (int(found[part]) for part in ("major", "minor", "patch"))
        return cls(text, (major, minor, patch), found["app"])

    @classmethod
    def of(cls, text: str) -> Version:
        """Like ``parse``, for text that was a version before (the journal's). Raises ValueError."""
        version = cls.parse(text)
        if version is None:
            raise ValueError(f"not a version: {text!r}")
        return version

    @property
    def app_major(self) -> int | None:
        """The first number of the application half, or None where there is none to compare."""
        found = re.search(r"\d+", self.app or "", re.ASCII)
        return int(found[0]) if found else None

    @property
    def key(self) -> tuple[object, ...]:
        return (self.recipe, _app_key(self.app), self.app or "", self.text)

    def __lt__(self, other: Version) -> bool:
        return self.key < other.key

    def same_as(self, other: Version | None) -> bool:
        """Equal but for the spelling of a leading ``v``."""
        return other is not None and (self.recipe, self.app) == (other.recipe, other.app)

    def __str__(self) -> str:
        return self.text
