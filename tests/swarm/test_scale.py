"""A look costs the same few calls, whether one service is looked after or many."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.sockets import Recorder, recording
from tests.lab import Lab
from tests.swarm.world import World
from tests.upstream import Served, Upstream, serve

VERSION = "1.0.0+1.0.0"
MANY = 20


@pytest.fixture
def many(lab: Lab, stack_name: str) -> Iterator[list[str]]:
    """Stacks that somebody else made, each of one service that sleeps."""
    names = [f"{stack_name}n{number}" for number in range(MANY)]
    image = lab.image("sleeper", "1", {}, ["sleep", "100000"])
    made = [lab.api.post("/services/create", json=sleeper(name, image)) for name in names]
    ids = [answer.raise_for_status().json()["ID"] for answer in made]

    def all_run() -> bool:
        tasks = lab.api.get("/tasks").raise_for_status().json()
        return len({t["ServiceID"] for t in tasks if t["Status"]["State"] == "running"} & set(ids)) == MANY

    lab.wait(all_run, f"{MANY} stacks")
    yield names
    for id_ in ids:
        lab.api.delete(f"/services/{id_}")

    def gone() -> bool:
        left = [c for c in lab.api.get("/containers/json?all=true").json() if c["Labels"].get(STACK) in names]
        for container in left:  # by force: the swarm would give each its grace
            lab.api.delete(f"/containers/{container['Id']}", params={"force": "true"})
        return not left

    lab.wait(gone, "the end of all of them")


STACK = "com.docker.stack.namespace"


def sleeper(stack: str, image: str) -> dict[str, Any]:
    labels = {STACK: stack, f"coop-cloud.{stack}.version": VERSION}
    container = {"Image": image, "Labels": {STACK: stack}, "StopGracePeriod": 1_000_000}
    return {
        "Name": f"{stack}_app",
        "Labels": labels,
        "TaskTemplate": {"ContainerSpec": container},
        "Mode": {"Replicated": {"Replicas": 1}},
        "EndpointSpec": {"Mode": "dnsrr"},
    }


def config(world: World, stacks: list[str], url: str, docker: str) -> None:
    """A warmd for these stacks, all of one recipe."""
    world.interval, world.docker_host = "1h", docker
    world.write_config()
    head, _, _ = world.config.read_text().partition("[services.")
    tables = [
        f"""
[services.n{number}]
stack = "{stack}"
source = {{ kind = "git", url = "{url}" }}
deploy = {{ kind = "stack", files = ["compose.yml"] }}
snapshot = {{ kind = "none" }}
{world.gate}
"""
        for number, stack in enumerate(stacks)
    ]
    world.config.write_text(head + "".join(tables))


def one_cycle(world: World, count: int, recorder: Recorder, served: Served) -> tuple[Counter[str], int]:
    """What one look at everything asks of Docker, and how often it fetches."""
    with world.running("--log-level", "debug") as daemon:
        healthy = {"decision": "noop-healthy"}
        world.wait(lambda: len(services(world, **healthy)) == count, "all were taken over")
        world.wait(lambda: len(world.told("look.decided")) >= 2 * count, "and looked at again")
        recorder.clear()
        served.requests.clear()
        before = len(world.told("look.decided"))
        daemon.send_signal(signal.SIGHUP)
        world.wait(lambda: len(world.told("look.decided")) == before + count, "a look at each")
        asked = Counter(request.split("?")[0] for request in recorder.requests)
        return asked, served.fetches


def services(world: World, **fields: Any) -> set[str]:
    return {line["service"] for line in world.told("look.decided", **fields)}


def test_one_listing_and_one_fetch_serve_all(lab: Lab, tmp_path: Path, many: list[str]) -> None:
    recipes = tmp_path / "recipes"
    upstream = Upstream(recipes / "sleeper.git")
    upstream.release(VERSION)
    seen = {}
    with serve(recipes) as served, recording(lab.docker_host) as recorder:
        for count in (1, MANY):
            world = World(lab, tmp_path / str(count), many[0])
            config(world, many[:count], served.url(upstream), recorder.host)
            seen[count] = one_cycle(world, count, recorder, served)
    listing = {"GET /v1.41/services": 1, "GET /v1.41/tasks": 1}
    assert seen[1] == seen[MANY] == (listing, 1), seen
