"""What the swarm keeps: services, tasks, containers and the rest, as plain records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.model.apps import App

Spec = dict[str, Any]

#: A task's states in their order: it only ever moves on.
STATES = [
    "new",
    "pending",
    "assigned",
    "accepted",
    "preparing",
    "ready",
    "starting",
    "running",
    "complete",
    "shutdown",
    "failed",
    "rejected",
    "remove",
    "orphaned",
]
RANK = {state: n for n, state in enumerate(STATES)}
RUNNING = RANK["running"]


@dataclass(slots=True)
class Object:
    """What has an id and an index. Specs are replaced, never changed: answers may share them."""

    id: str
    version: int = 0
    created: str = ""
    updated: str = ""


@dataclass(slots=True)
class Thing(Object):
    """A config, a secret or a network of the swarm: ``spec`` as it was created."""

    spec: Spec = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.spec["Name"])


@dataclass(slots=True)
class Service(Object):
    spec: Spec = field(default_factory=dict)
    previous: Spec | None = None
    update_status: Spec | None = None
    #: The index at which the spec was last set: tasks made from then on have the new one.
    spec_version: int = 0
    update: Any = None

    @property
    def name(self) -> str:
        return str(self.spec["Name"])

    @property
    def replicas(self) -> int | None:
        replicated = self.spec.get("Mode", {}).get("Replicated")
        return None if replicated is None else int(replicated.get("Replicas", 1))

    @property
    def job(self) -> bool:
        return any(k in self.spec.get("Mode", {}) for k in ("ReplicatedJob", "GlobalJob"))


@dataclass(slots=True)
class Container:
    id: str
    name: str
    task: str
    service: str
    image: str
    image_id: str
    app: App
    labels: dict[str, str]
    #: (volume, its folder, where in the container, writable)
    mounts: list[tuple[str, Path, str, bool]]
    ports: list[Spec]
    health_spec: Spec | None
    created: str
    state: str = "created"
    started: str = ""
    finished: str = ""
    started_at: float = 0.0
    exit_code: int = 0
    health: str = ""
    streak: int = 0
    stopping: bool = False
    base: int = 0
    written: tuple[int, int] | None = None
    inodes: list[int] = field(default_factory=list)
    anonymous: tuple[str, ...] = ()
    #: What events say of it.
    marks: dict[str, str] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def data(self) -> Path | None:
        """The folder where the application keeps its data, where it is a volume that it may write to."""
        return next((f for _, f, target, rw in self.mounts if target == self.app.data and rw), None)


@dataclass(slots=True)
class Task(Object):
    service: Service = field(default_factory=lambda: Service(""))
    slot: int = 0
    #: As its service had them when it was made.
    labels: dict[str, str] = field(default_factory=dict)
    spec: Spec = field(default_factory=dict)
    endpoint: Spec = field(default_factory=dict)
    spec_version: int = 0
    state: str = "new"
    desired: str = "running"
    message: str = "created"
    err: str = ""
    status_at: str = ""
    node: str = ""
    container: Container | None = None
    pid: int = 0
    exit_code: int = 0
    touched_container: bool = False
    stopping: bool = False

    @property
    def live(self) -> bool:
        """Meant to run, now or soon."""
        return self.desired in ("ready", "running")

    @property
    def over(self) -> bool:
        return RANK[self.state] > RUNNING

    @property
    def host_ports(self) -> set[tuple[str, int]]:
        return {
            (p.get("Protocol", "tcp"), int(p["PublishedPort"]))
            for p in self.endpoint.get("Ports") or ()
            if p.get("PublishMode") == "host" and p.get("PublishedPort")
        }


@dataclass(slots=True)
class Volume:
    name: str
    folder: Path
    labels: dict[str, str] | None
    created: str
    driver: str = "local"
    options: dict[str, str] | None = None


class Store:
    """All objects, and the index that every write moves."""

    def __init__(self, stamp: Callable[[], str]) -> None:
        self._stamp = stamp
        self.index = 10
        self.services: dict[str, Service] = {}
        self.tasks: dict[str, Task] = {}
        self.networks: dict[str, Thing] = {}
        self.configs: dict[str, Thing] = {}
        self.secrets: dict[str, Thing] = {}
        self.containers: dict[str, Container] = {}
        self.volumes: dict[str, Volume] = {}

    def touch(self, thing: Object) -> None:
        """Note a write to an object."""
        self.index += 1
        thing.version = self.index
        thing.updated = self._stamp()
        if not thing.created:
            thing.created = thing.updated

    def of(self, service: Service) -> Iterator[Task]:
        return (t for t in self.tasks.values() if t.service is service)

    def slots(self, service: Service) -> dict[int, list[Task]]:
        """A service's tasks by slot, oldest first."""
        found: dict[int, list[Task]] = {}
        for task in self.of(service):
            found.setdefault(task.slot, []).append(task)
        return found

    def named(self, kind: dict[str, Any], reference: str) -> Any:
        """An object of a kind by id, name or unambiguous beginning of its id."""
        if (found := kind.get(reference)) is not None:
            return found
        by_name = [o for o in kind.values() if o.name == reference]
        return by_name[0] if by_name else _by_prefix(kind, reference)


def _by_prefix(kind: dict[str, Any], reference: str) -> Any:
    found = [o for id_, o in kind.items() if reference and id_.startswith(reference)]
    return found[0] if len(found) == 1 else None
