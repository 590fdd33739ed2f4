"""What is proved before a run stops anything, and again where it matters: room, data, and who else writes."""

from __future__ import annotations

from warmd.core import specs
from warmd.core.coverage import cover
from warmd.core.machine import Event
from warmd.core.model import Bundle, LastGood, Mount
from warmd.core.runs import Kind, Run, after_check
from warmd.core.specdiff import diff
from warmd.engine import bundles
from warmd.engine.service import Service, Shop
from warmd.errors import Foreign, Refused, SnapshotError, Transient
from warmd.ports import Volume


class Checks:
    """The checks of one run's service. ``before`` is last good as it was when the run began."""

    def __init__(self, service: Service, shop: Shop, *, before: LastGood | None) -> None:
        self._service = service
        self._shop = shop
        self._before = before

    async def hold_room(self, run: Run) -> None:
        """A run whose end finds no place in the journal would leave the service stopped. One that only
        starts something does so in whatever room there is."""
        try:
            await self._shop.journals.reserve(self._service.name)
        except Transient:
            if after_check(run.plan) is not Event.STRAIGHT:
                raise

    async def as_judged(self, run: Run) -> None:
        """An upgrade was decided of last good as it ran. Raises Foreign where it was changed since."""
        if run.plan.kind is Kind.UPGRADE and self._before is not None:
            known = await bundles.fetch(self._shop, self._before.bundle)
            now = await self._service.deployer.read_back()
            if changes := diff(Bundle(services=known.services), Bundle(services=now.services)):
                raise Foreign(f"it was changed since it was judged: {'; '.join(map(str, changes))}")

    async def data_is_there(self, run: Run) -> tuple[str, ...]:
        """The volumes of what was good. Where one is gone, whatever starts would start empty, and look well.
        Raises Refused."""
        good = run.plan.previous or (self._before.bundle if self._before else None)
        if not self._service.copy or run.plan.kind is Kind.RESTORE or good is None:
            return ()
        old = await bundles.fetch(self._shop, good)
        mounts = specs.mounts(old.services, {image: {} for image in old.images.values()})
        wanted = cover(mounts, stack=self._service.stack, exclude=self._service.exclude).volumes
        present = {v.name for v in await self._shop.swarm.volumes()}
        if gone := [name for name in wanted if name not in present]:
            raise Refused(
                f"volume {', '.join(gone)} is gone: {self._service.name} would start without its data",
                hint=f"warmd snapshots {self._service.name}, then warmd restore",
            )
        return wanted

    async def copyable(self, mounts: tuple[Mount, ...]) -> tuple[Volume, ...]:
        """What will be copied can be, fits, and nobody else writes to it. Raises Refused."""
        if not self._service.copy:
            # From the mounts: a volume that isn't made yet counts as well.
            named = {m.source: Volume(m.source, m.driver, "") for m in mounts if m.kind == "volume"}
            await self._service.snapshotter.make_room(list(named.values()))
            return ()
        volumes = await self.volumes_of(mounts)
        await self._service.snapshotter.make_room(volumes)
        own = {s.name for s in (await self._service.deployer.seen()).services}
        for volume in volumes:
            others = [
                c
                for c in await self._shop.swarm.containers(volume=volume.name)
                if c.running and c.service not in own
            ]
            if others:
                who = ", ".join(c.service or f"container {c.name or c.id[:12]}" for c in others)
                raise Refused(
                    f"volume {volume.name} is also mounted by {who}, which would write on during the copy",
                    hint="stop it, or exclude the volume in snapshot.exclude",
                )
        return volumes

    async def volumes_of(self, mounts: tuple[Mount, ...]) -> tuple[Volume, ...]:
        covered = cover(mounts, stack=self._service.stack, exclude=self._service.exclude)
        if covered.refusals:
            raise Refused("; ".join(covered.refusals))
        present = {v.name: v for v in await self._shop.swarm.volumes()}
        return tuple(present[name] for name in covered.volumes if name in present)

    async def require_volumes(self, run: Run) -> None:
        """What was there when the run was checked still is: the swarm would make an empty volume of that
        name, and whatever starts on it would look well. Raises SnapshotError."""
        present = {v.name for v in await self._shop.swarm.volumes()}
        if gone := [name for name in run.volumes if name not in present]:
            raise SnapshotError(
                f"volume {', '.join(gone)} was removed while the service was stopped",
                hint=f"warmd snapshots {self._service.name}",
            )
