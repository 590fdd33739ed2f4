"""What each effect of the state machine does to the world. Idempotent, each proving its ground anew."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from warmd.core import history as h
from warmd.core import live
from warmd.core.coverage import cover
from warmd.core.machine import Effect, Event, State
from warmd.core.model import LABEL_OWNER, LABEL_RUN, LABEL_VERSION, Bundle, Health, Json, LastGood
from warmd.core.runs import Kind, Run, after_check
from warmd.core.versions import Version
from warmd.core.window import Outcome, Window
from warmd.engine import bundles
from warmd.engine.observe import probe_once
from warmd.engine.service import Service, Shop
from warmd.errors import Refused
from warmd.ports import CaptureRequest, Volume

log = structlog.get_logger("warmd.run")


@dataclass(frozen=True, slots=True)
class Done:
    """What an effect led to: the event, what it found (for the journal), and a line of detail."""

    event: Event
    found: Mapping[str, Any] = field(default_factory=dict)
    detail: str = ""


class Unhealthy(Exception):
    """The gate said no. An exception only so that it takes the road of failures."""


class Effects:
    """The effects of one run's service.

    ``before`` is last good as it was when the run began; ``rendered`` keeps secrets' data between
    planning and deploying.
    """

    def __init__(
        self, service: Service, shop: Shop, *, before: LastGood | None, rendered: Bundle | None = None
    ) -> None:
        self._service = service
        self._shop = shop
        self._before = before
        self._rendered = rendered
        self._table: Mapping[Effect, Callable[[Run], Awaitable[Done]]] = {
            Effect.BEGIN: self._begin,
            Effect.PULL: self._pull,
            Effect.CHECK: self._check,
            Effect.STOP: self._stop,
            Effect.CAPTURE: self._capture,
            Effect.SEAL: self._seal,
            Effect.DEPLOY: self._deploy,
            Effect.GATE: self._gate,
            Effect.RESTORE: self._restore,
            Effect.REDEPLOY: self._redeploy,
            Effect.REGATE: self._regate,
        }

    async def perform(self, effect: Effect, run: Run) -> Done:
        """Run one effect. Raises what the ports raise, and Unhealthy."""
        return await self._table[effect](run)

    async def _begin(self, run: Run) -> Done:
        return Done(Event.START)

    async def _pull(self, run: Run) -> Done:
        pinned = await self._service.deployer.pin(await self._target(run))
        return Done(Event.DONE, {"target": await bundles.keep(self._shop, pinned)})

    async def _check(self, run: Run) -> Done:
        target = await self._target(run)
        target = await bundles.with_secrets(self._service, self._shop, target, run.plan.to_version)
        mounts = await self._service.deployer.check(target)
        event = after_check(run.plan)
        if event is Event.STOP_FIRST:
            await self._check_copy(
                await self._volumes_of((*mounts, *await self._service.deployer.writable()))
            )
        elif event is Event.RESTORE:
            await self._check_copy(await self._volumes_of(await self._service.deployer.writable()))
        return Done(event)

    async def _check_copy(self, volumes: tuple[Volume, ...]) -> None:
        await self._service.snapshotter.make_room(volumes)
        for volume in volumes:
            others = [
                c
                for c in await self._shop.swarm.containers(volume=volume.name)
                if c.running and not c.service.startswith(f"{self._service.stack}_")
            ]
            if others:
                who = ", ".join(c.service or c.id[:12] for c in others)
                raise Refused(
                    f"volume {volume.name} is also mounted by {who}, which would write on during the copy",
                    hint="stop it, or exclude the volume in snapshot.exclude",
                )

    async def _volumes_of(self, mounts: tuple[Any, ...]) -> tuple[Volume, ...]:
        covered = cover(mounts, stack=self._service.stack, exclude=self._service.exclude)
        if covered.refusals:
            raise Refused("; ".join(covered.refusals))
        present = {v.name: v for v in await self._shop.swarm.volumes()}
        return tuple(present[name] for name in covered.volumes if name in present)

    async def _stop(self, run: Run) -> Done:
        await self._service.deployer.stop()
        return Done(Event.DONE)

    async def _capture(self, run: Run) -> Done:
        # Whoever scaled it up since the stop would be writing: prove again that nothing runs.
        await self._service.deployer.stop()
        previous = await self._bundle(run.plan.previous or run.plan.target)
        mounts = await self._mounts_when_stopped(run)
        request = CaptureRequest(
            id=run.plan.id,
            service=self._service.name,
            stack=self._service.stack,
            volumes=await self._volumes_of(mounts),
            at=self._shop.clock.now(),
            version=run.plan.from_version,
            bundle=previous.to_json(),
        )
        handle = await self._service.snapshotter.capture(request)
        return Done(Event.DONE, {"snapshot": handle.to_json()})

    async def _mounts_when_stopped(self, run: Run) -> tuple[Any, ...]:
        """The old stack's mounts and the new one's: global services were removed by the stop."""
        old = await self._bundle(run.plan.previous or run.plan.target)
        return (
            *await self._service.deployer.check(await self._target(run)),
            *await self._service.deployer.check(old),
        )

    async def _seal(self, run: Run) -> Done:
        if run.snapshot is None:
            raise Refused("the run has no snapshot to seal")
        info = await self._service.snapshotter.seal(run.snapshot)
        log.info("snapshot.sealed", run=run.plan.id, files=info.files, bytes=info.archive_bytes)
        return Done(Event.DONE)

    async def _deploy(self, run: Run) -> Done:
        target = await bundles.with_secrets(
            self._service, self._shop, await self._target(run), run.plan.to_version
        )
        await self._service.deployer.deploy(target, labels=self._labels(run, run.plan.to_version))
        return Done(Event.DONE)

    async def _gate(self, run: Run) -> Done:
        window = await self._watch()
        if window is None:
            return Done(Event.BLIND, {"blind": True}, "the probes could not be made until the deadline")
        found = {
            "healthy_at": _first_good(window).isoformat(),
            "last_good": await self._good(run, h.COMMITTED),
        }
        return Done(Event.HEALTHY, found, window.describe())

    async def _regate(self, run: Run) -> Done:
        window = await self._watch()
        if window is None:
            return Done(Event.BLIND, {"blind": True}, "the probes could not be made until the deadline")
        found = {
            "healthy_at": _first_good(window).isoformat(),
            "last_good": await self._good(run, h.WENT_BACK),
        }
        return Done(Event.HEALTHY, found)

    async def _restore(self, run: Run) -> Done:
        # The volumes are only swapped while nothing runs: prove it again.
        await self._service.deployer.stop()
        if run.snapshot is None:
            raise Refused("the run has no snapshot to restore")
        await self._service.snapshotter.restore(run.snapshot, run=run.plan.id)
        return Done(Event.DONE)

    async def _redeploy(self, run: Run) -> Done:
        name, version = run.goes_back_to, run.plan.from_version
        if run.plan.kind is Kind.RESTORE:
            name, version = run.target or run.plan.target, run.plan.to_version
        if name is None:
            raise Refused("the run knows no specs to go back to")
        bundle = await bundles.with_secrets(self._service, self._shop, await self._bundle(name), version)
        await self._service.deployer.deploy(bundle, labels=self._labels(run, version))
        return Done(Event.DONE)

    # --- shared by several effects ---------------------------------------------------------------

    async def _bundle(self, name: str) -> Bundle:
        return await bundles.fetch(self._shop, name)

    async def _target(self, run: Run) -> Bundle:
        """The bundle to deploy; with the secrets' data, where this process rendered it."""
        bundle = await self._bundle(run.target or run.plan.target)
        if self._rendered is None:
            return bundle
        data = {s["Name"]: s for s in self._rendered.secrets}
        secrets = tuple(data.get(s["Name"], s) for s in bundle.secrets)
        return Bundle(bundle.networks, bundle.configs, secrets, bundle.services)

    def _labels(self, run: Run, version: str | None) -> dict[str, str]:
        labels = {LABEL_OWNER: self._shop.installation, LABEL_RUN: run.plan.id}
        return labels | ({LABEL_VERSION: version} if version else {})

    async def _watch(self) -> Window | None:
        """Probe until the gate has an answer: the window if healthy, None if blind, else Unhealthy."""
        clock = self._shop.clock
        window = Window(self._service.gate, clock.now())
        told: Health | None = None
        while True:
            probe = await probe_once(self._service.probers)
            window = window.see(probe, clock.now())
            if probe.health is not told:
                told = probe.health
                log.info("gate.saw", service=self._service.name, health=told.value, detail=probe.detail)
            outcome = window.outcome(clock.now())
            if outcome is Outcome.HEALTHY:
                return window
            if outcome is Outcome.BLIND:
                return None
            if outcome is Outcome.UNHEALTHY:
                raise Unhealthy(f"not healthy within the gate's deadline: {window.describe()}")
            await clock.sleep(self._service.gate.interval.total_seconds())

    async def _good(self, run: Run, how: str) -> Json:
        """What runs now, as the last good that the run's end will record."""
        plan, before = run.plan, self._before
        if how == h.WENT_BACK and plan.kind is not Kind.RESTORE and before is not None:
            origin = Origin(before.version, before.commit, before.rendered, before.inputs)
        else:
            version = Version.of(plan.to_version) if plan.to_version else None
            origin = Origin(version, plan.commit, plan.rendered, plan.inputs)
        return h.good_json(*await record_good(self._service, self._shop, origin, how=how, run=plan.id))


def _first_good(window: Window) -> datetime:
    return window.good_since or window.opened


@dataclass(frozen=True, slots=True)
class Origin:
    """Where specs came from: what is known of the release that they were rendered from."""

    version: Version | None
    commit: str | None = None
    rendered: str | None = None
    inputs: str | None = None


async def record_good(
    service: Service, shop: Shop, origin: Origin, *, how: str, run: str | None = None
) -> tuple[LastGood, dict[str, str]]:
    """Read the running stack back and keep it: the last good and the marks of its services."""
    bundle = await bundles.keep(shop, await service.deployer.read_back())
    seen = await service.deployer.seen()
    now = shop.clock.now()
    good = LastGood(origin.version, bundle, now, how, origin.commit, origin.rendered, origin.inputs, run)
    return good, live.marks(seen)


#: States whose effects are left to finish: short, and worse half done than done.
UNINTERRUPTIBLE = frozenset((State.DEPLOYING, State.RESTARTING, State.REDEPLOYING))
