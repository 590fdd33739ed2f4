"""What a service's journal amounts to: a fold over its records. Pure.

Each record type has one function here that reads it and, below, one that writes its data, so the
two are seen together. Unknown types are skipped: an older warmd of the same format may read on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from warmd.core.journal import Draft, Record
from warmd.core.machine import Effect, State, advance, effect_of
from warmd.core.model import Json, LastGood, SnapshotHandle
from warmd.core.runs import Cause, Kind, Run, RunPlan, Stands
from warmd.core.versions import Version

#: Ended runs (and take-overs) kept in memory, newest last; the journal keeps all.
RUNS_KEPT = 50

RUN_PLANNED = "run.planned"
RUN_STATE = "run.state"
LAST_GOOD = "last-good"
APPROVAL = "approval"
RETRY = "retry"
PAUSED = "paused"
RESUMED = "resumed"
DRIFT = "drift"
DRIFT_OVER = "drift.over"
MOVED = "moved"
MARKS = "marks"
ALERT_OPENED = "alert.opened"
ALERT_RESOLVED = "alert.resolved"
ALERT_DELIVERED = "alert.delivered"


#: How last good came to be: values of ``LastGood.how``.
TAKEN_OVER, ADOPTED, COMMITTED, WENT_BACK = "taken-over", "adopted", "committed", "went-back"


@dataclass(frozen=True, slots=True)
class Approval:
    """A person's word for one release: ``binding`` is the hash of all that was read for it."""

    id: str
    version: str
    binding: str
    uid: int
    why: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a version is not tried again by itself. ``above``: nor is what is between that version and it,
    because a person went back past all of them."""

    version: str
    outcome: State
    detail: str
    run: str
    at: datetime
    above: str | None = None

    def covers(self, version: Version) -> bool:
        """Whether it speaks against ``version``."""
        top = Version.of(self.version)
        if version.same_as(top) or self.above is None:
            return version.same_as(top)
        low = Version.of(self.above)
        return low < version < top and not version.same_as(low)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Runs that failed before anything was touched, in a row, at one version."""

    version: str | None
    count: int
    detail: str
    transient: bool
    at: datetime
    run: str


@dataclass(frozen=True, slots=True)
class Handover:
    """What somebody else deployed became last good: found running (``uid`` None), or by a person's word."""

    version: str | None
    how: str
    at: datetime
    uid: int | None


@dataclass(frozen=True, slots=True)
class Paused:
    at: datetime
    uid: int
    why: str


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """An alert that was opened and not yet resolved. ``body`` is the file's content."""

    fingerprint: str
    name: str
    body: Json


@dataclass(frozen=True, slots=True)
class History:
    """All that the journal says, folded."""

    seq: int = 0
    last_good: LastGood | None = None
    live: Mapping[str, str] = field(default_factory=dict)  # service -> digest of its spec when good
    data_of: str | None = None  # the version that last worked on the data, as far as is known
    run: Run | None = None  # the unfinished one, or the stuck one
    set_aside: Run | None = None  # the stuck one, while a restore tries to end it
    runs: tuple[Run, ...] = ()
    handovers: tuple[Handover, ...] = ()
    failures: Mapping[str, Failure] = field(default_factory=dict)
    approvals: Mapping[str, Approval] = field(default_factory=dict)
    trouble: Trouble | None = None
    paused: Paused | None = None
    drift_since: datetime | None = None
    drift: tuple[str, ...] = ()
    alerts: Mapping[str, OpenAlert] = field(default_factory=dict)
    undelivered: Mapping[str, Json] = field(default_factory=dict)

    @property
    def stuck(self) -> Run | None:
        return self.run if self.run and self.run.state is State.STUCK else None

    @property
    def unfinished(self) -> Run | None:
        return self.run if self.run and not self.run.ended else None


# --- writing -------------------------------------------------------------------------------------

_LAST_GOOD = TypeAdapter(LastGood)


def run_planned(plan: RunPlan, at: datetime) -> Draft:
    return Draft(RUN_PLANNED, at, plan.to_json(), plan.id)


def run_state(
    run: Run,
    state: State,
    at: datetime,
    *,
    detail: str = "",
    cause: Cause | None = None,
    transient: bool = False,
    found: Json | None = None,
) -> Draft:
    """A state that a run entered, and why.

    ``found`` is what the effect gave: ``target``, ``rendered``, ``inputs``, ``volumes``, ``snapshot``,
    ``stands``, ``healthy_at``, ``blind``, ``foreign``; at the end of a run ``last_good``, so that the
    outcome and last good are one record and can't disagree.
    """
    data: dict[str, Any] = {"state": state.value}
    data |= {"detail": detail} if detail else {}
    data |= {"cause": cause.value} if cause else {}
    data |= {"transient": True} if transient else {}
    data |= dict(found or {})
    return Draft(RUN_STATE, at, data, run.plan.id)


def good_json(good: LastGood, live: Mapping[str, str]) -> dict[str, Any]:
    data: dict[str, Any] = _LAST_GOOD.dump_python(good, mode="json")
    return data | {"version": good.version.text if good.version else None, "live": dict(live)}


def last_good(good: LastGood, live: Mapping[str, str], *, uid: int | None = None) -> Draft:
    return Draft(LAST_GOOD, good.at, good_json(good, live) | {"uid": uid}, good.run)


def approval(given: Approval) -> Draft:
    data = {"id": given.id, "version": given.version, "binding": given.binding}
    return Draft(APPROVAL, given.at, data | {"uid": given.uid, "why": given.why})


def retry(at: datetime, *, uid: int, version: str | None = None) -> Draft:
    return Draft(RETRY, at, {"uid": uid, "version": version})


def paused(at: datetime, *, uid: int, why: str) -> Draft:
    return Draft(PAUSED, at, {"uid": uid, "why": why})


def resumed(at: datetime, *, uid: int) -> Draft:
    return Draft(RESUMED, at, {"uid": uid})


def drift(at: datetime, what: Iterable[str]) -> Draft:
    return Draft(DRIFT, at, {"what": list(what)})


def drift_over(at: datetime) -> Draft:
    return Draft(DRIFT_OVER, at, {})


def moved(at: datetime, version: str) -> Draft:
    """Somebody deployed another version by hand, or an image of which no version is known: from here on the
    data is that one's."""
    return Draft(MOVED, at, {"version": version})


def marks(at: datetime, live: Mapping[str, str], inputs: str | None) -> Draft:
    """What was compared in full and found to mean the same; the next looks need not compare again."""
    return Draft(MARKS, at, {"live": dict(live), "inputs": inputs})


def alert_opened(at: datetime, fingerprint: str, name: str, body: Json) -> Draft:
    return Draft(ALERT_OPENED, at, {"fingerprint": fingerprint, "name": name, "body": dict(body)})


def alert_resolved(at: datetime, fingerprint: str, name: str, body: Json) -> Draft:
    return Draft(ALERT_RESOLVED, at, {"fingerprint": fingerprint, "name": name, "body": dict(body)})


def alert_delivered(at: datetime, name: str) -> Draft:
    return Draft(ALERT_DELIVERED, at, {"name": name})


# --- reading -------------------------------------------------------------------------------------


def fold(records: Iterable[Record]) -> History:
    history = History()
    for record in records:
        history = step(history, record)
    return history


def step(history: History, record: Record) -> History:
    """The history after one more record."""
    reader = _READERS.get(record.type)
    read = reader(history, record) if reader else history
    return replace(read, seq=record.seq)


def _without(mapping: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {k: v for k, v in mapping.items() if k not in keys}


def _run_planned(history: History, record: Record) -> History:
    plan = RunPlan.from_json(record.data)
    run = Run(
        plan,
        record.at,
        entered=record.at,
        target=plan.target,
        rendered=plan.rendered,
        inputs=plan.inputs,
        snapshot=plan.snapshot,
        states=((State.PLANNED, record.at),),
    )
    return replace(history, run=run, set_aside=history.stuck)


def _run_state(history: History, record: Record) -> History:
    run = history.run
    if run is None or run.plan.id != record.run:
        return history
    data, state = record.data, State(record.data["state"])
    snapshot = data.get("snapshot")
    blind = bool(data.get("blind"))
    run = replace(
        run,
        state=state,
        entered=record.at,
        states=(*run.states, (state, record.at)),
        target=data.get("target", run.target),
        rendered=data.get("rendered", run.rendered),
        inputs=data.get("inputs", run.inputs),
        snapshot=SnapshotHandle(**snapshot) if snapshot else run.snapshot,
        volumes=tuple(data.get("volumes", run.volumes)),
        stopped_at=_stopped_at(run, state, record.at),
        deployed_at=record.at if state is State.DEPLOYING else run.deployed_at,
        healthy_at=datetime.fromisoformat(data["healthy_at"]) if "healthy_at" in data else run.healthy_at,
        blind_since=(run.blind_since or record.at) if blind else None,
        cause=Cause(data["cause"]) if "cause" in data else run.cause,
        detail=data.get("detail", run.detail),
        transient=bool(data.get("transient", False)),
        stuck_in=run.state if state is State.STUCK else None,
        stands=Stands(**data["stands"]) if "stands" in data else run.stands,
        wrote=effect_of(state) in _WRITES or (run.wrote and "stands" not in data),
        foreign=bool(data.get("foreign")),
    )
    history = replace(history, run=run, data_of=_data_of(history.data_of, run))
    if "last_good" in data:
        history = _known_good(history, data["last_good"])
    return _run_ended(history, run, record.at) if run.ended else history


#: What posts new specs. Until what stands there was seen again, services carry the run's label.
_WRITES = (Effect.DEPLOY, Effect.REDEPLOY)


def _data_of(before: str | None, run: Run) -> str | None:
    """Whose the data is from this state on: a deploy hands it to the new version, a restore back."""
    if run.state is State.DEPLOYING:
        return run.plan.to_version
    if run.state is State.CAPTURING:  # again, before anything was deployed
        return run.plan.from_version or before
    if run.state is State.REDEPLOYING and State.RESTORING in (state for state, _ in run.states):
        return run.plan.to_version if run.plan.kind is Kind.RESTORE else run.plan.from_version
    return before


def _stopped_at(run: Run, state: State, at: datetime) -> datetime | None:
    """When the outage began: at the stop, or, in a restore or after a rolling update, at the halt."""
    if state is State.STOPPING or (state is State.HALTING and run.stopped_at is None):
        return at
    return run.stopped_at


def _run_ended(history: History, run: Run, at: datetime) -> History:
    runs = (*history.runs, run)[-RUNS_KEPT:]
    if run.state is State.FAILED_UNCHANGED:
        history = replace(history, run=history.set_aside, trouble=_trouble(history.trouble, run, at))
    else:
        history = replace(history, run=run if run.state is State.STUCK else None, trouble=None)
    history = replace(history, runs=runs, set_aside=None)
    if _is_made_again(run):
        return history
    # An approval lets its version through once.
    approvals = {k: a for k, a in history.approvals.items() if a.id != run.plan.approval}
    history = replace(history, approvals=approvals)
    if run.state is State.COMMITTED:
        failures = _still_ahead(history.failures, run.plan.to_version)
        return replace(history, failures=failures, drift_since=None, drift=())
    if run.blames:
        above = run.plan.to_version if run.plan.kind is Kind.RESTORE else None
        failure = Failure(run.blames, run.state, run.detail, run.plan.id, at, above)
        return replace(history, failures={**history.failures, run.blames: failure})
    return history


def _is_made_again(run: Run) -> bool:
    """Whether a look may make the ended run again by itself, under the same approval: warmd broke it off,
    or it failed before anything was touched. What a person aborted, or what failed later, stays away."""
    if run.state is State.FAILED_UNCHANGED:
        return run.cause is not Cause.ABORT
    return run.state is State.INTERRUPTED and run.cause is Cause.SIGNAL


def _trouble(before: Trouble | None, run: Run, at: datetime) -> Trouble | None:
    if run.cause in (Cause.ABORT, Cause.SIGNAL):
        return before
    same = before is not None and before.version == run.plan.to_version
    count = before.count + 1 if before and same else 1
    return Trouble(run.plan.to_version, count, run.detail, run.transient, at, run.plan.id)


def _still_ahead(failures: Mapping[str, Failure], committed: str | None) -> Mapping[str, Failure]:
    """Failures of versions above what was committed; the others are behind us."""
    if committed is None:
        return failures
    version = Version.of(committed)
    ahead = {text: Version.of(text) for text in failures}
    return {t: failures[t] for t, v in ahead.items() if version < v and not version.same_as(v)}


def _known_good(history: History, data: Json) -> History:
    rest = {k: v for k, v in data.items() if k not in ("live", "version", "uid")}
    good = _LAST_GOOD.validate_python(rest | {"version": None})
    good = replace(good, version=Version.of(data["version"]) if data["version"] else None)
    return replace(
        history, last_good=good, live=data["live"], data_of=data["version"], drift_since=None, drift=()
    )


def _last_good(history: History, record: Record) -> History:
    history = _known_good(history, record.data)
    if record.data["how"] in (ADOPTED, TAKEN_OVER):
        # What runs was declared good, by a person or by its health: a stuck run is over with that.
        # So is one whose probes can't be made.
        run = history.run
        over = run is None or run.state is State.STUCK or run.blind_since is not None
        aside = None if over else history.set_aside
        history = replace(history, run=None if over else run, set_aside=aside, trouble=None)
        history = replace(history, failures=_still_ahead(history.failures, record.data["version"]))
        data = record.data
        handover = Handover(data["version"], data["how"], record.at, data.get("uid"))
        history = replace(history, handovers=(*history.handovers, handover)[-RUNS_KEPT:])
    return history


def _approval(history: History, record: Record) -> History:
    given = Approval(**dict(record.data), at=record.at)
    return replace(history, approvals={**history.approvals, given.version: given})


def _retry(history: History, record: Record) -> History:
    version = record.data.get("version")
    failures = _without(history.failures, version) if version else {}
    history = replace(history, failures=failures, trouble=None)
    run = history.stuck
    if run is None or (version and version != run.plan.to_version):
        return history
    if run.way_on is None:
        return replace(history, run=None)  # forgotten: the next look begins anew
    others = tuple(r for r in history.runs if r.plan.id != run.plan.id)
    again = run.foreign and run.stuck_in in (State.RESTORING, State.REDEPLOYING, State.REGATING)
    state, at = advance(run.state, run.way_on), record.at
    run = replace(run, state=state, entered=at, states=(*run.states, (state, at)), stuck_in=None)
    # By a person's word it goes on from whatever stands there now.
    run = replace(run, stands=None, foreign=False, again=run.again + again)
    return replace(history, run=run, runs=others)


def _moved(history: History, record: Record) -> History:
    return replace(history, data_of=record.data["version"])


def _marks(history: History, record: Record) -> History:
    good = history.last_good
    if good is None:
        return history
    return replace(history, live=record.data["live"], last_good=replace(good, inputs=record.data["inputs"]))


def _paused(history: History, record: Record) -> History:
    return replace(history, paused=Paused(record.at, record.data["uid"], record.data["why"]))


def _resumed(history: History, record: Record) -> History:
    return replace(history, paused=None)


def _drift(history: History, record: Record) -> History:
    # The earlier of the two: a clock that was set back must not put the repair off.
    since = min(history.drift_since or record.at, record.at)
    return replace(history, drift_since=since, drift=tuple(record.data["what"]))


def _drift_over(history: History, record: Record) -> History:
    return replace(history, drift_since=None, drift=())


def _alert_opened(history: History, record: Record) -> History:
    data = record.data
    alert = OpenAlert(data["fingerprint"], data["name"], data["body"])
    return replace(
        history,
        alerts={**history.alerts, alert.fingerprint: alert},
        undelivered={**history.undelivered, alert.name: alert.body},
    )


def _alert_resolved(history: History, record: Record) -> History:
    data = record.data
    return replace(
        history,
        alerts=_without(history.alerts, data["fingerprint"]),
        undelivered={**history.undelivered, data["name"]: data["body"]},
    )


def _alert_delivered(history: History, record: Record) -> History:
    return replace(history, undelivered=_without(history.undelivered, record.data["name"]))


_READERS: Mapping[str, Callable[[History, Record], History]] = {
    RUN_PLANNED: _run_planned,
    RUN_STATE: _run_state,
    LAST_GOOD: _last_good,
    APPROVAL: _approval,
    RETRY: _retry,
    PAUSED: _paused,
    RESUMED: _resumed,
    DRIFT: _drift,
    DRIFT_OVER: _drift_over,
    MOVED: _moved,
    MARKS: _marks,
    ALERT_OPENED: _alert_opened,
    ALERT_RESOLVED: _alert_resolved,
    ALERT_DELIVERED: _alert_delivered,
}
