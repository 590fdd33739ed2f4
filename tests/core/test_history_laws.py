"""Laws of the history, over journals that Hypothesis makes up from what the engine may write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.core.building import NEW, NOW, OLD, SNAPSHOT, Story, good, plan
from warmd.core import history as h
from warmd.core.history import Approval, History
from warmd.core.journal import Draft
from warmd.core.machine import ENDS, REVIVAL, TABLE, Event, State, advance
from warmd.core.runs import Cause, Kind
from warmd.core.versions import Version

VERSIONS = st.sampled_from([OLD, NEW, "1.2.0+5.2", "v1.2.0+5.2", "2.0.0+6.0", "2.0.0"])
NAMES = st.sampled_from(["one", "two", "three"])


class Journal(RuleBasedStateMachine):
    """Writes whatever may be written, in any order in which it may be, and keeps simple accounts."""

    def __init__(self) -> None:
        super().__init__()
        self.story = Story()
        self.stepped = History()
        self.opened: set[str] = set()
        self.files: set[str] = set()
        self.count = 0

    def _tell(self, draft: Draft) -> None:
        self.story.tell(draft)
        self.stepped = h.step(self.stepped, self.story.records[-1])
        self.count += 1

    @property
    def _run_is_over(self) -> bool:
        return self.stepped.unfinished is None

    @precondition(lambda self: self._run_is_over)
    @rule(kind=st.sampled_from(Kind), old=VERSIONS, new=VERSIONS, copy=st.booleans(), approved=st.booleans())
    def begin(self, kind: Kind, old: str, new: str, copy: bool, approved: bool) -> None:
        approval = next(iter(self.stepped.approvals.values()), None)
        planned = plan(
            f"r{self.count}",
            kind,
            from_version=old,
            to_version=new,
            copy=copy,
            approval=approval.id if approval and approved else None,
        )
        self._tell(h.run_planned(planned, self.story.now))

    @precondition(lambda self: not self._run_is_over)
    @rule(data=st.data(), cause=st.none() | st.sampled_from(Cause), transient=st.booleans())
    def go_on(self, data: st.DataObject, cause: Cause | None, transient: bool) -> None:
        run = self.stepped.run
        assert run is not None
        event = data.draw(st.sampled_from(sorted(TABLE[run.state])))
        state = advance(run.state, event)
        found: dict[str, Any] = {"blind": True} if event is Event.BLIND else {}
        found |= {"snapshot": SNAPSHOT} if state is State.SEALING else {}
        if state is State.COMMITTED:
            found["last_good"] = h.good_json(good(run.plan.to_version), {"s_app": "x/1"})
        self._tell(
            h.run_state(
                run, state, self.story.now, detail="so it is", cause=cause, transient=transient, found=found
            )
        )
        assert (self.stepped.run or self.stepped.runs[-1]).state is state or self.stepped.set_aside is None
        assert self.stepped.runs[-1:] == () or state not in ENDS or self.stepped.runs[-1].state is state

    @precondition(lambda self: self._run_is_over or self.stepped.run.blind_since)
    @rule(version=VERSIONS, how=st.sampled_from([h.ADOPTED, h.TAKEN_OVER]))
    def declare_good(self, version: str, how: str) -> None:
        self._tell(h.last_good(good(version, how=how), {"s_app": "x/1"}, uid=0))
        assert (self.stepped.run, self.stepped.data_of) == (None, version)
        assert all(Version.of(version) < Version.of(failed) for failed in self.stepped.failures)

    @rule(version=st.none() | VERSIONS)
    def retry(self, version: str | None) -> None:
        before = self.stepped.stuck
        another = before is not None and version not in (None, before.plan.to_version)
        self._tell(h.retry(self.story.now, uid=0, version=version))
        assert version not in self.stepped.failures
        assert self.stepped.stuck == (before if another else None)

    @rule(version=VERSIONS)
    def move(self, version: str) -> None:
        before = self.stepped.last_good
        self._tell(h.moved(self.story.now, version))
        assert (self.stepped.data_of, self.stepped.last_good) == (version, before)

    @rule(live=st.dictionaries(NAMES, NAMES, max_size=2))
    def mark(self, live: dict[str, str]) -> None:
        self._tell(h.marks(self.story.now, live, "i9"))
        if self.stepped.last_good is not None:
            assert (self.stepped.live, self.stepped.last_good.inputs) == (live, "i9")

    @rule(version=VERSIONS)
    def approve(self, version: str) -> None:
        given_ = Approval(f"a{self.count}", version, "ab" * 32, 0, "read", self.story.now)
        self._tell(h.approval(given_))
        assert self.stepped.approvals[version] == given_

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        now = self.story.now
        self._tell(h.paused(now, uid=0, why="") if paused else h.resumed(now, uid=0))
        assert (self.stepped.paused is not None) == paused

    @rule(drifts=st.booleans())
    def drift(self, drifts: bool) -> None:
        now = self.story.now
        self._tell(h.drift(now, ["s_app is at zero"]) if drifts else h.drift_over(now))
        assert (self.stepped.drift_since is not None) == bool(self.stepped.drift) == drifts

    @rule(name=NAMES)
    def alert(self, name: str) -> None:
        now, file = self.story.now, f"{self.count}-{name}.json"
        write = h.alert_resolved if name in self.opened else h.alert_opened
        self._tell(write(now, name, file, {"kind": name}))
        self.opened ^= {name}
        self.files |= {file}

    @precondition(lambda self: self.files)
    @rule()
    def deliver(self) -> None:
        file = min(self.files)
        self._tell(h.alert_delivered(self.story.now, file))
        self.files -= {file}

    @rule(data=st.dictionaries(NAMES, st.integers()))
    def from_the_future(self, data: dict[str, int]) -> None:
        before = self.stepped
        self._tell(Draft("lease.granted", self.story.now, data, "r0"))
        changed = {
            f.name for f in fields(History) if getattr(before, f.name) != getattr(self.stepped, f.name)
        }
        assert changed == {"seq"}

    @invariant()
    def folding_is_stepping(self) -> None:
        assert self.story.history == self.stepped
        assert self.stepped.seq == self.count == len(self.story.records)

    @invariant()
    def alerts_are_accounted_for(self) -> None:
        assert set(self.stepped.alerts) == self.opened
        assert set(self.stepped.undelivered) == self.files

    @invariant()
    def a_run_is_in_one_place(self) -> None:
        history = self.stepped
        assert history.stuck is None or history.unfinished is None
        assert all(run.ended for run in history.runs)
        ids = [run.plan.id for run in history.runs]
        assert len(ids) == len(set(ids))
        if history.run is not None:
            assert (history.run.plan.id in ids) == (history.run.state is State.STUCK)
        if history.set_aside is not None:
            assert history.set_aside.state is State.STUCK
            assert history.unfinished is not None

    @invariant()
    def after_a_deploy_nobody_claims_that_the_data_is_untouched(self) -> None:
        for run in (self.stepped.run, *self.stepped.runs):
            states = [state for state, _ in run.states] if run else []
            if State.DEPLOYING in states:
                assert not (REVIVAL | {State.INTERRUPTED, State.FAILED_UNCHANGED}) & set(states)

    @invariant()
    def what_is_blocked_has_a_run_that_says_why(self) -> None:
        runs = {run.plan.id: run for run in self.stepped.runs}
        for version, failure in self.stepped.failures.items():
            run = runs.get(failure.run)
            assert run is None or (run.blames, run.state) == (version, failure.outcome)
            assert failure.outcome is not State.COMMITTED


Journal.TestCase.settings = settings(max_examples=25, stateful_step_count=30)
TestJournal = Journal.TestCase

AT = st.integers(0, 10**9).map(lambda s: NOW + timedelta(seconds=s))
UIDS = st.integers(0, 2**31)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
BODIES = st.dictionaries(TEXT, TEXT | st.none() | st.lists(TEXT, max_size=2), max_size=3)
RUN = Story().begins(plan()).run

WRITTEN: Mapping[str, st.SearchStrategy[Draft]] = {
    h.RUN_PLANNED: st.builds(h.run_planned, st.builds(plan, kind=st.sampled_from(Kind), why=TEXT), AT),
    h.RUN_STATE: st.builds(
        h.run_state,
        st.just(RUN),
        st.sampled_from(State),
        AT,
        detail=TEXT,
        cause=st.none() | st.sampled_from(Cause),
        transient=st.booleans(),
        found=st.none() | st.just({"snapshot": SNAPSHOT, "blind": True, "healthy_at": NOW.isoformat()}),
    ),
    h.LAST_GOOD: st.builds(
        h.last_good,
        st.builds(good, st.none() | VERSIONS, how=st.sampled_from([h.ADOPTED, h.TAKEN_OVER]), at=AT),
        st.dictionaries(TEXT, TEXT, max_size=2),
        uid=st.none() | UIDS,
    ),
    h.APPROVAL: st.builds(h.approval, st.builds(Approval, TEXT, VERSIONS, TEXT, UIDS, TEXT, AT)),
    h.RETRY: st.builds(h.retry, AT, uid=UIDS, version=st.none() | VERSIONS),
    h.PAUSED: st.builds(h.paused, AT, uid=UIDS, why=TEXT),
    h.RESUMED: st.builds(h.resumed, AT, uid=UIDS),
    h.DRIFT: st.builds(h.drift, AT, st.lists(TEXT, max_size=3)),
    h.DRIFT_OVER: st.builds(h.drift_over, AT),
    h.MOVED: st.builds(h.moved, AT, VERSIONS),
    h.MARKS: st.builds(h.marks, AT, st.dictionaries(TEXT, TEXT, max_size=2), st.none() | TEXT),
    h.ALERT_OPENED: st.builds(h.alert_opened, AT, TEXT, TEXT, BODIES),
    h.ALERT_RESOLVED: st.builds(h.alert_resolved, AT, TEXT, TEXT, BODIES),
    h.ALERT_DELIVERED: st.builds(h.alert_delivered, AT, TEXT),
}
DRAFTS = st.one_of(list(WRITTEN.values()))


@given(st.lists(DRAFTS, max_size=8))
def test_whatever_is_written_can_be_read_back(drafts: list[Draft]) -> None:
    story = Story().begins(RUN.plan)
    for draft in drafts:
        story.tell(draft)
    assert [(r.type, r.at, r.run) for r in story.records[1:]] == [(d.type, d.at, d.run) for d in drafts]
    history = story.history
    assert history.seq == len(drafts) + 1


@pytest.mark.parametrize("type_", WRITTEN)
@given(data=st.data())
def test_a_record_type_is_what_its_writer_says(type_: str, data: st.DataObject) -> None:
    assert data.draw(WRITTEN[type_]).type == type_


def test_every_record_type_has_its_writer_here() -> None:
    named = {value for name, value in vars(h).items() if name.isupper() and isinstance(value, str)}
    assert named - {h.TAKEN_OVER, h.ADOPTED, h.COMMITTED, h.WENT_BACK} == set(WRITTEN)
