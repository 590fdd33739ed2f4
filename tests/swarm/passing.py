"""A pass of warmd (``up``) that runs while the test does something to it, or to the machine."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.swarm.world import World


def journal(world: World) -> Path:
    return world.state / "services" / "app" / "journal"


def records(world: World) -> list[dict[str, Any]]:
    """The service's journal, without a line that is being written."""
    try:
        lines = journal(world).read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


def states(world: World, after: int = 0) -> list[str]:
    """The states that runs entered after record ``after``, oldest first."""
    found = {"run.planned": "planned", "retry": "retry"}
    return [
        r["data"].get("state", found.get(r["type"], ""))
        for r in records(world)
        if r["seq"] > after and r["type"] in ("run.planned", "run.state")
    ]


@dataclass
class Passing:
    """One ``warmd up`` in progress; ``before`` is the journal's length when it began."""

    world: World
    process: subprocess.Popen[bytes]
    before: int

    def reaches(self, *wanted: str, deadline: float = 60) -> None:
        """Return as soon as the journal says that the run entered one of the states."""
        end = time.monotonic() + deadline
        while not set(wanted) & set(states(self.world, self.before)):
            over = self.process.poll() is not None or time.monotonic() > end
            if over and not set(wanted) & set(states(self.world, self.before)):
                seen = states(self.world, self.before)
                raise AssertionError(f"it never reached {wanted}, only {seen}:\n{self.log}")
            time.sleep(0.005)

    def kill(self) -> None:
        """The machine loses its power, as far as warmd can tell."""
        self.process.kill()
        self.process.wait(10)

    def terminate(self) -> float:
        """Tell it to stop, as a service manager does; the seconds that it took to go."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        return time.monotonic() - began

    def ends(self) -> int:
        """Its exit code, once it has come to its end."""
        return self.process.wait(120)

    @property
    def log(self) -> str:
        return (self.world.folder / "passing.log").read_text()


@contextmanager
def passing(world: World, *args: str) -> Iterator[Passing]:
    """``warmd up`` in the background; killed at the end if the block has not seen to its end."""
    before = len(records(world))
    with (world.folder / "passing.log").open("wb") as log:
        process = subprocess.Popen(
            [*world.command, "up", "--config", str(world.config), *args],
            stdout=log,
            stderr=log,
            env=world.environment,
        )
        try:
            yield Passing(world, process, before)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(10)
