"""No file descriptor left in the daemon: it lives, says so, and goes on when there are some again."""

from __future__ import annotations

import resource
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.swarm.observer import checksum, deployed
from tests.swarm.passing import states
from tests.swarm.world import WARMD, World

MIB = 2**20
LOOKS = "health_gate = { deadline = '15s', interval = '100ms', successes = 2, stable = '300ms' }"


@pytest.fixture(scope="module")
def world(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    stack = f"t{secrets.token_hex(4)}"
    world = World(lab, tmp_path_factory.mktemp("descriptors"), stack, gate=LOOKS, interval="1s")
    world.publish("1.0.0+1.0.0")
    world.up()
    world.write_note("precious")
    (world.volume / "big").write_bytes(secrets.token_bytes(40 * MIB))
    yield world
    lab.remove_stack(stack)


@contextmanager
def none_left(pid: int) -> Iterator[None]:
    """What the process has open stays open, and nothing can be added."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@pytest.mark.crash
def test_an_idle_daemon_without_descriptors_touches_nothing_says_so_and_recovers(world: World) -> None:
    with world.running() as process:
        world.wait(lambda: world.told("look.decided", decision="noop-healthy"), "a look")
        tasks, data = world.tasks(), checksum(world.volume)
        with none_left(process.pid):
            world.publish("1.1.0+1.1.0")
            seen = len(world.log)
            world.wait(
                lambda: any("Too many open files" in str(line) for line in world.log[seen:]),
                "it says so",
            )
            asking = subprocess.Popen(
                [WARMD, "status", "--config", str(world.config), "--json"],
                env=world.environment,
                stdout=subprocess.PIPE,
            )
            world.wait(lambda: len(world.log) > seen + 1, "it goes on trying")
            assert process.poll() is None
            assert (world.tasks(), checksum(world.volume)) == (tasks, data)
        assert b'"app"' in asking.communicate(timeout=60)[0], "who asked meanwhile is answered"
        world.committed("1.1.0+1.1.0")
        world.wait(lambda: not world.open_alerts(), "alerts about it are over")
    assert "precious" in world.notes
    assert not world.told("look.crashed")


@pytest.mark.crash
@pytest.mark.parametrize("state", ["capturing", "sealing", "gating"])
def test_a_daemon_that_runs_out_of_them_in_an_upgrade_brings_it_to_a_good_end(
    world: World, state: str
) -> None:
    before, data = deployed(world), checksum(world.volume)
    minor = int(before.split(".")[1]) + 1
    version = f"1.{minor}.0+1.{minor}.0"
    with world.running() as process:
        world.wait(lambda: world.told("look.decided", decision="noop-healthy"), "a look")
        world.publish(version)
        world.wait(lambda: states(world) and states(world)[-1] == state, state, pause=0.005)
        seen = len(world.log)
        with none_left(process.pid):
            world.wait(lambda: len(world.log) > seen, "it says something")
            assert process.poll() is None
        world.wait(lambda: states(world)[-1] in ("committed", "interrupted", "rolled-back"), "its end", 120)
        if states(world)[-1] != "committed":
            assert (deployed(world), checksum(world.volume)) == (before, data)
            world.warmd("retry", "app")
        world.committed(version)
    assert "precious" in world.notes
    assert not world.told("run.crashed")
    assert not world.told("look.crashed")


@pytest.mark.crash
def test_with_too_few_from_the_start_it_says_so_and_touches_nothing(world: World, tmp_path: Path) -> None:
    tasks = world.tasks()
    for limit in (8, 14, 20):
        done = subprocess.run(
            ["sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", WARMD, "up", "--config", str(world.config)],
            env=world.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if limit == 8:
            assert "Too many open files" in done.stderr, done.stderr
        assert world.tasks() == tasks
    world.up()
