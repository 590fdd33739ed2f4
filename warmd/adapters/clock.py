"""The Clock port over the machine's own clocks."""

from __future__ import annotations

import random
import secrets
import time
from datetime import UTC, datetime

import anyio


class SystemClock:
    """Time and randomness of this machine."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()

    def now(self) -> datetime:
        """Wall-clock time, aware, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never step back. They stand still while the machine sleeps."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait; less than nothing is nothing."""
        await anyio.sleep(max(0.0, seconds))

    def jitter(self) -> float:
        """A random number in [0, 1)."""
        return self._random.random()

    def new_id(self) -> str:
        """12 random hex digits: 48 bits, so one installation never sees the same twice."""
        return secrets.token_hex(6)
