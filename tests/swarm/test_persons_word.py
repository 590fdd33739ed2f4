"""What a person says to warmd, and what it does and doesn't do then."""

from __future__ import annotations

import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.swarm.observer import checksum, deployed, replicas
from tests.swarm.passing import journal, passing, states
from tests.swarm.world import World

GATE = 'health_gate = { deadline = "15s", interval = "100ms", successes = 2, stable = "300ms" }'
OLD, NEW = "1.0.0+1.0.0", "1.1.0+1.1.0"
MIB = 2**20


@pytest.fixture
def world(lab: Lab, tmp_path: Path, stack_name: str) -> World:
    return World(lab, tmp_path, stack_name, gate=GATE)


def test_an_approval_is_for_what_was_read(world: World) -> None:
    world.policy = "require_approval = true"
    world.write_config()
    world.publish("0.9.0+1.0.0")
    world.publish(OLD)
    assert world.up()["decision"] == "held-approval", "the first deploy waits for a person as well"
    world.warmd("approve", "app", OLD, "--why", "let us begin")
    assert world.up()["current"] == OLD

    world.publish(NEW)
    assert world.up()["decision"] == "held-approval"
    assert world.open_alerts() == {("held-approval", NEW)}
    lower = world.warmd("approve", "app", "0.9.0+1.0.0", "--why", "no", check=7)
    assert "warmd never goes down" in lower.err
    unknown = world.warmd("approve", "app", "1.2.0+1.2.0", "--why", "no", check=7)
    assert "is not published" in unknown.err

    world.warmd("approve", "app", NEW, "--why", "looks fine")
    world.recipe.commit("docs: late notes", {f"release/{NEW}": "Run the migration by hand.\n"})
    tasks = world.tasks()
    held = world.up()
    assert (held["decision"], held["current"]) == ("held-manual-migration", OLD), "nobody has read that"
    assert "Run the migration by hand." in world.alert("held-manual-migration")["notes"][0]["text"]
    assert world.tasks() == tasks

    world.warmd("approve", "app", NEW, "--why", "did it")
    assert world.up()["current"] == NEW
    assert world.open_alerts() == set()
    assert [(a["uid"], a["why"]) for a in world.history()["approvals"]] == [], "it let one run through"


def test_pause_holds_what_is_new_and_the_file_stops_even_a_run_in_progress(world: World) -> None:
    world.publish(OLD)
    world.up()
    world.warmd("pause", "app", "--why", "the auditors are here")
    world.publish(NEW)
    tasks = world.tasks()
    held = world.up()
    assert (held["decision"], held["current"], held["paused"]) == ("held-paused", OLD, True)
    assert "the auditors are here" in held["reason"]
    assert world.tasks() == tasks
    world.warmd("resume", "app")

    pause = world.state / "PAUSE"
    with passing(world) as pass_:
        pass_.reaches("stopping")
        world.wait(lambda: replicas(world) == 0, "the stop")
        pause.touch()
        assert pass_.ends() == 6
    assert states(world)[-1] == "capturing", "what was being done is done; nothing more"
    assert not list((world.state / "services" / "app").rglob("*.tar.zst"))
    waits = world.up(check=6)
    assert waits["decision"] == "resume"
    assert f"{pause} is there" in waits["reason"]
    assert not world.running_tasks()
    refused = world.warmd("deploy", "app", check=7)
    assert "a run is in progress" in refused.err

    pause.unlink()
    row = world.up()
    assert (row["ran"]["state"], row["current"]) == ("committed", NEW)


@contextmanager
def silent_registry(lab: Lab) -> Iterator[str]:
    """The address of a registry that takes a call and never says a word."""
    here = str(ip_address(lab.host) - 1)  # this end of the cable to the lab
    with socket.create_server((here, 0)) as server:
        yield f"{here}:{server.getsockname()[1]}"


def reaches(world: World, version: str, state: str) -> None:
    """Wait until the daemon's newest run is in ``state``. Read from the journal: a command is too slow."""
    world.wait(lambda: states(world)[-1:] == [state], f"{state} of {version}", pause=0.01)


def abort(world: World) -> str:
    """Abort what is in progress; the state that it ended in."""
    answer = world.warmd("abort", "app", "--yes", "--json").json["run"]
    assert "aborted by uid 0" in answer["detail"]
    return str(answer["state"])


def test_abort_brings_the_old_version_back_from_wherever_the_run_is(world: World) -> None:
    world.interval = "1s"
    world.write_config()
    world.publish(OLD)
    world.up()
    world.write_note("precious")
    data, first_task = checksum(world.volume), world.running_tasks()

    with world.running():
        with silent_registry(world.lab) as registry:
            world.publish(NEW, compose=world.compose(f"{registry}/warm:1.1.0"))
            reaches(world, NEW, "pulling")
            assert abort(world) == "failed-unchanged"
        assert world.running_tasks() == first_task, "nothing was stopped"

        big = world.volume / "big"
        big.write_bytes(secrets.token_bytes(400 * MIB))  # so that copying it takes seconds
        for number, state in ((2, "stopping"), (3, "capturing")):
            version = f"1.{number}.0+1.{number}.0"
            world.publish(version)
            reaches(world, version, state)
            assert abort(world) == "interrupted"
            assert deployed(world) == OLD
        big.unlink()
        assert checksum(world.volume) == data

        world.publish("1.4.0+1.4.0", bad="never-healthy")
        reaches(world, "1.4.0+1.4.0", "gating")
        world.wait(lambda: world.schema == "1.4.0", "the migration")
        assert abort(world) == "rolled-back"
        assert (deployed(world), checksum(world.volume)) == (OLD, data)
        failed = {f["version"]: f["outcome"] for f in world.history()["failures"]}
        assert failed == {
            NEW: "failed-unchanged",
            "1.2.0+1.2.0": "interrupted",
            "1.3.0+1.3.0": "interrupted",
            "1.4.0+1.4.0": "rolled-back",
        }
        assert world.status()["decision"] == "held-failed-before", "what was aborted is not tried again"


def test_a_rollback_goes_on_to_its_end(world: World) -> None:
    world.gate = GATE.replace("15s", "6s")
    world.write_config()
    world.publish(OLD)
    world.up()
    world.publish(NEW, bad="never-healthy")
    with passing(world) as pass_:
        pass_.reaches("gating")
        world.wait(lambda: world.schema == "1.1.0", "the migration")
        (world.state / "PAUSE").touch()
        pass_.ends()
    assert states(world)[-1] == "halting"
    (world.state / "PAUSE").unlink()
    refused = world.warmd("abort", "app", "--yes", check=7)
    assert "goes on to its end" in refused.err
    nothing = world.up(check=4)
    assert (nothing["ran"]["state"], nothing["current"]) == ("rolled-back", OLD)
    assert "no run is in progress" in world.warmd("abort", "app", "--yes", check=7).err


def test_a_snapshot_is_made_and_put_back_by_hand(world: World) -> None:
    world.publish(OLD)
    world.up()
    world.write_note("before the snapshot")
    kept = world.get("/data")

    assert "add --yes" in world.warmd("snapshot", "app", check=2).err, "it stops the service, so it asks"
    made = world.warmd("snapshot", "app", "--yes", "--why", "friday", "--json").json["run"]
    assert (made["kind"], made["state"], made["why"]) == ("snapshot", "committed", "friday")
    assert world.serves("1.0.0"), "the service is back"
    assert world.get("/data") == kept
    (snapshot,) = world.warmd("snapshots", "app", "--json").json
    assert (snapshot["id"], snapshot["version"], snapshot["sealed"]) == (made["id"], OLD, True)

    world.publish(NEW)
    assert world.up()["current"] == NEW
    world.write_note("after the upgrade")
    assert "add --yes" in world.warmd("restore", "app", snapshot["id"], check=2).err
    back = world.warmd("restore", "app", snapshot["id"], "--yes", "--json").json["run"]
    assert (back["kind"], back["state"], back["to_version"]) == ("restore", "rolled-back", OLD)
    assert (deployed(world), world.get("/data")) == (OLD, kept)
    quarantined = subprocess.run(
        ["grep", "--recursive", "--files-with-matches", "after the upgrade", world.lab.folder, world.state],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert back["id"] in quarantined, "what was written since is moved aside, not deleted"
    again = world.up()
    assert (again["decision"], again["current"]) == ("held-failed-before", OLD), "it doesn't go there again"


def test_a_snapshot_is_enough_where_everything_else_is_lost(world: World) -> None:
    world.publish(OLD)
    world.up()
    world.write_note("precious")
    kept = world.get("/data")
    world.warmd("snapshot", "app", "--yes")
    (snapshot,) = world.warmd("snapshots", "app", "--json").json

    lost = world.folder / "lost"
    lost.mkdir()
    for file in journal(world).parent.glob("journal*"):
        file.rename(lost / file.name)
    world.lab.remove_stack(world.stack, volumes=True)
    restored = world.warmd("restore", "app", snapshot["id"], "--yes", "--json").json["run"]
    assert (restored["state"], restored["to_version"]) == ("rolled-back", OLD)
    assert world.get("/data") == kept
    row = world.up()
    assert (row["decision"], row["current"], row["last_good"]) == ("noop-healthy", OLD, OLD)
