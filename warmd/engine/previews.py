"""What a look or a person's run would do, told and not done."""

from __future__ import annotations

from dataclasses import replace

from warmd.core import gate, specdiff, status
from warmd.core.coverage import Cover, cover
from warmd.core.gate import Action, View
from warmd.core.model import Release, SnapshotInfo
from warmd.core.planning import Outage, expected_outage, steps
from warmd.core.runs import Kind
from warmd.core.specs import unpinned
from warmd.core.status import PlanStatus, PreviewStatus
from warmd.engine import bundles
from warmd.engine.reconcile import KINDS, Reconciler
from warmd.engine.terms import Terms, current_of
from warmd.errors import Refused


class Previews:
    """The previews of one service. They take no turn: nothing is changed."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._r = reconciler
        self._service = reconciler.service
        self._shop = reconciler.shop
        self._terms = Terms(reconciler.service, reconciler.shop)

    @property
    def _name(self) -> str:
        return self._service.name

    async def _view(self) -> View:
        return await self._r.view(not_before=self._shop.clock.monotonic(), forced=True)

    async def plan(self) -> PlanStatus:
        """What a look would do now, and why. Changes nothing."""
        view = await self._view()
        decision = gate.decide(view)
        if decision.action is Action.TAKE_OVER:
            decision = replace(decision, candidates=gate.judge(view, view.running))
        target, kind = decision.target, KINDS.get(decision.action)
        changes = view.changed
        shown: tuple[str, ...] = ()
        outage: Outage | None = None
        if kind is not None:
            copy = self._service.copy and kind is Kind.UPGRADE
            covered = await self._covered() if copy else Cover((), (), ())
            volumes = covered.volumes
            view = replace(view, warnings=(*view.warnings, *covered.refusals))
            shown, outage = self._steps(view, kind, target, copy=copy, volumes=volumes)
            outage = outage if not volumes else await self._outage(view, volumes)
            if target is not None and kind is not Kind.REPAIR:
                changes += await self._changes(target)
        return status.of_plan(
            self._name, self._service.stack, view, decision, changes=changes, steps=shown, outage=outage
        )

    async def snapshot(self) -> PreviewStatus:
        """What ``snapshot`` would do, and Refused where it would be. Changes nothing."""
        view = await self._view()
        self._terms.ready(view, whose=gate.others_data(view))
        self._terms.copies()
        volumes = (await self._covered()).volumes
        shown, _ = self._steps(view, Kind.SNAPSHOT, None, copy=True, volumes=volumes)
        return self._preview(view, Kind.SNAPSHOT, shown, await self._outage(view, volumes))

    async def restore(self, snapshot: str) -> PreviewStatus:
        """What ``restore`` would do, and Refused or NotFound where it would be. Changes nothing."""
        view = await self._view()
        self._terms.restorable(view)
        info = await self._terms.snapshot(snapshot)
        _, version = await self._terms.specs(info)
        shown = self._words(view, Kind.RESTORE, version, volumes=info.volumes)
        outage = expected_outage(view.history, copy=True, data_bytes=info.data_bytes)
        return self._preview(view, Kind.RESTORE, shown, outage, info)

    def _preview(
        self, view: View, kind: Kind, shown: tuple[str, ...], outage: Outage, info: SnapshotInfo | None = None
    ) -> PreviewStatus:
        current = current_of(view)
        return PreviewStatus(
            service=self._name,
            stack=self._service.stack,
            kind=kind.value,
            current=current.text if current else None,
            steps=shown,
            outage=str(outage),
            snapshot=status.of_snapshot(info) if info else None,
        )

    async def _covered(self) -> Cover:
        """What a run would copy of what runs now, and why it would be refused."""
        mounts = await self._service.deployer.writable()
        return cover(mounts, stack=self._service.stack, exclude=self._service.exclude)

    async def _outage(self, view: View, volumes: tuple[str, ...]) -> Outage:
        present = [v for v in await self._shop.swarm.volumes() if v.name in volumes]
        size = await self._service.snapshotter.measure(present)
        return expected_outage(view.history, copy=True, data_bytes=size)

    def _steps(
        self, view: View, kind: Kind, target: Release | None, *, copy: bool, volumes: tuple[str, ...]
    ) -> tuple[tuple[str, ...], Outage]:
        to = target.version.text if target else None
        shown = self._words(view, kind, to, copy=copy, volumes=volumes)
        if kind in (Kind.COLD_DEPLOY, Kind.REPAIR):
            return shown, Outage(None, "none: it does not run now")
        return shown, expected_outage(view.history, copy=copy, data_bytes=None)

    def _words(
        self, view: View, kind: Kind, to: str | None, *, copy: bool = True, volumes: tuple[str, ...]
    ) -> tuple[str, ...]:
        current = current_of(view)
        return steps(
            kind,
            copy=copy,
            stack=self._service.stack,
            before=current.text if current else None,
            to=to,
            volumes=volumes,
            gate=status.gate_line(self._service.gate),
            horizon=self._service.policy.rollback_horizon,
        )

    async def _changes(self, target: Release) -> tuple[str, ...]:
        """How the target differs from last good, or why it would be refused before anything is touched."""
        good = self._r.ledger.history.last_good
        try:
            now = await bundles.render(self._service, target)
        except Refused as error:
            return (f"{target.version} can't be rendered: {error}",)
        if good is None:
            return ()
        known = await bundles.fetch(self._shop, good.rendered or good.bundle)
        return tuple(str(c) for c in specdiff.diff(unpinned(known), now.bundle, hides=now.hides))
