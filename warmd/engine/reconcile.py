"""One look at one service: finish what is unfinished, observe, decide, act, tell."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from warmd.core import gate, notices
from warmd.core import history as h
from warmd.core.gate import Action, Decision, View
from warmd.core.model import Bundle, Release
from warmd.core.runs import Kind, Run, RunPlan
from warmd.engine import bundles, notify
from warmd.engine.ledger import Ledger
from warmd.engine.observe import observe
from warmd.engine.perform import Origin, record_good
from warmd.engine.runner import Runner
from warmd.engine.service import Service, Shop
from warmd.errors import Refused

log = structlog.get_logger("warmd.look")

#: Looks in a row that one call makes: a take-over or a finished run is followed by another look.
ROUNDS = 6

_KINDS = {
    Action.UPGRADE: Kind.UPGRADE,
    Action.COLD_DEPLOY: Kind.COLD_DEPLOY,
    Action.REPAIR: Kind.REPAIR,
}


@dataclass(frozen=True, slots=True)
class Look:
    """What a look came to. ``view`` is None where only an unfinished run was worked on."""

    decision: Decision
    view: View | None
    run: Run | None = None


class Reconciler:
    """Looks at one service. One task at a time; ``runner.interrupt`` may come from others."""

    def __init__(self, service: Service, shop: Shop) -> None:
        self.service = service
        self.shop = shop
        self.ledger = Ledger(shop.journals, service.name)
        self.runner = Runner(service, shop, self.ledger)
        self._told: tuple[str, str] | None = None

    async def view(self, *, not_before: float, forced: bool = False) -> View:
        """Observe only. Raises Transient where Docker can't be asked."""
        history = await self.ledger.load()
        return await observe(self.service, self.shop, history, not_before=not_before, forced=forced)

    async def look(self, *, not_before: float, forced: bool = False) -> Look:
        """Observe, decide and act until there is nothing left to do now."""
        run: Run | None = None
        for _ in range(ROUNDS):
            view, decision = None, None
            await self.ledger.load()
            if self.ledger.history.unfinished:
                run = await self._in_slot(None)
                if not run.ended:
                    decision = Decision(Action.RESUME, "resume", f"run {run.plan.id} waits in {run.state}")
            if decision is None:
                view = await self.view(not_before=not_before, forced=forced)
                decision = gate.decide(view)
                await self._note_drift(decision)
            self._tell(decision)
            await self._settle(decision, view)
            acted = await self._act(decision, view) if view is not None else None
            if acted is None:
                return Look(decision, view, run)
            run = acted if isinstance(acted, Run) else run
            not_before, forced = self.shop.clock.monotonic(), False
        return Look(decision, view, run)

    def _tell(self, decision: Decision) -> None:
        """Log what changed, not every look."""
        now = (decision.name, decision.reason)
        level = log.debug if now == self._told else log.info
        level("look.decided", service=self.service.name, decision=decision.name, reason=decision.reason)
        self._told = now

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
        )

    async def _note_drift(self, decision: Decision) -> None:
        drifted = [x for x in decision.held if x.name == gate.DRIFT]
        since = self.ledger.history.drift_since
        if drifted and since is None:
            await self.ledger.write(h.drift(self.shop.clock.now(), [x.reason for x in drifted]))
        elif not drifted and since is not None:
            await self.ledger.write(h.drift_over(self.shop.clock.now()))

    async def _act(self, decision: Decision, view: View) -> Run | bool | None:
        """Do what was decided: the run, True where something else was done, None where nothing was."""
        if decision.action is Action.TAKE_OVER:
            await self.take_over(view)
            return True
        if decision.action not in _KINDS:
            return None
        return await self._in_slot(decision)

    async def _in_slot(self, decision: Decision | None) -> Run:
        """Make or resume a run, while no more than ``max_parallel`` services change."""
        async with self.shop.slots:
            if decision is None:
                return await self.runner.proceed()
            plan, rendered = await self.plan(_KINDS[decision.action], decision.target, decision.approval)
            return await self.runner.begin(plan, rendered)

    async def take_over(self, view: View, *, how: str = h.TAKEN_OVER, uid: int | None = None) -> None:
        """What runs becomes last good, as it is; not one task is created."""
        release = view.catalog.find(view.running)
        inputs = await self.service.deployer.inputs(release) if release else None
        origin = Origin(view.running, release.commit if release else None, None, inputs)
        good, live = await record_good(self.service, self.shop, origin, how=how)
        await self.ledger.write(h.last_good(good, live, uid=uid))
        log.info("service.taken-over", service=self.service.name, version=str(view.running), how=how)

    async def plan(
        self,
        kind: Kind,
        release: Release | None,
        approval: h.Approval | None = None,
        *,
        by: str = "",
        why: str = "",
    ) -> tuple[RunPlan, Bundle | None]:
        """The run that ``kind`` means now, and the rendered bundle with its secrets' data."""
        good = self.ledger.history.last_good
        before = good.version.text if good and good.version else None
        common = {
            "id": self.shop.clock.new_id(),
            "horizon": self.service.policy.rollback_horizon,
            "from_version": before,
            "previous": good.bundle if good else None,
            "approval": approval.id if approval else None,
            "asked_by": by,
            "why": why,
        }
        if kind in (Kind.REPAIR, Kind.SNAPSHOT):
            if good is None:
                raise Refused(f"{self.service.name}: no last good is known", hint="warmd adopt SERVICE")
            plan = RunPlan(
                kind=kind,
                target=good.bundle,
                copy=kind is Kind.SNAPSHOT,
                to_version=before,
                commit=good.commit,
                rendered=good.rendered,
                inputs=good.inputs,
                **common,
            )
            return plan, None
        if release is None:
            raise Refused(
                f"{self.service.name}: no release to deploy", hint=f"warmd plan {self.service.name}"
            )
        rendered = await bundles.render(self.service, release)
        blob = await bundles.keep(self.shop, rendered.bundle)
        plan = RunPlan(
            kind=kind,
            target=blob,
            copy=self.service.copy and good is not None,
            to_version=release.version.text,
            commit=release.commit,
            rendered=blob,
            inputs=rendered.inputs,
            **common,
        )
        return plan, rendered.bundle
