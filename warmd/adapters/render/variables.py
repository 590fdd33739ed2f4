"""The variables that a compose file refers to, by the syntax that ``docker stack deploy`` knows.

``$X`` and ``${X}`` have no default; ``${X-a}``, ``${X:-a}``, ``${X?why}`` and ``${X:?why}`` say what is
to happen; ``$$`` is a dollar. There is no nesting.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_REFERENCE = re.compile(
    rf"\$(?:(?P<escaped>\$)|(?P<named>{_NAME})|{{(?P<plain>{_NAME})}}|{{{_NAME}:?[-?][^}}]*}})", re.ASCII
)
_MISSING = re.compile(rf"required variable ({_NAME}) is missing a value: unset", re.ASCII)


def unset(texts: Iterable[str], env: Collection[str]) -> list[str]:
    """Names referred to without a default that ``env`` lacks, sorted. Comments count: a first look only."""
    names = {m["named"] or m["plain"] for text in texts for m in _REFERENCE.finditer(text)}
    return sorted(name for name in names if name and name not in env)


def insist(text: str, name: str) -> str:
    """The text with ``${name?unset}`` for every reference to ``name`` that has no default.

    All other references become a plain 0: the client forgets what it misses when a variable that is set
    stands further on in the same string.
    """

    def rewrite(found: re.Match[str]) -> str:
        if found["escaped"]:
            return found[0]
        return f"${{{name}?unset}}" if (found["named"] or found["plain"]) == name else "0"

    return _REFERENCE.sub(rewrite, text)


def missing(stderr: str) -> str | None:
    """The variable that the client says it misses, given a text from ``insist``, or None."""
    found = _MISSING.search(" ".join(stderr.split()))
    return found[1] if found else None
