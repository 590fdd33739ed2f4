"""Before it writes, a deployer asks of the listing it writes from; in between nothing slips through."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.contracts.deployer_site import CLIENTS, Site
from tests.lab import Lab
from warmd.adapters.clock import SystemClock
from warmd.adapters.docker import open_swarm
from warmd.core.model import LABEL_RUN, StackSeen
from warmd.errors import Foreign

COMPOSE = """\
version: "3.8"
services:
  app:
    image: "{image}"
    stop_grace_period: {grace}s
    networks: [there]
    deploy: {{ replicas: {replicas} }}
networks:
  there: {{ external: true, name: bridge }}
"""
#: Notices nothing: it is there until its grace is over.
DEAF = ["/bin/sh", "-c", "trap '' TERM; touch /ready; while :; do sleep 0.1; done"]


@pytest.fixture
async def site(lab: Lab, stack_name: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_swarm(lab.docker_host, SystemClock()) as swarm:
        yield Site(lab, swarm, stack_name, tmp_path, CLIENTS[-1])


async def there(site: Site, *, replicas: int = 0, grace: int = 1) -> str:
    """Deploy the stack; its compose text."""
    image = site.lab.image("deaf", "1", {}, DEAF, healthcheck=["test", "-e", "/ready"])
    compose = COMPOSE.format(image=image, replicas=replicas, grace=grace)
    await site.deployer().deploy(await site.bundle(compose), labels={LABEL_RUN: "r1"})
    return compose


async def edit(site: Site, **container: Any) -> None:
    """Somebody changes what runs, as ``docker service update`` does: the labels stay."""
    (app,) = (await site.swarm.stack(site.stack)).services
    task = app.spec["TaskTemplate"]
    spec = {**app.spec, "TaskTemplate": {**task, "ContainerSpec": {**task["ContainerSpec"], **container}}}
    await site.swarm.update("services", app.id, app.index, spec)


def env(seen: StackSeen) -> Any:
    return seen.services[0].spec["TaskTemplate"]["ContainerSpec"].get("Env")


@pytest.mark.parametrize("writes", ["deploy", "stop"])
async def test_what_somebody_writes_after_the_asking_is_a_conflict_and_asked_of_again(
    site: Site, writes: str
) -> None:
    compose = await there(site, replicas=1)
    changed = await site.bundle(compose.replace("replicas: 1", "replicas: 2"))
    asked: list[Any] = []

    async def ask(seen: StackSeen) -> None:
        asked.append(env(seen))
        if len(asked) == 1:
            await edit(site, Env=["THEIRS=1"])
        elif env(seen):
            raise Foreign("somebody's")

    deployer = site.deployer()
    act = deployer.stop(ask=ask) if writes == "stop" else deployer.deploy(changed, labels={}, ask=ask)
    with pytest.raises(Foreign, match="somebody's"):
        await act
    assert asked == [None, ["THEIRS=1"]]
    seen = await deployer.seen()
    assert (env(seen), seen.services[0].replicas) == (["THEIRS=1"], 1), "it is as they left it"


async def test_against_somebody_who_scales_up_again_there_is_nothing_to_win(site: Site) -> None:
    await there(site, replicas=1, grace=20)
    await site.running("app")
    deployer = site.deployer()

    async def scale_up() -> None:
        await site.until(lambda seen: seen["app"].replicas == 0)
        (app,) = (await site.swarm.stack(site.stack)).services
        spec = {**app.spec, "Mode": {"Replicated": {"Replicas": 1}}}
        await site.swarm.update("services", app.id, app.index, spec)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scale_up)
        with pytest.raises(Foreign, match="app was scaled up again"):
            await deployer.stop()
    assert (await deployer.seen()).services[0].replicas == 1
