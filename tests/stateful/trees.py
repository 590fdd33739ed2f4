"""A Snapshotter that copies trees: what ``archive`` promises, without tar, zstd, threads and fsyncs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.stateful.parts import Points
from warmd.core.model import Json, SnapshotHandle, SnapshotInfo
from warmd.errors import Refused, SnapshotError, Transient
from warmd.ports import CaptureRequest, Volume


class TreeSnapshotter:
    """``folder`` has ``snapshots/<id>`` and ``quarantine/<run>/<volume>``. ``node`` tells where it lies,
    ``full`` whether there is space, ``restoring`` is told each volume that is about to be swapped."""

    def __init__(
        self,
        folder: Path,
        node: Callable[[], Awaitable[str]],
        points: Points | None = None,
        *,
        full: Callable[[], bool] = lambda: False,
        copying: Callable[[Path], None] = lambda mountpoint: None,
        restoring: Callable[[Path, Path], None] = lambda mountpoint, copy: None,
    ) -> None:
        self._snapshots = folder / "snapshots"
        self._quarantine = folder / "quarantine"
        self._node = node
        self._points = points or Points()
        self._full = full
        self._copying = copying
        self._restoring = restoring

    async def make_room(self, volumes: Sequence[Volume]) -> None:
        self._points.at("snapshot.make_room")
        if self._full():
            raise Refused("the archive and a restored copy would not fit")

    async def capture(self, request: CaptureRequest) -> SnapshotHandle:
        self._points.at("snapshot.capture")
        handle = SnapshotHandle(await self._node(), request.id)
        half, whole = self._snapshots / f".{request.id}", self._snapshots / request.id
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        for volume in request.volumes:
            self._copying(Path(volume.mountpoint))
            shutil.copytree(volume.mountpoint, half / volume.name, symlinks=True)
            self._points.at(f"snapshot.copied {volume.name}")
            if self._full():
                raise Transient("can't write the copy: No space left on device")
        manifest = {
            "node": handle.node,
            "at": request.at.isoformat(),
            "version": request.version,
            "volumes": {v.name: v.mountpoint for v in request.volumes},
            "sums": {v.name: checksum(half / v.name) for v in request.volumes},
            "bundle": request.bundle,
        }
        (half / "manifest.json").write_text(json.dumps(manifest))
        shutil.rmtree(whole, ignore_errors=True)
        half.rename(whole)
        self._points.at("snapshot.captured")
        return handle

    async def seal(self, handle: SnapshotHandle) -> SnapshotInfo:
        self._points.at("snapshot.seal")
        manifest = await self._whole(handle)
        (self._snapshots / handle.id / "sealed").touch()
        return self._info(handle.id, manifest)

    async def restore(
        self,
        handle: SnapshotHandle,
        *,
        run: str,
        volumes: Sequence[Volume],
        still: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._points.at("snapshot.restore")
        manifest = await self._whole(handle)
        moves = [
            (name, Path(place), Path(place).with_name(f".{run}"), self._quarantine / run / name)
            for name, place in manifest["volumes"].items()
            if not (self._quarantine / run / name).exists()  # swapped before a crash
        ]
        for name, _, copy, _ in moves:
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(self._snapshots / handle.id / name, copy, symlinks=True)
            self._points.at(f"snapshot.unpacked {name}")
        if moves and still is not None:
            await still()
        for name, there, copy, old in moves:
            self._restoring(there, copy)
            _swap(there, copy, old)
            self._points.at(f"snapshot.swapped {name}")

    async def moved(self, handle: SnapshotHandle, *, volumes: Sequence[Volume]) -> str:
        sums = (await self._whole(handle))["sums"]
        if not (self._snapshots / handle.id / "sealed").exists():
            raise SnapshotError(f"snapshot {handle.id} is not sealed")
        there = {v.name: Path(v.mountpoint) for v in volumes if v.name in sums}
        return next((name for name, place in there.items() if checksum(place) != sums[name]), "")

    async def snapshots(self) -> Sequence[SnapshotInfo]:
        self._points.at("snapshot.list")
        found = [self._info(path.name, self._manifest(path.name)) for path in self._all()]
        return tuple(sorted(found, key=lambda info: (info.at, info.handle.id)))

    async def specs(self, handle: SnapshotHandle) -> Json:
        bundle: Json = (await self._whole(handle))["bundle"]
        return bundle

    async def measure(self, volumes: Sequence[Volume]) -> int:
        return sum(_size(Path(v.mountpoint)) for v in volumes)

    async def prune(self, *, keep: int, needed: frozenset[str]) -> Sequence[str]:
        self._points.at("snapshot.prune")
        known = [info.handle.id for info in await self.snapshots() if info.sealed]
        gone = [id_ for id_ in known[:-keep] if id_ not in needed]
        for id_ in gone:
            shutil.rmtree(self._snapshots / id_)
        return gone

    def _all(self) -> list[Path]:
        if not self._snapshots.exists():
            return []
        return [path for path in self._snapshots.iterdir() if not path.name.startswith(".")]

    def _manifest(self, id_: str) -> dict[str, Any]:
        try:
            manifest: dict[str, Any] = json.loads((self._snapshots / id_ / "manifest.json").read_text())
        except (OSError, ValueError) as error:
            raise SnapshotError(f"snapshot {id_} is not whole: {error}") from error
        return manifest

    async def _whole(self, handle: SnapshotHandle) -> dict[str, Any]:
        if handle.node != await self._node():
            raise SnapshotError(f"snapshot {handle.id} lies on node {handle.node}")
        manifest = self._manifest(handle.id)
        for name, known in manifest["sums"].items():
            if checksum(self._snapshots / handle.id / name) != known:
                raise SnapshotError(f"snapshot {handle.id} is not whole: {name} was changed")
        return manifest

    def _info(self, id_: str, manifest: Json) -> SnapshotInfo:
        return SnapshotInfo(
            handle=SnapshotHandle(manifest["node"], id_),
            at=datetime.fromisoformat(manifest["at"]),
            version=manifest["version"],
            run=id_,
            volumes=tuple(manifest["volumes"]),
            archive_bytes=0,
            data_bytes=0,
            files=0,
            sealed=(self._snapshots / id_ / "sealed").exists(),
        )


def _swap(there: Path, copy: Path, aside: Path) -> None:
    """No process dies in here: that a half-done swap is finished is ``archive``'s own to prove."""
    aside.parent.mkdir(parents=True, exist_ok=True)
    there.rename(aside)
    copy.rename(there)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def checksum(folder: Path) -> str:
    """SHA-256 over names and contents of all files below ``folder``."""
    total = hashlib.sha256()
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = Path(place) / name
            total.update(f"{path.relative_to(folder)} ".encode())
            total.update(path.read_bytes() + b"\n")
    return total.hexdigest()
