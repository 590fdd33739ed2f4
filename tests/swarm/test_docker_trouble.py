"""Docker itself in trouble: warmd waits, tells, goes on, and blames no release for it."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.swarm.world import World
from tests.upstream import silent


@pytest.fixture(scope="module")
def own_lab() -> Iterator[Lab]:
    """A lab that these tests may take down."""
    with Lab() as lab:
        yield lab


@pytest.fixture
def world(own_lab: Lab, tmp_path: Path) -> Iterator[World]:
    world = World(own_lab, tmp_path, f"t{secrets.token_hex(4)}", interval="1s")
    yield world
    if not own_lab.up:  # a test failed half-way: the others need not
        own_lab.restart_dockerd()
    own_lab.remove_stack(world.stack)


def test_waits_for_docker_and_tells_after_three_tries(world: World) -> None:
    world.publish("1.0.0+1.0.0")
    world.lab.stop_dockerd()
    with world.running() as daemon:
        world.wait(lambda: world.open_alerts() == {("docker-unreachable", None)}, "the alert")
        assert daemon.poll() is None
        assert "Docker can't be used" in world.warmd("alerts").out
        assert "Docker does not answer" in world.status()["trouble"]
        assert len(world.told("look.failed")) == 1, "told once, not at every try"
    with world.running():
        world.wait(lambda: len(world.told("look.failed")) == 2, "a new start finds the same")
        assert len(world.alerts()) == 1, "and opens no second alert"
        world.lab.restart_dockerd()
        world.wait(lambda: world.open_alerts() == set(), "the alert is resolved")
        world.committed("1.0.0+1.0.0")
        world.wait(lambda: world.told("look.recovered"), "which it says")
    assert world.serves("1.0.0")


@pytest.mark.parametrize(
    ("state", "kill"),
    [
        pytest.param("stopping", True, id="stopping-killed"),
        pytest.param("deploying", True, id="deploying-killed"),
        pytest.param("gating", True, id="gating-killed"),
        pytest.param("gating", False, id="gating-stopped"),
    ],
)
def test_a_restart_of_dockerd_during_an_upgrade_is_not_the_releases_fault(
    world: World, state: str, kill: bool
) -> None:
    world.publish("1.0.0+1.0.0")
    world.up()
    world.write_note("precious")
    world.publish("1.1.0+1.1.0")
    with world.running():
        world.wait(lambda: world.told(f"run.{state}", version="1.1.0+1.1.0"), state)
        world.lab.restart_dockerd(kill=kill)
        world.committed("1.1.0+1.1.0")
    assert world.serves("1.1.0")
    assert "precious" in world.notes
    assert [r["state"] for r in world.history()["runs"]] == ["committed", "committed"]
    assert not world.told("run.restoring")
    assert world.open_alerts() == set()


def test_dockerd_down_for_longer_than_the_gate_lasts(world: World) -> None:
    world.gate = world.gate.replace("15s", "6s")
    world.write_config()
    world.publish("1.0.0+1.0.0")
    world.up()
    world.publish("1.1.0+1.1.0")
    with world.running():
        world.wait(lambda: world.told("run.gating", version="1.1.0+1.1.0"), "the gate")
        world.lab.stop_dockerd()
        world.wait(lambda: ("stuck", "1.1.0+1.1.0") in world.open_alerts(), "somebody is told")
        assert not world.told("run.halting"), "who can't look doesn't judge"
        world.lab.restart_dockerd()
        world.committed("1.1.0+1.1.0")
        world.wait(lambda: world.open_alerts() == set(), "and the alert is over")
    assert world.serves("1.1.0")


def test_leaves_while_docker_is_gone_in_the_middle_of_a_run(world: World) -> None:
    world.publish("1.0.0+1.0.0")
    world.up()
    world.publish("1.1.0+1.1.0")
    with world.running() as daemon:
        world.wait(lambda: world.told("run.deploying", version="1.1.0+1.1.0"), "the deploy")
        world.lab.stop_dockerd()
        daemon.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert daemon.wait(30) == 0
        assert time.monotonic() - began < 10
    world.lab.restart_dockerd()
    with world.running():
        world.committed("1.1.0+1.1.0")


def test_a_docker_socket_that_hangs_stops_neither_answers_nor_leaving(world: World) -> None:
    world.publish("1.0.0+1.0.0")
    with silent() as port:
        world.docker_host = f"tcp://127.0.0.1:{port}"
        world.write_config()
        with world.running() as daemon:
            world.wait(lambda: (world.state / "control.sock").exists(), "the socket for commands")
            assert world.status()["decision"] == "not-looked-yet"
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(5) == 0


def test_an_engine_that_is_no_manager(tmp_path: Path) -> None:
    with Lab() as lab:
        world = World(lab, tmp_path, "app", interval="1s")
        world.publish("1.0.0+1.0.0")
        lab.docker("swarm", "leave", "--force")
        refused = " ".join(world.warmd("plan", "app", check=6).out.split())
        assert "not a swarm manager" in refused
        assert "docker swarm init" in refused
        with world.running():
            world.wait(lambda: world.open_alerts() == {("docker-unreachable", None)}, "the alert")
            assert "docker swarm init" in world.alert("docker-unreachable")["detail"]
            lab.docker("swarm", "init", "--advertise-addr", "127.0.0.1")
            world.committed("1.0.0+1.0.0")
            world.wait(lambda: world.open_alerts() == set(), "the alert is resolved")
        assert world.serves("1.0.0")
