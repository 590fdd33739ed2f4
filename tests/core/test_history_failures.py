# ruff: noqa: E501 - a truth table reads best with a case a line
"""What follows from runs that went wrong: what is blocked and for how long, being stuck, and trouble."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.building import (
    BACK,
    FORWARD,
    MINUTE,
    NEW,
    OLD,
    SNAPSHOT,
    STRAIGHT,
    S,
    Story,
    good,
    plan,
)
from warmd.core import history as h
from warmd.core.machine import State
from warmd.core.runs import Cause, Kind

FAILURE, ABORT, SIGNAL = Cause.FAILURE, Cause.ABORT, Cause.SIGNAL
STOPPED = FORWARD[:4]


# --- failures and retries


def blocked(*versions: str) -> Story:
    story = Story()
    for number, version in enumerate(versions):
        story.rolls_back(plan(f"r{number}", to_version=version))
    return story


@pytest.mark.parametrize(
    ("commits", "left"),
    [
        ("1.0.1+5.0", {"1.1.0+5.1", "1.2.0+5.1", "v1.3.0+5.2"}),
        ("1.1.0+5.1", {"1.2.0+5.1", "v1.3.0+5.2"}),
        ("1.3.0+5.2", set()),
        ("2.0.0+6.0", set()),
    ],
    ids=["below-all", "at-the-first", "at-the-last-spelled-otherwise", "above-all"],
)
@pytest.mark.parametrize("how", ["run", "adopted", "taken-over"])
def test_failures_are_dropped_when_a_version_at_or_above_is_good(
    commits: str, left: set[str], how: str
) -> None:
    story = blocked("1.1.0+5.1", "1.2.0+5.1", "v1.3.0+5.2")
    if how == "run":
        story.commits(plan("r9", to_version=commits))
    else:
        story.tell(h.last_good(good(commits, how=how), {}))
    assert set(story.history.failures) == left


@pytest.mark.parametrize("how", [h.COMMITTED, h.WENT_BACK])
def test_other_last_goods_drop_no_failure(how: str) -> None:
    assert set(blocked(NEW).tell(h.last_good(good(NEW, how=how), {})).history.failures) == {NEW}


def test_a_commit_of_no_known_version_drops_no_failure() -> None:
    story = blocked(NEW).commits(plan("r9", to_version=None))
    assert set(story.history.failures) == {NEW}


def test_a_retry_forgets_one_failure_or_all() -> None:
    story = blocked("1.1.0+5.1", "1.2.0+5.1")
    story.tell(h.retry(story.now, uid=0, version="1.1.0+5.1"))
    assert set(story.history.failures) == {"1.2.0+5.1"}
    assert not story.tell(h.retry(story.now, uid=0)).history.failures


def test_a_version_that_fails_again_is_blocked_again() -> None:
    story = blocked(NEW)
    story.tell(h.retry(story.now, uid=0)).rolls_back(plan("r9"))
    assert story.history.failures[NEW].run == "r9"


# --- stuck, and how it ends


@pytest.mark.parametrize("stuck_in", BACK)
def test_a_retried_rollback_goes_on_from_its_first_step(stuck_in: State) -> None:
    way = BACK[: BACK.index(stuck_in) + 1]
    story = Story().begins(plan()).enters(*FORWARD, snapshot=SNAPSHOT).enters(*way).fails(S.STUCK)
    at = story.now
    history = story.tell(h.retry(at, uid=0)).history
    run = history.unfinished
    assert run is not None
    assert (run.state, run.entered, run.states[-1], run.stuck_in) == (S.HALTING, at, (S.HALTING, at), None)
    assert history.runs == ()  # it is no ended run any more
    history = story.enters(*BACK[1:], S.ROLLED_BACK).history
    assert (history.run, [r.state for r in history.runs]) == (None, [S.ROLLED_BACK])
    assert history.failures[NEW].outcome is S.ROLLED_BACK


@pytest.mark.parametrize("stuck_in", BACK[2:])
def test_a_retried_rollback_without_data_stops_nothing(stuck_in: State) -> None:
    way = (*STRAIGHT, *BACK[2 : BACK.index(stuck_in) + 1])
    story = Story().gets_stuck(plan(copy=False), *way)
    story.tell(h.retry(story.now, uid=0))
    assert story.run.state is S.REDEPLOYING


@pytest.mark.parametrize(
    "way",
    [(*STRAIGHT[:-1],), STRAIGHT],
    ids=["deploying", "gating"],
)
def test_any_other_stuck_run_is_forgotten_by_a_retry(way: tuple[State, ...]) -> None:
    story = Story().gets_stuck(plan(), *way)
    history = story.tell(h.retry(story.now, uid=0)).history
    assert (history.run, dict(history.failures)) == (None, {})
    assert [run.state for run in history.runs] == [S.STUCK]


@pytest.mark.parametrize(
    "last", [(S.RESTARTING,), (S.RESTARTING, S.REVIVING)], ids=["restarting", "reviving"]
)
def test_a_retried_start_of_the_old_version_is_tried_again(last: tuple[State, ...]) -> None:
    story = Story().gets_stuck(plan(), *STOPPED, *last)
    history = story.tell(h.retry(story.now, uid=0)).history
    assert history.unfinished is not None
    assert (history.unfinished.state, history.runs) == (S.RESTARTING, ())


@pytest.mark.parametrize("last", BACK[2:])
def test_a_retried_snapshot_run_starts_what_ran_and_leaves_its_data_alone(last: State) -> None:
    way = (*FORWARD, *BACK[2 : BACK.index(last) + 1])
    story = Story().gets_stuck(plan(kind=Kind.SNAPSHOT, to_version=OLD), *way, snapshot=SNAPSHOT)
    assert story.run.snapshot is not None
    story.tell(h.retry(story.now, uid=0))
    assert story.run.state is S.REDEPLOYING


@pytest.mark.parametrize(
    ("way", "goes_on_in"),
    [((*FORWARD, S.HALTING), S.HALTING), ((*STOPPED, S.RESTARTING), S.RESTARTING), (FORWARD, None)],
    ids=["rollback", "restart", "forgotten"],
)
def test_a_retry_of_a_version_is_about_that_version_only(
    way: tuple[State, ...], goes_on_in: State | None
) -> None:
    story = blocked("1.2.0+5.2").begins(plan("r9")).enters(*way, snapshot=SNAPSHOT).fails(S.STUCK)
    before = story.history.stuck
    after = story.tell(h.retry(story.now, uid=0, version="1.2.0+5.2")).history
    assert (after.stuck, set(after.failures)) == (before, {NEW})
    after = story.tell(h.retry(story.now, uid=0, version=NEW)).history
    assert (after.stuck, after.run.state if after.run else None) == (None, goes_on_in)


def test_a_retry_leaves_an_unfinished_run_alone() -> None:
    story = Story().begins(plan()).enters(*FORWARD)
    before = story.run
    assert story.tell(h.retry(story.now, uid=0)).run == before


@pytest.mark.parametrize("how", [h.ADOPTED, h.TAKEN_OVER])
def test_what_is_declared_good_ends_being_stuck(how: str) -> None:
    story = Story().gets_stuck(plan(), *FORWARD)
    history = story.tell(h.last_good(good(OLD, how=how), {})).history
    assert history.run is None
    # The new version is above what is good now: it is still not tried again by itself.
    assert set(history.failures) == {NEW}


@pytest.mark.parametrize("how", [h.ADOPTED, h.TAKEN_OVER])
def test_what_is_declared_good_ends_waiting_for_blind_probes(how: str) -> None:
    story = Story().begins(plan()).enters(*FORWARD)
    declared = h.last_good(good(NEW, how=how), {})
    assert story.tell(declared).history.unfinished is not None  # it is watched, and goes on
    story.enters(S.GATING, blind=True)
    assert story.tell(declared).history.run is None


def test_what_is_declared_good_ends_a_blind_restore_and_what_it_was_to_end() -> None:
    story = Story().gets_stuck(plan("r1"), *FORWARD, S.HALTING, S.RESTORING)
    story.begins(plan("r2", Kind.RESTORE)).enters(*FORWARD[:2], *BACK, S.REGATING, blind=True)
    assert story.history.set_aside is not None
    history = story.tell(h.last_good(good(NEW, how=h.ADOPTED), {})).history
    assert (history.run, history.set_aside) == (None, None)


def test_a_failed_restore_of_a_stuck_service_leaves_it_stuck() -> None:
    story = Story().gets_stuck(plan("r1"), *FORWARD, S.HALTING, S.RESTORING)
    restore = plan("r2", Kind.RESTORE, from_version=OLD, to_version=OLD)
    assert story.begins(restore).history.stuck is None
    history = story.fails(S.FAILED_UNCHANGED).history
    assert history.stuck is not None
    assert (history.stuck.plan.id, history.stuck.stuck_in) == ("r1", S.RESTORING)
    assert [run.plan.id for run in history.runs] == ["r1", "r2"]


def test_a_restore_that_goes_through_ends_being_stuck_for_good() -> None:
    story = Story().gets_stuck(plan("r1"), *FORWARD, S.HALTING, S.RESTORING)
    story.begins(plan("r2", Kind.RESTORE, from_version=OLD, to_version=OLD))
    assert story.enters(*FORWARD[:2], *BACK, S.ROLLED_BACK).history.run is None
    assert story.begins(plan("r3")).fails(S.FAILED_UNCHANGED).history.run is None


# --- trouble before anything was touched


def fail_early(story: Story, version: str = NEW, *, transient: bool = False, cause: Cause = FAILURE) -> Story:
    story.begins(plan(f"r{len(story.lines)}", to_version=version))
    return story.tell(
        h.run_state(story.run, S.FAILED_UNCHANGED, story.now, detail="no image", cause=cause, transient=transient)
    )  # fmt: skip


def test_trouble_counts_tries_of_one_version() -> None:
    story = Story()
    for count in (1, 2, 3):
        trouble = fail_early(story).history.trouble
        assert trouble is not None
        assert (trouble.version, trouble.count, trouble.detail, trouble.transient) == (NEW, count, "no image", False)  # fmt: skip
    at = story.now + MINUTE  # its run.planned comes before it
    trouble = fail_early(story, "1.2.0+5.2", transient=True).history.trouble
    assert trouble is not None
    assert (trouble.version, trouble.count, trouble.transient, trouble.at) == ("1.2.0+5.2", 1, True, at)


@pytest.mark.parametrize("cause", [ABORT, SIGNAL])
def test_an_interruption_is_no_trouble(cause: Cause) -> None:
    assert fail_early(Story(), cause=cause).history.trouble is None
    story = fail_early(Story())
    before = story.history.trouble
    assert fail_early(story, cause=cause).history.trouble == before


@pytest.mark.parametrize(
    "over",
    [
        lambda s: s.commits(plan("r9")),
        lambda s: s.rolls_back(plan("r9")),
        lambda s: s.tell(h.retry(s.now, uid=0)),
        lambda s: s.tell(h.last_good(good(how=h.ADOPTED), {})),
    ],
    ids=["commit", "rollback", "retry", "adopt"],
)
def test_trouble_is_over_once_something_else_happened(over: Any) -> None:
    assert over(fail_early(Story())).history.trouble is None
