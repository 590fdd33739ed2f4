"""What the engine lists, as warmd's own nouns. Pure; tolerant of fields that an engine leaves out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from warmd.core.model import LABEL_STACK, ServiceSeen, StackSeen, TaskSeen
from warmd.ports import Container, Volume

#: Labels that swarm itself puts on a task's container.
LABEL_SERVICE = "com.docker.swarm.service.name"
LABEL_TASK = "com.docker.swarm.task.id"

#: Go's zero time: a container that never ran.
_NEVER = "0001-01-01T00:00:00Z"

Object = Mapping[str, Any]


def stacks(services: Iterable[Object], tasks: Iterable[Object]) -> dict[str, StackSeen]:
    """All stacks by name. Services by name, each with its tasks, newest first."""
    of_service: dict[str, list[Object]] = defaultdict(list)
    for task in tasks:
        of_service[task.get("ServiceID") or ""].append(task)
    found: dict[str, list[ServiceSeen]] = defaultdict(list)
    for service in services:
        stack = labels(service).get(LABEL_STACK)
        # A plugin's service has no container: nothing that warmd looks after is one
        if stack and dig(service, "Spec", "TaskTemplate", "ContainerSpec", "Image"):
            found[stack].append(_service(service, of_service[service["ID"]]))
    return {
        name: StackSeen(name, tuple(sorted(seen, key=lambda s: s.name)))
        for name, seen in sorted(found.items())
    }


def labels(service: Object) -> Mapping[str, str]:
    return dig(service, "Spec", "Labels") or {}


def _service(service: Object, tasks: list[Object]) -> ServiceSeen:
    name = service["Spec"]["Name"]
    newest_first = sorted(tasks, key=_created, reverse=True)
    return ServiceSeen(
        id=service["ID"],
        name=name,
        index=int(service["Version"]["Index"]),
        spec=service["Spec"],
        tasks=tuple(_task(task, name) for task in newest_first),
        previous=service.get("PreviousSpec"),
    )


def _task(task: Object, service: str) -> TaskSeen:
    return TaskSeen(
        id=task["ID"],
        service=service,
        state=dig(task, "Status", "State") or "",
        desired=task.get("DesiredState") or "",
        image=dig(task, "Spec", "ContainerSpec", "Image") or "",
        node=task.get("NodeID") or "",
        container=dig(task, "Status", "ContainerStatus", "ContainerID") or "",
        error=dig(task, "Status", "Err") or "",
    )


def _created(task: Object) -> tuple[str, str, int]:
    """When the task was made, to sort by: Go cuts trailing zeros off fractions of seconds."""
    seconds, _, fraction = (task.get("CreatedAt") or "").rstrip("Z").partition(".")
    return seconds, fraction.ljust(9, "0"), int(dig(task, "Version", "Index") or 0)


def container(inspected: Object) -> Container:
    """One container, from its inspection."""
    state = inspected.get("State") or {}
    marks = dig(inspected, "Config", "Labels") or {}
    started = state.get("StartedAt") or ""
    health = dig(state, "Health", "Status") or ""
    return Container(
        id=inspected["Id"],
        service=marks.get(LABEL_SERVICE) or "",
        task=marks.get(LABEL_TASK) or "",
        running=bool(state.get("Running")),
        started="" if started == _NEVER else started,
        health="" if health == "none" else health,
        image=dig(inspected, "Config", "Image") or "",
        volumes=tuple(
            mount["Name"]
            for mount in inspected.get("Mounts") or ()
            if mount.get("Type") == "volume" and mount.get("Name")
        ),
        name=(inspected.get("Name") or "").lstrip("/"),
    )


def belongs(listed: Object, stack: str) -> bool:
    """Whether a listed container is a task's of this stack: by the stack's label, else by its name."""
    marks = listed.get("Labels") or {}
    service = marks.get(LABEL_SERVICE)
    if service is None:
        return False
    named = marks.get(LABEL_STACK)
    return bool(named == stack if named else service.startswith(f"{stack}_"))


def volume(listed: Object) -> Volume:
    return Volume(
        name=listed["Name"],
        driver=listed.get("Driver") or "",
        mountpoint=listed.get("Mountpoint") or "",
        options=dict(listed.get("Options") or {}),
        labels=dict(listed.get("Labels") or {}),
    )


def dig(value: Any, *path: str) -> Any:
    """``value[a][b]…``, None as soon as something is missing."""
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value
