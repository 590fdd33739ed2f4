"""A daemon that looks after many services on the swarm model, and all that may happen to them at once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.recipe import Recipe
from tests.lab.warmapp import warm_compose
from tests.model import App, Fault, ModelProcess, Timing

#: A second of the swarm in seconds of ours.
SCALE = 0.05
INTERVAL = 3.0
FIRST_PORT = 21_000

_FAULTS = (
    Fault("refuse"),
    Fault("reply-lost"),
    Fault("error", status=500, text="it failed"),
    Fault("error", status=503, text="try later"),
    Fault("error", status=500, text="rpc error: update out of sequence"),
    Fault("slow", seconds=2.0),
)
_CALLS = (
    "GET /services",
    "GET /tasks",
    "GET /containers",
    "POST /services/",
    "POST /images/create",
    "GET /volumes",
)


@dataclass
class Kept:
    """One service: its recipe, and how far it has come."""

    name: str
    port: int
    recipe: Recipe
    minor: int = 0


@dataclass
class Soak:
    """``figures`` is what the process held, a sample each half second; ``done`` counts what was done."""

    folder: Path
    count: int
    seed: int
    model: ModelProcess
    services: list[Kept] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.services = [
            Kept(name, FIRST_PORT + n, Recipe(self.folder / "recipes" / name))
            for n, name in enumerate(f"s{n:02}" for n in range(self.count))
        ]
        for kept in self.services:
            self.publish(kept, App("1.0.0"))
        self.configure()

    @property
    def config(self) -> Path:
        return self.folder / "warmd.toml"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def configure(self) -> None:
        tables = "".join(
            f"""
[services.{kept.name}]
stack = "{kept.name}"
health = [ {{ kind = "http", url = "http://127.0.0.1:{kept.port}/health", timeout = "2s" }} ]
source = {{ kind = "git", url = "{kept.recipe.url}" }}
deploy = {{ kind = "stack", files = ["compose.yml"] }}
snapshot = {{ kind = "archive" }}
policy = {{ repair_after = "1s" }}
health_gate = {{ deadline = "6s", interval = "300ms", successes = 2, stable = "1s" }}
"""
            for kept in self.services
        )
        self.config.write_text(f"""\
[daemon]
state_dir = "{self.state}"
docker_host = "{self.model.docker_host}"
interval = "{INTERVAL:.0f}s"
max_parallel = 6
{tables}""")

    def publish(self, kept: Kept, app: App) -> None:
        version = f"1.{kept.minor}.0+{app.version}"
        image = f"registry.example/{kept.name}:{kept.minor}"
        self.model.publish(image, app)
        kept.recipe.publish(version, compose=warm_compose(image, kept.port))

    # --- what happens -----------------------------------------------------------------------------

    def something(self) -> None:
        """One thing happens to one service, or to all."""
        kept = self.random.choice(self.services)
        acts: dict[str, tuple[int, Callable[[], object]]] = {
            "good release": (6, lambda: self._release(kept, "good")),
            "slow release": (2, lambda: self._release(kept, "good", delay=10.0)),
            "bad release": (
                4,
                lambda: self._release(kept, self.random.choice(["never-healthy", "crash", "sick-later"])),
            ),
            "docker fault": (8, self._fault),
            "task killed": (4, lambda: self.model.kill_task(f"{kept.name}_app")),
            "scaled to zero": (2, lambda: self._scale(kept)),
            "clock set": (2, self._clock),
            "SIGHUP": (2, lambda: os.kill(self.pid, signal.SIGHUP)),
            "engine restarted": (
                1,
                lambda: self.model.restart_engine(kill=self.random.random() < 0.5, seconds=2.0),
            ),
        }
        (name,) = self.random.choices(list(acts), [weight for weight, _ in acts.values()])
        acts[name][1]()
        self.done[name] = self.done.get(name, 0) + 1

    def _release(self, kept: Kept, behaviour: Any, delay: float = 0.0) -> None:
        kept.minor += 1
        after = self.random.choice([0.0, 15.0]) if behaviour == "crash" else 5.0
        self.publish(kept, App(f"1.{kept.minor}.0", behaviour, after=after, delay=delay))

    def _fault(self) -> None:
        self.model.next(
            self.random.choice(_CALLS),
            self.random.choice(_FAULTS),
            skip=self.random.randrange(20),
            times=self.random.choice([1, 1, 2, 5]),
        )

    def _scale(self, kept: Kept) -> None:
        with suppress(AssertionError):  # it is not deployed
            self.model.scale(f"{kept.name}_app", 0)

    def _clock(self) -> None:
        self.offset.write_text(str(self.random.choice([-3600.0, -30.0, 0.0, 30.0, 3600.0])))

    # --- the process ------------------------------------------------------------------------------

    pid: int = 0

    @property
    def offset(self) -> Path:
        return self.folder / "offset"

    @property
    def samples(self) -> list[dict[str, float]]:
        path = self.folder / "figures"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    @contextmanager
    def daemon(self) -> Iterator[subprocess.Popen[bytes]]:
        """The real daemon, watched from inside; it has to end by itself when told to."""
        command = [
            sys.executable,
            "-m",
            "tests.stateful.watched",
            str(self.folder / "figures"),
            str(self.offset),
        ]
        with (self.folder / "daemon.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "run", "--config", str(self.config)], stdout=log, stderr=log, env={**os.environ}
            )
            self.pid = process.pid
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                try:
                    process.wait(90)
                finally:
                    process.kill()
                    process.wait()

    @property
    def written(self) -> dict[str, int]:
        """Bytes of each journal."""
        return {str(path.parent.name): path.stat().st_size for path in self.state.glob("services/*/journal")}

    def records(self, name: str) -> list[dict[str, Any]]:
        path = self.state / "services" / name / "journal"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    def ended(self) -> dict[str, int]:
        """How runs ended, all services together."""
        found: dict[str, int] = {}
        ends = ("committed", "rolled-back", "interrupted", "failed-unchanged", "stuck")
        for kept in self.services:
            for record in self.records(kept.name):
                state = record["data"].get("state", "")
                if record["type"] == "run.state" and state in ends:
                    found[state] = found.get(state, 0) + 1
        return found

    def wait(self, what: str, condition: Callable[[], object], deadline: float) -> None:
        end = time.monotonic() + deadline
        while not condition():
            assert time.monotonic() < end, f"not within {deadline:.0f} s: {what}\n{self.log}"
            time.sleep(0.2)

    def quiet(self, seconds: float, deadline: float) -> None:
        """Wait until no journal has grown for so long."""
        since, before = time.monotonic(), self.written

        def still() -> bool:
            nonlocal since, before
            if (now := self.written) != before:
                since, before = time.monotonic(), now
            return time.monotonic() - since > seconds

        self.wait("every journal is quiet", still, deadline)

    @property
    def log(self) -> str:
        return (self.folder / "daemon.log").read_text()[-3000:]


@contextmanager
def soaking(folder: Path, count: int, seed: int) -> Iterator[Soak]:
    with ModelProcess(seed=seed, timing=Timing(scale=SCALE)) as model:
        soak = Soak(folder, count, seed, model)
        with soak.daemon():
            yield soak


def slope(samples: list[dict[str, float]], what: str) -> float:
    """By how much it grows a minute: the line of least squares."""
    xs = [(s["at"] - samples[0]["at"]) / 60 for s in samples]
    ys = [s[what] for s in samples]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((a - x) ** 2 for a in xs)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / spread if spread else 0.0
