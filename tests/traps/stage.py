"""Many warm services of one warmd, each about to walk into a trap, and an observer of their volumes."""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.lab import Lab
from tests.swarm.observer import checksum
from tests.swarm.world import World
from tests.traps.cases import GATE, Compose, Trap

PASSES = 3


@dataclass
class Actor:
    """One service: its trap, its world, the version that is good, and what is on its volume with it."""

    trap: Trap
    world: World
    current: str = ""
    number: int = 0
    before: dict[str, Any] = field(default_factory=dict)

    def publish(self, compose: Compose) -> str:
        self.number += 1
        version = f"1.{self.number}.0+1.{self.number}.0"
        text = compose(self.world, version.partition("+")[2])
        self.world.recipe.publish(version, compose=text)
        return version

    @property
    def app(self) -> str:
        return self.current.partition("+")[2]

    @property
    def has_data(self) -> bool:
        return "none" not in self.world.snapshot

    def look(self) -> dict[str, Any]:
        """What an observer sees that has to be there again."""
        found: dict[str, Any] = {
            name: (s["TaskTemplate"]["ContainerSpec"]["Image"], s["Mode"])
            for name, s in self.world.specs().items()
        }
        if self.has_data:
            found["schema"] = self.world.schema
            found["notes"] = self.world.notes if self.trap.adds else None
            found["data"] = None if self.trap.adds else checksum(self.world.volume)
        return found

    def expected(self) -> dict[str, Any]:
        """What has to be there again after the bad version: what was, and what the old one still wrote."""
        found = dict(self.before)
        if self.trap.adds:
            found["notes"] += self.trap.adds.format(version=self.app)
        return found


class Stage:
    """All actors, and the one warmd that looks after them."""

    def __init__(self, lab: Lab, folder: Path, traps: Sequence[Trap]) -> None:
        self.lab = lab
        self.actors: list[Actor] = []
        for trap in traps:
            stack, settings = f"t{secrets.token_hex(4)}", {"gate": GATE} | trap.settings
            if not self.actors:
                daemon = f"max_parallel = {len(traps)}"
                world = World(lab, folder, stack, name=trap.name, daemon=daemon, **settings)
            else:
                world = self.host.neighbour(trap.name, stack, **settings)
            self.actors.append(Actor(trap, world))

    @property
    def host(self) -> World:
        return self.actors[0].world

    def looks(self) -> dict[str, dict[str, Any]]:
        """One pass over all of them; the rows by name. Where the machine is so busy that Docker does not
        answer in time, it goes on in another."""
        rows: dict[str, dict[str, Any]] = {}
        for _ in range(PASSES):
            said = self.host.warmd("up", "--json", check=None, timeout=900)
            assert said.out, said.err
            again = {row["service"]: row for row in said.json}
            rows = {
                name: row if "error" in rows.get(name, {"error": ""}) else rows[name]
                for name, row in again.items()
            }
            if not any("error" in row for row in rows.values()):
                return rows
        raise AssertionError([row for row in rows.values() if "error" in row])

    def waits(self, deadline: int | None = None) -> None:
        """Give up on a version after so many seconds; without a number after as many as each trap has."""
        for actor in self.actors:
            usual = actor.trap.settings.get("gate", GATE)
            long = re.sub(r'deadline = "\d+s"', f'deadline = "{deadline}s"', usual)
            actor.world.gate = long if deadline else usual
        self.host.write_config()

    def improves(self) -> None:
        """A good version for each, and something in it that must not be lost."""
        for actor in self.actors:
            actor.current = actor.publish(actor.trap.good)
        self.waits(120)  # however busy the machine is with all of them at once
        rows = self.looks()
        self.waits()
        for actor in self.actors:
            row = rows[actor.trap.name]
            assert (row["current"], row["decision"]) == (actor.current, "noop-healthy"), row
            if actor.has_data:
                actor.world.write_note(f"precious {actor.number}")

    def worsens(self) -> dict[str, dict[str, Any]]:
        """The bad version of each, all in one pass; the rows by name."""
        for actor in self.actors:
            actor.before = actor.look()
            actor.publish(actor.trap.bad)
        return self.looks()

    def removed(self) -> None:
        for actor in self.actors:
            self.lab.remove_stack(actor.world.stack)


@contextmanager
def writers(lab: Lab) -> Iterator[dict[str, int]]:
    """The most containers that ran on each volume at once, counted all the time while the block runs."""
    most: dict[str, int] = {}
    over = threading.Event()
    running = {"filters": json.dumps({"status": ["running"]})}

    def count(client: httpx.Client) -> None:
        mounts = [m for c in client.get("/containers/json", params=running).json() for m in c["Mounts"]]
        for volume, number in Counter(m["Name"] for m in mounts if m["Type"] == "volume").items():
            most[volume] = max(most.get(volume, 0), number)

    def watch() -> None:
        socket = lab.docker_host.removeprefix("unix://")
        transport = httpx.HTTPTransport(uds=socket)
        with httpx.Client(transport=transport, base_url="http://docker", timeout=30) as client:
            while not over.wait(0.05):
                count(client)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        over.set()
        watcher.join()


def all_are_back(stage: Stage) -> None:
    """Give each its bad version, and see that each is where it was."""
    with writers(stage.lab) as most:
        rows = stage.worsens()
    wrong = []
    for actor in stage.actors:
        row, name = rows[actor.trap.name], actor.trap.name
        if (row["ran"] or {}).get("state") != actor.trap.ends:
            wrong.append(f"{name}: it ended {row['ran']}: {row['reason']}")
        if row["current"] != actor.current or not actor.world.serves(actor.app):
            wrong.append(f"{name}: {row['current']} runs and not {actor.current}, or does not serve")
        if not actor.world.settled():
            wrong.append(f"{name}: other tasks run than are asked for")
        if (seen := actor.look()) != (expected := actor.expected()):
            wrong.append(f"{name}: {seen} is not {expected}")
    wrong += [f"{number} writers at once on volume {v}" for v, number in most.items() if number > 1]
    assert not wrong, "\n".join(wrong)
    assert most, "the observer saw nobody at all"
