"""When nothing more happens from outside: it has to come to rest, and to say how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.stateful.world import World
from warmd.core.machine import ENDS, State
from warmd.core.versions import Version

#: Looks at the longest until everything is done that can be: back-offs of an hour, a repair's wait.
ROUNDS = 12
HOUR = 3600.0


def settle(world: World) -> None:
    """Take every trouble away, let time pass, and judge what is there then."""
    world.meanwhile.clear()
    world.blind = world.shelf.away = world.model.images.registry_down = False
    world.machine.spool_full = world.disk.full = world.machine.pause_file = False
    for _ in range(ROUNDS):
        before, tasks, posts = _written(world), set(world.model.store.tasks), world.truth.posts
        world.pass_time(2.2 * HOUR)
        assert not world.truth.violations, "\n".join([world.tell(), *world.truth.violations])
        if _written(world) == before and set(world.model.store.tasks) == tasks:
            assert posts == world.truth.posts, f"it posts specs and writes nothing\n{world.tell()}"
            break
        if posts == world.truth.posts and _only_tries(world, before["app"]):
            break
    else:
        assert not world.healthy(), f"it never comes to rest\n{world.tell()}"
    judge(world)


def _written(world: World) -> dict[str, int]:
    return {"app": 0} | {name: len(lines) for name, lines in world.disk.lines.items()}


def _only_tries(world: World, before: int) -> bool:
    """What may go on for ever: tries, an hour apart, of what fails before anything is touched."""
    new = world.disk.records["app"][before:]
    ends = [r.data["state"] for r in new if r.type == "run.state" and r.data["state"] in ENDS]
    tries = {"run.planned", "run.state"}
    return {r.type for r in new} <= tries and set(ends) <= {State.FAILED_UNCHANGED} and len(ends) <= 3


def judge(world: World) -> None:
    """What rest looks like: well, held or stuck, and every trouble has an alert that says what to type."""
    history, alerts = world.history, world.open_alerts()

    def tell() -> str:
        return f"\n{world.tell()}\nopen: {sorted(alerts)}\nruns: {world.running()}"

    assert history.unfinished is None, f"a run is left half-way{tell()}"
    assert not history.undelivered, f"alerts were not delivered{tell()}"
    open_now = {(a.body["kind"], a.body["candidate"] or "") for a in history.alerts.values()}
    assert open_now == set(alerts), f"files and journal disagree about what is open{tell()}"
    for fingerprint, (opened, resolved) in _openings(world).items():
        left = int(fingerprint in {a["fingerprint"] for a in alerts.values()})
        assert opened == resolved + left, f"{opened} times opened, {resolved} resolved: {fingerprint}{tell()}"
    for alert in alerts.values():
        assert alert["commands"], f"an alert without a command{tell()}"
    if history.stuck is not None:
        assert any(kind == "stuck" for kind, _ in alerts), f"stuck, and nobody is told{tell()}"
        return
    if history.paused is not None:
        return
    if not world.healthy():
        assert alerts, f"it is not well, and nobody is told{tell()}"
    else:
        _latest(world, alerts, tell)


def _openings(world: World) -> dict[str, tuple[int, int]]:
    """How many files tell that a condition began, and that it ended."""
    found: dict[str, tuple[int, int]] = {}
    for body in world.alerts():
        opened, resolved = found.get(body["fingerprint"], (0, 0))
        is_open = body["state"] == "open"
        found[body["fingerprint"]] = (opened + is_open, resolved + (not is_open))
    return found


def _latest(world: World, alerts: dict[tuple[str, str], dict[str, Any]], tell: Callable[[], str]) -> None:
    """Everything higher that is published has a reason to wait that somebody was told of."""
    (version,) = {c.version for c in world.running()}
    runs = world.truth.releases.get(version)
    if runs is None or any(
        kind in ("held-config-drift", "drift", "held-unknown-current") for kind, _ in alerts
    ):
        return
    published = [v for v in map(Version.parse, world.shelf.commits) if v is not None]
    highest = max(published)
    if runs < highest and not runs.same_as(highest):
        assert any(Version.of(c) > runs for _, c in alerts if c), (
            f"{highest} waits and nobody is told{tell()}"
        )
