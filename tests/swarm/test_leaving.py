"""How the daemon leaves, told to or not: in time, the service up, and the next start goes on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.swarm.world import World

#: Compressing random data this hard takes a second for a few MiB: a copy that doesn't end soon.
SLOW_COPY = '{ kind = "archive", level = 19 }'


@pytest.fixture
def world(lab: Lab, tmp_path: Path, stack_name: str) -> World:
    return World(lab, tmp_path, stack_name)


def begin_long_copy(world: World, mebibytes: int) -> None:
    """A service with much data has a new version, and its copy is under way."""
    world.snapshot = SLOW_COPY
    world.write_config()
    with (world.volume / "big").open("wb") as big:
        for _ in range(mebibytes):
            big.write(os.urandom(1 << 20))
    world.publish("1.1.0+1.1.0")


@pytest.mark.parametrize(
    "ends",
    [[signal.SIGTERM], [signal.SIGTERM, signal.SIGTERM], [signal.SIGINT]],
    ids=["term", "twice", "int"],
)
def test_leaves_at_once_when_idle(world: World, ends: list[signal.Signals]) -> None:
    with world.running() as daemon:
        world.wait(lambda: world.told("look.decided"), "the first look")
        for number in ends:
            daemon.send_signal(number)
        assert daemon.wait(5) == 0
    assert world.log[-1]["event"] == "daemon.stopped"
    assert not (world.state / "control.sock").exists()


def test_leaves_in_the_middle_of_a_long_copy_with_the_service_up(world: World) -> None:
    world.publish("1.0.0+1.0.0")
    world.up()
    begin_long_copy(world, 48)
    data = world.get("/data")
    with world.running() as daemon:
        world.wait(lambda: world.told("run.capturing"), "the copy")
        time.sleep(1)  # well into it: it takes many times as long
        assert not world.told("run.sealing")
        began = time.monotonic()
        daemon.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        daemon.send_signal(signal.SIGTERM)  # by somebody who can't wait
        assert daemon.wait(30) == 0
        took = time.monotonic() - began
    assert took < 30, f"{took:.1f} s"
    world.wait(lambda: world.serves("1.0.0"), "the old version is back without warmd", 15)
    assert world.get("/data") == data
    assert world.alerts() == [], "whoever stops warmd need not be told of it"

    world.snapshot = '{ kind = "archive" }'
    world.write_config()
    with world.running():
        world.committed("1.1.0+1.1.0")
    runs = world.history()["runs"]
    assert [r["state"] for r in runs] == ["committed", "interrupted", "committed"]
    assert len(world.warmd("snapshots", "app", "--json").json) == 1, "half a copy is none"


def test_leaves_during_the_gate_and_the_next_start_commits(world: World) -> None:
    world.publish("1.0.0+1.0.0")
    world.up()
    world.gate = world.gate.replace("1s", "3s")
    world.write_config()
    world.publish("1.1.0+1.1.0")
    with world.running() as daemon:
        world.wait(lambda: world.told("run.gating", version="1.1.0+1.1.0"), "the gate")
        world.wait(lambda: world.serves("1.1.0"), "the new version")
        began = time.monotonic()
        daemon.send_signal(signal.SIGINT)
        assert daemon.wait(10) == 0
        took = time.monotonic() - began
    assert took < 5, f"{took:.1f} s"
    new = world.running_tasks()
    with world.running():
        world.committed("1.1.0+1.1.0")
    assert world.running_tasks() == new, "it goes on where it was"
    assert len(world.history()["runs"]) == 2


@pytest.mark.parametrize("state", ["capturing", "gating"])
def test_goes_on_after_it_was_killed(world: World, state: str) -> None:
    world.publish("1.0.0+1.0.0")
    world.up()
    world.write_note("kept")
    if state == "capturing":
        begin_long_copy(world, 24)
    else:
        world.publish("1.1.0+1.1.0")
    with world.running() as daemon:
        world.wait(lambda: world.told(f"run.{state}", version="1.1.0+1.1.0"), state)
        daemon.kill()
        daemon.wait(5)
    world.snapshot = '{ kind = "archive" }'
    world.write_config()
    with world.running():
        world.committed("1.1.0+1.1.0")
    assert len(world.history()["runs"]) == 2, "the same run went on"
    assert "kept" in world.notes
