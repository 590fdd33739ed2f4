"""The state of one node's swarm, and time, which only moves when it is told to."""

from __future__ import annotations

import heapq
import random
import shutil
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tests.model.agent import Agent
from tests.model.images import Images
from tests.model.orchestrator import Orchestrator, task_spec
from tests.model.store import RANK, Container, Service, Spec, Store, Task, Volume
from tests.model.timing import Timing
from tests.model.watch import Watch

_START = datetime(2026, 3, 1, 12, tzinfo=UTC)
_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"

#: Events that are kept.
_EVENTS = 512


class Machine:
    """Everything but asking: objects, their transitions, and what is planned for when."""

    def __init__(self, root: Path, *, seed: int = 0, timing: Timing | None = None) -> None:
        self.root = root
        self.timing = timing or Timing()
        self.random = random.Random(seed)
        self.now = 0.0
        self._epoch = _START.timestamp()
        self._heap: list[tuple[float, int, int, Callable[[], None]]] = []
        self._order = 0
        self._second = (0, "")
        self.store = Store(self.stamp)
        self.images = Images()
        self.watch = Watch(lambda: self.now, self.timing.scale)
        self.agent = Agent(self)
        self.orchestrator = Orchestrator(self)
        self.events: deque[tuple[int, float, Spec]] = deque(maxlen=_EVENTS)
        self._event_number = 0
        self.listeners: set[Callable[[], None]] = set()
        self.node_id = self.new_id()
        self.cluster_id = self.new_id()
        self.node_labels: dict[str, str] = {}
        #: False: the node is drained for new tasks, what runs goes on.
        self.available = True
        #: Whether the engine refuses connections, and when its swarm has a leader (again).
        self.down = False
        self.leader_at = 0.0
        self._generation = 0

    # Time and chance

    def advance(self, now: float, wall: float | None = None) -> None:
        """Let everything happen that is due by ``now``; ``wall`` is the wall-clock time then (Unix)."""
        if wall is not None:
            self._epoch = wall - now
        while self._heap and self._heap[0][0] <= now:
            at, _, generation, act = heapq.heappop(self._heap)
            self.now = max(self.now, at)
            if generation == self._generation:  # what a former life of the engine planned is forgotten
                act()
        self.now = max(self.now, now)
        self.watch.write()

    def due(self) -> float | None:
        """When the next thing happens, None where nothing is planned."""
        return self._heap[0][0] if self._heap else None

    def after(self, seconds: float, act: Callable[[], None], *, exact: bool = False) -> None:
        """Plan ``act`` for so many seconds of the swarm later, with jitter unless it is ``exact``."""
        if not exact:
            seconds *= 1 + self.timing.jitter * (2 * self.random.random() - 1)
        self._order += 1
        at = self.now + seconds * self.timing.scale
        heapq.heappush(self._heap, (at, self._order, self._generation, act))

    def wall(self) -> float:
        return self._epoch + self.now

    def stamp(self) -> str:
        """The time as the engine writes it."""
        wall = self.wall()
        second = int(wall)
        if second != self._second[0]:
            self._second = (second, f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}")
        # Nanoseconds tell apart what happens in one microsecond of the model
        micro = int((wall - second) * 1e6)
        return f"{self._second[1]}.{micro:06d}{self.store.index % 1000:03d}Z"

    def new_id(self) -> str:
        return "".join(self.random.choices(_LETTERS, k=25))

    def new_hex(self, length: int) -> str:
        return f"{self.random.getrandbits(4 * length):0{length}x}"

    # Events

    def event(self, kind: str, action: str, id_: str, scope: str, attributes: dict[str, str]) -> None:
        self._event_number += 1
        nano = int(self.wall() * 1e9)
        said = {
            "Type": kind,
            "Action": action,
            "Actor": {"ID": id_, "Attributes": attributes},
            "scope": scope,
            "time": nano // 1_000_000_000,
            "timeNano": nano,
        }
        self.events.append((self._event_number, self.wall(), said))
        for listener in tuple(self.listeners):
            listener()

    def container_event(self, container: Container, action: str) -> None:
        self.event("container", action, container.id, "local", container.marks)

    def service_event(self, service: Service, action: str, **more: str) -> None:
        self.event("service", action, service.id, "swarm", {"name": service.name, **more})

    # What the halves do to the store

    def state(self, task: Task, state: str, message: str, err: str = "") -> None:
        task.state, task.message, task.err = state, message, err
        self.store.touch(task)
        task.status_at = task.updated
        self.orchestrator.moved(task)

    def desire(self, task: Task, desired: str) -> None:
        """Want another state; a wish only ever moves on, from ready to remove."""
        if RANK[desired] <= RANK[task.desired]:
            return
        task.desired = desired
        self.store.touch(task)
        if desired == "running":
            self.agent.go(task)
        elif not task.over and task.node:
            self.agent.stop(task)
        self.orchestrator.moved(task)

    def make_task(self, service: Service, slot: int, desired: str) -> Task:
        task = Task(
            id=self.new_id(),
            service=service,
            slot=slot,
            labels=service.spec.get("Labels") or {},
            spec=task_spec(service),
            endpoint=service.spec.get("EndpointSpec") or {},
            spec_version=service.spec_version,
            desired=desired,
        )
        self.store.tasks[task.id] = task
        self.store.touch(task)
        task.status_at = task.updated

        def allocate() -> None:
            if task.state == "new" and task.id in self.store.tasks:
                self.state(task, "pending", "pending task scheduling")
                self.orchestrator.tick("schedule")

        self.after(self.timing.allocate, allocate)
        return task

    def drop_task(self, task: Task) -> None:
        self.store.tasks.pop(task.id, None)
        if task.container is not None:
            self.agent.forget(task.container)
        for container in list(self.store.containers.values()):
            if container.task == task.id and container is not task.container:
                self.agent.forget(container)

    def update_status(self, service: Service, state: str, message: str) -> None:
        before = service.update_status or {}
        now = self.stamp()
        status = {"State": state, "StartedAt": before.get("StartedAt", now), "Message": message}
        if state.endswith("completed"):
            status["CompletedAt"] = now
        service.update_status = status
        self.store.touch(service)
        self.orchestrator.changed(service)
        old = {"updatestate.old": before["State"]} if before else {}
        self.service_event(service, "update", **{"updatestate.new": state, **old})

    def set_spec(self, service: Service, spec: Spec, status: Spec | None = None) -> None:
        """A new spec: swarm keeps one that was before, and forgets how the last update went."""
        service.previous, service.spec, service.update_status = service.spec, spec, status
        self.store.touch(service)
        service.spec_version = service.version
        self.service_event(service, "update")
        if service.replicas == 0 or (service.replicas or 0) < sum(t.live for t in self.store.of(service)):
            self.orchestrator.reconcile(service)  # scaling down is seen at once
        else:
            self.orchestrator.changed(service)

    def roll_back(self, service: Service, message: str, *, by_itself: bool = False) -> None:
        """Back to the spec before: where somebody asks for it, what was last becomes the one before."""
        assert service.previous is not None
        status = {"State": "rollback_started", "StartedAt": self.stamp(), "Message": message}
        self.set_spec(service, service.previous, status)
        if by_itself:
            service.previous = None

    def remove_service(self, service: Service) -> None:
        del self.store.services[service.id]
        self.store.index += 1
        self.service_event(service, "remove")
        self.orchestrator.removed(service)

    def make_volume(self, name: str, labels: dict[str, str] | None, options: dict[str, str] | None) -> Volume:
        """The volume of a name, made where it is not there."""
        volume = self.store.volumes.get(name)
        if volume is None:
            folder = self.root / "volumes" / name / "_data"
            folder.mkdir(parents=True, exist_ok=True)
            volume = Volume(name, folder, dict(labels) if labels else None, self.stamp(), options=options)
            self.store.volumes[name] = volume
            self.event("volume", "create", name, "local", {"driver": "local"})
        return volume

    def drop_volume(self, name: str) -> None:
        volume = self.store.volumes.pop(name, None)
        if volume is not None:
            shutil.rmtree(volume.folder.parent, ignore_errors=True)
            self.event("volume", "destroy", name, "local", {"driver": "local"})

    def node_offers(self) -> dict[str, str]:
        """What constraints may ask for."""
        labels = {f"node.labels.{k}".lower(): v for k, v in self.node_labels.items()}
        return {"node.role": "manager", "node.hostname": "model", "node.id": self.node_id, **labels}
