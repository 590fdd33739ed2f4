"""When warmd can't go on by itself: it leaves things as they are, says what to type, and waits."""

from __future__ import annotations

import shutil
from pathlib import Path

import certifi
import pytest

from tests.lab import Lab
from tests.swarm.passing import passing, states
from tests.swarm.world import World

GATE = 'health_gate = { deadline = "6s", interval = "100ms", successes = 2, stable = "300ms" }'
OLD, NEW = "1.0.0+1.0.0", "1.1.0+1.1.0"


@pytest.fixture
def world(lab: Lab, tmp_path: Path, stack_name: str) -> World:
    return World(lab, tmp_path, stack_name, gate=GATE)


def test_probes_that_cannot_be_made_decide_nothing(world: World) -> None:
    """The file with the trusted certificates is lost while the new version starts."""
    trusted = world.folder / "ca.pem"
    shutil.copy(certifi.where(), trusted)
    world.health = f'{{ kind = "http", url = "{world.url}/health", ca_file = "ca.pem" }}'
    world.write_config()
    world.publish(OLD)
    world.up()
    world.publish(NEW)
    with passing(world) as pass_:
        pass_.reaches("capturing")
        trusted.rename(world.folder / "lost.pem")
        assert pass_.ends() == 5
    assert states(world, pass_.before)[-2:] == ["gating", "gating"], "no restore was begun"
    assert world.serves("1.1.0")
    alert = world.alert("stuck")
    assert (alert["candidate"], alert["severity"]) == (NEW, "critical")
    assert f"the CA file {trusted} can't be used" in alert["detail"]
    assert "nothing is decided" in alert["detail"]

    world.write_note("written while nobody could see")
    tasks, length = world.tasks(), len(states(world))
    waiting = world.up(check=5)
    assert (waiting["decision"], waiting["run_state"]) == ("resume", "gating")
    assert world.open_alerts() == {("stuck", NEW)}
    assert (world.tasks(), len(states(world))) == (tasks, length), "a look that sees nothing writes nothing"

    (world.folder / "lost.pem").rename(trusted)
    row = world.up()
    assert (row["ran"]["state"], row["current"], row["decision"]) == ("committed", NEW, "noop-healthy")
    assert world.open_alerts() == set()
    assert "written while nobody could see" in world.notes


def test_a_first_deploy_that_never_gets_well_is_left_as_it_is(world: World) -> None:
    world.publish(OLD, bad="never-healthy")
    row = world.up(check=5)
    assert (row["ran"]["kind"], row["ran"]["state"], row["decision"]) == ("cold-deploy", "stuck", "stuck")
    assert "there is nothing to go back to" in world.alert("stuck")["detail"]
    assert "warmd adopt app" in world.alert("stuck")["commands"]

    world.publish(NEW)
    tasks = world.tasks()
    for _ in range(3):
        look = world.up(check=5)
        assert (look["decision"], look["ran"]) == ("stuck", None), "a newer version changes nothing"
    assert world.tasks() == tasks, "and nothing goes round in circles"
    assert len(world.alerts()) == 1

    world.warmd("adopt", "app")
    assert world.tasks() == tasks
    adopted = world.up()
    assert (adopted["decision"], adopted["current"]) == ("held-unhealthy", OLD), (
        "stuck is over, ill it is still"
    )
    assert world.open_alerts() == {("held-unhealthy", None)}
