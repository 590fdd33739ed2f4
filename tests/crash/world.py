"""One warm service and its warmd, as the matrix needs them: quick to make, to act on and to look at.

Nothing of warmd is used to look: the swarm is asked over the Engine API, the rest is read from disk.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

from tests.crash import child
from tests.crash.child import Child, Ended, Job
from tests.crash.points import Injection
from tests.lab import Recipe
from tests.lab.warmapp import Bad

_EPOCH = time.time()
_STACK = "com.docker.stack.namespace"


class Engine:
    """The Engine API at ``unix:///path``, one call a connection."""

    def __init__(self, docker_host: str) -> None:
        self._path = docker_host.removeprefix("unix://")

    def ask(self, method: str, path: str, body: object = None, **params: str) -> Any:
        """The JSON answer. Raises RuntimeError for a status of 400 and above."""
        link = http.client.HTTPConnection("docker", timeout=60)
        link.sock = socket.socket(socket.AF_UNIX)
        link.sock.connect(self._path)
        try:
            query = f"?{urlencode(params)}" if params else ""
            data = None if body is None else json.dumps(body)
            link.request(method, f"{path}{query}", data, {"Content-Type": "application/json"})
            answer = link.getresponse()
            content = answer.read()
        finally:
            link.close()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:300].decode(errors='replace')}")
        return json.loads(content) if content.strip() else None

    def of_stack(self, what: str, stack: str, **params: str) -> list[dict[str, Any]]:
        filters = json.dumps({"label": [f"{_STACK}={stack}"]})
        found: Any = self.ask("GET", f"/{what}", **params, filters=filters)
        return list((found["Volumes"] if what == "volumes" else found) or ())


class Site(Protocol):
    """Where worlds run: a real swarm, or a model of one."""

    docker_host: str
    env: Mapping[str, str]
    #: TOML of the health gate, one for a machine that is busy with other things (empty: no need of one),
    #: and seconds after which something is taken to hang.
    gate: str
    slow_gate: str
    patience: float
    interval: str
    #: Whether its state can be kept and put back.
    rewinds: bool
    #: How much faster time goes there, warmd's too.
    scale: float

    @property
    def processes(self) -> frozenset[int]:
        """Children of the driver that are the site's."""

    def image(self, version: str, bad: Bad | None) -> str:
        """The application as an image that can be pulled."""

    def port(self) -> int:
        """A host port for the application; 0: it needs none."""

    def health(self, port: int) -> str:
        """The TOML of ``health``."""

    def write(self, world: World, text: str) -> None:
        """A user writes a note into the application that runs."""

    def violations(self) -> list[str]:
        """What the swarm itself saw that must never be."""

    def keep(self, name: str) -> None:
        """Remember the swarm as it is now, with all volumes."""

    def rewind(self, name: str | None, seed: int) -> None:
        """The swarm as it was kept; None: as it was before anything. ``seed`` varies its timing."""


@dataclass(frozen=True, slots=True)
class Data:
    """The files of a volume: path -> content."""

    files: Mapping[str, bytes]

    @classmethod
    def of(cls, folder: Path) -> Data:
        return cls(
            {
                str(p.relative_to(folder)): content
                for p in sorted(folder.rglob("*"))
                if not p.is_symlink() and (content := _read(p)) is not None
            }
        )

    def migrated(self, old: str, new: str) -> Data:
        """What the application of version ``new`` makes of it, coming from ``old`` ("none": no data)."""
        history = self.files.get("history", b"") + f"{old} -> {new}\n".encode()
        return Data({**self.files, "history": history, "schema": f"{new}\n".encode()})

    def noted(self, text: str) -> Data:
        return self.plus("notes", self.files.get("notes", b"") + f"{text}\n".encode())

    def damaged(self, by: str) -> Data:
        """What a bad version leaves of it beside."""
        return Data({**self.files, "notes": f"damaged by {by}\n".encode()})

    def plus(self, path: str, content: bytes) -> Data:
        return Data({**self.files, path: content})

    def same(self, other: Data) -> bool:
        """Whether they hold the same, whatever a writer has counted to."""
        return self._told == other._told

    @property
    def _told(self) -> dict[str, bytes]:
        return {
            path: content
            for path, content in self.files.items()
            if path not in ("a", "b", ".a.new", ".b.new")
        }

    @property
    def told(self) -> str:
        """For messages: the schema, the notes, and a sum over everything."""
        total = hashlib.sha256()
        for path, content in sorted(self._told.items()):
            total.update(f"{path} {hashlib.sha256(content).hexdigest()}\n".encode())
        schema = self.files.get("schema", b"none").decode(errors="replace").strip()
        notes = self.files.get("notes", b"").decode(errors="replace").splitlines()
        return f"schema {schema}, notes {notes}, {total.hexdigest()[:8]}"


def _read(path: Path) -> bytes | None:
    """None for what is no file, or not any more: the application writes meanwhile."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        return None


@dataclass
class World:
    """One service ``app`` in a stack of its own. ``home`` holds all that is warmd's and the operator's,
    ``recipes`` the recipe, where that is not to be put back with the rest."""

    site: Site
    home: Path
    stack: str
    recipes: Path | None = None
    greeting: str = "hello"
    policy: str = 'repair_after = "0s"'
    number: int = 0
    port: int = 0
    #: Whether a version above the running one has failed, which a look says for as long as it is so.
    blocked: bool = False
    #: TOML of the health gate; the site's unless given.
    gate: str = ""
    #: What is wrong with its warmd, on purpose.
    broken: str = ""
    engine: Engine = field(init=False)
    recipe: Recipe = field(init=False)

    def __post_init__(self) -> None:
        self.engine = Engine(self.site.docker_host)
        self.home.mkdir(parents=True, exist_ok=True)
        self.recipe = Recipe((self.recipes or self.home) / "recipe")
        self.port = self.port or self.site.port()
        self.configure()

    # --- what the operator has and does -----------------------------------------------------------

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def config(self) -> Path:
        return self.home / "warmd.toml"

    @property
    def folder(self) -> Path:
        """warmd's of the service."""
        return self.state / "services" / "app"

    def configure(self, *, greeting: str | None = None) -> None:
        self.greeting = greeting or self.greeting
        self.config.write_text(f"""\
[daemon]
state_dir = "{self.state}"
docker_host = "{self.site.docker_host}"
interval = "{self.site.interval}"

[services.app]
stack = "{self.stack}"
health = [ {self.site.health(self.port)} ]
source = {{ kind = "git", url = "{self.recipe.url}" }}
deploy = {{ kind = "stack", files = ["compose.yml"], env = {{ GREETING = "{self.greeting}" }} }}
snapshot = {{ kind = "archive" }}
policy = {{ {self.policy} }}
health_gate = {self.gate or self.site.gate}
""")

    def publish(self, *, bad: Bad | None = None, notes: str | None = None) -> str:
        """The next version, as the recipe's next tag; its text."""
        self.number += 1
        app = f"1.{self.number}.0"
        self.recipe.publish(f"{app}+{app}", compose=self._compose(self.site.image(app, bad)), notes=notes)
        return f"{app}+{app}"

    def _compose(self, image: str) -> str:
        ports = (
            f"[{{ target: 80, published: {self.port}, protocol: tcp, mode: host }}]" if self.port else "[]"
        )
        return f"""\
version: "3.8"
services:
  app:
    image: "{image}"
    environment: {{ GREETING: "${{GREETING}}" }}
    ports: {ports}
    volumes: ["data:/data"]
    networks: [internal]
    stop_grace_period: 5s
    deploy:
      replicas: 1
      restart_policy: {{ condition: any, delay: 1s }}
      update_config: {{ order: stop-first }}
networks:
  internal: {{ external: true, name: bridge }}
volumes:
  data: {{}}
"""

    def start(self, verb: str, run: Path, injection: Injection | None = None, **more: Any) -> Child:
        """One warmd. ``run``: a folder for its log; ``more`` as ``Job`` has it."""
        service = None if verb in ("run", "up") else "app"
        usual: dict[str, Any] = {"env": self.site.env, "scale": self.site.scale, "epoch": _EPOCH}
        usual["broken"] = self.broken
        return child.start(
            Job(self.config, verb, run, service, injection=injection or Injection(), **{**usual, **more})
        )

    def go(self, verb: str, *, code: int | None = 0, **more: Any) -> Ended:
        """Run a verb undisturbed, to arrange things. Fetches from the recipe."""
        more.setdefault("offline", False)
        ended = self.start(verb, self.home / "arranging", **more).wait(self.site.patience)
        if code is not None and ended.code != code:
            raise AssertionError(f"{verb} ended with {ended.code}:\n{ended.log}")
        return ended

    # --- what an observer sees --------------------------------------------------------------------

    def services(self) -> list[dict[str, Any]]:
        return self.engine.of_stack("services", self.stack)

    def tasks(self) -> list[dict[str, Any]]:
        return self.engine.of_stack("tasks", self.stack)

    def containers(self) -> list[dict[str, Any]]:
        return self.engine.of_stack("containers/json", self.stack, all="1")

    def running(self) -> list[dict[str, Any]]:
        return [c for c in self.containers() if c["State"] == "running"]

    def cannot_start(self) -> bool:
        """Whether the engine has tried to start a container and could not."""
        return any("starting container failed" in t["Status"].get("Err", "") for t in self.tasks())

    @property
    def has_volume(self) -> bool:
        return bool(self.engine.of_stack("volumes", self.stack))

    @property
    def volume(self) -> Path:
        """Where its data lies."""
        return Path(self.engine.ask("GET", f"/volumes/{self.stack}_data")["Mountpoint"])

    @property
    def data(self) -> Data:
        return Data.of(self.volume) if self.has_volume else Data({})

    def replicas(self) -> int | None:
        """How many tasks the service is to have; None where it is not there."""
        services = self.services()
        return int(services[0]["Spec"]["Mode"]["Replicated"]["Replicas"]) if services else None

    def scale(self, replicas: int) -> None:
        """Somebody types ``docker service scale``."""
        for _ in range(20):
            (service,) = self.services()
            spec = {**service["Spec"], "Mode": {"Replicated": {"Replicas": replicas}}}
            version = str(service["Version"]["Index"])
            try:
                self.engine.ask("POST", f"/services/{service['ID']}/update", spec, version=version)
            except RuntimeError as error:
                if "out of sequence" not in str(error):
                    raise
            else:
                return
        raise AssertionError("the service can't be scaled")

    def remove_stack(self) -> None:
        """Somebody types ``docker stack rm``; the volume stays."""
        for service in self.services():
            self.engine.ask("DELETE", f"/services/{service['ID']}")
        self.wait(lambda: not self.running(), "its containers to go")

    def serving(self) -> bool:
        """Whether exactly one task runs, of the spec's image."""
        services, running = self.services(), self.running()
        tasks = [t for t in self.tasks() if t["Status"]["State"] == "running"]
        return (
            len(services) == len(running) == len(tasks) == 1
            and tasks[0]["Spec"]["ContainerSpec"]["Image"]
            == services[0]["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
        )

    def wait(self, condition: Callable[[], object], what: str) -> None:
        until = time.monotonic() + self.site.patience
        while not condition():
            if time.monotonic() > until:
                raise AssertionError(f"waited {self.site.patience:.0f} s in vain for {what}")
            time.sleep(0.01)


def environment(**more: str) -> dict[str, str]:
    """For a child: none of the user's docker settings."""
    return {"DOCKER_CONFIG": os.devnull, **more}
