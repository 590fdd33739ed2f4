"""What goes wrong before anything is stopped: the service doesn't notice, and a person reads why.

All stories happen to one service, one after the other; each begins and ends with it healthy, on
whatever version is the newest good one by then.
"""

from __future__ import annotations

import itertools
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import Lab, warm_compose
from tests.swarm.observer import deployed
from tests.swarm.passing import passing, states
from tests.swarm.world import World

GATE = 'health_gate = { deadline = "15s", interval = "100ms", successes = 2, stable = "300ms" }'
SETTINGS = """\
configs:
  settings: { file: ./settings.txt, name: "${STACK}_settings%s" }
"""
MIB = 2**20

_numbers = itertools.count(1)


def mount(world: World, how: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", how, "tmpfs", world.state], check=True)


@pytest.fixture(scope="module")
def world(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The service, deployed, with its state on a file system that can be made small."""
    stack = f"t{secrets.token_hex(4)}"
    env = f'{{ STACK = "{stack}" }}, env_file = "app.env"'  # the rest of the table ``deploy``
    world = World(lab, tmp_path_factory.mktemp("before"), stack, gate=GATE, env=env)
    (world.folder / "app.env").write_text("COLOUR=blue\n")
    world.state.mkdir(mode=0o700)
    mount(world, "size=500m,mode=0700")
    try:
        publish_settings(world, "1.0.0+1.0.0", "first\n")
        assert world.up()["decision"] == "noop-healthy"
        world.write_note("precious")
        yield world
    finally:
        subprocess.run(["umount", "--lazy", world.state], check=True)
        lab.remove_stack(stack)


def publish_settings(world: World, version: str, content: str, *, name: str = "") -> None:
    """A release that brings a config along."""
    compose = world.compose(world.lab.warm_app(version.partition("+")[2]))
    compose = compose.replace(
        "    networks: [internal]\n", "    networks: [internal]\n    configs: [settings]\n"
    )
    files = {"settings.txt": content}
    world.recipe.publish(version, compose=compose + SETTINGS % name, files=files)


def new_version() -> str:
    number = next(_numbers)
    return f"1.{number}.0+1.{number}.0"


def publish_changed(world: World, version: str, old: str, new: str) -> None:
    compose = world.compose(world.lab.warm_app(version.partition("+")[2]))
    assert old in compose
    world.publish(version, compose=compose.replace(old, new))


# Each makes a release that can't be deployed, yields what the alert has to say, then mends the cause.
Cause = Callable[[World, str], Iterator[str]]


def image_missing(world: World, version: str) -> Iterator[str]:
    app = version.partition("+")[2]
    world.publish(version, compose=world.compose(f"{world.lab.registry}/warm-late:{app}"))
    yield f"image {world.lab.registry}/warm-late:{app} does not exist"
    world.lab.warm_app(app, repo="warm-late")


def compose_that_does_not_parse(world: World, version: str) -> Iterator[str]:
    publish_changed(world, version, "    networks: [internal]", "\tnetworks: [internal")
    yield "compose.yml"
    world.publish(new_version())


def variable_missing(world: World, version: str) -> Iterator[str]:
    publish_changed(
        world, version, "    stop_grace", '    environment: { GREETING: "${GREETING}" }\n    stop_grace'
    )
    yield "GREETING is not set"
    with (world.folder / "app.env").open("a") as file:
        file.write("GREETING=hello\n")


def external_network_missing(world: World, version: str) -> Iterator[str]:
    name = f"{world.stack}_outside"
    image = world.lab.warm_app(version.partition("+")[2])
    compose = warm_compose(image, world.port, network="overlay")
    outside = f"networks:\n  internal: {{ external: true, name: {name} }}"
    world.publish(version, compose=compose.replace("networks:\n  internal: {}", outside))
    yield name
    mine = f"com.docker.stack.namespace={world.stack}"
    world.lab.docker("network", "create", "--driver", "overlay", "--label", mine, name)


def external_secret_missing(world: World, version: str) -> Iterator[str]:
    name = f"{world.stack}_key"
    compose = world.compose(world.lab.warm_app(version.partition("+")[2]))
    compose = compose.replace("    networks: [internal]\n", "    networks: [internal]\n    secrets: [key]\n")
    world.publish(version, compose=f"{compose}secrets:\n  key: {{ external: true, name: {name} }}\n")
    yield name
    mine = f"com.docker.stack.namespace={world.stack}"
    world.lab.docker("secret", "create", "--label", mine, name, "-", stdin=b"s3cret")


def config_changed_under_its_name(world: World, version: str) -> Iterator[str]:
    publish_settings(world, version, "second\n")
    yield f"config {world.stack}_settings has other content"
    publish_settings(world, new_version(), "second\n", name="_2")


def no_room_for_the_copy(world: World, version: str) -> Iterator[str]:
    (world.volume / "big").write_bytes(secrets.token_bytes(40 * MIB))
    mount(world, "remount,size=30m")
    world.publish(version)
    yield "not enough space"
    mount(world, "remount,size=500m")


CAUSES: tuple[Cause, ...] = (
    image_missing,
    compose_that_does_not_parse,
    variable_missing,
    external_network_missing,
    external_secret_missing,
    config_changed_under_its_name,
    no_room_for_the_copy,
)


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.__name__.replace("_", "-"))
def test_nothing_is_touched_and_the_next_try_after_mending_commits(world: World, cause: Cause) -> None:
    version = new_version()
    spoiled = cause(world, version)
    words = next(spoiled)
    tasks, data, before = world.tasks(), world.get("/data"), deployed(world)

    row = world.up(check=7)
    assert (row["ran"]["to_version"], row["ran"]["state"]) == (version, "failed-unchanged")
    assert (row["current"], row["decision"], row["health"]) == (before, "failed-unchanged", "healthy")
    assert world.tasks() == tasks, "not one task was created"
    assert world.get("/data") == data
    alert = world.alert("failed-unchanged")
    assert alert["candidate"] == version
    assert words in alert["summary"]
    assert "before anything was touched" in alert["summary"]

    next(spoiled, None)
    mended = world.warmd("reconcile", "app", "--json").json[0]
    assert (mended["ran"]["state"], mended["decision"]) == ("committed", "noop-healthy")
    assert mended["current"] not in (None, before)
    assert world.open_alerts() == set()
    assert "precious" in world.notes


def test_a_failure_is_tried_again_with_patience_and_at_once_when_asked(world: World) -> None:
    """The registry is gone: that may pass by itself, so a person is told at the third failure only."""
    version = new_version()
    world.publish(version)
    before = world.tasks()
    with world.lab.registry_gone():
        first = world.up(check=7)
        assert first["ran"]["state"] == "failed-unchanged"
        again = world.up()
        assert (again["decision"], again["ran"]) == ("failed-unchanged", None), "its time has not come"
        assert "next try at" in again["reason"]
        shown = world.warmd("status").out
        assert "failed-unchanged" in shown
        assert "next try at" in shown
        assert world.open_alerts() == set()
        for _ in range(2):
            forced = world.warmd("reconcile", "app", "--json", check=7).json[0]
            assert forced["ran"]["state"] == "failed-unchanged"
        alert = world.alert("failed-unchanged")
        assert "could not be pulled" in alert["summary"]
        assert "warmd reconcile app" in alert["commands"]
    assert world.tasks() == before

    mended = world.warmd("reconcile", "app", "--json").json[0]
    assert (mended["current"], mended["decision"]) == (version, "noop-healthy")
    assert world.open_alerts() == set()


def test_a_release_that_is_withdrawn_after_it_was_judged_is_not_deployed(world: World) -> None:
    before, tasks = deployed(world), world.tasks()
    version = new_version()
    world.publish(version)
    with passing(world) as pass_:
        pass_.reaches("planned")
        pass_.kill()
    assert states(world, pass_.before) == ["planned"], "it was killed before it rendered anything"
    world.recipe.git("tag", "--delete", version)

    row = world.up(check=7)
    assert (row["ran"]["state"], row["current"]) == ("failed-unchanged", before)
    assert "no longer published" in row["ran"]["detail"]
    assert row["decision"] == "noop-healthy", "there is nothing left to do"
    assert world.tasks() == tasks
    assert world.open_alerts() == set()


def test_a_running_service_without_its_env_file_stays_as_it_is(world: World) -> None:
    """What runs can't be rendered again: no upgrade is begun from there."""
    version = new_version()
    world.publish(version)
    tasks, before = world.tasks(), deployed(world)
    env_file = world.folder / "app.env"
    env_file.rename(world.folder / "lost.env")
    row = world.up()
    assert (row["decision"], row["current"], row["ran"]) == ("held-config-drift", before, None)
    assert f"env_file {env_file} does not exist" in world.alert("held-config-drift")["summary"]
    assert world.tasks() == tasks

    (world.folder / "lost.env").rename(env_file)
    assert world.up()["current"] == version
    assert world.open_alerts() == set()


def test_a_first_deploy_without_its_env_file_creates_nothing(
    lab: Lab, tmp_path: Path, stack_name: str
) -> None:
    world = World(lab, tmp_path, stack_name, gate=GATE, env='{}, env_file = "app.env"')
    world.publish("1.0.0+1.0.0")
    row = world.up(check=7)
    assert (row["decision"], row["ran"]["state"]) == ("failed-unchanged", "failed-unchanged")
    assert f"env_file {tmp_path / 'app.env'} does not exist" in world.alert("failed-unchanged")["summary"]
    assert (world.specs(), lab.volumes(stack_name)) == ({}, [])

    (tmp_path / "app.env").write_text("")
    mended = world.warmd("reconcile", "app", "--json").json[0]
    assert (mended["current"], mended["decision"]) == ("1.0.0+1.0.0", "noop-healthy")
    assert world.open_alerts() == set()
