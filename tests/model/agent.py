"""The node's half: it pulls, makes containers, starts and stops them, and asks HEALTHCHECKs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.model import apps
from tests.model.store import Container, Task

if TYPE_CHECKING:
    from tests.model.machine import Machine

_NANO = 1e9


class Agent:
    """Carries tasks from ``assigned`` to their end."""

    def __init__(self, model: Machine) -> None:
        self._m = model

    # Up

    def take(self, task: Task) -> None:
        """A task was assigned to this node."""
        self._m.after(self._m.timing.dispatch, lambda: self._prepare(task))

    def _prepare(self, task: Task) -> None:
        if not self._wanted(task, "assigned"):
            return
        self._m.state(task, "preparing", "preparing")
        here = self._m.images.local(task.spec["ContainerSpec"]["Image"]) is not None
        self._m.after(
            self._m.timing.prepare + (0 if here else self._m.timing.pull), lambda: self._create(task)
        )

    def _create(self, task: Task) -> None:
        if not self._wanted(task, "preparing"):
            return
        inner = task.spec["ContainerSpec"]
        image = self._m.images.local(inner["Image"])
        if (image is None or "@" not in inner["Image"]) and self._m.images.pull(inner["Image"]) is not None:
            # A tag is asked for anew each time; where that fails, what is here will do
            image = self._m.images.local(inner["Image"])
        if image is None:
            task.touched_container = True
            self._m.state(task, "rejected", "preparing", f"No such image: {inner['Image']}")
            return
        mounts, anonymous = self._mounts(inner, image.app)
        labels = {
            **(inner.get("Labels") or {}),
            "com.docker.swarm.node.id": self._m.node_id,
            "com.docker.swarm.service.id": task.service.id,
            "com.docker.swarm.service.name": task.service.name,
            "com.docker.swarm.task": "",
            "com.docker.swarm.task.id": task.id,
            "com.docker.swarm.task.name": self._name(task),
        }
        container = Container(
            id=self._m.new_hex(64),
            name=self._name(task),
            task=task.id,
            service=task.service.name,
            image=inner["Image"],
            image_id=image.id,
            app=image.app,
            labels=labels,
            mounts=mounts,
            ports=[p for p in task.endpoint.get("Ports") or () if p.get("PublishedPort")],
            health_spec=_health(inner.get("Healthcheck"), image.app),
            created=self._m.stamp(),
            anonymous=anonymous,
        )
        container.marks = {**labels, "image": container.image, "name": container.name}
        self._m.store.containers[container.id] = container
        task.container = container
        self._m.container_event(container, "create")
        if task.desired == "running":
            self._starting(task)
        else:
            self._m.state(task, "ready", "prepared")

    def _mounts(self, inner: dict[str, Any], app: apps.App) -> tuple[list[Any], tuple[str, ...]]:
        mounts: list[tuple[str, Path, str, bool]] = []
        anonymous = []
        for mount in inner.get("Mounts") or ():
            if mount.get("Type", "volume") != "volume":
                continue
            options = mount.get("VolumeOptions") or {}
            driver = options.get("DriverConfig") or {}
            name = mount.get("Source") or self._m.new_hex(64)
            if not mount.get("Source"):
                anonymous.append(name)
            volume = self._m.make_volume(name, options.get("Labels"), driver.get("Options"))
            mounts.append((name, volume.folder, mount["Target"], not mount.get("ReadOnly")))
        targets = {m.get("Target") for m in inner.get("Mounts") or ()}
        for declared in app.volumes:
            if declared not in targets:
                name = self._m.new_hex(64)
                anonymous.append(name)
                mounts.append((name, self._m.make_volume(name, None, None).folder, declared, True))
        return mounts, tuple(anonymous)

    def _name(self, task: Task) -> str:
        return f"{task.service.name}.{task.slot or self._m.node_id}.{task.id}"

    def go(self, task: Task) -> None:
        """A prepared task may start now."""
        if task.state == "ready":
            self._m.after(0.12, lambda: self._starting(task))

    def _starting(self, task: Task) -> None:
        if self._wanted(task, "ready", "preparing"):
            task.touched_container = True
            self._m.state(task, "starting", "starting")
            self._m.after(self._m.timing.start, lambda: self._start(task))

    def _start(self, task: Task) -> None:
        container = task.container
        if container is None or container.state != "created" or not self._wanted(task, "starting"):
            return
        missing = next((f for _, f, _, _ in container.mounts if not f.is_dir()), None)
        if missing is not None:
            why = f"starting container failed: error while mounting {missing}: no such file or directory"
            self._m.state(task, "failed", "starting", why)
            return
        container.state = "running"
        container.started = self._m.stamp()
        container.started_at = self._m.now
        task.pid = 1000 + self._m.random.randrange(30000)
        self._m.watch.started(container)
        self._m.container_event(container, "start")
        if container.health_spec is None:
            self._m.state(task, "running", "started")
        else:
            container.health = "starting"
            self._m.after(container.health_spec["interval"], lambda: self._check(task, container))
        if (ends := container.app.ends) is not None:
            after, code = ends
            self._m.after(after, lambda: self.exit(container, code), exact=True)

    def _check(self, task: Task, container: Container) -> None:
        if not container.running or container.stopping:
            return
        spec = container.health_spec
        assert spec is not None
        age = self.age(container)
        before = container.health
        if container.app.check(spec["test"], age):
            container.streak, container.health = 0, "healthy"
        else:
            container.streak += age >= spec["start"]
            if container.streak >= spec["retries"]:
                container.health = "unhealthy"
        if container.health != before:
            self._m.container_event(container, f"health_status: {container.health}")
        if container.health == "healthy" and task.state == "starting":
            self._m.state(task, "running", "started")
        if container.health == "unhealthy":
            # Swarm ends what is not well, politely
            self._terminate(container)
        else:
            self._m.after(spec["interval"], lambda: self._check(task, container), exact=True)

    def age(self, container: Container) -> float:
        """Seconds of the swarm since the container's start."""
        return (self._m.now - container.started_at) / self._m.timing.scale

    # Down

    def stop(self, task: Task) -> None:
        """The task is not wanted any more; it serves until SIGTERM."""
        if task.over or task.stopping:
            return
        task.stopping = True
        self._m.after(self._m.timing.stop, lambda: self._stop(task))

    def _stop(self, task: Task) -> None:
        container = task.container
        if task.over:
            return
        if container is not None and container.running:
            self._terminate(container)
        elif container is None or container.state != "exited":
            self._m.state(task, "shutdown", "shutdown")

    def _terminate(self, container: Container) -> None:
        if container.stopping or not container.running:
            return
        container.stopping = True
        task = self._m.store.tasks.get(container.task)
        grace = 10.0
        if task is not None:
            grace = task.spec["ContainerSpec"].get("StopGracePeriod", 10 * _NANO) / _NANO
        self._m.container_event(container, "kill")
        polite = not container.app.deaf and container.app.stopping <= grace
        self._m.after(
            container.app.stopping if polite else grace,
            lambda: self.exit(container, 0 if polite else 137),
            exact=True,
        )

    def exit(self, container: Container, code: int) -> None:
        """The container's process ends."""
        if not container.running:
            return
        self._m.watch.ended(container)
        container.state = "exited"
        container.exit_code = code
        container.finished = self._m.stamp()
        if container.health_spec is not None and container.health == "starting":
            container.health = "unhealthy"
        self._m.container_event(container, "die")
        if not self._m.down:
            self._m.after(self._m.timing.noticed, lambda: self.report(container))

    def report(self, container: Container) -> None:
        """The agent tells the manager how a container ended."""
        task = self._m.store.tasks.get(container.task)
        if task is None or task.over or container.state != "exited":
            return
        task.exit_code = container.exit_code
        if not task.live:
            self._m.state(task, "shutdown", "shutdown")
        elif container.exit_code == 0:
            self._m.state(task, "complete", "finished")
        else:
            why = ": dockerexec: unhealthy container" if container.health == "unhealthy" else ""
            error = f"task: non-zero exit ({container.exit_code}){why}"
            self._m.state(task, "failed", "started", error)

    def forget(self, container: Container) -> None:
        """The task is gone from the list, its container goes a little later."""
        self._m.after(self._m.timing.remove, lambda: self.remove(container))

    def remove(self, container: Container) -> None:
        if self._m.store.containers.pop(container.id, None) is None:
            return
        if container.running:
            self._m.watch.ended(container)
            container.state = "exited"
        for name in container.anonymous:
            self._m.drop_volume(name)
        self._m.container_event(container, "destroy")

    def _wanted(self, task: Task, *states: str) -> bool:
        return task.id in self._m.store.tasks and task.live and task.state in states and not task.stopping


def _health(spec: dict[str, Any] | None, app: apps.App) -> dict[str, Any] | None:
    """The HEALTHCHECK in seconds: the service's where it has one, else the image's."""
    own = app.config.get("Healthcheck") or {}
    merged = {**own, **{k: v for k, v in (spec or {}).items() if v}}
    test = list(merged.get("Test") or ())
    if not test or test[0] == "NONE":
        return None
    return {
        "test": test[1:],
        "interval": (merged.get("Interval") or 30 * _NANO) / _NANO,
        "start": (merged.get("StartPeriod") or 0) / _NANO,
        "retries": merged.get("Retries") or 3,
    }
