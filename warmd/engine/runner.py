"""Takes a run from where the journal says it is to where it ends. The only place that advances runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import structlog

from warmd.core import history as h
from warmd.core.machine import ROLLBACK, STOPPED, UNTOUCHED, WATCHING, Event, State, advance, effect_of
from warmd.core.runs import Cause, Kind, Run, RunPlan, after_failure, too_late
from warmd.engine.ledger import Ledger
from warmd.engine.perform import UNINTERRUPTIBLE, Done, Effects
from warmd.engine.service import Service, Shop
from warmd.engine.watch import Unhealthy
from warmd.errors import DockerUnreachable, Foreign, Refused, SwarmConflict, Transient, WarmdError

log = structlog.get_logger("warmd.run")

#: Where a person may still say no: before the deploy, and while the new version is being watched.
ABORTABLE = UNTOUCHED | STOPPED | {State.DEPLOYING, State.GATING}
#: Tries of an effect whose failure may pass by itself, once the service was touched; seconds between.
#: Docker restarting in the middle of an upgrade must not look like a bad release.
TRIES, WAIT = 8, 5.0
#: A rollback has the service down until the old version starts. Told to stop, warmd goes on with it
#: for so many seconds; then the journal, and whoever resumes it, have to do.
LINGER = 20.0


class Runner:
    """Runs of one service, one at a time. ``interrupt`` may be called from another task."""

    def __init__(self, service: Service, shop: Shop, ledger: Ledger) -> None:
        self._service = service
        self._shop = shop
        self._ledger = ledger
        self._scope: anyio.CancelScope | None = None
        self._cause: Cause | None = None
        self._detail = ""
        self._leave_by = 0.0
        #: When a run was worked on last (monotonic): what was listed before it says nothing any more.
        self.left = float("-inf")
        self._idle = anyio.Event()
        self._idle.set()

    @property
    def active(self) -> bool:
        """Whether a run is being worked on."""
        return not self._idle.is_set()

    @property
    def leaving(self) -> bool:
        """Whether this process was told to stop: nothing new is begun."""
        return self._cause is Cause.SIGNAL

    def interrupt(self, cause: Cause, detail: str) -> None:
        """Ask the present effect to stop; what follows depends on where the run is.

        Raises Refused for an abort of a run that can no longer be aborted. A signal stays: this
        process begins nothing new.
        """
        run = self._ledger.history.unfinished
        if cause is Cause.ABORT and (run is None or run.state not in ABORTABLE):
            raise Refused(
                f"{self._service.name}: the run is {run.state if run else 'over'} and goes on to its end",
                hint=f"warmd status {self._service.name}",
            )
        if self._cause is not Cause.SIGNAL:
            self._cause, self._detail = cause, detail
            self._leave_by = anyio.current_time() + LINGER
        if self._scope is not None and run is not None:
            self._cut(self._scope, run.state)

    def _cut(self, scope: anyio.CancelScope, state: State) -> None:
        """End an effect that was interrupted: at once, or where the service is down for it, soon. An
        abort that came too late ends nothing."""
        if self.leaving and state in (State.HALTING, State.RESTORING):
            scope.deadline = self._leave_by
        elif self.leaving or state in ABORTABLE:
            scope.cancel()

    async def idle(self) -> None:
        """Wait until no run is being worked on."""
        await self._idle.wait()

    async def begin(self, plan: RunPlan) -> Run:
        """Journal a new run and take it as far as it goes. Raises Transient when told to stop."""
        if self.leaving:
            raise Transient(f"{self._service.name}: warmd was told to stop, so no run was begun")
        if self._cause is Cause.ABORT:
            self._cause = None  # its run was over before it came
        await self._ledger.write(h.run_planned(plan, self._shop.clock.now()))
        log.info(
            "run.planned",
            service=self._service.name,
            run=plan.id,
            kind=plan.kind.value,
            current=plan.from_version,
            target=plan.to_version,
        )
        return await self.proceed()

    async def proceed(self) -> Run:
        """Go on with the unfinished run: until it ends, waits for probes, or is told to leave off."""
        run = self._ledger.history.run
        assert run is not None, "no run to proceed with"
        effects = Effects(self._service, self._shop, before=self._ledger.history.last_good)
        self._idle = anyio.Event()
        try:
            run = await self._to_its_end(effects, run)
        finally:
            self.left = self._shop.clock.monotonic()
            self._idle.set()
        if run.ended and self._cause is Cause.ABORT:
            self._cause = None  # it came too late for this run, and is not meant for the next
        if run.ended and run.state is not State.STUCK:
            await self._prune(run)
        return run

    async def _to_its_end(self, effects: Effects, run: Run) -> Run:
        while not run.ended:
            if halted := self._shop.halted():
                log.warning("run.halted", service=self._service.name, run=run.plan.id, why=halted)
                return run
            done = await self._step(effects, run)
            if done is None:
                log.info("run.left", service=self._service.name, run=run.plan.id, state=run.state.value)
                return run
            if done.event is Event.BLIND and run.blind_since is not None:
                return run  # as it was; the journal says so already
            run = await self._advance(run, done)
            if done.event is Event.BLIND:
                return run
        return run

    async def _advance(self, run: Run, done: Done) -> Run:
        state = advance(run.state, done.event)
        now = self._shop.clock.now()
        found: Mapping[str, Any] = {k: v for k, v in done.found.items() if k not in ("cause", "transient")}
        draft = h.run_state(
            run,
            state,
            now,
            detail=done.detail,
            cause=done.found.get("cause"),
            transient=bool(done.found.get("transient")),
            found=found,
        )
        history = await self._ledger.write(draft)
        level = "warning" if state in ROLLBACK or state is State.STUCK else "info"
        getattr(log, level)(
            f"run.{state.value}",
            service=self._service.name,
            run=run.plan.id,
            version=run.plan.to_version,
            **({"detail": done.detail} if done.detail else {}),
        )
        now_is = history.run  # not this one where it ended and another, stuck before it, is back
        return now_is if now_is is not None and now_is.plan.id == run.plan.id else history.runs[-1]

    async def _step(self, effects: Effects, run: Run) -> Done | None:
        """One effect and what it led to; None where the run is to be left as it is."""
        if late := too_late(run, now=self._shop.clock.now()):
            return Done(Event.GIVE_UP, {"cause": Cause.FAILURE}, f"{run.detail}; {late}")
        done: Done | None = None
        with anyio.CancelScope(shield=run.state in UNINTERRUPTIBLE) as scope:
            if run.state not in UNINTERRUPTIBLE:
                self._scope = scope
                if self._cause is not None:
                    self._cut(scope, run.state)
            try:
                done = await self._with_patience(effects, run)
            except Exception as error:
                if self._says_nothing(run, error):
                    raise  # the next look or the next start goes on from here
                if not isinstance(error, WarmdError | Unhealthy):
                    log.exception("run.crashed", service=self._service.name, run=run.plan.id)
                done = self._failed(run, error)
            finally:
                self._scope = None
        return done or self._interrupted(run)

    async def _with_patience(self, effects: Effects, run: Run) -> Done:
        """Once the service was touched, trouble that may pass is waited out before it counts."""
        effect = effect_of(run.state)
        assert effect is not None
        tries = 1 if run.state in UNTOUCHED or run.state in WATCHING else TRIES
        for again in range(1, tries + 1):
            try:
                return await effects.perform(effect, run)
            except Transient as error:
                if again == tries or self.leaving:
                    raise
                log.warning(
                    "run.waits",
                    service=self._service.name,
                    run=run.plan.id,
                    state=run.state.value,
                    why=str(error),
                )
                await self._shop.clock.sleep(0.2 if isinstance(error, SwarmConflict) else WAIT)
        raise AssertionError("unreachable")

    def _says_nothing(self, run: Run, error: Exception) -> bool:
        """Whether an error is no word about the service: then nothing is decided from it.

        Docker is silent, or nobody is left to wait; or the gate watches, and what failed is not the
        service's health but warmd's own work around it.
        """
        if run.state in UNTOUCHED or isinstance(error, Unhealthy | Foreign):
            return False
        if run.state in WATCHING or isinstance(error, DockerUnreachable):
            return True
        return self.leaving and isinstance(error, Transient)

    def _failed(self, run: Run, error: Exception) -> Done:
        foreign = isinstance(error, Foreign)
        event, why = after_failure(run, now=self._shop.clock.now(), foreign=foreign)
        detail = f"{run.state}: {error}" + (f"; {why}" if why else "")
        found: dict[str, Any] = {"cause": Cause.FAILURE, "transient": isinstance(error, Transient)}
        return Done(event, found | ({"foreign": True} if event is Event.FOREIGN else {}), detail)

    def _interrupted(self, run: Run) -> Done | None:
        """What an interruption leads to: back to the old specs before the deploy; after it, a person's
        abort rolls back, and a daemon that is told to stop leaves the journal to be resumed."""
        cause = self._cause or Cause.SIGNAL
        if run.state in UNTOUCHED or run.state in STOPPED:
            self._cause = None if cause is Cause.ABORT else self._cause
            return Done(Event.ABORT, {"cause": cause}, self._detail)
        if run.state is State.GATING and cause is Cause.ABORT:
            self._cause = None
            event, why = after_failure(run, now=self._shop.clock.now())
            return Done(event, {"cause": cause}, f"{self._detail}; {why}" if why else self._detail)
        return None

    async def _prune(self, run: Run) -> None:
        """Retention: the newest stay, and what a rollback may still need."""
        runs = (run if run.plan.kind is not Kind.RESTORE else None, self._ledger.history.stuck)
        needed = frozenset(r.snapshot.id for r in runs if r is not None and r.snapshot is not None)
        try:
            await self._service.snapshotter.prune(keep=self._service.keep, needed=needed)
        except WarmdError as error:
            log.warning("snapshot.not-pruned", service=self._service.name, why=str(error))
