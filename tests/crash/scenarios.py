"""What warmd is in the middle of when it is killed: ways to change a service, each with its right ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tests.crash import observer
from tests.crash.observer import End
from tests.crash.world import Data, World

Records: TypeAlias = list[dict[str, Any]]
Ends: TypeAlias = Callable[[Records], tuple[End, ...]]

NOOP = frozenset(("noop-healthy",))
FAILED_BEFORE = frozenset(("held-failed-before",))
DRIFT = frozenset(("held-config-drift",))
NOTES = frozenset(("held-manual-migration",))
STUCK = frozenset(("stuck",))


@dataclass(frozen=True, slots=True)
class Act:
    """One command that somebody types, or that a timer runs."""

    verb: str
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Setting:
    """A world that is ready: what is done next, and how it may end.

    ``ends`` says what is right, given what the journal has recorded since. ``known``: version -> the data
    that snapshots of it may hold, and the newest of them the last. ``seq``: the length of the journal now.
    ``before``: version and data now. ``aborted``: ends that are right as well where a person aborts it,
    ``given_up``: where the clock stepped. ``down``: nothing runs now.
    """

    acts: tuple[Act, ...]
    ends: Ends
    known: Mapping[str, tuple[Data, ...]]
    seq: int
    before: End
    aborted: tuple[End, ...] = ()
    given_up: tuple[End, ...] = ()
    down: bool = False


Arrange: TypeAlias = Callable[[World], Setting]


def outcome(records: Records) -> str:
    """The state of the newest run; empty where there is none."""
    found = observer.states(records)
    return found[-1][1] if found else ""


def _current(world: World) -> tuple[str, Data]:
    """Version and data of a service that runs, made if there is none."""
    if observer.version(world) is None:
        world.publish()
        world.go("reconcile")
        world.site.write(world, "precious")
    version = observer.version(world)
    assert version is not None
    return version, world.data


def _setting(world: World, acts: tuple[Act, ...], ends: Ends, before: End, **more: Any) -> Setting:
    world.go("plan")  # the mirror knows what was published, so that nothing need be fetched from here on
    seq = len(observer.journal(world.folder)[0])
    known = more.pop("known", {before.version: (before.data,)})
    return Setting(acts, ends, known, seq, before, **more)


def _always(*ends: End) -> Ends:
    return lambda records: ends


def _rest(world: World) -> frozenset[str]:
    """What a look says when there is nothing to do."""
    return FAILED_BEFORE if world.blocked else NOOP


def _app(version: str) -> str:
    return version.partition("+")[2]


def upgrade(world: World) -> Setting:
    version, data = _current(world)
    to = world.publish()
    world.blocked = False
    done = End(to, data.migrated(_app(version), _app(to)), NOOP)
    before = End(version, data, FAILED_BEFORE)
    return _setting(world, (_RECONCILE,), _always(done), before, aborted=(before,))


def rollback(world: World) -> Setting:
    """The new version migrates, damages what users wrote, and is never healthy."""
    version, data = _current(world)
    to = world.publish(bad="never-healthy")
    world.blocked = True
    world.gate = ""
    world.configure()
    before = End(version, data, FAILED_BEFORE)
    bad = End(to, data.migrated(_app(version), _app(to)).damaged(_app(to)), STUCK)
    return _setting(world, (_RECONCILE,), _always(before), before, given_up=(bad,))


def cold_deploy(world: World) -> Setting:
    """Nothing was ever there. The world has to be a new one."""
    to = world.publish()
    data = Data({}).migrated("none", _app(to))
    aborted = (End("", Data({}), FAILED_BEFORE), End(to, data, STUCK))
    return _setting(
        world,
        (_RECONCILE,),
        _always(End(to, data, NOOP)),
        End("", Data({}), NOOP),
        aborted=aborted,
        known={},
        down=True,
    )


def repair(world: World) -> Setting:
    """Somebody scaled it to zero, and left."""
    version, data = _current(world)
    world.scale(0)
    world.wait(lambda: not world.running(), "its container to end")
    return _repaired(world, version, data)


def repair_removed(world: World) -> Setting:
    """Somebody removed the stack; its volume is there."""
    version, data = _current(world)
    world.remove_stack()
    return _repaired(world, version, data)


def _repaired(world: World, version: str, data: Data) -> Setting:
    before = End(version, data, _rest(world))
    stuck = End(version, data, STUCK)
    return _setting(world, (_RECONCILE,), _always(before), before, aborted=(stuck,), down=True)


def restore(world: World) -> Setting:
    """A person goes back to the snapshot that was made before the last upgrade."""
    version, data = _current(world)
    newer = world.publish()
    world.blocked = False
    world.go("reconcile")
    world.site.write(world, "written since")
    now = End(newer, world.data, NOOP)
    world.blocked = True
    back = End(version, data, FAILED_BEFORE)
    found = [p for p in (world.folder / "snapshots").iterdir() if observer.manifest(p)["version"] == version]
    snapshot = max(found, key=lambda p: str(observer.manifest(p)["at"])).name

    def ends(records: Records) -> tuple[End, ...]:
        if outcome(records) in ("", "failed-unchanged"):
            world.blocked = False
            return (now,)
        return (back,)

    known = {version: (data,), newer: (now.data,)}
    return _setting(world, (Act("restore", {"snapshot": snapshot}),), ends, now, known=known)


def deploy(world: World) -> Setting:
    """The same version, with other specs: a person changed the environment and deploys it."""
    version, data = _current(world)
    old = world.greeting
    new = "hello" if old == "good day" else "good day"
    world.configure(greeting=new)
    stays = End(version, data, DRIFT, old)
    done = End(version, data, _rest(world), new)

    def ends(records: Records) -> tuple[End, ...]:
        if outcome(records) in ("", "failed-unchanged", "interrupted"):
            return (stays,)
        return (done,)

    return _setting(world, (Act("deploy"),), ends, stays, aborted=(stays,))


def approve(world: World) -> Setting:
    """Notes hold the new version; a person approves it, and the next look makes the upgrade."""
    version, data = _current(world)
    to = world.publish(notes="Please read this first.")
    world.blocked = False
    done = End(to, data.migrated(_app(version), _app(to)), NOOP)
    held = End(version, data, NOTES)

    def ends(records: Records) -> tuple[End, ...]:
        return (done,) if any(r["type"] == "approval" for r in records) else (held,)

    acts = (Act("approve", {"version": to, "why": "I have read it"}), _RECONCILE)
    aborted = (End(version, data, NOTES | FAILED_BEFORE),)
    return _setting(world, acts, ends, held, aborted=aborted)


_RECONCILE = Act("reconcile")

SCENARIOS: Mapping[str, Arrange] = {
    "upgrade": upgrade,
    "rollback": rollback,
    "cold-deploy": cold_deploy,
    "repair": repair,
    "repair-removed": repair_removed,
    "restore": restore,
    "deploy": deploy,
    "approve": approve,
}
