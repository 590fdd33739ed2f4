"""Prober that is always on: the stack's tasks run what its services say, and their containers are well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import anyio

from warmd.core.model import Health, Probe, ServiceSeen, StackSeen, TaskSeen
from warmd.errors import WarmdError
from warmd.plugins.base import Context, Settings
from warmd.ports import Container, Swarm

#: Seconds for all of Docker's answers together.
_TIMEOUT = 30.0


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
            with anyio.move_on_after(_TIMEOUT):
                # In this order: a container that is listed later can't be missing for having started later.
                seen = await self._swarm.stack(self._stack)
                node = await self._swarm.node()
                containers = await self._swarm.containers(stack=self._stack)
                return judge(seen, containers, node=node)
        except WarmdError as error:
            return Probe(Health.INCONCLUSIVE, f"the tasks can't be looked at: {error.message}")
        return Probe(Health.INCONCLUSIVE, f"Docker did not answer within {_TIMEOUT:g} s")


def judge(seen: StackSeen, containers: Sequence[Container], *, node: str) -> Probe:
    """What the listings say; pure. Containers of other nodes are not among ``containers``."""
    services = [s for s in seen.services if not s.job]
    tasks = [t for s in services for t in _live(s)]
    if not tasks and all(s.converged for s in services):
        what = "none of its services wants a task" if services else "it has no service"
        return Probe(Health.UNHEALTHY, f"stack {seen.stack}: {what}")
    of_task = {c.task: c for c in containers}
    troubles = [trouble for s in services for trouble in _troubles(s, of_task, node)]
    started = {t.id: of_task[t.id].started for t in tasks if t.id in of_task}
    identity = " ".join(f"{t.id}@{started.get(t.id, '')}" for t in sorted(tasks, key=lambda t: t.id))
    if troubles:
        return Probe(Health.UNHEALTHY, "; ".join(troubles), identity)
    return Probe(Health.HEALTHY, f"{len(tasks)} tasks run", identity)


def _live(service: ServiceSeen) -> list[TaskSeen]:
    """The tasks that are meant to run and do."""
    return [t for t in service.tasks if t.state == t.desired == "running"]


def _troubles(service: ServiceSeen, of_task: dict[str, Container], node: str) -> list[str]:
    if not service.converged:
        return [_unconverged(service)]
    troubles = []
    for task in _live(service):
        container = of_task.get(task.id)
        if task.node != node:
            continue  # its health can only be asked there; the swarm says that it runs
        if container is None or not container.running:
            troubles.append(f"{service.name}: the container of task {task.id} is gone")
        elif container.health not in ("", "healthy"):
            troubles.append(f"{service.name}: its health check says {container.health}")
    return troubles


def _unconverged(service: ServiceSeen) -> str:
    live = _live(service)
    old = len([t for t in live if t.image != service.image])
    wanted = "" if service.replicas is None else f" of {service.replicas}"
    text = f"{service.name}: {service.running}{wanted} running"
    if old:
        text += f", {old} on another image"
    # Only of tasks of this spec's image: what failed before it says nothing about it.
    errors = [t.error for t in service.tasks if t.error and t.image == service.image]
    if errors:
        return f'{text}: "{errors[0]}"'
    states = sorted({t.state for t in service.tasks if t.desired == "running" and t.state != "running"})
    return f"{text} ({', '.join(states)})" if states else text
