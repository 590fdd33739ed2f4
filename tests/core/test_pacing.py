"""Waits grow, but not for ever, and are never over before they should be."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmd.core.pacing import FIRST, JITTER, LONGEST, next_look, retry_delay

MINUTE = timedelta(minutes=1)
counts = st.integers(0, 10**6)
intervals = st.timedeltas(timedelta(seconds=1), timedelta(days=7))
chances = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("count", "seconds"), [(0, 0), (-1, 0), (1, 30), (2, 60), (3, 120), (7, 1920), (8, 3600), (10**9, 3600)]
)
def test_the_wait_doubles_up_to_an_hour(count: int, seconds: int) -> None:
    assert retry_delay(count) == timedelta(seconds=seconds)


@given(counts)
def test_law_more_failures_never_wait_less(count: int) -> None:
    assert timedelta(0) <= retry_delay(count) <= retry_delay(count + 1) <= LONGEST


@given(interval=intervals, failures=counts, random=chances)
def test_law_a_look_comes_in_time(interval: timedelta, failures: int, random: float) -> None:
    wait = next_look(interval, failures=failures, random=random)
    assert min(FIRST, interval) <= wait <= interval * (1 + JITTER)
    assert wait >= next_look(interval, failures=failures, random=0.0)
    if failures:
        assert wait <= next_look(interval, failures=failures + 1, random=random)
    else:
        assert wait >= interval


@pytest.mark.parametrize(
    ("failures", "wait"),
    [(0, 5 * MINUTE), (1, MINUTE / 2), (2, MINUTE), (4, 4 * MINUTE), (5, 5 * MINUTE), (99, 5 * MINUTE)],
)
def test_after_trouble_the_next_look_comes_sooner_and_backs_off_to_the_interval(
    failures: int, wait: timedelta
) -> None:
    assert next_look(5 * MINUTE, failures=failures, random=0.0) == wait


def test_looks_are_spread() -> None:
    assert next_look(5 * MINUTE, failures=0, random=0.5) == 5 * MINUTE * 1.05
