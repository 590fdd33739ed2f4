"""Stacks without data: nothing is stopped first, and only the version goes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.swarm.world import World

#: Two replicas, which the swarm asks for their health itself. ``failure_action`` is not what warmd wants.
PROXY = """\
version: "3.8"
services:
  app:
    image: "{image}"
    networks: [internal]
    stop_grace_period: 2s
    deploy:
      endpoint_mode: dnsrr
      replicas: 2
      restart_policy: {{ condition: any, delay: 1s }}
      update_config: {{ order: stop-first, parallelism: 1, failure_action: rollback, monitor: 500ms }}
networks:
  internal: {{}}
"""


@pytest.fixture
def world(lab: Lab, tmp_path: Path, stack_name: str) -> World:
    world = World(lab, tmp_path, stack_name, snapshot='{ kind = "none" }', health="")
    world.gate = 'health_gate = { deadline = "12s", interval = "200ms", successes = 2, stable = "1s" }'
    world.write_config()
    return world


def proxy(world: World, version: str, **app: object) -> str:
    return PROXY.format(image=world.lab.warm_app(version, repo="proxy", healthcheck=True, **app))  # type: ignore[arg-type]  # what warm_app takes


@contextmanager
def watched(world: World) -> Iterator[list[int]]:
    """How many containers of the stack were healthy, again and again, while the block runs."""
    seen: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            containers = world.lab.containers(world.stack)
            seen.append(sum("(healthy)" in c["Status"] for c in containers))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def images(world: World) -> set[str]:
    """The tags that the running tasks run."""
    tasks = [t for t in world.lab.tasks(world.stack) if t["Status"]["State"] == "running"]
    return {t["Spec"]["ContainerSpec"]["Image"].partition("@")[0].rpartition(":")[2] for t in tasks}


def test_replicas_are_replaced_one_at_a_time_and_only_a_bad_version_goes_back(world: World) -> None:
    world.publish("1.0.0+1.0.0", compose=proxy(world, "1.0.0"))
    assert world.up()["ran"]["state"] == "committed"
    update = world.specs()["app"]["UpdateConfig"]
    assert (update["FailureAction"], update["Order"], update["Parallelism"]) == ("pause", "stop-first", 1)

    world.publish("1.1.0+1.1.0", compose=proxy(world, "1.1.0"))
    plan = world.plan()
    assert "deploy 1.1.0+1.1.0 as a rolling update" in plan["steps"]
    assert not any("copy" in step or "stop" in step for step in plan["steps"])
    with watched(world) as healthy:
        upgraded = world.up()
    assert (upgraded["ran"]["state"], upgraded["current"]) == ("committed", "1.1.0+1.1.0")
    assert (min(healthy), max(healthy)) == (1, 2), "one at a time"
    assert images(world) == {"1.1.0"}
    states = [state for state, _ in upgraded["ran"]["states"]]
    assert states == ["planned", "pulling", "checking", "deploying", "gating", "committed"]
    assert world.warmd("snapshots", "app", "--json").json == []

    world.publish("1.2.0+1.2.0", compose=proxy(world, "1.2.0", bad="crash"))
    # Whether one replica stays up meanwhile is the swarm's updater's affair: docs/upgrade.md says when not.
    bad = world.up(check=4)
    assert (bad["ran"]["state"], bad["current"]) == ("rolled-back", "1.1.0+1.1.0")
    assert images(world) == {"1.1.0"}
    assert world.open_alerts() == {("rolled-back", "1.2.0+1.2.0")}
    assert world.up()["decision"] == "held-failed-before"


def test_named_volumes_without_snapshots_need_saying_so(world: World) -> None:
    world.publish("1.0.0+1.0.0")  # with the volume "data"
    refused = world.up(check=7)
    assert refused["ran"]["state"] == "failed-unchanged"
    assert world.specs() == {}, "not even deployed for the first time"
    detail = world.alert("failed-unchanged")["detail"]
    assert f"{world.stack}_data" in detail
    assert "snapshot.allow_volumes = true" in detail

    # Found running, it is taken over, because that changes nothing; but not upgraded.
    world.by_hand(world.labelled("1.0.0+1.0.0"))
    before = world.tasks()
    world.publish("1.1.0+1.1.0", compose=world.labelled("1.1.0+1.1.0"))
    refused = world.up(check=7)
    assert (refused["ran"]["state"], refused["current"]) == ("failed-unchanged", "1.0.0+1.0.0")
    assert world.tasks() == before

    world.snapshot = '{ kind = "none", allow_volumes = true }'
    world.write_config()
    allowed = world.warmd("reconcile", "app", "--json").json[0]
    assert (allowed["ran"]["state"], allowed["current"]) == ("committed", "1.1.0+1.1.0")
    assert world.schema == "1.1.0"
    assert world.open_alerts() == set()
