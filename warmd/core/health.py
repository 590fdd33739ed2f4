"""Whether a stack's tasks are well, from what the swarm lists of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from warmd.core.model import Container, Health, Probe, ServiceSeen, StackSeen, TaskSeen


def glance(seen: StackSeen) -> Probe:
    """From the shared listing alone: for looks, which must not cost a call a service.

    The swarm replaces a task whose HEALTHCHECK fails, so this is only later than ``judge``, not blind.
    """
    return judge(seen, None, node="")


def judge(seen: StackSeen, containers: Sequence[Container] | None, *, node: str) -> Probe:
    """What the listings say. ``containers`` are those of ``node``; None: they were not asked for."""
    services = [s for s in seen.services if not s.job]
    tasks = [t for s in services for t in _live(s)]
    if not tasks and all(s.converged for s in services):
        what = "none of its services wants a task" if services else "it has no service"
        return Probe(Health.UNHEALTHY, f"stack {seen.stack}: {what}")
    of_task = {c.task: c for c in containers or ()}
    here = None if containers is None else node
    troubles = [trouble for s in services for trouble in _troubles(s, of_task, here)]
    started = {t.id: of_task[t.id].started for t in tasks if t.id in of_task}
    identity = " ".join(f"{t.id}@{started.get(t.id, '')}" for t in sorted(tasks, key=lambda t: t.id))
    if troubles:
        return Probe(Health.UNHEALTHY, "; ".join(troubles), identity)
    return Probe(Health.HEALTHY, f"{len(tasks)} tasks run", identity)


def _live(service: ServiceSeen) -> list[TaskSeen]:
    """The tasks that are meant to run and do."""
    return [t for t in service.tasks if t.state == t.desired == "running"]


def _troubles(service: ServiceSeen, of_task: dict[str, Container], node: str | None) -> list[str]:
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
