"""How long to wait: between looks, and after trouble. Pure; the random number comes in."""

from __future__ import annotations

from datetime import timedelta

#: The first wait after trouble, and the longest. Doubling between them.
FIRST = timedelta(seconds=30)
LONGEST = timedelta(hours=1)
#: Looks are spread by up to this part of the interval, so that hosts don't ask in step.
JITTER = 0.1


def retry_delay(count: int) -> timedelta:
    """The wait after the ``count``-th failure in a row (from 1)."""
    return min(FIRST * 2 ** min(count - 1, 30), LONGEST) if count > 0 else timedelta()


def next_look(interval: timedelta, *, failures: int, random: float) -> timedelta:
    """The wait until the next look: the interval, or after failures less, doubling back up to it.

    ``random`` is in [0, 1).
    """
    base = min(retry_delay(failures), interval) if failures else interval
    return base * (1 + JITTER * random)
