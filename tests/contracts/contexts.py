"""A plugin's context for those that ask nothing of Docker: its swarm is one that is down."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from warmd.adapters.clock import SystemClock
from warmd.adapters.docker import open_swarm
from warmd.plugins.base import Context


@asynccontextmanager
async def no_docker(folder: Path) -> AsyncIterator[Context]:
    """``folder`` is everything: the service's, the mirrors' and the configuration's."""
    clock = SystemClock()
    docker_host = f"unix://{folder}/docker.sock"
    async with open_swarm(docker_host, clock) as swarm:
        yield Context(
            service="keycloak",
            stack="sso",
            folder=folder,
            mirrors=folder,
            config_dir=folder,
            docker_host=docker_host,
            swarm=swarm,
            clock=clock,
        )
