"""The main job, on a real swarm: what an operator would see, told as short stories."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import Lab
from tests.swarm.world import World


@pytest.fixture
def world(lab: Lab, tmp_path: Path, stack_name: str) -> World:
    return World(lab, tmp_path, stack_name)


def test_from_nothing_to_committed_and_held(world: World) -> None:
    world.publish("1.0.0+1.0.0")
    first = world.up()
    assert (first["decision"], first["current"]) == ("noop-healthy", "1.0.0+1.0.0")
    assert first["ran"]["kind"] == "cold-deploy"
    world.write_note("written by a user")
    before = world.tasks()

    assert world.up()["decision"] == "noop-healthy"
    assert world.tasks() == before, "a look with nothing to do creates no task"

    world.publish("1.1.0+1.1.0")
    upgraded = world.up()
    assert (upgraded["current"], upgraded["ran"]["state"]) == ("1.1.0+1.1.0", "committed")
    assert "written by a user" in world.notes
    assert world.schema == "1.1.0"

    before = world.tasks()
    world.publish("1.2.0+1.2.0", notes="Run the migration by hand.")
    world.publish("2.0.0+1.2.0")
    held = world.up()
    assert (held["decision"], held["current"]) == ("held-manual-migration", "1.1.0+1.1.0")
    assert world.open_alerts() == {("held-manual-migration", "1.2.0+1.2.0"), ("held-major", "2.0.0+1.2.0")}
    assert world.tasks() == before, "a hold creates no task"
    assert world.up("--strict", check=3)["decision"] == "held-manual-migration"
    assert len(world.alerts()) == 2, "an alert opens once, not once a look"

    world.warmd("approve", "app", "1.2.0+1.2.0", "--why", "read the notes")
    approved = world.up()
    assert (approved["current"], approved["decision"]) == ("1.2.0+1.2.0", "held-major")
    assert world.open_alerts() == {("held-major", "2.0.0+1.2.0")}


def test_a_bad_release_is_rolled_back_with_its_data(world: World) -> None:
    world.publish("1.0.0+1.0.0")
    world.up()
    world.write_note("precious")
    before = world.get("/data")

    world.publish("1.1.0+1.1.0", bad="never-healthy")
    bad = world.up(check=4)
    assert bad["ran"]["state"] == "rolled-back"
    assert (bad["current"], bad["decision"]) == ("1.0.0+1.0.0", "held-failed-before")
    assert world.get("/data") == before
    assert world.open_alerts() == {("rolled-back", "1.1.0+1.1.0")}
    assert world.up()["decision"] == "held-failed-before"

    world.publish("1.1.1+1.1.1")
    assert world.up()["current"] == "1.1.1+1.1.1"
    assert world.open_alerts() == set(), "a newer version that commits resolves it"
    assert "precious" in world.notes
