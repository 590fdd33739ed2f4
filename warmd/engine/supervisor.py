"""One worker a service: looks on a common pulse, on hints, and when asked; none disturbs another."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import anyio
import structlog

from warmd.core import pacing
from warmd.core.household import Trouble
from warmd.core.runs import Cause
from warmd.engine.household import Household
from warmd.engine.ledger import Ledger
from warmd.engine.reconcile import Reconciler
from warmd.engine.service import Shop
from warmd.errors import WarmdError

log = structlog.get_logger("warmd.daemon")

#: Seconds that a worker waits before it follows another hint: a crash loop makes an event a second.
HINT_GAP = 0.5
#: Seconds to leave off in after SIGTERM. Putting an old version back is not cut short by it.
LEAVE = 30.0


@dataclass(slots=True)
class _Asked:
    """What woke a worker: look no older than ``not_before``, at the source no older than ``fetched``,
    and whether waits are left out."""

    not_before: float
    fetched: float
    forced: bool = False


class Worker:
    """Looks at one service whenever it is woken, one look at a time."""

    def __init__(self, reconciler: Reconciler, shop: Shop) -> None:
        self.reconciler = reconciler
        self.failures = 0
        self.trouble: WarmdError | None = None
        self.looked = False
        self._shop = shop
        self._wake = anyio.Event()
        self._asked: _Asked | None = None
        self._looking: anyio.CancelScope | None = None
        self._stopping = False
        self._last_look = float("-inf")

    def wake(self, *, not_before: float, fetched: float | None = None, forced: bool = False) -> None:
        """Ask for a look; several asks before it begins are one. ``fetched``: how old the source's
        answer may be, where an event says nothing about it."""
        was, source = self._asked, not_before if fetched is None else fetched
        if was is not None:
            source, forced = max(was.fetched, source), forced or was.forced
        self._asked = _Asked(not_before, source, forced)
        self._wake.set()

    def leave(self) -> None:
        """Finish quickly: a run in progress is interrupted as its state allows, a look is cut short."""
        self._stopping = True
        self.reconciler.runner.interrupt(Cause.SIGNAL, "the daemon was told to stop")
        if self._looking is not None and not self.reconciler.runner.active:
            self._looking.cancel()
        self._wake.set()

    async def run(self, looked: Callable[[Worker], Awaitable[None]]) -> None:
        while not self._stopping:
            await self._wait()
            asked, self._asked = self._asked, None
            if asked is None or self._stopping:
                continue
            await self._gap(asked)
            await self._look(asked)
            await looked(self)
        async with self.reconciler.turn:
            pass  # what a person asked for over the control socket leaves off first

    async def _wait(self) -> None:
        """Until woken; after trouble, or while a run waits for its probes, no longer than the back-off."""
        waiting = self.reconciler.ledger.history.unfinished is not None
        if self.failures or waiting:
            delay = pacing.next_look(
                self._shop.interval, failures=max(self.failures, 1), random=self._shop.clock.jitter()
            )
            with anyio.move_on_after(delay.total_seconds()):
                await self._wake.wait()
            if not self._wake.is_set():
                now = self._shop.clock.monotonic()
                self._asked = _Asked(now, now)
        else:
            await self._wake.wait()
        self._wake = anyio.Event()

    async def _gap(self, asked: _Asked) -> None:
        since = self._shop.clock.monotonic() - self._last_look
        if since < HINT_GAP and not asked.forced:
            await self._shop.clock.sleep(HINT_GAP - since)
        self._last_look = self._shop.clock.monotonic()

    async def _look(self, asked: _Asked) -> None:
        name = self.reconciler.service.name
        with anyio.CancelScope() as self._looking:
            try:
                await self.reconciler.look(
                    not_before=asked.not_before, fetched=asked.fetched, forced=asked.forced
                )
            except WarmdError as error:
                self._failed(error)
            except Exception as error:
                # A bug at one service must not end the others' care; it is told loudly.
                log.exception("look.crashed", service=name)
                self._failed(WarmdError(f"unexpected {type(error).__name__}: {error}"))
            else:
                if self.failures:
                    log.info("look.recovered", service=name, after=self.failures)
                self.failures, self.trouble = 0, None
        self._looking = None
        self.looked = True

    def _failed(self, error: WarmdError) -> None:
        self.failures += 1
        if self.failures == 1 or str(error) != str(self.trouble):
            log.warning("look.failed", service=self.reconciler.service.name, why=str(error))
        self.trouble = error


class Supervisor:
    """The daemon's body: workers, the pulse, hints, and the way out."""

    def __init__(
        self, reconcilers: Mapping[str, Reconciler], shop: Shop, *, heartbeat: Callable[[], None]
    ) -> None:
        self.workers = {name: Worker(reconciler, shop) for name, reconciler in reconcilers.items()}
        self._shop = shop
        self._heartbeat = heartbeat
        self.household = Household(shop)
        self._by_stack = {w.reconciler.service.stack: w for w in self.workers.values()}
        self._leaving = anyio.Event()
        self._pulsed = float("-inf")

    def poke(self, name: str | None = None) -> None:
        """Look now: at one service, or at all."""
        now = self._shop.clock.monotonic()
        for worker in self.workers.values() if name is None else [self.workers[name]]:
            worker.wake(not_before=now, forced=True)

    def leave(self) -> None:
        """Begin to stop; ``run`` returns when every worker has left off, or after the deadline."""
        self._leaving.set()
        for worker in self.workers.values():
            worker.leave()

    async def run(self) -> None:
        """Look after everything until told to leave."""
        await self.household.begin()
        log.info("daemon.started", services=len(self.workers), installation=self._shop.installation)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._pulse)
            tasks.start_soon(self._hints)
            async with anyio.create_task_group() as workers:
                for worker in self.workers.values():
                    workers.start_soon(worker.run, self._looked)
                await self._leaving.wait()
                # Runs leave off where their journal says how to go on, whoever began them. One that
                # does not in time is cut off, and resumed by the next start.
                with anyio.move_on_after(LEAVE):
                    for worker in self.workers.values():
                        await worker.reconciler.runner.idle()
                workers.cancel_scope.cancel()
            tasks.cancel_scope.cancel()
        log.info("daemon.stopped")

    @property
    def ledger(self) -> Ledger:
        """Of the alerts about the daemon as a whole."""
        return self.household.ledger

    def trouble(self, name: str) -> str | None:
        """What went wrong at a service's last look, or None."""
        worker = self.workers.get(name)
        return str(worker.trouble) if worker and worker.trouble else None

    async def signals(self) -> None:
        """SIGHUP looks at everything now; SIGTERM and SIGINT begin to stop. Runs until cancelled."""
        with anyio.open_signal_receiver(signal.SIGHUP, signal.SIGTERM, signal.SIGINT) as received:
            async for number in received:
                log.info("daemon.signal", signal=signal.Signals(number).name)
                if number == signal.SIGHUP:
                    self.poke()
                else:
                    self.leave()

    async def _pulse(self) -> None:
        """All workers look at once, so that one listing serves them all."""
        while True:
            self._pulsed = now = self._shop.clock.monotonic()
            for worker in self.workers.values():
                worker.wake(not_before=now)
            delay = pacing.next_look(self._shop.interval, failures=0, random=self._shop.clock.jitter())
            await self._shop.clock.sleep(delay.total_seconds())

    async def _hints(self) -> None:
        """Docker's events wake the worker of the stack. Only hints: the pulse is what counts."""
        failures = 0
        while True:
            try:
                async for stack in self._shop.swarm.events():
                    failures = 0
                    if worker := self._by_stack.get(stack):
                        # An event says nothing about the source: a crash loop must not fetch.
                        worker.wake(not_before=self._shop.clock.monotonic(), fetched=self._pulsed)
            except WarmdError as error:
                log.debug("events.lost", why=str(error))
            failures += 1
            delay = pacing.next_look(self._shop.interval, failures=failures, random=self._shop.clock.jitter())
            await self._shop.clock.sleep(min(delay.total_seconds(), 5.0 * failures))

    async def _looked(self, worker: Worker) -> None:
        self._heartbeat()
        if worker.trouble is not None or self.household.unsettled:
            await self.settle()

    async def settle(self) -> None:
        """Alerts about the daemon as a whole."""
        looks = {
            name: Trouble(worker.trouble, worker.failures) if worker.trouble is not None else None
            for name, worker in self.workers.items()
            if worker.looked
        }
        await self.household.settle(looks, services=self.workers)
