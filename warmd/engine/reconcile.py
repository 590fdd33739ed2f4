"""One look at one service: finish what is unfinished, observe, decide, act, tell."""

from __future__ import annotations

from dataclasses import dataclass, replace

import anyio
import structlog

from warmd.core import gate, live, notices
from warmd.core import history as h
from warmd.core.gate import Action, Decision, Held, View
from warmd.core.model import Release
from warmd.core.runs import Kind, Run, RunPlan
from warmd.engine import notify
from warmd.engine.good import Origin, record_good
from warmd.engine.ledger import Ledger
from warmd.engine.observe import observe
from warmd.engine.runner import Runner
from warmd.engine.service import Service, Shop
from warmd.engine.watch import Unhealthy, blind, watch
from warmd.errors import Refused

log = structlog.get_logger("warmd.look")

#: Looks in a row that one call makes: a take-over or a finished run is followed by another look.
ROUNDS = 6

#: What a decision to act is made as.
KINDS = {
    Action.UPGRADE: Kind.UPGRADE,
    Action.COLD_DEPLOY: Kind.COLD_DEPLOY,
    Action.REPAIR: Kind.REPAIR,
}


@dataclass(frozen=True, slots=True)
class Look:
    """What a look came to. ``view`` is None where an unfinished run could not be ended; ``last`` is
    False where something was done, so that there may be more to do at once."""

    decision: Decision
    view: View | None
    run: Run | None = None
    last: bool = True


class Reconciler:
    """Looks at one service, and keeps what it saw last. ``turn`` is held by whoever looks or acts;
    only ``runner.interrupt`` comes from outside of it."""

    def __init__(self, service: Service, shop: Shop) -> None:
        self.service = service
        self.shop = shop
        self.ledger = Ledger(shop.journals, service.name)
        self.runner = Runner(service, shop, self.ledger)
        self.turn = anyio.Lock()
        self.seen: Look | None = None
        self._told: tuple[str, str] | None = None
        self._warned: frozenset[str] = frozenset()

    async def view(self, *, not_before: float, fetched: float | None = None, forced: bool = False) -> View:
        """Observe only. ``fetched``: how old the source's answer may be, where it may be older than the
        swarm's. Raises Transient where Docker can't be asked."""
        history = await self.ledger.load()
        return await observe(
            self.service, self.shop, history, not_before=not_before, fetched=fetched, forced=forced
        )

    async def peek(self) -> Look:
        """Observe and decide, and keep it as what was seen last; nothing is done or written."""
        view = await self.view(not_before=self.shop.clock.monotonic())
        self.seen = Look(gate.decide(view), view)
        return self.seen

    async def look(self, *, not_before: float, fetched: float | None = None, forced: bool = False) -> Look:
        """Observe, decide and act until there is nothing left to do now."""
        async with self.turn:
            run: Run | None = None
            # It may have been asked for before somebody's run, whose listing would still be fresh enough.
            fetched = not_before if fetched is None else fetched
            not_before = max(not_before, self.runner.left)
            for _ in range(ROUNDS - 1):
                look = await self._look_once(not_before=not_before, fetched=fetched, forced=forced)
                run = look.run or run
                if look.last or self.runner.leaving:
                    break
                not_before, fetched, forced = self.shop.clock.monotonic(), None, False
            self.seen = replace(look, run=run)
            return self.seen

    async def _look_once(self, *, not_before: float, fetched: float | None, forced: bool) -> Look:
        await self.ledger.load()
        run: Run | None = None
        if self.ledger.history.unfinished:
            async with self.shop.slots:
                run = await self.runner.proceed()
            if not run.ended:
                why = self.shop.halted() or run.detail or "warmd was told to stop"
                reason = f"run {run.plan.id} waits in {run.state}: {why}"
                held = (Held(gate.PAUSED, reason),) if self.shop.halted() else ()
                waits = Decision(Action.RESUME, "resume", reason, held=held)
                self._tell(waits)
                await self._settle(waits, None)
                return Look(waits, None, run)
        view = await self.view(not_before=not_before, fetched=fetched, forced=forced)
        decision = gate.decide(view)
        self._tell(decision)
        self._warn(view)
        await self._note(decision, view)
        await self._settle(decision, view)
        if decision.action is Action.TAKE_OVER:
            return Look(decision, view, run, last=not await self._take_over_if_steady(view))
        if decision.action in KINDS:
            return Look(decision, view, await self._act(decision), last=False)
        return Look(decision, view, run)

    def _tell(self, decision: Decision) -> None:
        """Log what changed, not every look."""
        now = (decision.name, decision.reason)
        level = log.debug if now == self._told else log.info
        level("look.decided", service=self.service.name, decision=decision.name, reason=decision.reason)
        self._told = now

    def _warn(self, view: View) -> None:
        """What is odd and holds nothing, once as long as it lasts."""
        for text in view.warnings:
            if text not in self._warned:
                log.warning("look.odd", service=self.service.name, what=text)
        self._warned = frozenset(view.warnings)

    async def _settle(self, decision: Decision, view: View | None) -> None:
        history = self.ledger.history
        wanted = notices.wanted(decision, history, service=self.service.name, stack=self.service.stack)
        if view is not None and (trouble := notices.of_source(view.catalog, view.now, self.service.name)):
            wanted += (trouble,)
        good = history.last_good.version if history.last_good else None
        current = (view.running if view else None) or good
        await notify.settle(
            self.ledger,
            self.shop,
            wanted,
            service=self.service.name,
            stack=self.service.stack,
            current=current.text if current else None,
            resolution=f"{decision.name}: {decision.reason}",
            judged=decision.judged,
        )

    async def _note(self, decision: Decision, view: View) -> None:
        """What later decisions need to know of this look; nothing where nothing is new."""
        now, history = self.shop.clock.now(), self.ledger.history
        if view.marks is not None:
            await self.ledger.write(h.marks(now, view.marks.live, view.marks.inputs))
        whose = gate.data_of(view)
        if whose not in (None, history.data_of):
            await self.ledger.write(h.moved(now, whose or ""))
        drifted = [x for x in decision.held if x.name == gate.DRIFT]
        since = history.drift_since
        if drifted and (since is None or since > now):
            await self.ledger.write(h.drift(now, [x.reason for x in drifted]))
        elif not drifted and since is not None:
            await self.ledger.write(h.drift_over(now))

    async def _act(self, decision: Decision) -> Run | None:
        """Make the decided run, while no more than ``max_parallel`` services change.

        None where it had to wait for its turn, or somebody paused the service since it was looked at,
        and, looked at again, something else is right now.
        """
        waits = self.shop.slots.available_tokens < 1
        async with self.shop.slots:
            if waits or self.ledger.history.paused:
                now = gate.decide(await self.view(not_before=self.shop.clock.monotonic()))
                if (now.action, now.target) != (decision.action, decision.target):
                    return None
            plan = self.plan(KINDS[decision.action], decision.target, decision.approval)
            return await self.runner.begin(plan)

    async def _take_over_if_steady(self, view: View) -> bool:
        """Take over what stays healthy through the gate's window, and isn't being changed meanwhile."""
        try:
            window = await watch(self.service, self.shop, self.service.gate)
        except Unhealthy as error:
            log.info("service.not-taken-over", service=self.service.name, why=str(error))
            return False
        seen = await self.service.deployer.seen()
        if blind(window) or view.seen is None or live.marks(seen) != live.marks(view.seen):
            log.info("service.not-taken-over", service=self.service.name, why="it is being changed")
            return False
        await self.take_over(view)
        return True

    async def take_over(self, view: View, *, how: str = h.TAKEN_OVER, uid: int | None = None) -> None:
        """What runs becomes last good, as it is; not one task is created."""
        release = view.catalog.find(view.running)
        inputs = await self.service.deployer.inputs(release) if release else None
        origin = Origin(view.running, release.commit if release else None, None, inputs)
        good, marks = await record_good(self.service, self.shop, origin, how=how)
        await self.ledger.write(h.last_good(good, marks, uid=uid))
        log.info("service.taken-over", service=self.service.name, version=str(view.running), how=how)

    def plan(
        self,
        kind: Kind,
        release: Release | None,
        approval: h.Approval | None = None,
        *,
        by: str = "",
        why: str = "",
    ) -> RunPlan:
        """The run that ``kind`` means now. Raises Refused where there is nothing to run."""
        good = self.ledger.history.last_good
        before = good.version.text if good and good.version else None
        plan = RunPlan(
            id=self.shop.clock.new_id(),
            kind=kind,
            copy=self.service.copy and good is not None and kind is not Kind.REPAIR,
            horizon=self.service.policy.rollback_horizon,
            from_version=before,
            previous=good.deployable if good else None,
            approval=approval.id if approval else None,
            asked_by=by,
            why=why,
        )
        if kind in (Kind.REPAIR, Kind.SNAPSHOT):
            if good is None:
                raise Refused(f"{self.service.name}: no last good is known", hint="warmd adopt SERVICE")
            return replace(
                plan,
                target=good.deployable,
                to_version=before,
                commit=good.commit,
                rendered=good.rendered,
                inputs=good.inputs,
            )
        if kind is Kind.RESTORE:
            return plan  # the snapshot brings its own specs
        if release is None:
            raise Refused(
                f"{self.service.name}: no release to deploy", hint=f"warmd plan {self.service.name}"
            )
        return replace(plan, to_version=release.version.text, commit=release.commit)
