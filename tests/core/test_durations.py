"""Durations are read as people write them, and written as they are read."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmd.core import durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("1h30m", 5_400),
        ("2d", 172_800),
        ("250ms", 0.25),
        ("1.5h", 5_400),
        ("0s", 0),
        ("1m1ms", 60.001),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert durations.parse(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "5", "m", "5 m", "5M", "-5m", "5m ", "1h-5m", "five minutes", "\u0665m", "5m\n"]
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match='expected a duration such as "90s"'):
        durations.parse(text)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(seconds=90), "1m30s"),
        (timedelta(hours=25), "1d1h"),
        (timedelta(milliseconds=1), "1ms"),
        (timedelta(0), "0s"),
        (timedelta(microseconds=300), "0s"),
    ],
)
def test_a_duration_is_written_as_short_as_it_can_be(duration: timedelta, text: str) -> None:
    assert durations.format(duration) == text


@given(st.integers(min_value=0, max_value=10**12))
def test_what_is_written_is_read_back(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert durations.parse(durations.format(duration)) == duration
