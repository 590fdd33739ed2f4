"""What a person asks of one service. Each takes the service's turn, so none meets a look half-way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from warmd.core import gate, specdiff, status
from warmd.core import history as h
from warmd.core.coverage import Cover, cover
from warmd.core.gate import Action, Candidate, View
from warmd.core.history import Approval
from warmd.core.machine import State
from warmd.core.model import Bundle, Release, SnapshotInfo
from warmd.core.planning import Outage, expected_outage, steps
from warmd.core.runs import Cause, Kind, Run, RunPlan
from warmd.core.specs import unpinned
from warmd.core.status import PlanStatus, PreviewStatus
from warmd.core.versions import Version
from warmd.engine import bundles
from warmd.engine.reconcile import Look, Reconciler
from warmd.errors import NotFound, Refused


class Operations:
    """The verbs of one service."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._r = reconciler
        self._service = reconciler.service
        self._shop = reconciler.shop

    @property
    def _name(self) -> str:
        return self._service.name

    async def reconcile(self, *, patient: bool = False) -> Look:
        """Look now; waits after failures are left out unless ``patient``."""
        return await self._r.look(not_before=self._shop.clock.monotonic(), forced=not patient)

    async def approve(self, version: str, *, uid: int, why: str) -> Release:
        """Let one release through once, as it is published now. Raises NotFound or Refused.

        Takes no turn: a person's word may be given while a run is made.
        """
        view = await self._view()
        current = _current(view)
        release = view.catalog.find(Version.parse(version))
        if release is None:
            raise NotFound(f"{self._name}: {version} is not published", hint=f"warmd plan {self._name}")
        if current is not None and (release.version < current or release.version.same_as(current)):
            raise Refused(
                f"{self._name}: {version} is not above {current}, which runs; warmd never goes down"
            )
        path = gate.way(view.catalog, current, release) if current else (release,)
        given = Approval(
            self._shop.clock.new_id(),
            release.version.text,
            gate.binding(path),
            uid,
            why,
            self._shop.clock.now(),
        )
        await self._r.ledger.write(h.approval(given))
        return release

    async def retry(self, *, uid: int, version: str | None = None) -> None:
        """Forget why a version (or all) failed, and let a stuck run go on. Raises NotFound."""
        async with self._r.turn:
            history = await self._r.ledger.load()
            if version is not None and version not in history.failures:
                raise NotFound(f"{self._name}: {version} has not failed", hint=f"warmd history {self._name}")
            if not history.failures and history.stuck is None and history.trouble is None:
                raise NotFound(f"{self._name}: nothing has failed", hint=f"warmd status {self._name}")
            await self._r.ledger.write(h.retry(self._shop.clock.now(), uid=uid, version=version))

    async def abort(self, *, uid: int) -> Run:
        """Interrupt the run in progress: back to the old version. Raises NotFound."""
        history = await self._r.ledger.load()
        run = history.unfinished
        if run is None:
            raise NotFound(f"{self._name}: no run is in progress", hint=f"warmd status {self._name}")
        self._r.runner.interrupt(Cause.ABORT, f"aborted by uid {uid}")
        async with self._r.turn:  # the run's own task ends it; without one, this does
            if self._r.ledger.history.unfinished:
                await self._r.runner.proceed()
        history = self._r.ledger.history
        known: tuple[Run, ...] = (*history.runs, *((history.run,) if history.run else ()))
        return next(r for r in reversed(known) if r.plan.id == run.plan.id)

    async def adopt(self, *, uid: int, version: str | None = None) -> str:
        """What runs is good: it becomes last good, and a stuck run is over. The version's text."""
        async with self._turn():
            view = await self._view()
            waits = view.history.unfinished
            if waits is not None and waits.blind_since is None:
                raise Refused(f"{self._name}: a run is in progress", hint=f"warmd abort {self._name}")
            if view.owner is not None:
                raise Refused(f"{self._name}: its stack belongs to installation {view.owner}")
            if not view.deployed:
                raise Refused(
                    f"{self._name}: nothing runs that could be adopted", hint=f"warmd deploy {self._name}"
                )
            seen = await self._service.deployer.seen()
            if not any(s.running or s.job for s in seen.services):
                # Scaled to zero, it would be good like that for ever.
                raise Refused(
                    f"{self._name}: not one task of it runs, so there is nothing to adopt",
                    hint=f"docker stack ps {self._service.stack}",
                )
            parsed = Version.parse(version) if version else _adoptable(view)
            if parsed is None:
                what = f'"{version}" is not a version' if version else _unknown(view)
                raise Refused(f"{self._name}: {what}", hint=f"warmd adopt {self._name} --version 1.2.3+4.5")
            await self._r.take_over(replace(view, running=parsed), how=h.ADOPTED, uid=uid)
            return parsed.text

    async def pause(self, *, uid: int, why: str) -> None:
        """No new run until resumed; one in progress goes on to its end.

        Takes no turn, so that nobody waits for a run's end to say that it shall be the last.
        """
        await self._r.ledger.load()
        await self._r.ledger.write(h.paused(self._shop.clock.now(), uid=uid, why=why))

    async def resume(self, *, uid: int) -> None:
        """What ``pause`` said is over."""
        await self._r.ledger.load()
        await self._r.ledger.write(h.resumed(self._shop.clock.now(), uid=uid))

    async def deploy(self, *, uid: int, version: str | None = None, why: str = "") -> Run:
        """Deploy what is rendered now, of the running version or a given one, as a run like any other.

        A given version is a person's word for data that another than last good worked on: that one is no
        way back any more, so the run is a first deploy.
        """
        async with self._turn():
            view = await self._view()
            whose = gate.others_data(view) if view.history.last_good else None
            self._ready(view, whose=None if version else whose)
            release = self._to_deploy(view, version, Version.parse(whose) if whose else _current(view))
            first = whose or view.history.last_good is None
            plan = self._r.plan(Kind.COLD_DEPLOY if first else Kind.DEPLOY, release, by=f"uid {uid}", why=why)
            if whose:
                plan = replace(plan, previous=None, from_version=whose if Version.parse(whose) else None)
            # Data without a known version is copied before anything new starts on it.
            plan = replace(plan, copy=plan.copy or (self._service.copy and bool(view.data)))
            candidate = self._candidate(view, release, _current(view))
            if candidate and candidate.approved:
                plan = replace(plan, approval=candidate.approved.id)
            return await self._run(plan)

    async def snapshot(self, *, uid: int, why: str = "") -> Run:
        """Stop the service, copy its data, start it again."""
        async with self._turn():
            view = await self._view()
            self._ready(view, whose=gate.others_data(view))
            self._copies()
            return await self._run(self._r.plan(Kind.SNAPSHOT, None, by=f"uid {uid}", why=why))

    async def restore(self, snapshot: str, *, uid: int, why: str = "") -> Run:
        """Put a snapshot's data and specs back; what is replaced goes to quarantine."""
        async with self._turn():
            view = await self._view()
            self._restorable(view)
            info = await self._find_snapshot(snapshot)
            bundle = Bundle.from_json(await self._service.snapshotter.specs(info.handle))
            release = view.catalog.find(Version.parse(info.version or ""))
            plan = replace(
                self._r.plan(Kind.RESTORE, None, by=f"uid {uid}", why=why),
                target=await bundles.keep(self._shop, bundle),
                to_version=info.version,
                snapshot=info.handle,
                commit=release.commit if release else None,
                inputs=await self._service.deployer.inputs(release) if release else None,
            )
            return await self._run(plan)

    async def snapshots(self) -> tuple[SnapshotInfo, ...]:
        return tuple(await self._service.snapshotter.snapshots())

    async def plan(self) -> PlanStatus:
        """What a look would do now, and why. Changes nothing."""
        view = await self._view()
        decision = gate.decide(view)
        if decision.action is Action.TAKE_OVER:
            decision = replace(decision, candidates=gate.judge(view, view.running))
        target, kind = decision.target, _KINDS.get(decision.action)
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

    async def preview_snapshot(self) -> PreviewStatus:
        """What ``snapshot`` would do, and Refused where it would be. Changes nothing."""
        view = await self._view()
        self._ready(view, whose=gate.others_data(view))
        self._copies()
        volumes = (await self._covered()).volumes
        shown, _ = self._steps(view, Kind.SNAPSHOT, None, copy=True, volumes=volumes)
        return self._preview(view, Kind.SNAPSHOT, shown, await self._outage(view, volumes))

    async def preview_restore(self, snapshot: str) -> PreviewStatus:
        """What ``restore`` would do, and Refused or NotFound where it would be. Changes nothing."""
        view = await self._view()
        self._restorable(view)
        info = await self._find_snapshot(snapshot)
        shown = self._words(view, Kind.RESTORE, info.version, volumes=info.volumes)
        outage = expected_outage(view.history, copy=True, data_bytes=info.data_bytes)
        return self._preview(view, Kind.RESTORE, shown, outage, info)

    def _preview(
        self, view: View, kind: Kind, shown: tuple[str, ...], outage: Outage, info: SnapshotInfo | None = None
    ) -> PreviewStatus:
        current = _current(view)
        return PreviewStatus(
            service=self._name,
            stack=self._service.stack,
            kind=kind.value,
            current=current.text if current else None,
            steps=shown,
            outage=str(outage),
            snapshot=status.of_snapshot(info) if info else None,
        )

    # --- shared ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """The service's turn, for what a person wants now and not after a run that takes its time.
        Raises Refused where one is made."""
        if self._r.runner.active:
            raise Refused(f"{self._name}: a run is in progress", hint=f"warmd status {self._name}")
        async with self._r.turn:
            yield

    async def _view(self) -> View:
        return await self._r.view(not_before=self._shop.clock.monotonic(), forced=True)

    async def _run(self, plan: RunPlan) -> Run:
        async with self._shop.slots:
            return await self._r.runner.begin(plan)

    def _ready(self, view: View, *, whose: str | None) -> None:
        """Raises Refused where a person's run can't begin now. ``whose``: another than last good that worked
        on the data, where that matters."""
        if view.history.unfinished:
            raise Refused(f"{self._name}: a run is in progress", hint=f"warmd status {self._name}")
        if view.history.stuck:
            raise Refused(
                f"{self._name}: it is stuck", hint=f"warmd retry {self._name}, or warmd adopt {self._name}"
            )
        if view.owner is not None:
            raise Refused(f"{self._name}: its stack belongs to installation {view.owner}")
        if view.paused:
            raise Refused(f"{self._name}: {view.paused}", hint=self._way_on())
        if view.history.last_good and whose:
            adopt = f"warmd adopt {self._name}" + ("" if _adoptable(view) else " --version V")
            word = f"warmd deploy {self._name} --version V"
            raise Refused(
                f"{self._name}: {whose} worked on its data, which is not last good's any more",
                hint=f"{word if view.down else adopt}, or warmd restore {self._name} SNAPSHOT",
            )
        if view.deployed and view.history.last_good is None and not view.ours:
            raise Refused(
                f"{self._name}: what runs was never taken over", hint=f"warmd adopt {self._name} --version V"
            )

    def _way_on(self) -> str:
        """How a pause ends: by the verb, or by taking the file away that its reason names."""
        return "remove that file" if self._shop.halted() else f"warmd resume {self._name}"

    def _copies(self) -> None:
        if not self._service.copy:
            raise Refused(f'{self._name}: snapshot.kind is "none"', hint='set snapshot.kind = "archive"')

    def _restorable(self, view: View) -> None:
        """Raises Refused where a restore can't begin now. A stuck service is what it is for."""
        if view.history.unfinished:
            raise Refused(f"{self._name}: a run is in progress", hint=f"warmd abort {self._name}")
        if view.owner is not None:
            raise Refused(f"{self._name}: its stack belongs to installation {view.owner}")
        if view.paused:
            raise Refused(f"{self._name}: {view.paused}", hint=self._way_on())

    def _candidate(self, view: View, release: Release, current: Version | None) -> Candidate | None:
        return next((c for c in gate.judge(view, current) if c.release is release), None)

    def _to_deploy(self, view: View, version: str | None, current: Version | None) -> Release:
        """The release to deploy over ``current``. Raises NotFound, or Refused where it may not be."""
        wanted = Version.parse(version) if version else current
        release = view.catalog.find(wanted)
        if release is None:
            raise NotFound(
                f"{self._name}: {version or current or 'no version'} is not published", hint="warmd plan"
            )
        if current is None or release.version.same_as(current):
            return release
        candidate = self._candidate(view, release, current)
        if candidate is None:
            raise Refused(f"{self._name}: {version} is below {current}, which runs", hint="warmd restore")
        if not candidate.passes:
            raise Refused(
                f"{self._name}: {version}: {candidate.hold}", hint=f"warmd approve {self._name} {version}"
            )
        return release

    async def _find_snapshot(self, name: str) -> SnapshotInfo:
        known = await self._service.snapshotter.snapshots()
        found = [s for s in known if s.handle.id == name] or [
            s for s in known if s.handle.id.startswith(name)
        ]
        if len(found) != 1:
            what = "is no snapshot" if not found else "is the beginning of several snapshots"
            raise NotFound(f"{self._name}: {name} {what}", hint=f"warmd snapshots {self._name}")
        return found[0]

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
        current = _current(view)
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


_KINDS = {Action.UPGRADE: Kind.UPGRADE, Action.COLD_DEPLOY: Kind.COLD_DEPLOY, Action.REPAIR: Kind.REPAIR}


def _current(view: View) -> Version | None:
    good = view.history.last_good
    return view.running or (good.version if good else None)


def _adoptable(view: View) -> Version | None:
    """What runs by its labels; without them last good's version, unless another has had the data since. A
    label says nothing of an image that somebody put there: ``docker service update`` leaves it as it was."""
    labelled = view.running is not None or gate.others_data(view) is None
    return _current(view) if labelled and view.strange is None else None


def _unknown(view: View) -> str:
    if view.strange is not None:
        return f"somebody put {view.strange} there, and no label says which version that is"
    return "no label says which version runs"


def outcome_code(run: Run | None) -> int:
    """The exit code that tells how a run ended: 0, 4 rolled back or interrupted, 5 stuck or waiting for
    its probes, 6 left off by a signal, 7 unchanged."""
    if (
        run is None
        or run.state is State.COMMITTED
        or (run.plan.kind is Kind.RESTORE and run.state is State.ROLLED_BACK)
    ):
        return 0
    if run.state in (State.ROLLED_BACK, State.INTERRUPTED):
        return 4
    if run.state is State.FAILED_UNCHANGED:
        return 7
    return 5 if run.state is State.STUCK or run.blind_since else 6
