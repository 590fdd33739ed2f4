"""Somebody who looks at the containers all the time, and at what the engine says of them afterwards."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from tests.swarm.passing import records
from tests.swarm.world import World

_STACK = "com.docker.stack.namespace"


@dataclass
class Watch:
    """``looks`` at the containers while data was being copied or put back, and who ``ran`` meanwhile."""

    world: World
    looks: int = 0
    ran: list[str] = field(default_factory=list)

    def look(self, api: httpx.Client) -> None:
        before = self._at_work()
        wanted = json.dumps({"label": [f"{_STACK}={self.world.stack}"]})
        found = (
            api.get("/containers/json", params={"all": "true", "filters": wanted}).raise_for_status().json()
        )
        # At both ends of the question, so it was asked in the middle of a copy.
        if before and before & self._at_work():
            self.looks += 1
            alive = [c for c in found if c["State"] in ("running", "paused", "restarting")]
            self.ran += [f"{c['Names']} {c['State']} during {sorted(before)}" for c in alive]

    def _at_work(self) -> set[str]:
        """The half-made folders of copies, and of what is unpacked beside the volume."""
        half = (self.world.state / "services" / "app" / "snapshots").glob(".*.partial")
        beside = self._volume.parent.glob("_data.warmd-new-*")
        return {path.name for path in (*half, *beside)}

    @property
    def _volume(self) -> Path:
        return Path(self.world.lab.folder) / "data" / "volumes" / f"{self.world.stack}_data" / "_data"


@contextmanager
def watching(world: World) -> Iterator[Watch]:
    """A look every few milliseconds, in a thread, for as long as the block lasts."""
    watch, over, failed = Watch(world), threading.Event(), []

    def run() -> None:
        transport = httpx.HTTPTransport(uds=world.lab.docker_host.removeprefix("unix://"))
        with httpx.Client(transport=transport, base_url="http://docker", timeout=30) as api:
            try:
                while not over.wait(0.005):
                    watch.look(api)
            except Exception as error:
                failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()
    assert not failed, failed


def lives(world: World, since: float) -> list[tuple[float, float, str]]:
    """When containers of the stack ran since then, by the engine's own account: (from, to, id) a life."""
    params = {
        "since": f"{since:.0f}",
        "until": f"{time.time():.3f}",
        "filters": json.dumps(
            {"type": ["container"], "event": ["start", "die"], "label": [f"{_STACK}={world.stack}"]}
        ),
    }
    text = world.lab.api.get("/events", params=params).raise_for_status().text
    begun: dict[str, float] = {}
    found = []
    for event in map(json.loads, text.splitlines()):
        at, id_ = event["timeNano"] / 1e9, event["id"][:12]
        if event["Action"] == "start":
            begun[id_] = at
        else:
            found.append((begun.pop(id_, 0.0), at, id_))
    return found + [(at, float("inf"), id_) for id_, at in begun.items()]


def still_times(world: World, after: int) -> list[tuple[float, float, str]]:
    """From the journal: when nothing may run, because data is copied or put back."""
    found: list[tuple[float, float, str]] = []
    begun: tuple[float, str] | None = None
    for record in (r for r in records(world) if r["seq"] > after and r["type"] == "run.state"):
        state, at = record["data"]["state"], _seconds(record)
        if begun and state not in ("sealing",):
            found.append((begun[0], at, begun[1]))
            begun = None
        if state in ("capturing", "restoring"):
            begun = (at, state)
    return found


def _seconds(record: dict[str, Any]) -> float:
    return datetime.fromisoformat(record["at"]).timestamp()
