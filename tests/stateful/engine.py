"""The model of the swarm as a client of ``World`` asks it: every call passes the points, before and after."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import anyio

from tests.model import Answer, ModelEngine
from warmd.adapters.docker.client import JsonLines

if TYPE_CHECKING:
    from tests.stateful.world import World


class PointedEngine(ModelEngine):
    """``ModelEngine``, with points, with what is posted told to the world, and with events that cost
    nothing while nobody makes any."""

    def __init__(self, world: World) -> None:
        super().__init__(world.model, world.clock)
        self._world = world

    async def _call(
        self, method: str, path: str, doing: str, params: Mapping[str, str] | None, body: object, limit: float
    ) -> Answer:
        self._world.points.at(f"docker {method} {path}")
        before = self._world.model.store.index
        spec, old = self._posted(method, path, body)
        answer = await super()._call(method, path, doing, params, body, limit)
        if spec is not None and answer.status < 400 and self._world.model.store.index != before:
            self._world.posted(spec, old)
        self._world.points.at(f"docker.done {method} {path}")
        return answer

    def _posted(self, method: str, path: str, body: object) -> tuple[Any, Any]:
        """The service's spec that a call posts, and the one that it replaces."""
        if method != "POST" or not path.startswith("services/"):
            return None, None
        id_ = path.split("/")[1]
        service = self._world.model.store.services.get(id_)
        return body, service.spec if service is not None else None

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
        if path != "events":
            async with super().stream(
                method, path, doing=doing, params=params, headers=headers, first=first, late=late
            ) as lines:
                yield lines
            return
        answer = await self._call(method, path, doing, params, None, self.deadline)
        events = _Events(self._world, answer.json)
        try:
            yield cast(JsonLines, events)
        finally:
            events.close()


class _Events:
    """Events as they happen. While the world is deaf they are lost, as a slow listener's are."""

    def __init__(self, world: World, asked: Mapping[str, Any]) -> None:
        self._world = world
        self._asked = asked
        self._number = world.model.events[-1][0] if world.model.events else 0
        self._ready: list[Any] = []
        self._news = anyio.Event()
        world.model.listeners.add(self._wake)

    def _wake(self) -> None:
        if not self._world.deaf:
            self._news.set()

    async def next(self, *, within: float = math.inf, late: Exception | None = None) -> Any:
        while not self._ready:
            await self._news.wait()
            self._news = anyio.Event()
            if self._world.model.down:
                return None
            self._ready = [
                event for number, _, event in self._world.model.events if self._heard(number, event)
            ]
            self._number = self._world.model.events[-1][0] if self._ready else self._number
        return self._ready.pop(0)

    def _heard(self, number: int, event: Mapping[str, Any]) -> bool:
        action = event["Action"].partition(":")[0]
        return (
            number > self._number
            and event["Type"] in self._asked["filters"]["type"]
            and action in self._asked["filters"]["event"]
        )

    def close(self) -> None:
        self._world.model.listeners.discard(self._wake)
