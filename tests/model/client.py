"""The model in the same process, behind the adapter's own ``Engine``: no sockets, any clock."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel

from tests.model import routes_node
from tests.model.engine import Model
from tests.model.faults import Answer, Cut, Hang
from warmd.adapters.docker import faults
from warmd.adapters.docker.client import Engine, EngineAnswer, JsonLines
from warmd.adapters.docker.credentials import Credentials
from warmd.adapters.docker.images import Images
from warmd.adapters.docker.swarm import DEADLINE, PULL_DEADLINE, PULL_IDLE, DockerSwarm
from warmd.core.model import Health, Probe
from warmd.ports import Clock

#: Seconds between looks for events, for clocks whose time passes though nobody asks anything.
_LOOK = 0.05


class ModelEngine(Engine):
    """Asks a model as ``Engine`` asks an engine. ``deadline`` is in seconds of the clock."""

    def __init__(self, model: Model, clock: Clock, *, deadline: float = DEADLINE) -> None:
        # Not the parent's: there is no docker client to keep
        self.host = "unix:///model"
        self.deadline = deadline
        self._model = model
        self._clock = clock

    def _advance(self) -> None:
        self._model.advance(self._clock.monotonic(), self._clock.now().timestamp())

    async def _call(
        self, method: str, path: str, doing: str, params: Mapping[str, str] | None, body: object, limit: float
    ) -> Answer:
        await anyio.lowlevel.checkpoint()
        self._advance()
        sent = None if body is None else json.loads(json.dumps(body))
        try:
            answer = self._model.call(method, f"/{path}", dict(params or {}), sent)
        except Cut as cut:
            error = ConnectionRefusedError if cut.refused else ConnectionResetError
            raise faults.unreachable(self.host, doing, error(str(cut))) from cut
        except Hang:
            await self._clock.sleep(limit)
            raise faults.too_slow(self.host, doing, limit) from None
        if answer.delay:
            await self._clock.sleep(min(answer.delay, limit))
            if answer.delay > limit:
                raise faults.too_slow(self.host, doing, limit)
            self._advance()
        return answer

    async def ask(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        params: Mapping[str, str] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        with self.boundary(doing):
            answer = await self._call(method, path, doing, params, body, self.deadline)
            if answer.status >= 400:
                raise EngineAnswer(answer.status, str(answer.json["message"]))
            return answer.json

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        first: float | None = None,
        late: Exception | None = None,
    ) -> AsyncIterator[JsonLines]:
        limit = self.deadline if first is None else first
        answer = await self._call(method, path, doing, params, None, limit)
        if answer.status >= 400:
            raise EngineAnswer(answer.status, str(answer.json["message"]))
        lines = (
            _Lines(answer.lines)
            if answer.lines is not None
            else _Events(self._model, answer.json, self._advance)
        )
        try:
            yield cast(JsonLines, lines)
        finally:
            lines.close()

    @contextmanager
    def boundary(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise faults.unusable(self.host, doing, error) from error


class _Lines:
    """The lines of a stream that is known from the start."""

    def __init__(self, lines: list[Any]) -> None:
        self._lines = list(lines)

    async def next(self, *, within: float = math.inf, late: Exception | None = None) -> Any:
        await anyio.lowlevel.checkpoint()
        return self._lines.pop(0) if self._lines else None

    def close(self) -> None:
        self._lines.clear()


class _Events:
    """Events as they happen; the end where the engine goes down."""

    def __init__(self, model: Model, asked: Mapping[str, Any], advance: Callable[[], None]) -> None:
        self._model = model
        self._advance = advance
        self._asked = asked
        self._number = 0
        self._ready: list[Any] = []
        self._news = anyio.Event()
        model.listeners.add(self._wake)

    def _wake(self) -> None:
        self._news.set()

    async def next(self, *, within: float = math.inf, late: Exception | None = None) -> Any:
        while not self._ready:
            if self._model.down:
                return None
            self._number, self._ready = routes_node.events_after(
                self._model, self._number, self._asked["since"], self._asked["filters"]
            )
            if not self._ready:
                self._news = anyio.Event()
                with anyio.move_on_after(_LOOK):
                    await self._news.wait()
                self._advance()
        await anyio.lowlevel.checkpoint()
        return self._ready.pop(0)

    def close(self) -> None:
        self._model.listeners.discard(self._wake)


def swarm_of(
    model: Model, clock: Clock, *, deadline: float = DEADLINE, pull_idle: float = PULL_IDLE
) -> DockerSwarm:
    """warmd's own adapter on a model. Nobody is logged in anywhere."""
    engine = ModelEngine(model, clock, deadline=deadline)
    logins = Credentials(Path("/nonexistent"))
    images = Images(engine, logins, idle=pull_idle, deadline=PULL_DEADLINE)
    return DockerSwarm(engine, images, logins, clock)


class AppProber:
    """The ``Prober`` port: what the application behind a published port says of itself."""

    def __init__(self, model: Model, clock: Clock, port: int) -> None:
        self._model = model
        self._clock = clock
        self._port = port

    async def probe(self) -> Probe:
        await anyio.lowlevel.checkpoint()
        self._model.advance(self._clock.monotonic(), self._clock.now().timestamp())
        found = self._model.health(self._port)
        if found is None:
            return Probe(Health.UNHEALTHY, f"nothing answers at port {self._port}")
        status, body = found
        health = Health.HEALTHY if status == 200 else Health.UNHEALTHY
        return Probe(health, f"port {self._port} answered {status}: {body['status']}")
