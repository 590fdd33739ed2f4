"""Other hands on a stack while a run is at work on it: what may stand there, and what somebody did. Pure.

A run knows what stood there when it was last sure that all of it was its own doing (``Run.stands``), and
what it did since: its stop takes counts to zero, its posts carry its label. Whatever can't be told from
that is somebody else's: a ``docker service update``, ``scale``, ``stack deploy`` or ``stack rm``. Specs are
compared and nothing else: version indexes, tasks and update states move by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping

from warmd.core import live, normal, specs
from warmd.core.machine import ENDS, UNTOUCHED, WATCHING, State
from warmd.core.model import LABEL_RUN, Bundle, Json, ServiceSeen, StackSeen
from warmd.core.runs import Kind, Run
from warmd.core.specdiff import diff

#: States in which the stack is the run's; before them a look would see what changed.
HELD = frozenset(State) - UNTOUCHED - ENDS
#: The stack was proved to be stopped, and nothing is posted yet.
_STILL = frozenset((State.CAPTURING, State.SEALING, State.RESTORING))


def suspects(run: Run, seen: StackSeen, *, posted: Mapping[str, Bundle]) -> tuple[str, ...]:
    """Names of services that don't stand as the run left them; asked at each write, so it is cheap.

    ``posted``: what the run may have posted since ``run.stands``, by its label.
    """
    if run.stands is None or run.state not in HELD:
        return ()
    marks, present = run.stands.marks, {s.name: s for s in seen.services}
    found = [n for n, s in present.items() if not _as_left(run, s, marks.get(n))]
    found += [n for n, m in marks.items() if n not in present and not _may_be_gone(run, n, m, posted)]
    return tuple(sorted(found))


def _as_left(run: Run, service: ServiceSeen, before: str | None) -> bool:
    mark = live.mark(service)
    count = _count(mark)
    if before is not None and _digest(mark) == _digest(before):
        if count == _count(before) and not _stopped(run):
            return True
        if count == "0" and _stops(run):
            return True
    if not run.wrote or service.labels.get(LABEL_RUN) not in (run.forth, run.back):
        return False
    return not _written_over(service) and (run.state not in _STILL or count == "0")


def _written_over(service: ServiceSeen) -> bool:
    """Whether what was posted under our label was posted over: that label stays in an update."""
    labels = (service.previous or {}).get("Labels") or {}
    return labels.get(LABEL_RUN) == service.labels.get(LABEL_RUN)


def _may_be_gone(run: Run, name: str, before: str, posted: Mapping[str, Bundle]) -> bool:
    if _count(before) == live.GLOBAL and _stops(run):
        return True  # has no zero: the stop removed it
    if not run.wrote:
        return False
    # Not in what was posted, or in another mode there: then it is removed first.
    modes = [{s["Name"]: normal.mode(s)["kind"] for s in bundle.services} for bundle in posted.values()]
    kind = "Replicated" if _count(before) != live.GLOBAL else "Global"
    return any(found.get(name) != kind for found in modes)


def _stopped(run: Run) -> bool:
    """Whether the stop was proved, and nothing may have been started on the way since."""
    past = {state for state, _ in run.states}
    return (
        run.state in _STILL
        or (run.state is State.DEPLOYING and State.STOPPING in past)
        or (run.state is State.REDEPLOYING and State.RESTORING in past)
    )


def _stops(run: Run) -> bool:
    """Whether a count of zero may be the run's own doing."""
    return run.state not in WATCHING and (run.plan.copy or run.plan.kind in (Kind.RESTORE, Kind.COLD_DEPLOY))


def _digest(mark: str) -> str:
    return mark.partition("/")[0]


def _count(mark: str) -> str:
    return mark.partition("/")[2]


def told(
    run: Run,
    names: tuple[str, ...],
    seen: StackSeen,
    *,
    stood: Bundle,
    now: Bundle,
    posted: Mapping[str, Bundle],
) -> tuple[str, ...]:
    """What somebody else did to ``names`` (the suspects of ``seen``), in words; none where what stands
    there means the same after all: engines spell specs anew.

    ``stood`` is the bundle of ``run.stands``, ``now`` the stack as read back.
    """
    after = _by_name(now)
    labels = {s.name: s.labels.get(LABEL_RUN, "") for s in seen.services} if run.wrote else {}
    expected = []
    for name in names:
        label = labels.get(name, "")
        ours = posted.get(label)
        spec = _by_name(ours or stood).get(name)
        spec = specs.careful(spec) if ours and spec else spec
        # What is being posted now comes after the stop, all else was there before it.
        zero = label != _posting(run) and (
            _stopped(run) or (_stops(run) and normal.mode(after.get(name, {})).get("Replicas") == 0)
        )
        expected += [_at_zero(spec) if zero else spec] if spec else []
    there = tuple(after[name] for name in names if name in after)
    changes = diff(Bundle(services=tuple(s for s in expected if s)), Bundle(services=there))
    return tuple(str(change) for change in changes)


def _posting(run: Run) -> str:
    """The label of what the run's state posts."""
    return run.forth if run.state is State.DEPLOYING else run.back


def _by_name(bundle: Bundle) -> dict[str, Json]:
    return {s["Name"]: s for s in bundle.services}


def _at_zero(spec: Json) -> Json | None:
    """As a stop leaves it: at zero, or, where a mode knows no zero, not at all."""
    if normal.mode(spec)["kind"] != "Replicated":
        return None
    return {**spec, "Mode": {"Replicated": {"Replicas": 0}}}
