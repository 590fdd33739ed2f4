"""The Prober port over what the application would say of itself at ``/health``."""

from __future__ import annotations

from collections.abc import Callable

from tests.stateful.parts import Points
from warmd.core.model import Health, Probe


class Blind:
    """It can't be asked: the network between is away."""


class AppProber:
    """``ask`` gives whether it is well, None where nothing answers, or Blind."""

    def __init__(self, points: Points, ask: Callable[[], bool | Blind | None]) -> None:
        self._points = points
        self._ask = ask

    async def probe(self) -> Probe:
        self._points.at("probe")
        answer = self._ask()
        if isinstance(answer, Blind):
            return Probe(Health.INCONCLUSIVE, "the name can't be resolved")
        if answer is None:
            return Probe(Health.UNHEALTHY, "connection refused")
        return Probe(Health.HEALTHY if answer else Health.UNHEALTHY, "200" if answer else "503")
