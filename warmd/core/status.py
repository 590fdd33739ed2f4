"""What people and programs are shown: the models behind every ``--json``, and how they are made. Pure."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from warmd.core import durations, gate, notices
from warmd.core.gate import Action, Candidate, Decision, View
from warmd.core.history import History
from warmd.core.model import GateRule, Health, Json, ServiceSeen, SnapshotInfo
from warmd.core.planning import Outage
from warmd.core.runs import Run


class _Shown(BaseModel):
    model_config = ConfigDict(frozen=True)


class ServiceStatus(_Shown):
    """One service at its last look. Times are UTC."""

    service: str
    stack: str
    current: str | None
    target: str | None
    decision: str
    reason: str
    health: Health | None
    detail: str
    run: str | None
    run_state: str | None
    last_good: str | None
    last_good_at: datetime | None
    alerts: tuple[str, ...]
    paused: bool
    looked_at: datetime | None
    trouble: str | None = None
    warnings: tuple[str, ...] = ()
    paused_why: str = ""


class RunStatus(_Shown):
    """One run. ``outage_seconds`` is from the stop to the first good round."""

    id: str
    kind: str
    from_version: str | None
    to_version: str | None
    state: str
    started: datetime
    ended: datetime | None
    outage_seconds: float | None
    snapshot: str | None
    detail: str
    asked_by: str
    why: str
    states: tuple[tuple[str, datetime], ...]


class VerdictStatus(_Shown):
    rule: str
    passed: bool
    hold: str | None
    reason: str


class ReleaseStatus(_Shown):
    """One release above the running one, with every rule's verdict."""

    version: str
    commit: str
    published: datetime
    passes: bool
    hold: str | None
    approved: bool
    verdicts: tuple[VerdictStatus, ...]
    crossed: str | None
    notes: tuple[str, ...]


class SwarmServiceStatus(_Shown):
    """One swarm service of the stack. ``wanted`` is None for a global one."""

    name: str
    image: str
    running: int
    wanted: int | None
    converged: bool


class PlanStatus(_Shown):
    """What a look would do, and why; nothing was changed."""

    service: str
    stack: str
    current: str | None
    decision: str
    reason: str
    target: str | None
    health: str
    releases: tuple[ReleaseStatus, ...]
    ignored_tags: int
    changes: tuple[str, ...]
    steps: tuple[str, ...]
    outage: str
    held: tuple[str, ...]
    services: tuple[SwarmServiceStatus, ...] = ()
    warnings: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


class SnapshotStatus(_Shown):
    """One snapshot. Sizes in bytes."""

    id: str
    node: str
    at: datetime
    version: str | None
    run: str | None
    volumes: tuple[str, ...]
    archive_bytes: int
    data_bytes: int
    files: int
    sealed: bool


class PreviewStatus(_Shown):
    """What a run would do that a person may ask for (``snapshot``, ``restore``); nothing was changed.

    ``snapshot`` is the one that a restore would put back.
    """

    service: str
    stack: str
    kind: str
    current: str | None
    steps: tuple[str, ...]
    outage: str
    snapshot: SnapshotStatus | None = None


def of_service(
    service: str,
    stack: str,
    history: History,
    *,
    decision: Decision | None,
    view: View | None,
    trouble: str | None = None,
) -> ServiceStatus:
    """A service in one row. Without a look (``decision`` None) only what the journal knows."""
    good = history.last_good
    current = (view.running if view else None) or (good.version if good else None)
    run = history.run
    name = decision.name if decision else (run.state.value if run else "not-looked-yet")
    reason = decision.reason if decision else (run.detail if run else "")
    if history.unfinished and not (decision and decision.action is Action.RESUME):
        # The last look's decision is from before the run that is being made now.
        plan = history.unfinished.plan
        name = history.unfinished.state.value
        reason = f"{plan.kind} {plan.to_version or ''}, run {plan.id}".replace(" ,", ",")
    return ServiceStatus(
        service=service,
        stack=stack,
        current=current.text if current else None,
        target=decision.target.version.text if decision and decision.target else None,
        decision=name,
        reason=reason,
        health=view.health.health if view and view.deployed else None,
        detail=view.health.detail if view and view.deployed else "",
        run=run.plan.id if run else None,
        run_state=run.state.value if run else None,
        last_good=good.version.text if good and good.version else None,
        last_good_at=good.at if good else None,
        alerts=tuple(_alert_line(a.body) for a in history.alerts.values()),
        paused=bool(view.paused) if view else history.paused is not None,
        paused_why=(view.paused or "") if view else (history.paused.why if history.paused else ""),
        looked_at=view.now if view else None,
        trouble=trouble,
        warnings=view.warnings if view else (),
    )


def _alert_line(body: Json) -> str:
    candidate = body.get("candidate")
    return f"{body.get('kind')} {candidate}" if candidate else str(body.get("kind"))


def of_run(run: Run) -> RunStatus:
    return RunStatus(
        id=run.plan.id,
        kind=run.plan.kind.value,
        from_version=run.plan.from_version,
        to_version=run.plan.to_version,
        state=run.state.value,
        started=run.started,
        ended=run.entered if run.ended else None,
        outage_seconds=run.outage.total_seconds() if run.outage else None,
        snapshot=run.snapshot.id if run.snapshot else None,
        detail=run.detail,
        asked_by=run.plan.asked_by,
        why=run.plan.why,
        states=tuple((state.value, at) for state, at in run.states),
    )


def _of_candidate(candidate: Candidate) -> ReleaseStatus:
    release = candidate.release
    return ReleaseStatus(
        version=release.version.text,
        commit=release.commit,
        published=release.at,
        passes=candidate.passes,
        hold=candidate.hold,
        approved=candidate.approved is not None,
        verdicts=tuple(
            VerdictStatus(rule=v.rule, passed=v.passed, hold=v.hold, reason=v.reason)
            for v in (*candidate.own, *candidate.target)
        ),
        crossed=(
            f"{candidate.crossed[0]}: {candidate.crossed[1].reason}"
            if candidate.crossed and not candidate.approved
            else None
        ),
        notes=tuple(n.path for n in release.notes),
    )


def of_plan(
    service: str,
    stack: str,
    view: View,
    decision: Decision,
    *,
    changes: tuple[str, ...],
    steps: tuple[str, ...],
    outage: Outage | None,
) -> PlanStatus:
    good = view.history.last_good
    current = view.running or (good.version if good else None)
    return PlanStatus(
        service=service,
        stack=stack,
        current=current.text if current else None,
        decision=decision.name,
        reason=decision.reason,
        target=decision.target.version.text if decision.target else None,
        health=f"{view.health.health}: {view.health.detail}"
        if view.health.detail
        else view.health.health.value,
        releases=tuple(_of_candidate(c) for c in (decision.candidates or gate.judge(view, current))),
        ignored_tags=view.catalog.ignored,
        changes=changes,
        steps=steps,
        outage=str(outage) if outage else "none: nothing would be done",
        held=tuple(
            _held_line(h.name, h.release.version.text if h.release else "", h.reason) for h in decision.held
        ),
        services=tuple(_of_swarm_service(s) for s in (view.seen.services if view.seen else ())),
        warnings=view.warnings,
        commands=_next_commands(decision, view.history, service, stack),
    )


def _of_swarm_service(seen: ServiceSeen) -> SwarmServiceStatus:
    return SwarmServiceStatus(
        name=seen.name, image=seen.image, running=seen.running, wanted=seen.replicas, converged=seen.converged
    )


def _next_commands(decision: Decision, history: History, service: str, stack: str) -> tuple[str, ...]:
    """What to type after reading a plan: do it now, or what each alert of it would say; each once."""
    found = [] if decision.action is Action.STAY else [f"warmd reconcile {service}"]
    for notice in notices.wanted(decision, history, service=service, stack=stack):
        found += notice.commands
    if decision.name == gate.PAUSED and history.paused:
        found.append(f"warmd resume {service}")
    return tuple(dict.fromkeys(c for c in found if c != f"warmd plan {service}"))


def _held_line(name: str, version: str, reason: str) -> str:
    return f"{name} {version}: {reason}" if version else f"{name}: {reason}"


def of_snapshot(info: SnapshotInfo) -> SnapshotStatus:
    return SnapshotStatus(
        id=info.handle.id,
        node=info.handle.node,
        at=info.at,
        version=info.version,
        run=info.run,
        volumes=info.volumes,
        archive_bytes=info.archive_bytes,
        data_bytes=info.data_bytes,
        files=info.files,
        sealed=info.sealed,
    )


def summary(rows: tuple[ServiceStatus, ...]) -> str:
    """All services in one line, for a service manager's status line and for logs."""
    healthy = sum(r.health is Health.HEALTHY for r in rows)
    parts = [f"{len(rows)} service{'s' if len(rows) != 1 else ''}: {healthy} healthy"]
    others = [r for r in rows if r.decision != gate.NOOP]
    parts += [f"{r.service} {r.decision}" for r in others[:5]]
    if len(others) > 5:
        parts.append(f"and {len(others) - 5} more")
    return ", ".join(parts)


def gate_line(rule: GateRule) -> str:
    """The health gate in words."""
    stable, deadline = durations.format(rule.stable), durations.format(rule.deadline)
    return f"{rule.successes} good rounds in a row and {stable} without a restart, within {deadline}"
