"""A host as its operator has it: a swarm, a recipe, a configuration, and the real ``warmd`` command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx

from tests.lab import Lab, Recipe, warm_compose
from tests.said import Said

WARMD = Path(sys.executable).with_name("warmd")
#: Short waits: the application of the lab is up in a second.
GATE = 'health_gate = { deadline = "15s", interval = "200ms", successes = 2, stable = "1s" }'


@dataclass
class World:
    """One warm service ``app`` in a stack of its own, published by a recipe, kept by a warmd."""

    lab: Lab
    folder: Path
    stack: str
    port: int = 0
    policy: str = 'repair_after = "1s"'
    gate: str = GATE
    snapshot: str = '{ kind = "archive" }'
    health: str | None = None
    daemon: str = ""
    env: str = "{}"
    compose_extra: str = ""
    network: Literal["bridge", "overlay"] = "bridge"
    name: str = "app"
    interval: str = "2s"
    docker_host: str = ""
    command: tuple[str, ...] = (str(WARMD),)
    recipe: Recipe = field(init=False)
    neighbours: list[World] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.port = self.port or self.lab.free_port()
        self.recipe = Recipe(self.folder / "recipe")
        self.write_config()

    # --- what the operator has --------------------------------------------------------------------

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def config(self) -> Path:
        return self.folder / "warmd.toml"

    @property
    def url(self) -> str:
        return f"http://{self.lab.host}:{self.port}"

    def neighbour(self, name: str, stack: str, **settings: Any) -> World:
        """A second warm service of the same configuration, with a stack and a recipe of its own. Look
        at it through what is returned; type commands and read alerts here."""
        other = World(self.lab, self.folder / name, stack, name=name, **settings)
        self.neighbours.append(other)
        self.write_config()
        return other

    def write_config(self) -> None:
        services = "".join(world.table for world in (self, *self.neighbours))
        self.config.write_text(f"""\
[daemon]
state_dir = "{self.state}"
docker_host = "{self.docker_host or self.lab.docker_host}"
interval = "{self.interval}"
{self.daemon}
{services}""")

    @property
    def table(self) -> str:
        """The service's part of the configuration."""
        check = f'{{ kind = "http", url = "{self.url}/health", json = {{ status = "ok" }}, timeout = "2s" }}'
        return f"""
[services.{self.name}]
stack = "{self.stack}"
health = [ {check if self.health is None else self.health} ]
source = {{ kind = "git", url = "{self.recipe.url}" }}
deploy = {{ kind = "stack", files = ["compose.yml"], env = {self.env} }}
snapshot = {self.snapshot}
policy = {{ {self.policy} }}
{self.gate}
"""

    def publish(
        self, version: str, *, notes: str | None = None, compose: str | None = None, **app: Any
    ) -> None:
        """Publish a release whose image is the lab's application; ``app`` as ``Lab.warm_app`` takes it."""
        if compose is None:
            compose = self.compose(self.lab.warm_app(version.partition("+")[2] or version, **app))
        self.recipe.publish(version, compose=compose, notes=notes)

    def compose(self, image: str) -> str:
        return warm_compose(image, self.port, extra=self.compose_extra, network=self.network)

    def labelled(self, version: str, **app: Any) -> str:
        """A compose text that says its version in a label, as recipes do."""
        image = self.lab.warm_app(version.partition("+")[2] or version, **app)
        return warm_compose(
            image,
            self.port,
            version=version,
            stack=self.stack,
            extra=self.compose_extra,
            network=self.network,
        )

    def by_hand(self, compose: str) -> None:
        """Somebody types ``docker stack deploy``, and it runs."""
        self.lab.deploy(self.stack, compose)
        self.wait(self.settled, "the stack that was deployed by hand runs")

    # --- what the operator types ------------------------------------------------------------------

    def warmd(self, *args: str, check: int | None = 0, timeout: float = 180) -> Said:
        """Run a command. ``check`` is the exit code to expect (None: any)."""
        done = subprocess.run(
            [*self.command, args[0], "--config", str(self.config), *args[1:]],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environment,
            check=False,
        )
        result = Said(done.returncode, done.stdout, done.stderr)
        if check is not None and result.code != check:
            raise AssertionError(
                f"warmd {' '.join(args)} exited {result.code}, expected {check}\n{result.out}\n{result.err}"
            )
        return result

    def up(self, *args: str, check: int | None = 0) -> dict[str, Any]:
        """One pass; the service's row."""
        row: dict[str, Any] = self.warmd("up", "--json", *args, check=check).json[0]
        return row

    def plan(self) -> dict[str, Any]:
        row: dict[str, Any] = self.warmd("plan", "app", "--json").json[0]
        return row

    def history(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.warmd("history", "app", "--json").json
        return answer

    def status(self, name: str = "app") -> dict[str, Any]:
        """The service's row, from the daemon if one runs."""
        row: dict[str, Any] = self.warmd("status", name, "--json").json[0]
        return row

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.lab.docker_env, "PYTHONWARNINGS": "error", "COLUMNS": "120"}

    @contextmanager
    def running(self, *args: str) -> Iterator[subprocess.Popen[bytes]]:
        """The daemon, while the block runs; its log is ``daemon.log``. It has to stop when told to."""
        log = (self.folder / "daemon.log").open("ab")
        process = subprocess.Popen(
            [*self.command, "run", "--config", str(self.config), *args],
            stderr=log,
            stdout=log,
            env=self.environment,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(60)
            log.close()

    @property
    def log(self) -> list[dict[str, Any]]:
        lines = (self.folder / "daemon.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def told(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """The lines of the daemon's log about an event that have these fields."""
        return [e for e in self.log if e["event"] == event and fields.items() <= e.items()]

    # --- what an observer sees --------------------------------------------------------------------

    def get(self, path: str) -> Any:
        return httpx.get(f"{self.url}{path}", timeout=5).json()

    def serves(self, version: str) -> bool:
        """Whether the application answers that it is well and of this version."""
        try:
            answer = httpx.get(f"{self.url}/health", timeout=2)
        except httpx.TransportError:
            return False
        return answer.is_success and answer.json()["version"] == version

    def committed(self, version: str, *, of: World | None = None) -> None:
        """Wait until the daemon has committed a version, of this service or a neighbour's."""
        of = of or self
        self.wait(
            lambda: self.told("run.committed", service=of.name, version=version),
            f"{of.name} {version} is committed",
            90,
        )
        assert of.serves(version.partition("+")[2])

    def write_note(self, text: str) -> None:
        httpx.post(f"{self.url}/notes", content=f"{text}\n", timeout=5).raise_for_status()

    @property
    def notes(self) -> str:
        return (self.volume / "notes").read_text()

    @property
    def schema(self) -> str:
        return (self.volume / "schema").read_text().strip()

    @property
    def volume(self) -> Path:
        return Path(
            self.lab.docker("volume", "inspect", "--format", "{{.Mountpoint}}", f"{self.stack}_data").strip()
        )

    def tasks(self) -> set[str]:
        """The ids of all tasks of the stack, in any state: a new one means churn."""
        return {task["ID"] for task in self.lab.tasks(self.stack)}

    def specs(self) -> dict[str, dict[str, Any]]:
        """The stack's services as the swarm has them: name within the stack -> spec."""
        mine = json.dumps({"label": [f"com.docker.stack.namespace={self.stack}"]})
        found = self.lab.api.get("/services", params={"filters": mine}).raise_for_status().json() or []
        return {s["Spec"]["Name"].removeprefix(f"{self.stack}_"): {**s["Spec"], "id": s["ID"]} for s in found}

    def settled(self) -> bool:
        """Whether exactly the tasks that the specs ask for run."""
        for spec in self.specs().values():
            image = spec["TaskTemplate"]["ContainerSpec"]["Image"]
            tasks = [t for t in self.lab.tasks(self.stack) if t["ServiceID"] == spec["id"]]
            up = [t for t in tasks if t["Status"]["State"] == "running"]
            good = [t for t in up if t["DesiredState"] == "running"]
            wanted = spec["Mode"].get("Replicated", {}).get("Replicas", 1)
            images = {t["Spec"]["ContainerSpec"]["Image"] for t in good}
            if len(up) != len(good) or len(good) != wanted or images - {image}:
                return False
        return True

    def running_tasks(self, service: str = "app") -> set[str]:
        """The ids of the tasks of one service that run now."""
        id_ = self.specs()[service]["id"]
        tasks = self.lab.tasks(self.stack)
        return {t["ID"] for t in tasks if t["ServiceID"] == id_ and t["Status"]["State"] == "running"}

    def alert(self, kind: str) -> dict[str, Any]:
        """The newest alert of a kind, which must be open."""
        body = [a for a in self.alerts() if a["kind"] == kind][-1]
        assert body["state"] == "open", body
        return body

    def alerts(self) -> list[dict[str, Any]]:
        return [json.loads(f.read_text()) for f in sorted((self.state / "alerts").glob("*.json"))]

    def open_alerts(self) -> set[tuple[str, str | None]]:
        seen: dict[str, dict[str, Any]] = {a["fingerprint"]: a for a in self.alerts()}
        return {(a["kind"], a["candidate"]) for a in seen.values() if a["state"] == "open"}

    def wait(
        self, condition: Callable[[], object], what: str, deadline: float = 60, *, pause: float = 0.1
    ) -> None:
        end = time.monotonic() + deadline
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"not within {deadline} s: {what}")
            time.sleep(pause)
