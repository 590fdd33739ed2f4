"""Runs: what is planned, what has become of it, and what follows from a failure. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter

from warmd.core.machine import ENDS, ROLLBACK, TABLE, Event, State
from warmd.core.model import Json, SnapshotHandle


class Kind(StrEnum):
    """Why a run is made; it decides what a failure leads to."""

    UPGRADE = "upgrade"
    COLD_DEPLOY = "cold-deploy"
    REPAIR = "repair"
    DEPLOY = "deploy"  # the same version with newly rendered specs
    SNAPSHOT = "snapshot"  # stop, copy, and start what ran
    RESTORE = "restore"  # put a snapshot's data and specs back


class Cause(StrEnum):
    """What ended or interrupted a run before its aim."""

    FAILURE = "failure"
    ABORT = "abort"  # a person said so
    SIGNAL = "signal"  # warmd was told to stop; it will try again


@dataclass(frozen=True, slots=True)
class RunPlan:
    """Everything a run needs, journaled before it begins.

    ``target`` and ``previous`` are blob names of bundles: what to deploy (None: rendered from the
    release as the run's first act), and what to go back to (None on a cold deploy). ``rendered`` and
    ``inputs`` go into last good when it commits.
    ``copy`` says whether data is copied; ``snapshot`` names an existing one to restore.
    """

    id: str
    kind: Kind
    copy: bool
    horizon: timedelta
    target: str | None = None
    from_version: str | None = None
    to_version: str | None = None
    commit: str | None = None
    previous: str | None = None
    rendered: str | None = None
    inputs: str | None = None
    approval: str | None = None
    snapshot: SnapshotHandle | None = None
    asked_by: str = ""
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = _PLAN.dump_python(self, mode="json")
        return data

    @classmethod
    def from_json(cls, data: Json) -> RunPlan:
        return _PLAN.validate_python(data)


_PLAN = TypeAdapter(RunPlan)


@dataclass(frozen=True, slots=True)
class Stands:
    """The stack as the run saw it last when all was its own doing: a mark a service (``core.live``), and
    the blob of the bundle."""

    marks: Mapping[str, str]
    bundle: str


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the journal tells it.

    ``target`` is the bundle to deploy, rendered first and pinned by digest once pulling is done;
    ``volumes`` are those that were there to be copied when the run was checked. ``stands`` is what to
    tell other hands by (None: nothing is known), ``wrote``: something was posted since. ``foreign``: it
    is stuck because somebody else changed the stack, ``again``: how often it put data back for nothing.
    """

    plan: RunPlan
    started: datetime
    state: State = State.PLANNED
    entered: datetime | None = None
    target: str | None = None
    rendered: str | None = None
    inputs: str | None = None
    snapshot: SnapshotHandle | None = None
    volumes: tuple[str, ...] = ()
    stopped_at: datetime | None = None
    deployed_at: datetime | None = None
    healthy_at: datetime | None = None
    blind_since: datetime | None = None
    cause: Cause | None = None
    detail: str = ""
    transient: bool = False
    stuck_in: State | None = None
    states: tuple[tuple[State, datetime], ...] = field(default=())
    stands: Stands | None = None
    wrote: bool = False
    foreign: bool = False
    again: int = 0

    @property
    def restoring(self) -> str:
        """Under what name its restore is made, once only: anew where others worked on what it put back."""
        return f"{self.plan.id}-{self.again}" if self.again else self.plan.id

    @property
    def forth(self) -> str:
        """The run label (``warmd.run``) of what it deploys."""
        return self.plan.id

    @property
    def back(self) -> str:
        """The run label of what it goes back to."""
        return f"{self.plan.id}.back"

    @property
    def ended(self) -> bool:
        return self.state in ENDS

    @property
    def outage(self) -> timedelta | None:
        """From the stop (or the deploy, where nothing was stopped) to the first good round."""
        begun = self.stopped_at or self.deployed_at
        return self.healthy_at - begun if begun and self.healthy_at else None

    @property
    def way_on(self) -> Event | None:
        """How a stuck run goes on when a person says retry; None where there is nothing to go on with."""
        if self.state is not State.STUCK:
            return None
        if self.stuck_in in (State.RESTARTING, State.REVIVING):
            return Event.RESTART
        if self.stuck_in in ROLLBACK:
            # As it went: a snapshot's run never puts its copy back.
            with_data = self.snapshot is not None and self.plan.kind is not Kind.SNAPSHOT
            return Event.RETRY if with_data else Event.REVERT
        return None

    @property
    def blames(self) -> str | None:
        """The version that the run speaks against if it goes wrong: the one it tried to leave the old
        one for. A restore speaks against the one it left, or the next look would go there again."""
        if self.plan.from_version == self.plan.to_version:
            return None
        if self.plan.kind is not Kind.RESTORE:
            return self.plan.to_version
        return None if self.state is State.FAILED_UNCHANGED else self.plan.from_version

    @property
    def goes_back_to(self) -> str | None:
        """The blob of the bundle that a rollback deploys."""
        return self.target if self.plan.kind is Kind.RESTORE else self.plan.previous


#: How far a clock may be corrected backwards and still be believed.
CLOCK_SLACK = timedelta(minutes=1)


def after_failure(run: Run, *, now: datetime, foreign: bool = False) -> tuple[Event, str]:
    """What a failed effect, or a gate that said unhealthy, leads to; and why, where a person must act.

    Before the stop nothing was touched. Between stop and deploy the old version goes back on its
    own data. After the deploy the data may have been migrated: data and version go back together,
    but only within the horizon, because restoring loses what was written since. Where somebody else
    changed the stack meanwhile (``foreign``) there is nothing that warmd could do but undo it: it stops.
    """
    if foreign and Event.FOREIGN in TABLE[run.state]:
        return Event.FOREIGN, ""
    if run.state not in (State.DEPLOYING, State.GATING):
        return Event.FAILED, ""
    if run.plan.kind in (Kind.COLD_DEPLOY, Kind.REPAIR) or run.plan.previous is None:
        return Event.GIVE_UP, "there is nothing to go back to"
    if not run.plan.copy or run.plan.kind is Kind.SNAPSHOT:
        return Event.REVERT, ""  # a copy of what ran a moment ago can cure nothing
    if lost := _lost_by_a_restore(run, now):
        return Event.GIVE_UP, lost
    if run.snapshot is None:
        return Event.GIVE_UP, "the run has no snapshot to restore"
    return Event.RECOVER, ""


def _lost_by_a_restore(run: Run, now: datetime) -> str:
    """Why the data may no longer be put back by itself; "" within the horizon."""
    since = run.deployed_at or run.entered or run.started
    # A clock that was set back can't say how much would be lost.
    if -CLOCK_SLACK <= now - since <= run.plan.horizon:
        return ""
    return (
        f"the rollback horizon is over: a restore would lose what was written"
        f" since {since:%Y-%m-%d %H:%M:%S} UTC"
    )


def too_late(run: Run, *, now: datetime) -> str:
    """Why a rollback that was decided in time must not begin any more, or "".

    Between the decision and the stop of the new version, or between that and the restore, warmd may have
    been away for days, in which people worked with it. Asked each time before the halt and before the
    restore; a person's own word is never too late.
    """
    by_a_person = run.plan.kind is Kind.RESTORE or State.STUCK in (state for state, _ in run.states)
    if run.state not in (State.HALTING, State.RESTORING) or by_a_person:
        return ""
    return _lost_by_a_restore(run, now)


def after_check(plan: RunPlan) -> Event:
    """Where a run goes once its checks are done."""
    if plan.kind is Kind.RESTORE:
        return Event.RESTORE
    return Event.STOP_FIRST if plan.copy else Event.STRAIGHT
