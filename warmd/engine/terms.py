"""When what a person asks of a service may begin, and what to type where it may not."""

from __future__ import annotations

from warmd.core import gate
from warmd.core.gate import Candidate, View
from warmd.core.model import Bundle, Release, SnapshotInfo
from warmd.core.versions import Version
from warmd.engine.service import Service, Shop
from warmd.errors import NotFound, Refused


class Terms:
    """The terms of one service."""

    def __init__(self, service: Service, shop: Shop) -> None:
        self._service = service
        self._shop = shop

    @property
    def _name(self) -> str:
        return self._service.name

    def ready(self, view: View, *, whose: str | None) -> None:
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
            way = f"warmd adopt {self._name}" + ("" if adoptable(view) else " --version V")
            if not runs(view):
                way = f"warmd deploy {self._name} --version V"
            raise Refused(
                f"{self._name}: {whose} worked on its data, which is not last good's any more",
                hint=f"{way}, or warmd restore {self._name} SNAPSHOT",
            )
        if view.deployed and view.history.last_good is None and not view.ours:
            raise Refused(
                f"{self._name}: what runs was never taken over", hint=f"warmd adopt {self._name} --version V"
            )

    def _way_on(self) -> str:
        """How a pause ends: by the verb, or by taking the file away that its reason names."""
        return "remove that file" if self._shop.halted() else f"warmd resume {self._name}"

    def copies(self) -> None:
        """Raises Refused where the service's data is not copied."""
        if not self._service.copy:
            raise Refused(f'{self._name}: snapshot.kind is "none"', hint='set snapshot.kind = "archive"')

    def restorable(self, view: View) -> None:
        """Raises Refused where a restore can't begin now. A stuck service is what it is for."""
        if view.history.unfinished:
            raise Refused(f"{self._name}: a run is in progress", hint=f"warmd abort {self._name}")
        if view.owner is not None:
            raise Refused(f"{self._name}: its stack belongs to installation {view.owner}")
        if view.paused:
            raise Refused(f"{self._name}: {view.paused}", hint=self._way_on())

    def candidate(self, view: View, release: Release, current: Version | None) -> Candidate | None:
        """What is judged of a release above ``current``."""
        return next((c for c in gate.judge(view, current) if c.release is release), None)

    def release_for(self, view: View, version: str | None, current: Version | None) -> Release:
        """The release to deploy over ``current``. Raises NotFound, or Refused where it may not be."""
        wanted = Version.parse(version) if version else current
        release = view.catalog.find(wanted)
        if release is None:
            raise NotFound(
                f"{self._name}: {version or current or 'no version'} is not published", hint="warmd plan"
            )
        if current is None or release.version.same_as(current):
            return release
        candidate = self.candidate(view, release, current)
        if candidate is None:
            raise Refused(f"{self._name}: {version} is below {current}, which runs", hint="warmd restore")
        if not candidate.passes:
            raise Refused(
                f"{self._name}: {version}: {candidate.hold}", hint=f"warmd approve {self._name} {version}"
            )
        return release

    async def snapshot(self, name: str) -> SnapshotInfo:
        """The snapshot of that id, or of the only one that begins so. Raises NotFound."""
        known = await self._service.snapshotter.snapshots()
        found = [s for s in known if s.handle.id == name] or [
            s for s in known if s.handle.id.startswith(name)
        ]
        if len(found) != 1:
            what = "is no snapshot" if not found else "is the beginning of several snapshots"
            raise NotFound(f"{self._name}: {name} {what}", hint=f"warmd snapshots {self._name}")
        return found[0]

    async def specs(self, info: SnapshotInfo) -> tuple[Bundle, str | None]:
        """What a restore of it starts, and which version that is: of its data's, unless nobody knew that."""
        kept = await self._service.snapshotter.specs(info.handle)
        return Bundle.from_json(kept), kept.get("version") or info.version


def current_of(view: View) -> Version | None:
    """What runs by its labels; where nothing says it, last good."""
    good = view.history.last_good
    return view.running or (good.version if good else None)


def adoptable(view: View) -> Version | None:
    """What runs by its labels; without them last good's version, unless another has had the data since. A
    label says nothing of an image that somebody put there: ``docker service update`` leaves it as it was."""
    labelled = view.running is not None or gate.others_data(view) is None
    return current_of(view) if labelled and view.strange is None else None


def runs(view: View) -> bool:
    """Whether something of it runs, which could be adopted."""
    return view.seen is not None and any(s.running or s.job for s in view.seen.services)


def unknown(view: View) -> str:
    """Why ``adoptable`` finds none."""
    if view.strange is not None:
        return f"somebody put {view.strange} there, and no label says which version that is"
    return "no label says which version runs"
