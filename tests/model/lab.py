"""The model with the face of ``tests.lab.Lab``: what is written for a real engine runs on it too."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import httpx

from tests.lab import LabError
from tests.lab.stacks import Stacks
from tests.model.apps import App
from tests.model.process import ModelProcess
from tests.model.timing import Timing


class ModelLab(Stacks, ModelProcess):
    """As ``Lab``, method by method; published ports answer at ``host``. Beside that, a ``ModelProcess``."""

    host = "127.0.0.1"
    registry = "model.invalid:5000"

    def __init__(self, folder: Path | None = None, *, seed: int = 0, timing: Timing | None = None) -> None:
        super().__init__(folder, seed=seed, timing=timing)
        self.api = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.socket)), base_url="http://docker", timeout=30
        )

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.api.close()
        super().__exit__(kind, error, trace)

    @property
    def second(self) -> float:
        """What a second of the swarm is of the clock."""
        return self._timing.scale

    @property
    def docker_env(self) -> dict[str, str]:
        """An environment for docker's client and warmd: this model, none of the user's docker settings."""
        keep = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")}
        return {**keep, "DOCKER_HOST": self.docker_host, "DOCKER_CONFIG": str(self.folder / "docker-config")}

    def docker(self, *args: str, stdin: bytes | None = None) -> str:
        """Run docker's client; its output without the last newline. Raises LabError with its message."""
        done = subprocess.run(
            ["docker", *args], input=stdin, env=self.docker_env, capture_output=True, check=False, timeout=300
        )
        if done.returncode:
            raise LabError(f"docker {' '.join(args)}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode(errors="replace").rstrip("\n")

    def free_port(self) -> int:
        """A port of this machine that nobody uses now."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    def wait(self, condition: Callable[[], object], what: str, *, deadline: float = 60) -> None:
        """Return once ``condition()`` is true; LabError naming ``what`` after ``deadline`` seconds."""
        until = time.monotonic() + deadline
        while not condition():
            if time.monotonic() > until:
                raise LabError(f"waited {deadline:.0f} s in vain for {what}")
            time.sleep(0.01)

    def image(
        self,
        repo: str,
        tag: str,
        files: Mapping[str, bytes | str],
        cmd: Sequence[str],
        *,
        healthcheck: Sequence[str] | None = None,
        volumes: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        user: str = "",
    ) -> str:
        """Publish a command line; ``files``, ``env`` and ``user`` only make the image another."""
        rest = hashlib.sha256(repr((sorted(files.items()), sorted((env or {}).items()), user)).encode())
        marks = tuple({"files": rest.hexdigest(), **(labels or {})}.items())
        app = App(cmd=tuple(cmd), healthcheck=tuple(healthcheck or ()), volumes=tuple(volumes), labels=marks)
        reference = f"{self.registry}/{repo}:{tag}"
        self.publish(reference, app)
        return reference

    def warm_app(
        self,
        tag: str,
        *,
        repo: str = "warm",
        version: str | None = None,
        bad: Literal["never-healthy", "crash"] | None = None,
        delay: float = 0,
        healthcheck: bool = False,
        **app: Any,
    ) -> str:
        """The lab's application; ``app``: more of what ``App`` takes."""
        reference = f"{self.registry}/{repo}:{tag}"
        settings: dict[str, Any] = {"delay": delay, "healthcheck": healthcheck}
        if bad is not None:
            settings |= {"behaviour": bad, "after": delay}
        self.publish(reference, App(version or tag, **{**settings, **app}))
        return reference

    def remove_stack(self, name: str, *, volumes: bool = True) -> None:
        """Remove a stack and wait until its containers, networks and (unless told) volumes are gone."""
        super().remove_stack(name)

        def gone() -> bool:
            containers = self.containers(name)
            for container in containers:
                self.api.delete(f"/containers/{container['Id']}", params={"force": "true"})
            left = self.volumes(name) if volumes else []
            for volume in left if not containers else ():
                self.api.delete(f"/volumes/{volume}")
            return not (containers or left or self.tasks(name))

        self.wait(gone, f"the end of stack {name}")

    def restart_dockerd(self, *, kill: bool = False) -> None:
        """The engine ends and answers again; returns when the swarm answers."""
        self.restart_engine(kill=kill)
        self.wait(self._answers, "the swarm after a restart of the engine")

    def stop_dockerd(self) -> None:
        """The engine is down until ``restart_dockerd``."""
        self.stop_engine()

    def _answers(self) -> bool:
        try:
            return self.api.get("/services").is_success
        except httpx.TransportError:
            return False
