"""Everything that a stack can write to is copied, left out by name, or the run is refused before the stop."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import Lab
from tests.swarm.world import World


@pytest.fixture
def world(lab: Lab, tmp_path: Path, stack_name: str) -> World:
    world = World(lab, tmp_path, stack_name)
    world.gate = 'health_gate = { deadline = "8s", interval = "200ms", successes = 2, stable = "1s" }'
    world.write_config()
    return world


def app(world: World, version: str, *, volumes: list[str] | None = None, more: str = "", **bad: str) -> str:
    """A compose text: ``volumes`` beside the app's own, ``more`` services."""
    compose = world.compose(world.lab.warm_app(version, **bad))  # type: ignore[arg-type]  # only ``bad``
    listed = ", ".join(f'"{v}"' for v in ["data:/data", *(volumes or [])])
    assert 'volumes: ["data:/data"]' in compose
    return compose.replace('volumes: ["data:/data"]', f"volumes: [{listed}]").replace(
        "\nnetworks:\n", f"{more}\nnetworks:\n"
    )


def side(world: World, name: str, volume: str, *, mode: str = "replicated") -> str:
    """A service without a port, with one volume, of an image of its own."""
    image = world.lab.image("side", "1", {}, ["sh", "-c", "trap exit TERM; while :; do sleep 0.1; done"])
    return f"""
  {name}:
    image: "{image}"
    networks: [internal]
    volumes: ["{volume}"]
    stop_grace_period: 2s
    deploy: {{ endpoint_mode: dnsrr, mode: {mode} }}
"""


def copied(world: World) -> list[str]:
    """The volumes of the newest snapshot, by the names of the compose file."""
    newest = world.warmd("snapshots", "app", "--json").json[-1]
    return sorted(name.removeprefix(f"{world.stack}_") for name in newest["volumes"])


def exclude(world: World, *names: str) -> None:
    listed = ", ".join(f'"{name}"' for name in names)
    world.snapshot = f'{{ kind = "archive", exclude = [{listed}] }}'
    world.write_config()


def test_what_can_not_be_copied_is_refused_before_the_stop_and_excluded_by_name(world: World) -> None:
    bind = world.folder / "uploads"
    bind.mkdir()
    world.lab.docker("volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", f"{world.stack}_ext")
    mounts = [
        f"{bind}:/uploads",
        "/cache",
        "scratch:/scratch",
        "ext:/ext",
        f"{world.recipe.path}:/docs:ro",
    ]
    extra = (
        "  scratch: { driver_opts: { type: none, o: bind, device: /media } }\n"
        f"  ext: {{ external: true, name: {world.stack}_ext }}\n"
    )
    for version in ("1.0.0", "1.1.0"):
        world.publish(f"{version}+{version}", compose=app(world, version, volumes=mounts) + extra)
        if version == "1.0.0":
            world.up()
            world.write_note("kept")
            (bind / "file").write_text("uploaded")
    before = world.tasks()

    refused = world.up(check=7)
    assert (refused["ran"]["state"], refused["current"]) == ("failed-unchanged", "1.0.0+1.0.0")
    assert world.tasks() == before, "nothing was stopped"
    detail = world.alert("failed-unchanged")["detail"]
    for what, write in (
        (f"the bind mount {bind}", str(bind)),
        ("/cache, a volume without a name", "app:/cache"),
        (f"volume {world.stack}_scratch with driver options (device=/media, o=bind, type=none)", "scratch"),
    ):
        assert what in detail
        assert f"add '{write}' to snapshot.exclude" in detail
    assert str(world.recipe.path) not in detail, "nobody writes to a read-only mount"

    # The short name, the bind's path, the anonymous volume by its place.
    exclude(world, str(bind), "app:/cache", "scratch")
    refused = world.warmd("reconcile", "app", "--json", check=7).json[0]
    assert world.tasks() == before
    assert f"volume {world.stack}_ext can't be copied: its driver options" in refused["ran"]["detail"]

    exclude(world, str(bind), "app:/cache", "scratch", f"{world.stack}_ext")
    upgraded = world.warmd("reconcile", "app", "--json").json[0]
    assert (upgraded["current"], upgraded["ran"]["state"]) == ("1.1.0+1.1.0", "committed")
    assert copied(world) == ["data"]
    assert world.notes.strip() == "kept"
    assert (bind / "file").read_text() == "uploaded"
    assert world.open_alerts() == set()


def test_a_volume_that_somebody_else_mounts_is_not_copied_while_they_run(world: World) -> None:
    world.publish("1.0.0+1.0.0")
    world.up()
    image = world.lab.image("side", "1", {}, ["sh", "-c", "trap exit TERM; while :; do sleep 0.1; done"])
    other = f"other-{world.stack}"
    world.lab.docker("run", "-d", "--network=none", "--name", other, "-v", f"{world.stack}_data:/data", image)
    try:
        world.publish("1.1.0+1.1.0")
        before = world.tasks()
        refused = world.up(check=7)
        assert refused["ran"]["state"] == "failed-unchanged"
        assert world.tasks() == before
        detail = world.alert("failed-unchanged")["detail"]
        assert f"volume {world.stack}_data is also mounted by container {other}" in detail
    finally:
        world.lab.docker("rm", "-f", other)
    assert world.warmd("reconcile", "app", "--json").json[0]["ran"]["state"] == "committed"
    assert world.open_alerts() == set()


def test_a_stack_of_several_services_goes_back_as_a_whole(world: World) -> None:
    """Shared, new and dropped volumes; a service that the new version drops; a global one."""
    old = side(world, "worker", "data:/shared") + side(world, "agent", "agent:/agent", mode="global")
    volumes = "  agent: {}\n"
    world.publish("1.0.0+1.0.0", compose=app(world, "1.0.0", more=old) + volumes)
    assert world.up()["ran"]["state"] == "committed"
    world.write_note("precious")
    agent = world.volume.parent.parent / f"{world.stack}_agent" / "_data"
    (agent / "state").write_text("the agent's")
    before = world.specs()
    assert set(before) == {"app", "worker", "agent"}

    # The new version drops the worker, and brings a service with a volume of its own. It damages the data.
    new = side(world, "agent", "agent:/agent", mode="global") + side(world, "search", "index:/index")
    volumes = "  agent: {}\n  index: {}\n"
    world.publish("1.1.0+1.1.0", compose=app(world, "1.1.0", more=new, bad="never-healthy") + volumes)
    bad = world.up(check=4)
    assert bad["ran"]["state"] == "rolled-back"
    after = world.specs()
    assert set(after) == {"app", "worker", "agent"}
    for name, spec in before.items():
        assert after[name]["TaskTemplate"] == spec["TaskTemplate"]
        assert after[name]["Mode"] == spec["Mode"]
    assert all(len(world.running_tasks(name)) == 1 for name in after)
    assert (world.schema, world.notes.strip()) == ("1.0.0", "precious")
    assert (agent / "state").read_text() == "the agent's"
    assert copied(world) == ["agent", "data"]
    assert world.up()["decision"] == "held-failed-before", "what came back is no drift"

    world.publish("1.1.1+1.1.1", compose=app(world, "1.1.1", more=new) + volumes)
    assert world.up()["ran"]["state"] == "committed"
    assert set(world.specs()) == {"app", "agent", "search"}
    assert world.notes.strip() == "precious"
    assert (agent / "state").read_text() == "the agent's"
