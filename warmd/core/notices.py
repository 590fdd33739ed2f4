"""Which conditions deserve an alert right now, in words, and what to type about them. Pure.

A condition is (kind, candidate). The engine opens an alert when one appears, resolves it when it is
gone, and writes nothing while it lasts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from warmd.core import gate, rules
from warmd.core.gate import Action, Decision, Held
from warmd.core.history import Failure, History
from warmd.core.machine import REVIVAL, Event, State
from warmd.core.model import Catalog, Json, Note
from warmd.core.runs import Cause, Kind, Run
from warmd.core.text import plain

#: Failures before anything was touched that may pass by themselves are told from this many on.
TRANSIENT_TRIES = 3

#: How long a source may stay silent before somebody is told.
SOURCE_PATIENCE = timedelta(days=1)

SOURCE = "source-unreachable"

INFO, WARNING, CRITICAL = "info", "warning", "critical"

_SEVERITY: Mapping[str, str] = {
    rules.MAJOR: INFO,
    rules.MANUAL_MIGRATION: INFO,
    rules.APPROVAL: INFO,
    rules.UNPARSABLE: WARNING,
    rules.TAG_MOVED: WARNING,
    rules.FAILED_BEFORE: WARNING,
    gate.CONFIG_DRIFT: WARNING,
    gate.UNKNOWN_CURRENT: WARNING,
    gate.DATA_WITHOUT_VERSION: WARNING,
    gate.NOTHING_PUBLISHED: WARNING,
    gate.OWNED_ELSEWHERE: WARNING,
    gate.DRIFT: WARNING,
    gate.UNHEALTHY: CRITICAL,
    gate.PAUSED: CRITICAL,
    gate.FAILED_UNCHANGED: WARNING,
    State.INTERRUPTED.value: WARNING,
    State.ROLLED_BACK.value: WARNING,
    State.STUCK.value: CRITICAL,
}
#: What is only found out by judging the releases, or by asking the source.
_OF_RELEASES = frozenset(
    (rules.MAJOR, rules.MANUAL_MIGRATION, rules.APPROVAL, rules.UNPARSABLE, rules.TAG_MOVED, SOURCE)
)
#: Alerts whose commands change with what is found out.
_RENEWED = frozenset((State.STUCK.value, "journal-damaged"))
_WENT_BACK = frozenset((State.ROLLED_BACK, State.INTERRUPTED))
#: Holds that another alert, still open, already tells of; or that a person has just asked for.
_SILENT = frozenset((rules.FAILED_BEFORE, gate.PAUSED, gate.FAILED_UNCHANGED))


@dataclass(frozen=True, slots=True)
class Notice:
    """One condition worth an alert. ``candidate`` is a version text, or "" where it names none."""

    kind: str
    candidate: str
    severity: str
    summary: str
    detail: str = ""
    notes: tuple[Note, ...] = ()
    run: str | None = None
    commands: tuple[str, ...] = ()


def wanted(decision: Decision, history: History, *, service: str, stack: str) -> tuple[Notice, ...]:
    """Every condition that holds now, at most one a (kind, candidate)."""
    halted = decision.action is Action.RESUME  # a run that PAUSE keeps half-way is worth telling
    told = [x for x in decision.held if x.name not in _SILENT or (halted and x.name == gate.PAUSED)]
    found = [_held(held, decision, service) for held in told]
    found += _of_run(history.run, service, stack)
    stuck = history.stuck.plan.id if history.stuck else None
    found += [_failure(f, service) for f in history.failures.values() if f.run != stuck]
    found += _went_back(history, service)
    # Only while it is what the service waits for, or is being tried again.
    waits = decision.name == gate.FAILED_UNCHANGED or decision.action is not Action.STAY
    trouble = history.trouble if waits else None
    if trouble and trouble.count >= (TRANSIENT_TRIES if trouble.transient else 1):
        found.append(
            Notice(
                gate.FAILED_UNCHANGED,
                trouble.version or "",
                _SEVERITY[gate.FAILED_UNCHANGED],
                f"{service}: {trouble.version or 'the run'} failed before anything was touched"
                f": {trouble.detail}".rstrip(": "),
                trouble.detail,
                run=trouble.run,
                commands=(f"warmd plan {service}", f"warmd reconcile {service}"),
            )
        )
    return tuple({(n.kind, n.candidate): n for n in reversed(found)}.values())[::-1]


def _held(held: Held, decision: Decision, service: str) -> Notice:
    version = held.release.version.text if held.release else ""
    aim = f"{version} " if version else ""
    return Notice(
        held.name,
        version,
        _SEVERITY[held.name],
        f"{service}: {aim}{held.name}: {held.reason}",
        _detail(held, decision),
        notes=held.release.notes if held.release else (),
        commands=_commands(held.name, service, version),
    )


def _detail(held: Held, decision: Decision) -> str:
    candidate = next((c for c in decision.candidates if c.release is held.release), None)
    if candidate is None:
        return held.reason
    failed = [v for v in (*candidate.own, *candidate.target) if not v.passed]
    return "\n".join(f"{v.rule}: {v.reason}" for v in failed)


def _commands(name: str, service: str, version: str) -> tuple[str, ...]:
    plan = f"warmd plan {service}"
    approve = f"warmd approve {service} {version} --why '...'"
    return {
        rules.MAJOR: (plan, approve),
        rules.MANUAL_MIGRATION: (plan, approve),
        rules.APPROVAL: (plan, approve),
        rules.UNPARSABLE: (plan, approve),
        rules.TAG_MOVED: (plan, approve),
        gate.CONFIG_DRIFT: (plan, f"warmd deploy {service}", f"warmd adopt {service}"),
        gate.UNKNOWN_CURRENT: (plan, f"warmd adopt {service} --version VERSION"),
        gate.DATA_WITHOUT_VERSION: (plan, f"warmd deploy {service} --version VERSION"),
        gate.DRIFT: (plan, f"warmd deploy {service}", f"warmd pause {service} --why '...'"),
    }.get(name, (plan,))


def _failure(failure: Failure, service: str) -> Notice:
    # A run that is stuck has a notice of its own; this one is over, and only its version stays away.
    kind = rules.FAILED_BEFORE if failure.outcome is State.STUCK else failure.outcome.value
    what = {
        State.ROLLED_BACK: "was rolled back; version and data are the old ones",
        State.INTERRUPTED: "was interrupted; the old version runs on untouched data",
        State.FAILED_UNCHANGED: "was aborted before anything was touched",
    }.get(failure.outcome, "got stuck, and was ended by hand")
    between = f", nor is what lies between {failure.above} and it" if failure.above else ""
    return Notice(
        kind,
        failure.version,
        _SEVERITY[kind],
        f"{service}: {failure.version} {what}",
        f"{failure.detail}\nIt is not tried again by itself{between}; newer versions are.",
        run=failure.run,
        commands=(f"warmd history {service}", f"warmd retry {service}"),
    )


def _went_back(history: History, service: str) -> list[Notice]:
    """The last run, where it failed and speaks against no version: a deploy of new specs, a snapshot."""
    run = history.runs[-1] if history.runs else None
    if run is None or run.state not in _WENT_BACK or run.cause is not Cause.FAILURE or run.blames:
        return []
    if run.plan.kind is Kind.RESTORE:
        return []  # it came to where it was to go, if only after a retry
    return [
        Notice(
            run.state.value,
            "",
            WARNING,
            f"{service}: the {run.plan.kind} failed; what ran before runs again",
            run.detail,
            run=run.plan.id,
            commands=(f"warmd history {service}", f"warmd plan {service}"),
        )
    ]


def _of_run(run: Run | None, service: str, stack: str) -> list[Notice]:
    """A run that got stuck, or that waits because its probes can't be made."""
    if run is None or (run.state is not State.STUCK and run.blind_since is None):
        return []
    version = run.plan.to_version or ""
    commands = [f"warmd history {service}", f"docker stack ps --no-trunc {stack}"]
    if run.state is State.STUCK:
        commands += _ways_out(run, service)
    detail = run.detail
    if run.foreign:
        detail += _after_foreign_hands(run)
    if run.state is not State.STUCK:
        detail += "\nNo probe could be made, so nothing is decided; warmd goes on when they speak again."
    return [
        Notice(
            State.STUCK.value,
            version,
            CRITICAL,
            f"{service}: {run.plan.kind} to {version or 'what ran'} is stuck in {run.stuck_in or run.state}",
            detail,
            run=run.plan.id,
            commands=tuple(commands),
        )
    ]


def _after_foreign_hands(run: Run) -> str:
    """What each of the ways out means, where only a person can know which is meant."""
    if run.way_on is None:
        again = "forgets this run, and the next look decides anew from what stands there"
    elif run.way_on is Event.RETRY:
        again = "stops it, puts the data of before back, and starts what ran before"
    else:
        again = "starts what ran before again, on the data as it is"
    lines = [
        "warmd left it as it is, and does nothing until you say how to go on:",
        "adopt: what stands there now is right; it becomes what is good",
        f"retry: {again}",
    ]
    if run.snapshot:
        lines.append("restore: stops it, and puts the snapshot's data and version back")
    return "\n" + "\n".join(lines)


def _ways_out(run: Run, service: str) -> list[str]:
    ways = [f"warmd adopt {service}"]
    # After any other failure to go back, the new version still runs: forgetting the run mends nothing.
    mendable = run.plan.kind in (Kind.COLD_DEPLOY, Kind.REPAIR) or run.stuck_in in REVIVAL
    if mendable or run.foreign or run.way_on is not None:
        ways.insert(0, f"warmd retry {service}")
    if run.snapshot:
        ways.append(f"warmd restore {service} {run.snapshot.id}")
    return ways


def of_source(catalog: Catalog, now: datetime, service: str) -> Notice | None:
    """A source that did not answer for a day. The service stays looked after."""
    if catalog.trouble is None or (catalog.fetched_at and now - catalog.fetched_at < SOURCE_PATIENCE):
        return None
    since = f"since {catalog.fetched_at:%Y-%m-%d %H:%M} UTC" if catalog.fetched_at else "and never did"
    return Notice(
        SOURCE,
        "",
        WARNING,
        f"{service}: its source does not answer, {since}",
        catalog.trouble,
        commands=(f"warmd reconcile {service}",),
    )


def changes(
    wanted_now: tuple[Notice, ...],
    open_now: Mapping[tuple[str, str], str],
    *,
    judged: bool = True,
    said: Mapping[str, Json] | None = None,
) -> Changes:
    """What to resolve and then to open. ``open_now`` maps (kind, candidate) to a fingerprint, ``said`` that
    to the open alert.

    A look that did not judge the releases (``judged``) knows nothing of what holds them. What is to be
    typed for a run may change while it lasts: then the alert ends, and another says it.
    """
    said = said or {}
    renewed = {
        key: fingerprint
        for n in wanted_now
        if (fingerprint := open_now.get(key := (n.kind, n.candidate)))
        and _says_else(n, said.get(fingerprint))
    }
    conditions = {(n.kind, n.candidate) for n in wanted_now}
    if not judged:
        conditions |= {key for key in open_now if key[0] in _OF_RELEASES}
    return Changes(
        opens=tuple(
            n for n in wanted_now if (key := (n.kind, n.candidate)) not in open_now or key in renewed
        ),
        resolves=tuple(f for key, f in open_now.items() if key not in conditions or key in renewed),
    )


def _says_else(notice: Notice, body: Json | None) -> bool:
    """Whether the open alert says to type something else than is right now; of a stuck or waiting run, also
    whether it tells of another reason."""
    if body is None or notice.kind not in _RENEWED:
        return False
    if list(notice.commands) != list(body["commands"]):
        return True
    said = (body["run"], body["detail"])
    return notice.kind == State.STUCK.value and said != (notice.run, plain(notice.detail))


@dataclass(frozen=True, slots=True)
class Changes:
    opens: tuple[Notice, ...]
    resolves: tuple[str, ...]
