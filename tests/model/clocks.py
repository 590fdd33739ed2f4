"""Time that tests make: it passes when somebody sleeps, and at once."""

from __future__ import annotations

import asyncio
import random
from bisect import insort
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import anyio
import anyio.lowlevel
import anyio.to_thread

from tests.model.engine import Model

_START = datetime(2026, 3, 1, 12, tzinfo=UTC)

#: Turns of the loop (or milliseconds of a thread) that others get before time moves on regardless.
_PATIENCE = 5_000


class VirtualClock:
    """The ``Clock`` port over a model's time. Seeded: the same test sees the same jitter and ids.

    Where several sleep, time moves to the earliest end once nobody else has anything to do: also not in
    a worker thread. What runs in other processes is not seen: it takes no time at all.
    """

    def __init__(self, model: Model | None = None, *, seed: int = 0, start: datetime = _START) -> None:
        self._model = model
        self._random = random.Random(seed)
        self._wall = start
        self._now = 0.0
        self._number = 0
        self._sleepers: list[_Sleeper] = []
        self._tell()

    def now(self) -> datetime:
        return self._wall

    def monotonic(self) -> float:
        return self._now

    def jitter(self) -> float:
        return self._random.random()

    def new_id(self) -> str:
        return f"{self._random.getrandbits(48):012x}"

    def step(self, seconds: float) -> None:
        """The wall clock is set, forward or back; nothing else notices."""
        self._wall += timedelta(seconds=seconds)
        self._tell()

    def elapse(self, seconds: float) -> None:
        """Let time pass, for everybody."""
        self._move(self._now + seconds)

    def _move(self, now: float) -> None:
        if now > self._now:
            self._wall += timedelta(seconds=now - self._now)
            self._now = now
        self._tell()
        for sleeper in self._sleepers:
            if sleeper.until <= self._now:
                sleeper.turn.set()

    def _tell(self) -> None:
        if self._model is not None:
            self._model.advance(self._now, self._wall.timestamp())

    async def sleep(self, seconds: float) -> None:
        """Time passes meanwhile; less than nothing is nothing."""
        if seconds <= 0:
            await anyio.lowlevel.checkpoint()
            return
        self._number += 1
        sleeper = _Sleeper(self._now + seconds, self._number)
        insort(self._sleepers, sleeper)
        try:
            while True:
                await _others_first()
                if self._now >= sleeper.until:
                    return
                if self._sleepers[0] is sleeper:
                    self._move(sleeper.until)
                    return
                sleeper.turn = anyio.Event()
                await sleeper.turn.wait()
        finally:
            self._sleepers.remove(sleeper)
            if self._sleepers:  # whoever is first now moves the time, be this one done or cancelled
                self._sleepers[0].turn.set()


class StepClock(VirtualClock):
    """Time that passes by being looked at: ``step`` seconds each. No test depends on how fast it runs."""

    def __init__(self, *, step: float) -> None:
        super().__init__()
        self._step = step

    def monotonic(self) -> float:
        self.elapse(self._step)
        return super().monotonic()


@dataclass(order=True)
class _Sleeper:
    until: float
    number: int
    turn: anyio.Event = field(default_factory=anyio.Event, compare=False)


async def _others_first() -> None:
    loop = asyncio.get_running_loop()
    ready = getattr(loop, "_ready", ())
    limiter = anyio.to_thread.current_default_thread_limiter()
    for _ in range(_PATIENCE):
        await anyio.lowlevel.checkpoint()
        if ready:
            continue
        if not limiter.borrowed_tokens:
            return
        await asyncio.sleep(0.001)
