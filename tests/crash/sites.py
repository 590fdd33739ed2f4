"""The places where worlds run."""

from __future__ import annotations

import itertools
import urllib.request
from collections.abc import Mapping

from tests.crash.world import World, environment
from tests.lab import Lab
from tests.lab.warmapp import Bad


class Real:
    """A real dockerd. Many worlds side by side, each in a stack of its own."""

    gate = '{ deadline = "12s", interval = "200ms", successes = 2, stable = "400ms" }'
    slow_gate = '{ deadline = "150s", interval = "200ms", successes = 2, stable = "400ms" }'
    interval = "2s"
    patience = 400.0
    rewinds = False
    scale = 1.0
    processes: frozenset[int] = frozenset()

    def __init__(self, lab: Lab, worker: int) -> None:
        self._lab = lab
        # Workers are forked, and so would be the lab's own counter. Two that push one tag fail.
        self._repo = f"warm{worker}"
        self._ports = itertools.count(21000 + 500 * worker)
        self.docker_host = lab.docker_host
        self.env: Mapping[str, str] = environment()

    def image(self, version: str, bad: Bad | None) -> str:
        return self._lab.warm_app(version, repo=self._repo, bad=bad)

    def port(self) -> int:
        return next(self._ports)

    def health(self, port: int) -> str:
        url = f"http://{self._lab.host}:{port}/health"
        return f'{{ kind = "http", url = "{url}", json = {{ status = "ok" }}, timeout = "2s" }}'

    def write(self, world: World, text: str) -> None:
        url = f"http://{self._lab.host}:{world.port}/notes"
        with urllib.request.urlopen(url, data=f"{text}\n".encode(), timeout=10) as answer:
            answer.read()

    def violations(self) -> list[str]:
        return []

    def keep(self, name: str) -> None:
        raise NotImplementedError("a real swarm can't be kept")

    def rewind(self, name: str | None, seed: int) -> None:
        raise NotImplementedError("a real swarm can't be put back")
