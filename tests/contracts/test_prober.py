"""What every Prober does, on one real stack: it tells the truth, and never raises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from tests.contracts.contexts import no_docker
from tests.contracts.probing import until
from tests.lab import Lab, warm_compose
from warmd.adapters.clock import SystemClock
from warmd.adapters.docker import open_swarm
from warmd.core.model import Health
from warmd.plugins.base import Context
from warmd.plugins.probers import http, tasks
from warmd.ports import Prober

KINDS = ["http", "tasks"]
pytestmark = pytest.mark.parametrize("kind", KINDS)


def build(kind: str, context: Context, host: str, port: int) -> Prober:
    """A prober of an application that listens there, in the stack of the context."""
    if kind == "tasks":
        return tasks.build(tasks.Config(), context)
    config = {"url": f"http://{host}:{port}/health", "json": {"status": "ok"}, "timeout": "5s"}
    return http.build(http.Config.model_validate(config), context)


@pytest.fixture
async def context(lab: Lab, stack_name: str, tmp_path: Path) -> AsyncIterator[Context]:
    clock = SystemClock()
    async with no_docker(tmp_path) as nothing, open_swarm(lab.docker_host, clock) as swarm:
        yield replace(nothing, stack=stack_name, docker_host=lab.docker_host, swarm=swarm)


async def test_a_service_that_works_is_healthy_until_it_is_gone(
    kind: str, context: Context, lab: Lab
) -> None:
    port = lab.free_port()
    prober = build(kind, context, lab.host, port)
    assert (await prober.probe()).health is Health.UNHEALTHY  # not there yet
    image = lab.warm_app("1.0.0")
    lab.deploy(context.stack, warm_compose(image, port, stack=context.stack))
    said = await until(prober, Health.HEALTHY)
    for _ in range(5):
        assert await prober.probe() == said  # nothing happened, so nothing changes
    lab.remove_stack(context.stack)
    gone = await prober.probe()
    assert gone.health is Health.UNHEALTHY
    assert gone.detail


async def test_what_can_not_be_asked_is_inconclusive(kind: str, tmp_path: Path) -> None:
    async with no_docker(tmp_path) as context:
        said = await build(kind, context, "no-such-host.invalid", 80).probe()
    assert said.health is Health.INCONCLUSIVE
    assert said.detail


async def test_many_probes_at_once_do_not_disturb_each_other(kind: str, context: Context, lab: Lab) -> None:
    port = lab.free_port()
    prober = build(kind, context, lab.host, port)
    lab.deploy(context.stack, warm_compose(lab.warm_app("1.0.0"), port, stack=context.stack))
    said = await until(prober, Health.HEALTHY)
    seen = []

    async def probe() -> None:
        seen.append(await prober.probe())

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(probe)
    assert seen == [said] * 5
