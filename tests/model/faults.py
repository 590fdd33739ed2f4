"""What may go wrong between a client and the engine, on order."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["refuse", "hang", "reply-lost", "error", "slow"]


@dataclass(frozen=True, slots=True)
class Fault:
    """refuse: no connection. hang: no answer, ever. reply-lost: applied, then the connection breaks.
    error: ``status`` and ``text`` instead. slow: applied, answered ``seconds`` later (of the clock)."""

    kind: Kind
    status: int = 500
    text: str = "it failed on order"
    seconds: float = 1.0


class Cut(Exception):
    """The connection breaks without an answer; ``refused``: there was none to begin with."""

    def __init__(self, *, refused: bool) -> None:
        super().__init__("connection refused" if refused else "connection lost")
        self.refused = refused


class Hang(Exception):
    """No answer comes."""


@dataclass(slots=True)
class Call:
    """One call, as the log keeps it. ``status`` 0: no answer."""

    at: float
    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    status: int = 0

    def __str__(self) -> str:
        return f"{self.at:.3f} {self.method} {self.path} -> {self.status}"


@dataclass(slots=True)
class Answer:
    """``json`` is the body, ``lines`` are a stream's. ``delay``: seconds of the clock that it is late."""

    status: int
    json: Any = None
    delay: float = 0.0
    lines: list[Any] | None = None


@dataclass(slots=True)
class _Ordered:
    pattern: re.Pattern[str]
    fault: Fault
    skip: int
    times: int


class Faults:
    """Faults that were ordered, met in the order of their ordering."""

    def __init__(self) -> None:
        self._ordered: deque[_Ordered] = deque()

    def next(self, pattern: str, fault: Fault, *, skip: int = 0, times: int = 1) -> None:
        """The next ``times`` calls ``METHOD /path`` that ``pattern`` is found in, after ``skip`` others."""
        self._ordered.append(_Ordered(re.compile(pattern), fault, skip, times))

    def clear(self) -> None:
        self._ordered.clear()

    def __len__(self) -> int:
        return len(self._ordered)

    def meet(self, method: str, path: str) -> Fault | None:
        """The fault that this call meets; it counts."""
        if not self._ordered:
            return None
        call = f"{method} {path}"
        for ordered in self._ordered:
            if not ordered.pattern.search(call):
                continue
            if ordered.skip:
                ordered.skip -= 1
                continue
            ordered.times -= 1
            if not ordered.times:
                self._ordered.remove(ordered)
            return ordered.fault
        return None
