"""Snapshotter ``none``: for stacks without state, such as a reverse proxy. Nothing is copied."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from warmd.core.model import Json, SnapshotHandle, SnapshotInfo
from warmd.errors import Refused, SnapshotError
from warmd.plugins.base import Context, Settings
from warmd.ports import CaptureRequest, Snapshotter, Volume


class Config(Settings):
    """No snapshots: a rollback brings back the version alone."""

    kind: Literal["none"]
    allow_volumes: bool = False
    """Says that what is in the stack's volumes may stay as a failed upgrade left it."""


class NoSnapshotter:
    """Meets the Snapshotter port by refusing volumes, and having nothing to do for the rest."""

    def __init__(self, config: Config, context: Context) -> None:
        self._config = config
        self._context = context

    async def make_room(self, volumes: Sequence[Volume]) -> None:
        if volumes and not self._config.allow_volumes:
            names = ", ".join(sorted(volume.name for volume in volumes))
            raise Refused(
                f"the stack {self._context.stack} has volumes ({names}) and snapshot.kind is none: "
                "a rollback would leave their data as the newer version wrote it",
                hint='set snapshot.kind = "archive", or snapshot.allow_volumes = true',
            )

    async def capture(self, request: CaptureRequest) -> SnapshotHandle:
        return SnapshotHandle(await self._context.swarm.node(), request.id)

    async def seal(self, handle: SnapshotHandle) -> SnapshotInfo:
        now = self._context.clock.now()
        return SnapshotInfo(handle, now, None, handle.id, (), 0, 0, 0, sealed=True)

    async def restore(
        self,
        handle: SnapshotHandle,
        *,
        run: str,
        volumes: Sequence[Volume],
        still: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        if still is not None:  # nothing is swapped, but whoever asks wants to know all the same
            await still()

    async def moved(self, handle: SnapshotHandle, *, volumes: Sequence[Volume]) -> str:
        return ""

    async def snapshots(self) -> Sequence[SnapshotInfo]:
        return ()

    async def specs(self, handle: SnapshotHandle) -> Json:
        raise SnapshotError(f"{handle.id} is no snapshot: snapshot.kind is none")

    async def measure(self, volumes: Sequence[Volume]) -> int:
        return 0

    async def prune(self, *, keep: int, needed: frozenset[str]) -> Sequence[str]:
        return ()


def build(config: Config, context: Context) -> Snapshotter:
    return NoSnapshotter(config, context)
