# ruff: noqa: E501 - a truth table reads best with a case a line
"""What a journal amounts to: how runs end, what they block, and what is remembered of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.core.building import (
    BACK,
    FORWARD,
    HOUR,
    MINUTE,
    NEW,
    NOW,
    OLD,
    SNAPSHOT,
    STRAIGHT,
    S,
    Story,
    good,
    plan,
)
from warmd.core import history as h
from warmd.core.history import Approval, Failure, History
from warmd.core.machine import ENDS, TABLE, State
from warmd.core.model import LastGood, SnapshotHandle
from warmd.core.runs import Cause, Kind
from warmd.core.versions import Version

APPROVED = Approval("a1", NEW, "ab" * 32, 0, "read the notes", NOW)
FAILURE, ABORT, SIGNAL = Cause.FAILURE, Cause.ABORT, Cause.SIGNAL


# --- how runs end


@dataclass(frozen=True)
class End:
    """A run that ends: the states it enters, and why it left its way. ``blocked``: what is not tried
    again by itself; ``spent``: whether its approval is used up; ``trouble``: whether it is counted as
    failed before anything was touched."""

    id: str
    way: tuple[State, ...]
    cause: Cause | None = None
    blocked: str | None = None
    spent: bool = True
    trouble: bool = False
    kind: Kind = Kind.UPGRADE
    from_version: str | None = OLD
    to_version: str = NEW


STOPPED, REVIVED = FORWARD[:4], (S.RESTARTING, S.REVIVING, S.INTERRUPTED)
WENT_BACK = (*FORWARD, *BACK, S.ROLLED_BACK)
RESTORED = (*FORWARD[:2], *BACK, S.ROLLED_BACK)
UNTOUCHED = (S.PULLING, S.FAILED_UNCHANGED)

ENDINGS = [
    End("committed", (*FORWARD, S.COMMITTED)),
    End("refused-before-anything", UNTOUCHED, FAILURE, trouble=True, spent=False),
    End("told-to-stop-before-anything", UNTOUCHED, SIGNAL, spent=False),
    End("aborted-before-anything", UNTOUCHED, ABORT, blocked=NEW),
    End("told-to-stop-after-the-stop", (*STOPPED, *REVIVED), SIGNAL, spent=False),
    End("aborted-after-the-stop", (*STOPPED, *REVIVED), ABORT, blocked=NEW),
    End("failed-after-the-stop", (*STOPPED, *REVIVED), FAILURE, blocked=NEW),
    End("rolled-back", WENT_BACK, FAILURE, blocked=NEW),
    End("rolled-back-by-a-person", WENT_BACK, ABORT, blocked=NEW),
    End("rolled-back-without-data", (*STRAIGHT, *BACK[2:], S.ROLLED_BACK), FAILURE, blocked=NEW),
    End("stuck-past-the-horizon", (*FORWARD, S.STUCK), FAILURE, blocked=NEW),
    End("stuck-on-the-way-back", (*FORWARD, S.HALTING, S.RESTORING, S.STUCK), FAILURE, blocked=NEW),
    End("told-to-stop-and-then-stuck", (*STOPPED, S.RESTARTING, S.STUCK), SIGNAL, blocked=NEW),
    End("cold-deploy-stuck", (*STRAIGHT, S.STUCK), FAILURE, blocked=NEW, kind=Kind.COLD_DEPLOY, from_version=None),
    End("deploy-of-another-version", WENT_BACK, FAILURE, blocked=NEW, kind=Kind.DEPLOY),
    End("deploy-of-the-same-version", WENT_BACK, FAILURE, kind=Kind.DEPLOY, to_version=OLD),
    End("snapshot-interrupted", (*STOPPED, *REVIVED), FAILURE, kind=Kind.SNAPSHOT, to_version=OLD),
    End("repair-stuck", (*STRAIGHT, S.STUCK), FAILURE, kind=Kind.REPAIR, to_version=OLD),
    End("restored-what-it-left-is-blocked", RESTORED, blocked=NEW, kind=Kind.RESTORE, from_version=NEW, to_version=OLD),
    End("restored-the-same-version", RESTORED, kind=Kind.RESTORE, from_version=OLD, to_version=OLD),
    End("restore-refused", UNTOUCHED, FAILURE, trouble=True, spent=False, kind=Kind.RESTORE, from_version=NEW, to_version=OLD),
    End("restore-aborted", UNTOUCHED, ABORT, kind=Kind.RESTORE, from_version=NEW, to_version=OLD),
]  # fmt: skip


def ended(case: End) -> Story:
    story = Story().tell(h.approval(APPROVED))
    planned = plan(
        kind=case.kind, from_version=case.from_version, to_version=case.to_version, approval=APPROVED.id
    )
    return story.begins(planned).enters(*case.way, cause=case.cause, detail="why it ended")


@pytest.mark.parametrize("case", ENDINGS, ids=lambda case: case.id)
def test_how_a_run_ends(case: End) -> None:
    history, state = ended(case).history, case.way[-1]
    assert set(history.failures) == ({case.blocked} if case.blocked else set())
    assert (APPROVED.version not in history.approvals) == case.spent
    assert (history.trouble is not None) == case.trouble
    assert [run.state for run in history.runs] == [state]
    assert history.unfinished is None
    assert (history.stuck is not None) == (state is State.STUCK)
    for failure in history.failures.values():
        assert (failure.outcome, failure.detail, failure.run) == (state, "why it ended", "r1")
        assert failure.above == (OLD if case.kind is Kind.RESTORE else None)


@pytest.mark.parametrize("case", ENDINGS, ids=lambda case: case.id)
def test_the_endings_of_this_table_are_possible(case: End) -> None:
    state = State.PLANNED
    for entered in case.way:
        assert entered in TABLE[state].values()
        state = entered
    assert state in ENDS


# --- a run while it lasts


def test_what_a_run_finds_on_its_way_is_kept() -> None:
    story = Story().begins(plan(target="blob-0", rendered="blob-0", inputs="i0"))
    assert (story.run.state, story.run.target, story.run.inputs) == (S.PLANNED, "blob-0", "i0")
    story.enters(S.PULLING, target="blob-1", rendered="blob-1", inputs="i1")
    story.enters(S.CHECKING, target="blob-2")
    run = story.run
    assert (run.target, run.rendered, run.inputs) == ("blob-2", "blob-1", "i1")
    story.enters(S.STOPPING, S.CAPTURING).enters(S.SEALING, snapshot=SNAPSHOT)
    assert story.run.snapshot == SnapshotHandle("n1", "r1")
    story.enters(S.DEPLOYING, S.GATING)
    story.enters(S.COMMITTED, healthy_at=(NOW + 20 * MINUTE).isoformat())
    run = story.run
    # A minute a record: planned is the first, stopping the fourth, deploying the seventh.
    assert (run.stopped_at, run.deployed_at) == (NOW + 3 * MINUTE, NOW + 6 * MINUTE)
    assert run.outage == 17 * MINUTE
    assert run.snapshot == SnapshotHandle("n1", "r1")
    assert [state for state, _ in run.states] == [S.PLANNED, *FORWARD, S.COMMITTED]
    assert run.states[0][1] == NOW


def test_a_snapshot_that_is_to_be_restored_is_the_runs_from_the_start() -> None:
    handle = SnapshotHandle("n1", "old")
    assert Story().begins(plan(kind=Kind.RESTORE, snapshot=handle)).run.snapshot == handle


@pytest.mark.parametrize(
    ("way", "minute"),
    [
        (FORWARD, 3),
        ((*FORWARD, *BACK), 3),
        ((*FORWARD[:2], *BACK), 3),
        (STRAIGHT, None),
        ((*STRAIGHT, *BACK), 5),
    ],
    ids=["at-the-stop", "and-not-at-the-halt", "restore-at-the-halt", "rolling", "rolling-then-halted"],
)
def test_the_outage_begins_when_the_service_first_goes_down(
    way: tuple[State, ...], minute: int | None
) -> None:
    stopped = Story().begins(plan()).enters(*way).run.stopped_at
    assert stopped == (None if minute is None else NOW + minute * MINUTE)


def test_blind_since_the_first_blind_gate_until_something_is_known() -> None:
    story = Story().begins(plan()).enters(*FORWARD)
    assert story.run.blind_since is None
    begun = story.now
    story.enters(S.GATING, blind=True, detail="no route to host").enters(S.GATING, blind=True)
    assert story.run.blind_since == begun
    assert story.run.detail == "no route to host"
    assert story.enters(S.COMMITTED).run.blind_since is None


def test_a_stuck_run_says_in_which_state() -> None:
    story = Story().gets_stuck(plan(), *FORWARD, S.HALTING)
    assert story.run.stuck_in is S.HALTING
    assert story.history.stuck == story.run


def test_records_of_another_run_change_nothing() -> None:
    story = Story().begins(plan("r1"))
    stranger = Story().begins(plan("r2")).run
    before = story.history
    after = story.tell(h.run_state(stranger, S.COMMITTED, story.now)).history
    assert (after.run, after.runs) == (before.run, before.runs)
    assert Story().tell(h.run_state(stranger, S.COMMITTED, NOW)).history == History(seq=1)


def test_only_the_newest_ended_runs_are_kept_in_memory() -> None:
    story = Story()
    for number in range(h.RUNS_KEPT + 3):
        story.begins(plan(f"r{number}")).fails(S.FAILED_UNCHANGED)
    ids = [run.plan.id for run in story.history.runs]
    assert ids == [f"r{number}" for number in range(3, h.RUNS_KEPT + 3)]


# --- whose the data is


TO_OLD: dict[str, Any] = {"kind": Kind.RESTORE, "from_version": NEW, "to_version": OLD}


@pytest.mark.parametrize(
    ("changes", "way", "whose"),
    [
        ({}, FORWARD[:5], OLD),
        ({}, (*FORWARD[:4], *REVIVED), OLD),
        ({}, FORWARD[:6], NEW),
        ({}, (*FORWARD, S.STUCK), NEW),
        ({}, (*FORWARD, *BACK[:2]), NEW),
        ({}, (*FORWARD, *BACK[:3]), OLD),
        ({"copy": False}, (*STRAIGHT, *BACK[2:]), NEW),
        ({"kind": Kind.REPAIR, "to_version": OLD}, STRAIGHT, OLD),
        ({"to_version": None}, FORWARD, None),
        (TO_OLD, (*FORWARD[:2], *BACK[:2]), OLD),
        (TO_OLD, (*FORWARD[:2], *BACK[:3]), OLD),
        ({**TO_OLD, "to_version": NEW}, (*FORWARD[:2], *BACK[:2]), OLD),
        ({**TO_OLD, "to_version": NEW}, (*FORWARD[:2], *BACK[:3]), NEW),
    ],
    ids=[
        "copied-is-not-touched",
        "the-old-one-started-again",
        "a-deploy-hands-it-over",
        "stuck-leaves-it-there",
        "half-put-back",
        "put-back",
        "nobody-put-it-back",
        "repaired",
        "to-no-known-version",
        "half-restored",
        "restored",
        "half-restored-to-another",
        "restored-to-another",
    ],
)
def test_the_data_is_of_the_version_that_last_worked_on_it(
    changes: dict[str, Any], way: tuple[State, ...], whose: str | None
) -> None:
    story = Story().tell(h.last_good(good(OLD), {})).begins(plan(**changes)).enters(*way)
    assert story.history.data_of == whose


def test_the_data_is_of_what_somebody_moved_to_until_something_else_is_known() -> None:
    story = Story().tell(h.last_good(good(OLD), {}))
    assert story.history.data_of == OLD
    moved = story.tell(h.moved(story.now, NEW)).history
    assert (moved.data_of, moved.last_good) == (NEW, good(OLD))
    assert story.tell(h.last_good(good(None, how=h.ADOPTED), {})).history.data_of is None


def test_a_rollback_without_data_gives_the_data_back_only_when_it_is_good() -> None:
    story = Story().begins(plan(copy=False)).enters(*STRAIGHT, *BACK[2:])
    assert story.history.data_of == NEW
    story.enters(S.ROLLED_BACK, last_good=h.good_json(good(OLD), {}))
    assert story.history.data_of == OLD


# --- last good


@pytest.mark.parametrize("version", [OLD, None])
def test_last_good_comes_back_whole(version: str | None) -> None:
    parsed = Version.of(version) if version else None
    whole = LastGood(
        parsed, "blob", NOW, h.TAKEN_OVER, "c" * 40, "blob-r", "inputs", "r7", said="1.0.0", pinned="b"
    )
    history = Story().tell(h.last_good(whole, {"s_app": "x/1"}, uid=1000)).history
    assert (history.last_good, history.live) == (whole, {"s_app": "x/1"})


@pytest.mark.parametrize("end", [S.COMMITTED, S.ROLLED_BACK, S.INTERRUPTED])
def test_last_good_in_the_record_of_the_end_is_one_with_the_outcome(end: State) -> None:
    way = {S.COMMITTED: FORWARD, S.ROLLED_BACK: WENT_BACK[:-1], S.INTERRUPTED: (*STOPPED, *REVIVED[:-1])}[end]
    story = Story().tell(h.last_good(good(OLD), {"s_app": "x/1"})).begins(plan()).enters(*way)
    before = story.history
    assert (before.last_good, before.unfinished is None) == (good(OLD), False)
    now_good = good(NEW)
    after = story.enters(end, last_good=h.good_json(now_good, {"s_app": "y/1"})).history
    assert (after.last_good, after.live, after.unfinished) == (now_good, {"s_app": "y/1"}, None)
    assert len(story.records) == before.seq + 1


def test_new_marks_change_only_what_is_compared_with() -> None:
    story = Story().tell(h.marks(NOW, {"s_app": "y/1"}, "i2"))
    assert story.history == History(seq=1)  # with nothing good there is nothing to compare with
    story.tell(h.last_good(good(OLD), {"s_app": "x/1"})).tell(h.drift(story.now, ["s_db is missing"]))
    before = story.history
    after = story.tell(h.marks(story.now, {"s_app": "y/1"}, "i2")).history
    assert before.last_good is not None
    changed: dict[str, Any] = {
        "seq": 4,
        "live": {"s_app": "y/1"},
        "last_good": replace(before.last_good, inputs="i2"),
    }
    assert after == replace(before, **changed)


def test_takeovers_and_adoptions_are_remembered() -> None:
    story = Story().tell(h.last_good(good(OLD, how=h.TAKEN_OVER), {}))
    story.tell(h.last_good(good(NEW, how=h.ADOPTED, at=story.now), {}, uid=1000))
    story.tell(h.last_good(good(NEW, how=h.COMMITTED, at=story.now), {}))
    assert story.history.handovers == (
        h.Handover(OLD, h.TAKEN_OVER, NOW, None),
        h.Handover(NEW, h.ADOPTED, NOW + MINUTE, 1000),
    )


# --- the small ones


def test_an_approval_waits_until_a_run_under_it_ends() -> None:
    other = Approval("a2", "1.2.0+5.2", "cd" * 32, 1000, "mine", NOW + MINUTE)
    story = Story().tell(h.approval(APPROVED)).tell(h.approval(other))
    assert story.history.approvals == {NEW: APPROVED, other.version: other}
    story.begins(plan(approval="a1"))
    assert story.history.approvals == {NEW: APPROVED, other.version: other}
    assert story.enters(*FORWARD, S.COMMITTED).history.approvals == {other.version: other}


def test_a_newer_approval_of_a_version_replaces_the_older() -> None:
    newer = Approval("a2", NEW, "cd" * 32, 0, "read them again", NOW + MINUTE)
    assert Story().tell(h.approval(APPROVED)).tell(h.approval(newer)).history.approvals == {NEW: newer}


def test_paused_says_who_why_and_since_when() -> None:
    story = Story().tell(h.paused(NOW, uid=1000, why="audit"))
    assert story.history.paused == h.Paused(NOW, 1000, "audit")
    assert story.tell(h.resumed(story.now, uid=0)).history.paused is None


def test_drift_counts_from_its_first_sight() -> None:
    story = Story().tell(h.drift(NOW, ["s_app is at zero"]))
    history = story.tell(h.drift(story.now, ["s_app is at zero", "s_db is missing"])).history
    assert (history.drift_since, history.drift) == (NOW, ("s_app is at zero", "s_db is missing"))
    history = story.tell(h.drift_over(story.now)).history
    assert (history.drift_since, history.drift) == (None, ())


def test_a_clock_that_was_set_back_does_not_put_a_repair_off() -> None:
    story = Story().tell(h.drift(NOW + HOUR, ["s_app is at zero"]))
    assert story.tell(h.drift(NOW, ["s_app is at zero"])).history.drift_since == NOW
    assert story.tell(h.drift(NOW + MINUTE, ["s_app is at zero"])).history.drift_since == NOW


@pytest.mark.parametrize(
    "over",
    [lambda s: s.commits(plan(kind=Kind.REPAIR)), lambda s: s.tell(h.last_good(good(), {}))],
    ids=["repaired", "declared-good"],
)
def test_drift_is_over_with_a_new_last_good(over: Any) -> None:
    assert over(Story().tell(h.drift(NOW, ["s_app is at zero"]))).history.drift_since is None


def test_an_alert_is_open_until_resolved_and_its_files_undelivered_until_written() -> None:
    story = Story().tell(h.alert_opened(NOW, "f1", "one.json", {"kind": "stuck"}))
    assert story.history.alerts == {"f1": h.OpenAlert("f1", "one.json", {"kind": "stuck"})}
    assert story.history.undelivered == {"one.json": {"kind": "stuck"}}
    history = story.tell(h.alert_delivered(story.now, "one.json")).history
    assert (set(history.alerts), history.undelivered) == ({"f1"}, {})
    history = story.tell(h.alert_resolved(story.now, "f1", "two.json", {"state": "resolved"})).history
    assert (history.alerts, history.undelivered) == ({}, {"two.json": {"state": "resolved"}})
    assert not story.tell(h.alert_delivered(story.now, "two.json")).history.undelivered


def test_an_alert_that_ends_before_it_was_written_still_has_both_files() -> None:
    story = Story().tell(h.alert_opened(NOW, "f1", "one.json", {}))
    history = story.tell(h.alert_resolved(story.now, "f1", "two.json", {})).history
    assert list(history.undelivered) == ["one.json", "two.json"]


def test_a_failure_keeps_when_it_happened() -> None:
    story = Story().begins(plan()).enters(*FORWARD)
    at: datetime = story.now
    failure = story.fails(S.STUCK, "gate: it is sick").history.failures[NEW]
    assert failure == Failure(NEW, S.STUCK, "gate: it is sick", "r1", at)


def test_the_horizon_counts_from_the_deploy() -> None:
    story = Story().begins(plan()).enters(*FORWARD)
    assert story.run.deployed_at == NOW + timedelta(minutes=6)
    assert story.run.plan.horizon == HOUR
