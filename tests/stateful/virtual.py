"""An event loop whose time is a number: where everybody waits, it is moved on to whoever is due first."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeVar

import anyio

T = TypeVar("T")

EPOCH = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


class _Selector(selectors.DefaultSelector):
    """Never waits: the time that the loop would have waited is said to be over."""

    waited = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("every task waits for another: nobody would ever go on")
        self.waited += max(timeout, 0.0)
        return []  # no file is watched here but the loop's own pipe, which only threads write to


class VirtualLoop(asyncio.SelectorEventLoop):
    """Sleeps and deadlines of hours pass at once, in their order. No threads, no sockets."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.waited

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` to its end; other tasks go on meanwhile, and stand still afterwards."""
        return self.run_until_complete(work)

    def leave_nobody(self) -> None:
        """Cancel every task, and wait until all are gone."""
        while tasks := asyncio.all_tasks(self):
            for task in tasks:
                task.cancel()
            self.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


class VirtualClock:
    """The Clock port over a ``VirtualLoop``. The wall clock can be set, as an administrator or NTP does."""

    def __init__(self, loop: VirtualLoop, seed: int = 0) -> None:
        self._loop = loop
        self._random = Random(seed)
        self._ids = self._asked = 0
        self.set_by = timedelta()

    def now(self) -> datetime:
        # No two moments are the same: code takes some time of its own.
        self._asked += 1
        return self.true + self.set_by + timedelta(microseconds=self._asked)

    @property
    def true(self) -> datetime:
        """The time as it would be if nobody had ever set the clock."""
        return EPOCH + timedelta(seconds=self._loop.time())

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(max(0.0, seconds))

    def jitter(self) -> float:
        return self._random.random()

    def new_id(self) -> str:
        self._ids += 1
        return f"{self._ids:012x}"
