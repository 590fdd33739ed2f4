"""What the model test found, told shortly and kept: each of these went wrong once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model import App
from tests.stateful.process import Settings
from tests.stateful.stack import STACK
from tests.stateful.world import Meanwhile, World
from warmd.core.machine import State
from warmd.core.model import LABEL_STACK
from warmd.errors import Refused

FIRST, SECOND = "1.0.0+5.0.0", "1.1.0+5.1.0"


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
    world.close()


@pytest.mark.parametrize("verb", ["snapshot", "deploy"])
def test_nothing_starts_on_a_volume_that_is_gone(world: World, verb: str) -> None:
    world.remove_stack()
    world.pass_time(10.0)
    world.remove_volume()
    answer = world.ask(verb)
    assert answer["run"]["state"] == "failed-unchanged"
    assert "app_data is gone" in answer["run"]["detail"]
    world.pass_time(300.0)
    assert world.running() == []
    assert not world.truth.violations


def test_a_repair_proves_its_volumes_again_before_it_starts_anything(world: World) -> None:
    world.remove_stack()
    world.meanwhile.append(Meanwhile(1, world.remove_volume, "journal.appended run.state deploying"))
    world.pass_time(3 * 3600.0)
    assert world.running() == []
    assert ("stuck", FIRST) in world.open_alerts()
    assert not world.truth.violations


def test_a_look_that_was_asked_for_before_a_persons_run_does_not_judge_by_what_was_listed_then(
    world: World,
) -> None:
    world.publish(SECOND, App("5.1.0"))
    process = world.process
    assert process is not None
    asked = world.clock.monotonic()
    world.deaf = True  # events would have it listed anew

    async def deploy_and_look() -> None:
        await process.ask("deploy", version=SECOND)
        await process.reconciler.look(not_before=asked)

    world.do(deploy_and_look)
    assert "moved" not in [record.type for record in world.disk.records["app"]]
    assert world.history.data_of == SECOND


def by_hand(world: World) -> None:
    """``docker service update --image``: a version that nobody decided on migrates the data."""
    world.publish("2.0.0+6.0.0", App("6.0.0"))
    image = list(world.images)[-1]
    world.edit(lambda spec: spec["TaskTemplate"]["ContainerSpec"].update(Image=image))
    world.pass_time(60.0)
    assert [c.version for c in world.running()] == ["6.0.0"]


def goes(world: World, how: str) -> None:
    if how == "stack rm":
        world.remove_stack()
    else:
        world.edit(lambda spec: spec["Mode"]["Replicated"].update(Replicas=0))


@pytest.mark.parametrize("how", ["stack rm", "scale 0"])
def test_last_good_is_not_started_on_data_that_somebody_elses_image_worked_on(world: World, how: str) -> None:
    by_hand(world)
    goes(world, how)
    world.pass_time(3 * 3600.0)
    assert world.running() == []
    assert ("drift", "") in world.open_alerts()
    for verb in ("deploy", "snapshot"):
        assert "worked on its data" in str(world.ask(verb))
    assert not world.truth.violations


@pytest.mark.parametrize("verb", ["deploy", "snapshot"])
def test_nor_by_a_persons_deploy_or_snapshot_while_it_runs(world: World, verb: str) -> None:
    by_hand(world)
    assert "worked on its data" in str(world.ask(verb))
    world.pass_time(60.0)
    assert [c.version for c in world.running()] == ["6.0.0"]
    assert not world.truth.violations


@pytest.mark.parametrize("how", ["stack rm", "scale 0"])
@pytest.mark.parametrize("good", [True, False], ids=["well", "sick"])
def test_a_person_says_which_version_may_open_such_data(world: World, how: str, good: bool) -> None:
    by_hand(world)
    goes(world, how)
    world.pass_time(3 * 3600.0)
    alert = next(a for a in reversed(world.alerts()) if a["kind"] == "held-data-without-version")
    assert "warmd deploy app --version VERSION" in alert["commands"]

    world.publish("2.0.1+6.0.1", App("6.0.1", behaviour="good" if good else "crash"))
    answer = world.ask("deploy", version="2.0.1+6.0.1")
    run = answer["run"]
    assert (run["kind"], run["state"]) == ("cold-deploy", "committed" if good else "stuck"), run
    # A copy was made before; and last good, which can't read that data, is nothing to go back to.
    (copy,) = (s for s in world.ask("snapshots")["snapshots"] if s["id"] == run["id"])
    assert copy["version"] is None
    assert world.history.data_of == "2.0.1+6.0.1"
    (service,) = world.model.store.services.values()
    assert service.spec["Labels"]["warmd.version"] == "2.0.1+6.0.1"
    if good:
        assert [c.version for c in world.running()] == ["6.0.1"]
        assert ("held-data-without-version", "") not in world.open_alerts()
    assert not [c for c in world.running() if c.version == "5.0.0"]
    assert not world.truth.violations


def test_a_copy_of_data_that_nobody_knows_the_version_of_goes_back_with_what_was_to_open_it(
    world: World,
) -> None:
    by_hand(world)
    goes(world, "stack rm")
    world.pass_time(3 * 3600.0)
    world.publish("2.0.1+6.0.1", App("6.0.1"))
    run = world.ask("deploy", version="2.0.1+6.0.1")["run"]
    world.publish("2.0.2+6.0.2", App("6.0.2"))
    world.pass_time(3 * 3600.0)
    assert [c.version for c in world.running()] == ["6.0.2"]
    back = world.ask("restore", snapshot=run["id"])["run"]
    assert (back["to_version"], back["state"]) == ("2.0.1+6.0.1", "rolled-back")
    world.pass_time(3 * 3600.0)
    assert [c.version for c in world.running()] == ["6.0.1"]
    (service,) = world.model.store.services.values()
    assert service.spec["Labels"]["warmd.version"] == "2.0.1+6.0.1"
    assert not world.truth.violations


def test_a_restore_is_not_undone_by_way_of_what_lies_between(world: World) -> None:
    world.publish(SECOND, App("5.1.0"))
    world.pass_time(3 * 3600.0)
    world.publish("1.3.0+5.3.0", App("5.3.0"))
    world.pass_time(3 * 3600.0)
    world.publish("1.2.0+5.2.0", App("5.2.0"))
    (first,) = (s for s in world.ask("snapshots")["snapshots"] if s["version"] == FIRST)
    assert world.ask("restore", snapshot=first["id"])["run"]["state"] == "rolled-back"
    world.pass_time(3 * 3600.0)
    assert [c.version for c in world.running()] == ["5.0.0"], "neither 1.3, nor 1.2 or 1.1 below it"
    world.publish("1.4.0+5.4.0", App("5.4.0"))
    world.pass_time(3 * 3600.0)
    assert [c.version for c in world.running()] == ["5.4.0"]
    assert not world.truth.violations


def test_what_somebody_put_there_may_be_adopted_under_its_version(world: World) -> None:
    by_hand(world)
    assert world.ask("adopt", version="2.0.0+6.0.0") == {"adopted": "2.0.0+6.0.0"}
    goes(world, "stack rm")
    world.pass_time(3 * 3600.0)
    assert [c.version for c in world.running()] == ["6.0.0"]
    assert not world.truth.violations


def test_what_carries_no_label_is_not_adopted_as_last_good_once_another_version_has_had_the_data(
    world: World,
) -> None:
    world.publish(SECOND, App("5.1.0"))
    goes(world, "stack rm")
    world.pass_time(10.0)
    world.deploy_by_hand(SECOND)
    world.pass_time(60.0)
    world.edit(lambda spec: spec.update(Labels={LABEL_STACK: STACK}))
    world.pass_time(60.0)
    assert [c.version for c in world.running()] == ["5.1.0"]

    answer = world.ask("adopt")
    assert isinstance(answer, Refused)
    assert "no label says which version" in answer.message
    assert answer.hint.startswith("warmd adopt app --version")
    assert world.ask("adopt", version=SECOND) == {"adopted": SECOND}

    goes(world, "stack rm")
    world.pass_time(3 * 3600.0)
    assert [c.version for c in world.running()] == ["5.1.0"]
    assert not world.truth.violations


def test_an_image_put_there_by_hand_is_not_adopted_under_the_label_that_it_left_as_it_was(
    world: World,
) -> None:
    by_hand(world)
    answer = world.ask("adopt")
    assert isinstance(answer, Refused)
    assert "and no label says which version that is" in answer.message
    assert world.ask("adopt", version="2.0.0+6.0.0") == {"adopted": "2.0.0+6.0.0"}

    world.publish("1.2.0+5.2.0", App("5.2.0"))
    world.pass_time(3 * 3600.0)
    assert [c.version for c in world.running()] == ["6.0.0"]
    assert not world.truth.violations


@pytest.mark.parametrize("once", ["planned", "state pulling", "state checking"])
def test_a_change_made_after_an_upgrade_was_decided_on_is_kept_and_the_upgrade_refused(
    world: World, once: str
) -> None:
    def somebody_sets_a_variable() -> None:
        world.edit(lambda spec: spec["TaskTemplate"]["ContainerSpec"].update(Env=["DEBUG=1"]))

    world.meanwhile.append(Meanwhile(1, somebody_sets_a_variable, f"journal.appended run.{once}"))
    world.publish(SECOND, App("5.1.0"))
    world.pass_time(3 * 3600.0)
    (run,) = (run for run in world.history.runs if run.plan.to_version == SECOND)
    assert run.state is State.FAILED_UNCHANGED
    assert "it was changed since it was judged" in run.detail
    assert [c.version for c in world.running()] == ["5.0.0"]
    (service,) = world.model.store.services.values()
    assert service.spec["TaskTemplate"]["ContainerSpec"]["Env"] == ["DEBUG=1"]
    assert ("held-config-drift", "") in world.open_alerts()
    assert not world.truth.violations


@pytest.mark.parametrize("since", ["the same process", "restarted"])
def test_the_end_of_an_alert_of_warmd_as_a_whole_is_told_once_the_spool_has_room_again(
    world: World, since: str
) -> None:
    world.restart_docker(4 * 3600.0, kill=True)
    world.pass_time(3 * 3600.0)
    (of_docker,) = world.open_alerts()
    assert of_docker == ("docker-unreachable", "")

    world.machine.spool_full = True
    world.pass_time(3 * 3600.0)
    assert world.healthy()
    assert of_docker in world.open_alerts(), "its end could not be written"

    world.machine.spool_full = False
    if since == "restarted":
        world.stop_process()
        world.boot()
    world.pass_time(3 * 3600.0)
    assert world.open_alerts() == {}
    assert [body["state"] for body in world.alerts()] == ["open", "resolved"]
