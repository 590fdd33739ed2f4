# ruff: noqa: E501 - a truth table reads best with a case a line
"""The health gate as a truth table of rounds, and the laws that hold for any rounds at all."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.building import NOW
from warmd.core.model import GateRule, Health, Probe
from warmd.core.window import Outcome, Window


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


#: A row that began may finish until 170 s: the deadline, the stable window and four intervals.
RULE = GateRule(deadline=seconds(100), interval=seconds(10), successes=3, stable=seconds(30))

_HEALTH = {"g": Health.HEALTHY, "r": Health.HEALTHY, "b": Health.UNHEALTHY, "R": Health.UNHEALTHY, "?": Health.INCONCLUSIVE}  # fmt: skip


def play(rounds: str, rule: GateRule = RULE) -> tuple[Outcome, int, Window]:
    """A round every 10 s from 0 until there is an outcome: the outcome, when, and the window.

    ``g`` good, ``b`` bad, ``?`` could not be made, ``r`` and ``R`` good and bad after a restart.
    """
    window, restarts, at = Window(rule, NOW), 0, 0
    for number, letter in enumerate(rounds):
        at = number * 10
        restarts += letter in "rR"
        identity = "" if letter == "?" else f"task-{restarts}"
        window = window.see(Probe(_HEALTH[letter], f"round {number}", identity), NOW + seconds(at))
        outcome = window.outcome(NOW + seconds(at))
        if outcome is not Outcome.PENDING:
            assert number == len(rounds) - 1, f"over at {at} s, before the last round"
            return outcome, at, window
    return Outcome.PENDING, at, window


P, H, U, B = Outcome.PENDING, Outcome.HEALTHY, Outcome.UNHEALTHY, Outcome.BLIND

TABLE = [
    ("good-and-stable", "gggg", H, 30),
    ("enough-good-rounds-but-not-yet-stable", "ggg", P, 20),
    ("late-start", "bbbgggg", H, 60),
    ("a-bad-round-starts-anew", "ggbgggg", H, 60),
    ("a-round-that-could-not-be-made-starts-anew", "gg?gggg", H, 60),
    ("a-restart-starts-anew", "ggrggg", H, 50),
    ("a-restart-with-a-bad-round-starts-anew", "ggRgggg", H, 60),
    ("still-bad-before-the-deadline", "b" * 10, P, 90),
    ("bad-at-the-deadline", "b" * 11, U, 100),
    ("not-knowable-at-the-deadline", "?" * 11, B, 100),
    ("the-last-word-counts-blind", "b" * 10 + "?", B, 100),
    ("the-last-word-counts-bad", "?" * 10 + "b", U, 100),
    ("a-row-in-progress-may-finish", "b" * 9 + "gggg", H, 120),
    ("a-row-in-progress-that-breaks-is-over", "b" * 9 + "ggb", U, 110),
    ("a-row-in-progress-that-goes-blind-is-blind", "b" * 9 + "gg?", B, 110),
    ("a-restart-in-the-extension-may-finish-too", "b" * 9 + "ggrggg", H, 140),
    ("always-restarting-is-not-extended-for-ever", "g" + "r" * 17, U, 170),
    ("always-restarting-within-the-extension", "g" + "r" * 16, P, 160),
]  # fmt: skip


@pytest.mark.parametrize(("rounds", "outcome", "at"), [t[1:] for t in TABLE], ids=[t[0] for t in TABLE])
def test_rounds(rounds: str, outcome: Outcome, at: int) -> None:
    assert play(rounds)[:2] == (outcome, at)


def test_without_a_stable_time_the_row_alone_counts() -> None:
    rule = GateRule(RULE.deadline, RULE.interval, successes=3, stable=seconds(0))
    assert play("ggg", rule)[:2] == (H, 20)


def test_a_long_row_is_waited_for_though_it_is_stable() -> None:
    rule = GateRule(RULE.deadline, RULE.interval, successes=6, stable=seconds(30))
    assert play("ggggg", rule)[:2] == (P, 40)
    assert play("gggggg", rule)[:2] == (H, 50)


def test_no_round_at_all_is_blind_only_at_the_deadline() -> None:
    window = Window(RULE, NOW)
    assert window.outcome(NOW + seconds(99)) is P
    assert window.outcome(NOW + seconds(100)) is B
    assert window.describe() == "no probe was made (after 0 rounds)"


def test_restarts_are_counted_and_told() -> None:
    window = play("ggrbR")[2]
    assert window.restarts == 2
    assert window.describe() == "round 4 (after 5 rounds, 2 restarts)"


def test_a_round_without_an_identity_is_no_restart() -> None:
    _, _, window = play("g??g")
    assert (window.restarts, window.identity) == (0, "task-0")
    assert window.describe() == "round 3 (after 4 rounds)"


def test_the_first_good_round_of_the_row_is_kept() -> None:
    assert play("bgbgg")[2].good_since == NOW + seconds(30)
    assert play("bgb")[2].good_since is None


rounds_seen = st.lists(
    st.tuples(
        st.sampled_from([*Health, Health.HEALTHY, Health.HEALTHY]),
        st.sampled_from(["", "t1", "t1", "t1", "t2"]),
        st.integers(0, 20),
    ),
    max_size=30,
)
rules = st.builds(
    GateRule,
    deadline=st.integers(1, 200).map(seconds),
    interval=st.integers(1, 20).map(seconds),
    successes=st.integers(1, 5),
    stable=st.integers(0, 60).map(seconds),
)


@given(rule=rules, seen=rounds_seen, later=st.integers(0, 400))
def test_laws(rule: GateRule, seen: list[tuple[Health, str, int]], later: int) -> None:
    window, at, identity = Window(rule, NOW), NOW, ""
    row: list[float] = []  # times of the good rounds since the last bad one or restart
    restarts = 0
    for health, name, gap in seen:
        at += seconds(gap)
        window = window.see(Probe(health, "", name), at)
        restarted = bool(name and identity and name != identity)
        identity = name or identity
        restarts += restarted
        if health is not Health.HEALTHY or restarted:
            row = []
        if health is Health.HEALTHY:
            row.append(at.timestamp())
    at += seconds(later)
    outcome = window.outcome(at)
    whole = len(row) >= rule.successes and at.timestamp() - row[0] >= rule.stable.total_seconds()
    assert (outcome is Outcome.HEALTHY) == whole
    assert window.restarts == restarts
    if at - NOW < rule.deadline:
        assert outcome in (Outcome.PENDING, Outcome.HEALTHY)
    if at - NOW >= rule.deadline + rule.stable + rule.interval * (rule.successes + 1):
        assert outcome is not Outcome.PENDING
    if outcome is Outcome.BLIND:
        assert not seen or seen[-1][0] is Health.INCONCLUSIVE
