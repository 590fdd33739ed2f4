"""Ways in which a sceptic broke the promise, told shortly and kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from tests.model import App
from tests.stateful.process import Settings
from tests.stateful.world import Meanwhile, World
from warmd.core.machine import State
from warmd.errors import NotFound, Refused, SnapshotError

FIRST, SECOND, THIRD = "1.0.0+5.0.0", "1.1.0+5.1.0", "1.2.0+5.2.0"
HOURS = 3600.0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """``FIRST`` runs, and warmd has seen to it."""
    world = World(tmp_path, Settings())
    world.publish(FIRST, App("5.0.0"))
    world.boot()
    world.pass_time(120.0)
    assert world.healthy()
    world.truth.may_be_empty = False
    yield world
    assert not world.truth.violations
    world.close()


def scaled(world: World, replicas: int) -> None:
    """Somebody types ``docker service scale``, and a moment passes."""
    world.edit(lambda spec: spec["Mode"]["Replicated"].update(Replicas=replicas))
    world.model.advance(world.clock.monotonic() + 10, world.clock.now().timestamp() + 10)


def killed(world: World, at: str) -> None:
    """warmd dies right after a state is in the journal, and stays away until ``back``."""
    world.away = True
    world.meanwhile.append(Meanwhile(1, lambda: world.die(0.0), f"journal.appended run.state {at}"))
    world.pass_time(2 * HOURS)
    assert world.process is None


def back(world: World) -> None:
    world.away = False
    world.boot()
    world.pass_time(600.0)


def visited(world: World, seconds: float) -> str:
    """Somebody scales the service up, people work with it, and it is scaled down. What ran."""
    scaled(world, 1)
    world.pass_time(seconds)
    (container,) = world.running()
    scaled(world, 0)
    world.pass_time(60.0)
    return container.version


def fails(world: World, at: str) -> None:
    def fail() -> None:
        raise SnapshotError("tar: input/output error")

    world.meanwhile.append(Meanwhile(1, fail, at))


def stuck_alert(world: World) -> dict[str, object]:
    (body,) = (body for (kind, _), body in world.open_alerts().items() if kind == "stuck")
    return dict(body)


# --- what an alert of a stuck run says


def test_a_wait_for_probes_that_ends_as_stuck_says_what_to_type(world: World) -> None:
    world.publish(SECOND, App("5.1.0", behaviour="never-healthy"))
    blinds = Meanwhile(1, lambda: setattr(world, "blind", True), "journal.appended run.state gating")
    world.meanwhile.append(blinds)
    world.pass_time(4 * HOURS)
    assert "warmd goes on when they speak again" in str(stuck_alert(world)["detail"])
    world.blind = False
    world.pass_time(3 * HOURS)
    assert world.history.stuck
    alert = stuck_alert(world)
    assert "the rollback horizon is over" in str(alert["detail"])
    assert {c.split()[1] for c in alert["commands"]} >= {"adopt", "restore"}  # type: ignore[attr-defined]  # a list
    assert [(b["state"]) for b in world.alerts() if b["kind"] == "stuck"] == ["open", "resolved", "open"]


def test_a_run_that_is_stuck_again_for_another_reason_says_that_one(world: World) -> None:
    world.publish(SECOND, App("5.1.0", behaviour="never-healthy"))
    world.meanwhile.append(Meanwhile(1, lambda: scaled(world, 1), "snapshot.swapped"))
    world.pass_time(2 * HOURS)
    assert "somebody" in str(stuck_alert(world)["detail"])
    fails(world, "snapshot.restore")
    world.ask("retry")
    world.pass_time(HOURS)
    assert "input/output error" in str(stuck_alert(world)["detail"])


# --- killed, and somebody ran it meanwhile


def test_a_second_copy_that_fails_loses_nothing_of_what_made_it_necessary(world: World) -> None:
    world.publish(SECOND, App("5.1.0"))
    killed(world, "deploying")
    assert visited(world, 180.0) == "5.0.0"
    fails(world, "snapshot.copied")
    back(world)
    run = world.history.runs[-1]
    assert (run.state, [c.version for c in world.running()]) == (State.INTERRUPTED, ["5.0.0"])


def test_a_copy_that_is_gone_is_made_anew_while_nothing_is_deployed(world: World) -> None:
    world.publish(SECOND, App("5.1.0"))
    killed(world, "deploying")
    run = world.history.run
    assert run is not None
    (world.folder / "state" / "snapshots" / run.plan.id).rename(world.folder / "gone")
    back(world)
    assert [c.version for c in world.running()] == ["5.1.0"]


def test_what_was_written_for_two_days_before_a_restore_began_is_kept(world: World) -> None:
    world.publish(SECOND, App("5.1.0", behaviour="never-healthy"))
    killed(world, "restoring")
    assert visited(world, 48 * HOURS) == "5.1.0"
    back(world)
    assert world.history.stuck
    alert = stuck_alert(world)
    assert "a restore would lose what was written" in str(alert["detail"])


def test_after_a_retry_other_hands_are_told_as_before(world: World) -> None:
    world.publish(SECOND, App("5.1.0", behaviour="never-healthy"))
    fails(world, "snapshot.restore")
    world.pass_time(2 * HOURS)
    assert world.history.stuck
    world.meanwhile.append(Meanwhile(1, lambda: scaled(world, 1), "snapshot.swapped"))
    world.ask("retry")
    world.pass_time(HOURS)
    assert world.history.stuck
    assert "somebody" in world.history.stuck.detail


def test_nothing_is_swapped_under_what_somebody_started_while_the_copy_was_unpacked(world: World) -> None:
    world.publish(SECOND, App("5.1.0", behaviour="never-healthy"))
    world.meanwhile.append(Meanwhile(1, lambda: scaled(world, 1), "snapshot.unpacked"))
    world.pass_time(2 * HOURS)
    assert world.history.stuck
    assert [c.version for c in world.running()] == ["5.1.0"]
    world.ask("retry")
    world.pass_time(HOURS)
    assert [c.version for c in world.running()] == ["5.0.0"]


# --- a person's word


def test_a_word_about_the_data_does_not_stop_what_runs_on_it(world: World) -> None:
    world.publish("2.0.0+6.0.0", App("6.0.0"))
    image = list(world.images)[-1]
    world.edit(lambda spec: spec["TaskTemplate"]["ContainerSpec"].update(Image=image))
    world.pass_time(60.0)
    world.publish("2.0.1+6.0.1", App("6.0.1"))
    answer = world.ask("deploy", version="2.0.1+6.0.1")
    assert isinstance(answer, Refused)
    assert answer.hint.startswith("warmd adopt app --version V")
    world.pass_time(3 * HOURS)
    assert [c.version for c in world.running()] == ["6.0.0"]


def test_a_first_deploy_by_a_persons_word_does_not_start_without_the_data(world: World) -> None:
    world.publish("2.0.0+6.0.0", App("6.0.0"))
    image = list(world.images)[-1]
    world.edit(lambda spec: spec["TaskTemplate"]["ContainerSpec"].update(Image=image))
    world.pass_time(60.0)
    world.remove_stack()
    world.pass_time(10.0)
    world.remove_volume()
    world.pass_time(3 * HOURS)
    run = world.ask("deploy", version="2.0.0+6.0.0")["run"]
    assert run["state"] == "failed-unchanged"
    assert "app_data is gone" in run["detail"]
    assert world.running() == []


def test_a_restore_away_from_what_somebody_deployed_by_hand_is_not_undone(world: World) -> None:
    world.publish(SECOND, App("5.1.0"))
    world.pass_time(3 * HOURS)
    world.publish(THIRD, App("5.2.0", behaviour="sick-later", after=200.0))
    world.ask("pause", why="by hand")
    world.remove_stack()
    world.pass_time(10.0)
    world.deploy_by_hand(THIRD)
    world.pass_time(400.0)
    world.ask("resume")
    (copy,) = (s for s in world.ask("snapshots")["snapshots"] if s["version"] == FIRST)
    assert world.ask("restore", snapshot=copy["id"])["run"]["state"] == "rolled-back"
    world.pass_time(3 * HOURS)
    assert [c.version for c in world.running()] == ["5.0.0"]


def test_an_abort_of_a_run_that_somebody_adopts_meanwhile_is_not_for_the_next_one(world: World) -> None:
    world.publish(SECOND, App("5.1.0"))
    blinds = Meanwhile(1, lambda: setattr(world, "blind", True), "journal.appended run.state gating")
    world.meanwhile.append(blinds)
    world.pass_time(2 * HOURS)
    process = world.process
    assert process is not None
    told: list[str] = []

    async def abort() -> None:
        try:
            await process.ask("abort")
        except NotFound as error:
            told.append(error.message)

    async def both() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(process.ask, "adopt")
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            group.start_soon(abort)

    world.do(both)
    assert told == ["app: no run is in progress any more"]
    world.blind = False
    world.publish(THIRD, App("5.2.0"))
    world.pass_time(3 * HOURS)
    assert [c.version for c in world.running()] == ["5.2.0"]
