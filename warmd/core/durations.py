"""Durations as people write them: ``"90s"``, ``"5m"``, ``"1h30m"``, ``"2d"``."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])", re.ASCII)


def parse(text: str) -> timedelta:
    """``"1h30m"`` as a timedelta. Raises ValueError for anything else, a bare number included."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f'expected a duration such as "90s", "5m" or "1h30m", not {text!r}')
    return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))


def format(duration: timedelta) -> str:  # noqa: A001 - used as durations.format
    """The shortest text that ``parse`` reads back, to the millisecond; ``"0s"`` for none."""
    left = round(duration.total_seconds() * 1000)
    parts = []
    for unit, seconds in _UNITS.items():
        count, left = divmod(left, round(seconds * 1000))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
