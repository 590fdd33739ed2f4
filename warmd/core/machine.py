"""The state machine of a run: one table, and what each state does.

A state is journaled before its effect runs, so after a crash folding the journal and asking
``effect_of`` gives the same effect again; every effect is idempotent and proves its own
precondition anew. docs/states.md carries the diagram that ``mermaid`` draws from the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from warmd.errors import IllegalTransition


class State(StrEnum):
    """Where a run is. The values stand in journals and logs: they are part of the format."""

    PLANNED = "planned"
    PULLING = "pulling"
    CHECKING = "checking"
    STOPPING = "stopping"
    CAPTURING = "capturing"
    SEALING = "sealing"
    DEPLOYING = "deploying"
    GATING = "gating"
    COMMITTED = "committed"
    # The old version goes on, on data that nothing touched.
    RESTARTING = "restarting"
    REVIVING = "reviving"
    INTERRUPTED = "interrupted"
    # The new version may have touched the data: both go back.
    HALTING = "halting"
    RESTORING = "restoring"
    REDEPLOYING = "redeploying"
    REGATING = "regating"
    ROLLED_BACK = "rolled-back"
    FAILED_UNCHANGED = "failed-unchanged"
    STUCK = "stuck"


class Event(StrEnum):
    """What moves a run on."""

    START = "start"
    DONE = "done"
    STOP_FIRST = "stop-first"  # checked: data will be copied, so the service stops
    STRAIGHT = "straight"  # checked: nothing to copy
    RESTORE = "restore"  # checked: a person asked for a snapshot to be put back
    FAILED = "failed"
    ABORT = "abort"
    HEALTHY = "healthy"
    BLIND = "blind"  # the gate's deadline passed and the probes could not be made
    RECOVER = "recover"  # put version and data back
    REVERT = "revert"  # put the version back; there is no data
    GIVE_UP = "give-up"
    STALE = "stale"  # nothing is deployed yet, and the data is not what was copied any more
    FOREIGN = "foreign"  # somebody else changed the stack meanwhile: nothing is done against them
    RESTART = "restart"  # a person asked for the old version's start to be tried again
    RETRY = "retry"  # a person asked for a stuck rollback to go on


class Effect(StrEnum):
    """What a state does. The engine's ``perform`` has one function for each."""

    BEGIN = "begin"
    PULL = "pull"
    CHECK = "check"
    STOP = "stop"
    CAPTURE = "capture"
    SEAL = "seal"
    DEPLOY = "deploy"
    GATE = "gate"
    RESTORE = "restore"
    REDEPLOY = "redeploy"
    REGATE = "regate"


_FINAL = (State.COMMITTED, State.INTERRUPTED, State.ROLLED_BACK, State.FAILED_UNCHANGED)

TABLE: Mapping[State, Mapping[Event, State]] = MappingProxyType(
    {
        State.PLANNED: {
            Event.START: State.PULLING,
            Event.FAILED: State.FAILED_UNCHANGED,
            Event.ABORT: State.FAILED_UNCHANGED,
        },
        State.PULLING: {
            Event.DONE: State.CHECKING,
            Event.FAILED: State.FAILED_UNCHANGED,
            Event.ABORT: State.FAILED_UNCHANGED,
        },
        State.CHECKING: {
            Event.STOP_FIRST: State.STOPPING,
            Event.STRAIGHT: State.DEPLOYING,
            Event.RESTORE: State.HALTING,
            Event.FAILED: State.FAILED_UNCHANGED,
            Event.ABORT: State.FAILED_UNCHANGED,
        },
        State.STOPPING: {
            Event.DONE: State.CAPTURING,
            Event.FAILED: State.RESTARTING,
            Event.ABORT: State.RESTARTING,
            Event.FOREIGN: State.STUCK,
        },
        State.CAPTURING: {
            Event.DONE: State.SEALING,
            Event.FAILED: State.RESTARTING,
            Event.ABORT: State.RESTARTING,
            Event.FOREIGN: State.STUCK,
        },
        State.SEALING: {
            Event.DONE: State.DEPLOYING,
            Event.FAILED: State.RESTARTING,
            Event.ABORT: State.RESTARTING,
            Event.FOREIGN: State.STUCK,
        },
        State.DEPLOYING: {
            Event.DONE: State.GATING,
            Event.STALE: State.CAPTURING,
            Event.RECOVER: State.HALTING,
            Event.REVERT: State.REDEPLOYING,
            Event.GIVE_UP: State.STUCK,
            Event.FOREIGN: State.STUCK,
        },
        State.GATING: {
            Event.HEALTHY: State.COMMITTED,
            Event.BLIND: State.GATING,
            Event.RECOVER: State.HALTING,
            Event.REVERT: State.REDEPLOYING,
            Event.GIVE_UP: State.STUCK,
            Event.FOREIGN: State.STUCK,
        },
        State.RESTARTING: {
            Event.DONE: State.REVIVING,
            Event.FAILED: State.STUCK,
            Event.FOREIGN: State.STUCK,
        },
        State.REVIVING: {
            Event.HEALTHY: State.INTERRUPTED,
            Event.BLIND: State.REVIVING,
            Event.FAILED: State.STUCK,
            Event.FOREIGN: State.STUCK,
        },
        State.HALTING: {
            Event.DONE: State.RESTORING,
            Event.GIVE_UP: State.STUCK,
            Event.FAILED: State.STUCK,
            Event.FOREIGN: State.STUCK,
        },
        State.RESTORING: {
            Event.DONE: State.REDEPLOYING,
            Event.GIVE_UP: State.STUCK,
            Event.FAILED: State.STUCK,
            Event.FOREIGN: State.STUCK,
        },
        State.REDEPLOYING: {
            Event.DONE: State.REGATING,
            Event.FAILED: State.STUCK,
            Event.FOREIGN: State.STUCK,
        },
        State.REGATING: {
            Event.HEALTHY: State.ROLLED_BACK,
            Event.BLIND: State.REGATING,
            Event.FAILED: State.STUCK,
            Event.FOREIGN: State.STUCK,
        },
        # A person may ask for a way back that got stuck to be tried again: a rollback with the data
        # or, where there is none, without; a restart of the old version. Nothing else leaves.
        State.STUCK: {
            Event.RETRY: State.HALTING,
            Event.REVERT: State.REDEPLOYING,
            Event.RESTART: State.RESTARTING,
        },
        **{state: {} for state in _FINAL},
    }
)

_EFFECTS: Mapping[State, Effect] = MappingProxyType(
    {
        State.PLANNED: Effect.BEGIN,
        State.PULLING: Effect.PULL,
        State.CHECKING: Effect.CHECK,
        State.STOPPING: Effect.STOP,
        State.CAPTURING: Effect.CAPTURE,
        State.SEALING: Effect.SEAL,
        State.DEPLOYING: Effect.DEPLOY,
        State.GATING: Effect.GATE,
        State.RESTARTING: Effect.REDEPLOY,
        State.REVIVING: Effect.REGATE,
        State.HALTING: Effect.STOP,
        State.RESTORING: Effect.RESTORE,
        State.REDEPLOYING: Effect.REDEPLOY,
        State.REGATING: Effect.REGATE,
    }
)

#: States after which nothing more happens by itself.
ENDS = frozenset((*_FINAL, State.STUCK))
#: States in which nothing of the running service was changed yet.
UNTOUCHED = frozenset((State.PLANNED, State.PULLING, State.CHECKING))
#: States in which the service is down or going down, and nothing new was deployed.
STOPPED = frozenset((State.STOPPING, State.CAPTURING, State.SEALING))
#: States that bring the old version back on data that nothing touched.
REVIVAL = frozenset((State.RESTARTING, State.REVIVING))
#: States in which the service's health is asked for: only its answer counts.
WATCHING = frozenset((State.GATING, State.REVIVING, State.REGATING))
#: States of a rollback. A run that got stuck in one of them may be told to go on.
ROLLBACK = frozenset((State.HALTING, State.RESTORING, State.REDEPLOYING, State.REGATING))


def advance(state: State, event: Event) -> State:
    """The state that ``event`` leads to. Raises IllegalTransition where the table has no arrow."""
    try:
        return TABLE[state][event]
    except KeyError:
        raise IllegalTransition(f"no transition from {state} on {event}") from None


def effect_of(state: State) -> Effect | None:
    """What to do in ``state``; None where a run ends."""
    return _EFFECTS.get(state)


def mermaid() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> planned"]
    for state, arrows in TABLE.items():
        lines += [f"    {_name(state)} --> {_name(to)}: {event}" for event, to in arrows.items()]
        if state in _FINAL:
            lines.append(f"    {_name(state)} --> [*]")
    return "\n".join(lines) + "\n"


def _name(state: State) -> str:
    return state.value.replace("-", "_")
