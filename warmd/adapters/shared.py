"""One call for many callers: what a listing of the swarm or a fetch of a repository is shared through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio

T = TypeVar("T")


class _Flight:
    """One call under way: when it started, and how it ended (nothing of both: it was cancelled)."""

    def __init__(self, started: float) -> None:
        self.started = started
        self.done = anyio.Event()
        self.error: Exception | None = None


class Shared(Generic[T]):
    """Runs ``call`` at most once at a time and gives its answer to everybody it is fresh enough for.

    A caller says how old the answer may be: ``not_before``, in the seconds of ``monotonic``. It is
    served by any call, running or ended, that *started* then or later; what started earlier may
    have missed what the caller wants to see, so such a caller waits for the next call.

    The first caller in need runs the call itself, so no task outlives its callers. Where that
    caller is cancelled, one of those who wait starts the call anew. An error goes to everybody who
    waited for that call, and is not kept: the next caller tries again.
    """

    def __init__(self, call: Callable[[], Awaitable[T]], monotonic: Callable[[], float]) -> None:
        self._call = call
        self._monotonic = monotonic
        self._running: _Flight | None = None
        self._kept: tuple[float, T] | None = None

    async def get(self, *, not_before: float) -> T:
        """The answer of a call that started at ``not_before`` or later. Raises what the call raises."""
        while True:
            if self._kept is not None and self._kept[0] >= not_before:
                return self._kept[1]
            flight = self._running
            if flight is None:
                return await self._run()
            await flight.done.wait()
            if flight.error is not None and flight.started >= not_before:
                raise flight.error

    async def _run(self) -> T:
        flight = self._running = _Flight(self._monotonic())
        try:
            answer = await self._call()
        except Exception as error:
            flight.error = error
            raise
        else:
            self._kept = (flight.started, answer)
            return answer
        finally:
            self._running = None
            flight.done.set()
