"""What each effect of the state machine does to the world. Idempotent, each proving its ground anew."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from warmd.core import history as h
from warmd.core import specs
from warmd.core.machine import WATCHING, Effect, Event, State
from warmd.core.model import (
    LABEL_OWNER,
    LABEL_RUN,
    LABEL_STACK,
    LABEL_VERSION,
    Bundle,
    Json,
    LastGood,
    Release,
    StackSeen,
)
from warmd.core.runs import Kind, Run, after_check
from warmd.core.versions import Version
from warmd.core.window import Window
from warmd.engine import bundles
from warmd.engine.checks import Checks
from warmd.engine.good import Origin, record_good
from warmd.engine.hands import Hands
from warmd.engine.service import Service, Shop
from warmd.engine.watch import blind, watch
from warmd.errors import Foreign, Refused, SnapshotError
from warmd.ports import Ask, CaptureRequest, Volume

log = structlog.get_logger("warmd.run")


@dataclass(frozen=True, slots=True)
class Done:
    """What an effect led to: the event, what it found (for the journal), and a line of detail."""

    event: Event
    found: Mapping[str, Any] = field(default_factory=dict)
    detail: str = ""


class Effects:
    """The effects of one run's service.

    ``before`` is last good as it was when the run began. What was rendered stays in memory until the
    deploy, because secrets' data is not written to disk.
    """

    def __init__(self, service: Service, shop: Shop, *, before: LastGood | None) -> None:
        self._service = service
        self._shop = shop
        self._before = before
        self._rendered: Bundle | None = None
        self._hands = Hands(service, shop)
        self._checks = Checks(service, shop, before=before)
        self._seen_through: set[State] = set()
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
        """Run one effect. Raises what the ports raise, Foreign and Unhealthy."""
        if run.state not in WATCHING:  # those look in each round
            await self._hands.look(run)
        done = await self._table[effect](run)
        if run.state in _TAKE_TIME:  # long enough for somebody to come in between
            await self._hands.look(run)
        self._seen_through.add(run.state)
        return done

    async def _begin(self, run: Run) -> Done:
        if run.plan.target is not None:
            return Done(Event.START)
        release = await self._release(run)
        rendered = await bundles.render(self._service, release)
        self._rendered = rendered.bundle
        name = await bundles.keep(self._shop, rendered.bundle)
        return Done(Event.START, {"target": name, "rendered": name, "inputs": rendered.inputs})

    async def _release(self, run: Run) -> Release:
        """The release that the run was planned for, at the commit that was judged."""
        catalog = await self._service.source.releases(not_before=0.0, offline=self._shop.offline)
        release = catalog.find(Version.parse(run.plan.to_version or ""))
        if release is None or release.commit != run.plan.commit:
            was = "is no longer published" if release is None else "was moved to another commit"
            raise Refused(f"{self._service.name}: {run.plan.to_version} {was} since it was judged")
        return release

    async def _pull(self, run: Run) -> Done:
        pinned = await self._service.deployer.pin(await self._target(run))
        return Done(Event.DONE, {"target": await bundles.keep(self._shop, pinned)})

    async def _check(self, run: Run) -> Done:
        owner = (await self._service.deployer.seen()).owner
        if owner not in (None, self._shop.installation):
            raise Refused(f"stack {self._service.stack} belongs to installation {owner}")
        await self._checks.hold_room(run)
        if run.goes_back_to is not None:
            await self._bundle(run.goes_back_to)  # what can't be read now can't be gone back to
        target = await self._target(run)
        target = await bundles.with_secrets(self._service, self._shop, target, run.plan.to_version)
        mounts = await self._service.deployer.check(target)
        event = after_check(run.plan)
        volumes: tuple[Volume, ...] = ()
        if event is Event.RESTORE:
            if run.snapshot is not None:
                await self._service.snapshotter.seal(run.snapshot)  # proved whole before anything stops
            volumes = await self._checks.copyable(await self._service.deployer.writable())
        elif run.plan.kind is not Kind.REPAIR and (run.plan.copy or not self._service.copy):
            volumes = await self._checks.copyable((*mounts, *await self._service.deployer.writable()))
        await self._checks.as_judged(run)
        stands = await self._hands.stands(run)
        needed = dict.fromkeys((*await self._checks.data_is_there(run), *(v.name for v in volumes)))
        return Done(event, {"volumes": list(needed), "stands": stands})

    async def _stop(self, run: Run) -> Done:
        await self._halt(run)
        # After a person's retry whatever stood there counts as ours: from the stop on it is told again.
        told = run.stands is None and run.state is State.HALTING
        return Done(Event.DONE, {"stands": await self._hands.stands(run)} if told else {})

    async def _capture(self, run: Run) -> Done:
        # Whoever scaled it up since the stop would be writing: prove again that nothing runs.
        await self._halt(run)
        old = await self._bundle(_name_of(run.plan.previous or run.target))
        # From the specs, old and new: the stop removed global services, so the swarm can't say.
        await self._checks.require_volumes(run)
        deployer = self._service.deployer
        mounts = (*await deployer.mounts(await self._target(run)), *await deployer.mounts(old))
        request = CaptureRequest(
            id=run.plan.id,
            service=self._service.name,
            stack=self._service.stack,
            volumes=await self._checks.volumes_of(mounts),
            at=self._shop.clock.now(),
            version=run.plan.from_version,
            # Of data that nobody knows the version of, they are those that may open it.
            bundle=old.to_json()
            | {"version": run.plan.from_version if run.plan.previous else run.plan.to_version},
        )
        handle = await self._service.snapshotter.capture(request)
        return Done(Event.DONE, {"snapshot": handle.to_json()})

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
        if await self._stopped_before(run, run.forth) and (what := await self._out_of_date(run)):
            return Done(Event.STALE, detail=f"copied anew, because of what was written since: {what}")
        await self._checks.require_volumes(run)
        await self._post(run, target, self._labels(run.forth, run.plan.to_version))
        return Done(Event.DONE, {"stands": await self._hands.stands(run)})

    async def _gate(self, run: Run) -> Done:
        window = await self._watch(run)
        if blind(window):
            return _could_not_see(window)
        found = {
            "healthy_at": _first_good(window).isoformat(),
            "last_good": await self._good(run, h.COMMITTED),
        }
        return Done(Event.HEALTHY, found, window.describe())

    async def _regate(self, run: Run) -> Done:
        if run.goes_back_to is None:
            return Done(Event.HEALTHY)
        window = await self._watch(run)
        if blind(window):
            return _could_not_see(window)
        found = {
            "healthy_at": _first_good(window).isoformat(),
            "last_good": await self._good(run, h.WENT_BACK),
        }
        return Done(Event.HEALTHY, found)

    async def _restore(self, run: Run) -> Done:
        # The volumes are only swapped while nothing runs: prove it again.
        await self._halt(run)
        if run.snapshot is None:
            raise Refused("the run has no snapshot to restore")
        await self._make_volumes(run)
        volumes = await self._shop.swarm.volumes()
        await self._service.snapshotter.restore(
            run.snapshot, run=run.restoring, volumes=volumes, still=lambda: self._halt(run)
        )
        await self._require_unmoved(run, after=State.HALTING)
        return Done(Event.DONE)

    async def _redeploy(self, run: Run) -> Done:
        if run.goes_back_to is None and run.state is State.RESTARTING:
            return Done(Event.DONE)  # nothing ran before
        await self._checks.require_volumes(run)
        version = run.plan.to_version if run.plan.kind is Kind.RESTORE else run.plan.from_version
        bundle = await self._bundle(_name_of(run.goes_back_to))
        bundle = await bundles.with_secrets(self._service, self._shop, bundle, version)
        if await self._stopped_before(run, run.back) and State.RESTORING in (s for s, _ in run.states):
            await self._require_unmoved(run, after=State.RESTORING)
        await self._post(run, bundle, self._labels(run.back, version))
        return Done(Event.DONE, {"stands": await self._hands.stands(run)})

    # --- shared by several effects ---------------------------------------------------------------

    async def _make_volumes(self, run: Run) -> None:
        """Volumes of the snapshot that somebody removed are made again, for their data to go into."""
        known = await self._service.snapshotter.snapshots()
        wanted = next((s.volumes for s in known if s.handle == run.snapshot), ())
        present = {v.name for v in await self._shop.swarm.volumes()}
        if missing := [name for name in wanted if name not in present]:
            bundle = await self._bundle(_name_of(run.goes_back_to))
            for name in missing:
                log.warning("volume.made-again", service=self._service.name, run=run.plan.id, volume=name)
                labels = {LABEL_STACK: self._service.stack} | specs.volume_labels(bundle, name)
                await self._shop.swarm.create("volumes", {"Name": name, "Labels": labels})

    async def _bundle(self, name: str) -> Bundle:
        return await bundles.fetch(self._shop, name)

    async def _target(self, run: Run) -> Bundle:
        """The bundle to deploy; with the secrets' data, where this process rendered it."""
        bundle = await self._bundle(_name_of(run.target))
        if self._rendered is None:
            return bundle
        data = {s["Name"]: s for s in self._rendered.secrets}
        secrets = tuple(data.get(s["Name"], s) for s in bundle.secrets)
        return Bundle(bundle.networks, bundle.configs, secrets, bundle.services)

    async def _stopped_before(self, run: Run, mark: str) -> bool:
        """Never two writers on one volume: prove that nothing runs, unless this deploy began already.

        ``mark`` is its run label; finding it means that a crash or a lost reply came in between. Whether
        it was proved.
        """
        if run.plan.copy or run.plan.kind in (Kind.RESTORE, Kind.COLD_DEPLOY):
            seen = await self._service.deployer.seen()
            if seen.label(LABEL_RUN) != mark:
                await self._halt(run)
                return True
        return False

    async def _moved(self, run: Run, *, after: State) -> str:
        """What was written to since the state ``after``, where another process than this one went through
        it: somebody may have started the service meanwhile, and stopped it again."""
        if run.snapshot is None or after in self._seen_through:
            return ""
        volumes = await self._shop.swarm.volumes()
        return await self._service.snapshotter.moved(run.snapshot, volumes=volumes)

    async def _out_of_date(self, run: Run) -> str:
        """Why the copy is not what a rollback should put back, once the new version starts on the data."""
        try:
            return await self._moved(run, after=State.CAPTURING)
        except SnapshotError as error:
            return f"the copy can't be read: {error}"

    async def _require_unmoved(self, run: Run, *, after: State) -> None:
        """Raises Foreign where the data that was put back is not what it was then."""
        if what := await self._moved(run, after=after):
            raise Foreign(f"somebody ran the service on the data that was put back: {what} was written since")

    async def _halt(self, run: Run) -> None:
        await self._service.deployer.stop(ask=self._asking(run))

    async def _post(self, run: Run, bundle: Bundle, labels: Mapping[str, str]) -> None:
        await self._service.deployer.deploy(bundle, labels=labels, ask=self._asking(run))

    def _asking(self, run: Run) -> Ask:
        async def ask(seen: StackSeen) -> None:
            await self._hands.judge(run, seen)

        return ask

    def _labels(self, mark: str, version: str | None) -> dict[str, str]:
        labels = {LABEL_OWNER: self._shop.installation, LABEL_RUN: mark}
        return labels | ({LABEL_VERSION: version} if version else {})

    async def _watch(self, run: Run) -> Window:
        return await watch(
            self._service,
            self._shop,
            self._service.gate,
            was_blind=run.blind_since is not None,
            look=lambda: self._hands.look(run),
        )

    async def _good(self, run: Run, how: str) -> Json:
        """What runs now, as the last good that the run's end will record."""
        plan, before = run.plan, self._before
        if how == h.WENT_BACK and plan.kind is not Kind.RESTORE and before is not None:
            origin = Origin(before.version, before.commit, before.rendered, before.inputs)
        else:
            version = Version.parse(plan.to_version or "")
            origin = Origin(version, plan.commit, run.rendered, run.inputs)
        good = h.good_json(*await record_good(self._service, self._shop, origin, how=how, run=plan.id))
        await self._hands.look(run)  # or what somebody has just changed would be good unproved
        return good


def _name_of(blob: str | None) -> str:
    if blob is None:
        raise Refused("the run knows no specs to deploy", hint="warmd history SERVICE")
    return blob


def _could_not_see(window: Window) -> Done:
    return Done(Event.BLIND, {"blind": True}, f"the probes can't be made: {window.describe()}")


def _first_good(window: Window) -> datetime:
    return window.good_since or window.opened


#: States that work for a while on what must not run meanwhile.
_TAKE_TIME = frozenset((State.CAPTURING, State.SEALING, State.RESTORING))

#: States whose effects are left to finish: short, and worse half done than done.
UNINTERRUPTIBLE = frozenset((State.DEPLOYING, State.RESTARTING, State.REDEPLOYING))
