"""The model: a machine that can be asked as an engine is, and that outside hands can reach into."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

from tests.model import apps, routes, routes_node, routes_parts, routing
from tests.model.apps import App
from tests.model.faults import Answer, Call, Cut, Fault, Faults, Hang
from tests.model.machine import Machine
from tests.model.store import Container, Service, Spec, Task, Thing
from tests.model.timing import Timing

#: Calls that are kept.
_CALLS = 5_000

#: Each has put its functions into ``routing`` when it was imported.
ROUTES = (routes, routes_parts, routes_node)


class Model(Machine):
    """A one-node swarm. ``root`` is where its volumes are, ``seed`` decides all that is random.

    ``call`` asks it something at the time it has come to, ``advance(now)`` moves it to a time of the
    monotonic clock, ``due`` is when something happens next. ``violations`` are lines about what must
    never happen, ``calls`` the log of calls.
    """

    def __init__(self, root: Path, *, seed: int = 0, timing: Timing | None = None) -> None:
        super().__init__(root, seed=seed, timing=timing)
        self.faults = Faults()
        self.calls: deque[Call] = deque(maxlen=_CALLS)
        routes_parts.predefined(self)

    # Asking

    def call(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: Any = None,
        *,
        log: bool = True,
    ) -> Answer:
        """One call, with ``path`` from its slash on, without the version. Raises Cut and Hang."""
        call = Call(self.now, method, path, query or {})
        if log:
            self.calls.append(call)
        if self.down:
            raise Cut(refused=True)
        fault = self.faults.meet(method, path)
        if fault is not None and fault.kind in ("refuse", "hang", "error"):
            return self._fail(call, fault)
        answer = routing.answer(self, method, path, query or {}, body)
        if fault is not None and fault.kind == "reply-lost":
            raise Cut(refused=False)
        if fault is not None and fault.kind == "slow":
            answer.delay = fault.seconds
        call.status = answer.status
        return answer

    def _fail(self, call: Call, fault: Fault) -> Answer:
        if fault.kind == "refuse":
            raise Cut(refused=True)
        if fault.kind == "hang":
            raise Hang
        call.status = fault.status
        return Answer(fault.status, {"message": fault.text})

    @property
    def violations(self) -> list[str]:
        """A line each: two writers on a volume, a version on newer data, a volume replaced under its user."""
        self.watch.look()
        return self.watch.violations

    def next(self, pattern: str, fault: Fault, *, skip: int = 0, times: int = 1) -> None:
        """Order a fault; see ``Faults.next``."""
        self.faults.next(pattern, fault, skip=skip, times=times)

    # Outside hands

    def publish(self, reference: str, app: App) -> str:
        """Push an image; its digest."""
        return self.images.publish(reference, app)

    def service(self, name: str) -> Service:
        found: Service | None = self.store.named(self.store.services, name)
        if found is None:
            raise LookupError(f"no service {name}")
        return found

    def scale(self, name: str, replicas: int) -> None:
        """Somebody types ``docker service scale``."""
        service = self.service(name)
        self.set_spec(service, {**service.spec, "Mode": {"Replicated": {"Replicas": replicas}}})

    def update_by_hand(
        self, name: str, *, image: str | None = None, force: bool = False, **spec: Any
    ) -> None:
        """Somebody types ``docker service update``; ``spec`` replaces top-level keys."""
        service = self.service(name)
        template = dict(service.spec["TaskTemplate"])
        if image is not None:
            template["ContainerSpec"] = {**template["ContainerSpec"], "Image": image}
        if force:
            template["ForceUpdate"] = template.get("ForceUpdate", 0) + 1
        self.set_spec(service, {**service.spec, "TaskTemplate": template, **spec})

    def remove_stack(self, stack: str) -> None:
        """Somebody types ``docker stack rm``: services first, networks once their tasks are gone."""
        label = "com.docker.stack.namespace"
        for service in list(self.store.services.values()):
            if (service.spec.get("Labels") or {}).get(label) == stack:
                self.remove_service(service)
        things: dict[str, Thing]
        for things in (self.store.configs, self.store.secrets, self.store.networks):
            for id_, thing in list(things.items()):
                if (thing.spec.get("Labels") or {}).get(label) == stack:
                    del things[id_]

    def set_node(self, *, available: bool | None = None, labels: dict[str, str] | None = None) -> None:
        """Somebody types ``docker node update``: whether it takes new tasks, and its labels."""
        self.available = self.available if available is None else available
        self.node_labels = self.node_labels if labels is None else labels
        self.orchestrator.tick("schedule")
        for service in self.store.services.values():
            self.orchestrator.changed(service)

    def kill_task(self, service: str, code: int = 137) -> bool:
        """The newest running container of a service dies; whether there was one."""
        for container in reversed(list(self.store.containers.values())):
            if container.service == service and container.running:
                self.agent.exit(container, code)
                return True
        return False

    def restart_engine(self, *, kill: bool = False, seconds: float = 1.0) -> None:
        """dockerd ends (SIGKILL with ``kill``) and answers again ``seconds`` of the swarm later.

        Its containers end with it. Then the swarm has no leader for a moment, and then every task
        that ran is replaced, after its restart delay.
        """
        self.down = True
        self._generation += 1
        self.orchestrator.reset()
        if not kill:
            self._end_containers()
        for listener in tuple(self.listeners):
            listener()
        self.after(seconds, lambda: self._up(kill), exact=True)

    def stop_engine(self) -> None:
        """dockerd is down until ``restart_engine``."""
        self.restart_engine(seconds=float("inf"))

    def _end_containers(self) -> None:
        for container in self.running():
            self.agent.exit(container, 0 if not container.app.deaf else 137)

    def _up(self, kill: bool) -> None:
        # A killed engine leaves its containers running; the next one ends what it finds
        self._end_containers()
        self.down = False
        self.leader_at = self.now + self.timing.leaderless * self.timing.scale
        self.after(self.timing.leaderless, lambda: self._lead(kill), exact=True)

    def _lead(self, kill: bool) -> None:
        for task in list(self.store.tasks.values()):
            if task.over:
                self.orchestrator.moved(task)
                continue
            container = task.container
            if not kill and container is not None and container.state == "exited" and task.live:
                # A polite end lets the engine take containers away before the agent has looked at them
                self.store.containers.pop(container.id, None)
                error = f"No such container: {container.name}"
                self.state(task, "failed", "started", error)
            elif container is not None and container.state == "exited":
                self.agent.report(container)
            else:
                self._resume(task)
        for service in list(self.store.services.values()):
            if service.update is not None:
                service.update.cancel()
                service.update = None
            self.orchestrator.changed(service)
        self.orchestrator.tick("schedule")
        self.orchestrator.tick("reap")
        known = {t.container.id for t in self.store.tasks.values() if t.container is not None}
        for container in [c for c in self.store.containers.values() if c.id not in known]:
            self.agent.forget(container)

    def _resume(self, task: Task) -> None:
        """A task that had not run yet goes on from where it was."""
        task.stopping = False
        if task.state == "new":
            self.state(task, "pending", "pending task scheduling")
        elif task.node and task.live:
            task.state = "assigned"
            if task.container is not None:
                self.store.containers.pop(task.container.id, None)
                task.container = None
            self.agent.take(task)
        elif task.node:
            self.agent.stop(task)
        if task.desired == "ready" and not task.over:
            self.after(self.timing.restart_delay, lambda: self.desire(task, "running"))

    # What observers ask

    def volume_facts(self, name: str) -> dict[str, Any]:
        """schema, history, notes, damaged, sha256 (of all but the counters) and pair of a volume's data."""
        return dict(apps.facts(self.root / "volumes" / name / "_data"))

    def running(self, service: str = "") -> list[Container]:
        """Containers that run now, of a service or all."""
        return [c for c in self.store.containers.values() if c.running and service in ("", c.service)]

    def listening(self) -> dict[int, Container]:
        """The node's ports behind which something answers now."""
        found: dict[int, Container] = {}
        for container in self.running():
            if self.agent.age(container) >= self.timing.listen:
                found |= {int(p["PublishedPort"]): container for p in container.ports}
        return found

    def health(self, port: int) -> tuple[int, Spec] | None:
        """Status and JSON of ``/health`` behind a port, None where nothing answers."""
        container = self.listening().get(port)
        if container is None:
            return None
        app = container.app
        if not app.healthy(self.agent.age(container)):
            return 503, {"status": "down", "version": app.version}
        schema = apps.read(container.data, "schema") if container.data is not None else ""
        return 200, {"status": "ok", "version": app.version, "schema": schema}
