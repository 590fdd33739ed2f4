"""What a person asks of one service. Each takes the service's turn, so none meets a look half-way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from warmd.core import gate
from warmd.core import history as h
from warmd.core.gate import View
from warmd.core.history import Approval
from warmd.core.machine import State
from warmd.core.model import Release, SnapshotInfo
from warmd.core.runs import Cause, Kind, Run, RunPlan
from warmd.core.versions import Version
from warmd.engine import bundles
from warmd.engine.reconcile import Look, Reconciler
from warmd.engine.terms import Terms, adoptable, current_of, runs, unknown
from warmd.errors import NotFound, Refused


class Operations:
    """The verbs of one service."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._r = reconciler
        self._service = reconciler.service
        self._shop = reconciler.shop
        self._terms = Terms(reconciler.service, reconciler.shop)

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
        current = current_of(view)
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
        ended = next((r for r in reversed(known) if r.plan.id == run.plan.id), None)
        if ended is None:  # somebody adopted what runs meanwhile
            raise NotFound(f"{self._name}: no run is in progress any more", hint=f"warmd status {self._name}")
        return ended

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
            if not runs(view):
                # Scaled to zero, it would be good like that for ever.
                raise Refused(
                    f"{self._name}: not one task of it runs, so there is nothing to adopt",
                    hint=f"docker stack ps {self._service.stack}",
                )
            parsed = Version.parse(version) if version else adoptable(view)
            if parsed is None:
                what = f'"{version}" is not a version' if version else unknown(view)
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

        A given version is a person's word for data that another than last good worked on, where nothing runs
        that could be adopted: last good is no way back any more, so the run is a first deploy.
        """
        async with self._turn():
            view = await self._view()
            whose = gate.others_data(view) if view.history.last_good else None
            self._terms.ready(view, whose=None if version and not runs(view) else whose)
            data_of = Version.parse(whose) if whose else current_of(view)
            release = self._terms.release_for(view, version, data_of)
            first = whose or view.history.last_good is None
            plan = self._r.plan(Kind.COLD_DEPLOY if first else Kind.DEPLOY, release, by=f"uid {uid}", why=why)
            if whose:
                plan = replace(plan, previous=None, from_version=data_of.text if data_of else None)
            # Data without a known version is copied before anything new starts on it.
            plan = replace(plan, copy=plan.copy or (self._service.copy and bool(view.data)))
            candidate = self._terms.candidate(view, release, data_of)
            if candidate and candidate.approved:
                plan = replace(plan, approval=candidate.approved.id)
            return await self._run(plan)

    async def snapshot(self, *, uid: int, why: str = "") -> Run:
        """Stop the service, copy its data, start it again."""
        async with self._turn():
            view = await self._view()
            self._terms.ready(view, whose=gate.others_data(view))
            self._terms.copies()
            return await self._run(self._r.plan(Kind.SNAPSHOT, None, by=f"uid {uid}", why=why))

    async def restore(self, snapshot: str, *, uid: int, why: str = "") -> Run:
        """Put a snapshot's data and specs back; what is replaced goes to quarantine."""
        async with self._turn():
            view = await self._view()
            self._terms.restorable(view)
            info = await self._terms.snapshot(snapshot)
            bundle, version = await self._terms.specs(info)
            release = view.catalog.find(Version.parse(version or ""))
            plan = self._r.plan(Kind.RESTORE, None, by=f"uid {uid}", why=why)
            left = Version.parse(gate.data_of(view) or "")  # what it speaks against, whoever deployed it
            plan = replace(
                plan,
                target=await bundles.keep(self._shop, bundle),
                to_version=version,
                from_version=left.text if left else plan.from_version,
                snapshot=info.handle,
                commit=release.commit if release else None,
                inputs=await self._service.deployer.inputs(release) if release else None,
            )
            return await self._run(plan)

    async def snapshots(self) -> tuple[SnapshotInfo, ...]:
        return tuple(await self._service.snapshotter.snapshots())

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
