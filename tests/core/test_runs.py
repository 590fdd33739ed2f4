# ruff: noqa: E501 - a truth table reads best with a case a line
"""What follows from a failure, as a truth table; and what a run says about itself."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.building import HOUR, MINUTE, NEW, NOW, OLD, Story, plan
from warmd.core.machine import ENDS, REVIVAL, ROLLBACK, TABLE, Event, State
from warmd.core.model import SnapshotHandle, canonical
from warmd.core.runs import CLOCK_SLACK, Cause, Kind, Run, RunPlan, after_check, after_failure, too_late

HANDLE = SnapshotHandle("n1", "r1")
DEPLOYED = (State.DEPLOYING, State.GATING)
WITHIN, PAST = HOUR, HOUR + timedelta(seconds=1)
#: A deploy stamped after now: the clock was corrected a little, or set back.
CORRECTED, SET_BACK = -CLOCK_SLACK, -CLOCK_SLACK - timedelta(seconds=1)


@dataclass(frozen=True)
class Case:
    """A run that fails after its deploy, and what that leads to. ``age``: since the deploy."""

    id: str
    kind: Kind
    leads_to: Event
    why: str = ""
    copy: bool = True
    age: timedelta = WITHIN
    snapshot: bool = True
    previous: str | None = "blob-old"

    def run(self, state: State) -> Run:
        planned = plan(kind=self.kind, copy=self.copy, previous=self.previous)
        run = Run(planned, NOW - 9 * HOUR, state, entered=NOW, deployed_at=NOW - self.age)
        return replace(run, snapshot=HANDLE if self.snapshot else None)


NOTHING, LATE, BARE = "nothing to go back to", "horizon is over", "no snapshot"

AFTER_DEPLOY = [
    Case("upgrade", Kind.UPGRADE, Event.RECOVER),
    Case("upgrade-at-the-horizon", Kind.UPGRADE, Event.RECOVER, age=HOUR),
    Case("upgrade-past-the-horizon", Kind.UPGRADE, Event.GIVE_UP, LATE, age=PAST),
    Case("upgrade-without-its-snapshot", Kind.UPGRADE, Event.GIVE_UP, BARE, snapshot=False),
    Case("upgrade-late-and-bare-is-late-first", Kind.UPGRADE, Event.GIVE_UP, LATE, age=PAST, snapshot=False),
    Case("upgrade-stateless", Kind.UPGRADE, Event.REVERT, copy=False, snapshot=False),
    Case("upgrade-stateless-has-no-horizon", Kind.UPGRADE, Event.REVERT, copy=False, snapshot=False, age=PAST),
    Case("upgrade-with-nothing-before-it", Kind.UPGRADE, Event.GIVE_UP, NOTHING, previous=None),
    Case("deploy", Kind.DEPLOY, Event.RECOVER),
    Case("deploy-past-the-horizon", Kind.DEPLOY, Event.GIVE_UP, LATE, age=PAST),
    Case("deploy-without-its-snapshot", Kind.DEPLOY, Event.GIVE_UP, BARE, snapshot=False),
    Case("deploy-stateless", Kind.DEPLOY, Event.REVERT, copy=False, snapshot=False),
    Case("upgrade-after-the-clock-was-corrected", Kind.UPGRADE, Event.RECOVER, age=CORRECTED),
    Case("upgrade-after-the-clock-was-set-back", Kind.UPGRADE, Event.GIVE_UP, LATE, age=SET_BACK),
    Case("upgrade-stateless-asks-no-clock", Kind.UPGRADE, Event.REVERT, copy=False, snapshot=False, age=SET_BACK),
    Case("snapshot-leaves-the-data-as-it-is", Kind.SNAPSHOT, Event.REVERT),
    Case("snapshot-past-the-horizon", Kind.SNAPSHOT, Event.REVERT, age=PAST),
    Case("snapshot-after-the-clock-was-set-back", Kind.SNAPSHOT, Event.REVERT, age=SET_BACK),
    Case("snapshot-with-nothing-before-it", Kind.SNAPSHOT, Event.GIVE_UP, NOTHING, previous=None),
    Case("cold-deploy", Kind.COLD_DEPLOY, Event.GIVE_UP, NOTHING, copy=False, snapshot=False, previous=None),
    Case("repair-is-the-old-version-already", Kind.REPAIR, Event.GIVE_UP, NOTHING, copy=False, snapshot=False),
]  # fmt: skip


@pytest.mark.parametrize("state", DEPLOYED)
@pytest.mark.parametrize("case", AFTER_DEPLOY, ids=lambda case: case.id)
def test_after_the_deploy(case: Case, state: State) -> None:
    event, why = after_failure(case.run(state), now=NOW)
    assert event is case.leads_to
    assert case.why in why


AGES = (WITHIN, PAST, CORRECTED, SET_BACK)
EVERYTHING = list(itertools.product(State, Kind, (True, False), AGES, (True, False), (None, "blob-old")))


def test_laws_of_failure_over_every_combination() -> None:
    for state, kind, copy, age, snapshot, previous in EVERYTHING:
        case = Case("", kind, Event.FAILED, copy=copy, age=age, snapshot=snapshot, previous=previous)
        event, why = after_failure(case.run(state), now=NOW)
        if state not in DEPLOYED:
            assert (event, why) == (Event.FAILED, ""), (state, case)
            continue
        assert event in TABLE[state], (state, case)
        # A person has to act exactly where warmd gives up, and is told why.
        assert bool(why) == (event is Event.GIVE_UP), (state, case)
        if event is Event.RECOVER:  # data is replaced only where there is some, and in time
            assert copy, case
            assert snapshot, case
            assert -CLOCK_SLACK <= age <= HOUR, case
            assert kind is not Kind.SNAPSHOT, case
        if event is Event.REVERT:  # the version alone goes back only where there is no copy that cures
            assert not copy or kind is Kind.SNAPSHOT, case
        if event is not Event.GIVE_UP:
            assert previous, case


@pytest.mark.parametrize("state", sorted(set(State) - ENDS))
def test_a_failure_is_legal_wherever_something_is_done(state: State) -> None:
    event, _ = after_failure(Run(plan(), NOW, state, snapshot=HANDLE), now=NOW)
    assert event in TABLE[state]


def test_giving_up_late_says_what_a_restore_would_lose() -> None:
    run = Case("", Kind.UPGRADE, Event.GIVE_UP, age=2 * HOUR).run(State.GATING)
    assert "lose what was written since 2026-05-04 10:00:00 UTC" in after_failure(run, now=NOW)[1]


@pytest.mark.parametrize("state", sorted(set(State) - ENDS))
@pytest.mark.parametrize(
    ("kind", "age", "was_stuck", "late"),
    [
        (Kind.UPGRADE, WITHIN, False, False),
        (Kind.UPGRADE, PAST, False, True),
        (Kind.UPGRADE, SET_BACK, False, True),
        (Kind.DEPLOY, PAST, False, True),
        (Kind.UPGRADE, PAST, True, False),
        (Kind.RESTORE, PAST, False, False),
    ],
    ids=["in-time", "past", "clock-set-back", "deploy", "a-person-said-retry", "a-person-said-restore"],
)
def test_a_rollback_that_was_decided_in_time_may_still_come_too_late(
    state: State, kind: Kind, age: timedelta, was_stuck: bool, late: bool
) -> None:
    run = Case("", kind, Event.RECOVER, age=age).run(state)
    run = replace(run, states=((State.STUCK, NOW),) if was_stuck else ())
    why = too_late(run, now=NOW)
    assert bool(why) == (late and state in (State.HALTING, State.RESTORING))
    if why:
        assert LATE in why
        assert Event.GIVE_UP in TABLE[state]


@pytest.mark.parametrize(
    ("kind", "copy", "event"),
    [
        (Kind.UPGRADE, True, Event.STOP_FIRST),
        (Kind.UPGRADE, False, Event.STRAIGHT),
        (Kind.DEPLOY, True, Event.STOP_FIRST),
        (Kind.SNAPSHOT, True, Event.STOP_FIRST),
        (Kind.COLD_DEPLOY, False, Event.STRAIGHT),
        (Kind.REPAIR, False, Event.STRAIGHT),
        (Kind.RESTORE, True, Event.RESTORE),
        (Kind.RESTORE, False, Event.RESTORE),
    ],
)
def test_after_the_checks(kind: Kind, copy: bool, event: Event) -> None:
    assert after_check(plan(kind=kind, copy=copy)) is event


# --- what a run says about itself


@pytest.mark.parametrize(
    ("stopped", "deployed", "healthy", "outage"),
    [
        (0, 5, 7, 7),
        (None, 5, 7, 2),
        (0, 5, None, None),
        (None, None, 7, None),
    ],
    ids=["from-the-stop", "from-the-deploy-where-nothing-stopped", "still-away", "never-away"],
)
def test_outage(stopped: int | None, deployed: int | None, healthy: int | None, outage: int | None) -> None:
    at = [None if m is None else NOW + m * MINUTE for m in (stopped, deployed, healthy)]
    run = Run(plan(), NOW, stopped_at=at[0], deployed_at=at[1], healthy_at=at[2])
    assert run.outage == (None if outage is None else outage * MINUTE)


@pytest.mark.parametrize(
    ("kind", "snapshot", "back"),
    [
        (Kind.UPGRADE, HANDLE, Event.RETRY),
        (Kind.UPGRADE, None, Event.REVERT),
        (Kind.RESTORE, HANDLE, Event.RETRY),
        (Kind.SNAPSHOT, HANDLE, Event.REVERT),
    ],
    ids=["with-data", "stateless", "restore", "snapshot-never-puts-its-copy-back"],
)
@pytest.mark.parametrize("state", State)
def test_only_a_stuck_run_goes_on_and_only_the_way_it_was_on(
    state: State, kind: Kind, snapshot: SnapshotHandle | None, back: Event
) -> None:
    run = Run(plan(kind=kind), NOW, snapshot=snapshot)
    assert replace(run, state=state).way_on is None
    on = dict.fromkeys(REVIVAL, Event.RESTART) | dict.fromkeys(ROLLBACK, back)
    assert replace(run, state=State.STUCK, stuck_in=state).way_on == on.get(state)


def test_a_rollback_deploys_what_ran_and_a_restore_what_the_snapshot_holds() -> None:
    for kind in Kind:
        run = Run(plan(kind=kind, previous="blob-old"), NOW, target="blob-target")
        assert run.goes_back_to == ("blob-target" if kind is Kind.RESTORE else "blob-old")


@pytest.mark.parametrize(
    ("kind", "from_version", "to_version", "state", "blames"),
    [
        (Kind.UPGRADE, OLD, NEW, State.ROLLED_BACK, NEW),
        (Kind.COLD_DEPLOY, None, NEW, State.STUCK, NEW),
        (Kind.DEPLOY, OLD, NEW, State.ROLLED_BACK, NEW),
        (Kind.DEPLOY, OLD, OLD, State.ROLLED_BACK, None),
        (Kind.REPAIR, OLD, OLD, State.STUCK, None),
        (Kind.SNAPSHOT, OLD, OLD, State.ROLLED_BACK, None),
        (Kind.RESTORE, NEW, OLD, State.ROLLED_BACK, NEW),
        (Kind.RESTORE, NEW, OLD, State.STUCK, NEW),
        (Kind.RESTORE, NEW, OLD, State.FAILED_UNCHANGED, None),
        (Kind.RESTORE, NEW, NEW, State.ROLLED_BACK, None),
    ],
)
def test_the_version_that_a_run_speaks_against(
    kind: Kind, from_version: str | None, to_version: str, state: State, blames: str | None
) -> None:
    planned = plan(kind=kind, from_version=from_version, to_version=to_version)
    assert Run(planned, NOW, state).blames == blames


texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
plans = st.builds(
    RunPlan,
    id=st.text("0123456789abcdef", min_size=1, max_size=12),
    kind=st.sampled_from(Kind),
    copy=st.booleans(),
    horizon=st.timedeltas(timedelta(0), timedelta(days=400)),
    target=texts,
    from_version=texts,
    to_version=texts,
    commit=texts,
    previous=texts,
    rendered=texts,
    inputs=texts,
    approval=texts,
    snapshot=st.none() | st.builds(SnapshotHandle, node=st.text(max_size=4), id=st.text(max_size=4)),
    asked_by=st.sampled_from(["", "uid 0"]),
    why=st.sampled_from(["", "read the notes"]),
)


@given(plans)
def test_a_plan_comes_back_from_the_journal_as_it_was(planned: RunPlan) -> None:
    assert RunPlan.from_json(planned.to_json()) == planned
    story = Story().begins(planned)
    assert story.run.plan == planned
    assert canonical(story.records[0].data) == canonical(planned.to_json())


def test_causes_are_part_of_the_format() -> None:
    assert {c.value for c in Cause} == {"failure", "abort", "signal"}
