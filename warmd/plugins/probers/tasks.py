"""Prober that is always on: the stack's tasks run what its services say, and their containers are well."""

from __future__ import annotations

from typing import Literal

import anyio

from warmd.core.health import judge
from warmd.core.model import Health, Probe
from warmd.errors import WarmdError
from warmd.plugins.base import Context, Settings
from warmd.ports import Swarm

#: Seconds for all of Docker's answers together.
TIMEOUT = 30.0


class Config(Settings):
    """Nothing to set."""

    kind: Literal["tasks"] = "tasks"


def build(_config: Config, context: Context) -> TasksProber:
    """The prober of the context's stack."""
    return TasksProber(context.swarm, context.stack)


class TasksProber:
    """The Prober port over a whole stack; jobs are left out.

    Healthy: every service has all its tasks running on the image of its spec, and every container
    on this node runs and does not fail its HEALTHCHECK. The identity holds the ids of the tasks and
    the start times of their containers, so that any restart changes it.
    """

    def __init__(self, swarm: Swarm, stack: str) -> None:
        self._swarm = swarm
        self._stack = stack

    async def probe(self) -> Probe:
        """One look, listed now. Inconclusive where Docker does not answer."""
        try:
            with anyio.move_on_after(TIMEOUT):
                # In this order: a container that is listed later can't be missing for having started later.
                seen = await self._swarm.stack(self._stack)
                node = await self._swarm.node()
                containers = await self._swarm.containers(stack=self._stack)
                return judge(seen, containers, node=node)
        except WarmdError as error:
            return Probe(Health.INCONCLUSIVE, f"the tasks can't be looked at: {error.message}")
        return Probe(Health.INCONCLUSIVE, f"Docker did not answer within {TIMEOUT:g} s")
