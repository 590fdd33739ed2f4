"""The machine's clock, as the port wants it."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

from warmd.adapters.clock import SystemClock
from warmd.ports import Clock

clock: Clock = SystemClock()


def test_now_is_now_and_in_utc() -> None:
    now = clock.now()
    assert now.tzinfo is UTC
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=5)


def test_monotonic_time_goes_on() -> None:
    first = clock.monotonic()
    assert first <= clock.monotonic() <= time.monotonic()


async def test_sleep_takes_as_long_as_it_says() -> None:
    began = time.monotonic()
    await clock.sleep(0.05)
    assert time.monotonic() - began >= 0.05


async def test_sleeping_for_less_than_nothing_is_nothing() -> None:
    began = time.monotonic()
    await clock.sleep(-100)
    assert time.monotonic() - began < 5


def test_jitter_is_spread_over_its_range() -> None:
    seen = [clock.jitter() for _ in range(1000)]
    assert all(0 <= value < 1 for value in seen)
    assert min(seen) < 0.2
    assert max(seen) > 0.8


def test_ids_are_short_and_never_the_same() -> None:
    seen = {clock.new_id() for _ in range(1000)}
    assert len(seen) == 1000
    assert all(re.fullmatch(r"[0-9a-f]{12}", value) for value in seen)
