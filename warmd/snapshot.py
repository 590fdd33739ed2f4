"""Verified snapshots of folders, for other programs: synchronous, without Docker, without a daemon.

It is the code that warmd's own ``archive`` snapshotter runs; docs/snapshots.md describes the format
on disk and has an example. A *folder* is where a service's snapshots live (``<folder>/snapshots/<id>``)
and where replaced data goes (``<folder>/quarantine/<run>``). Root is needed to keep owners. GNU tar and
zstd have to be on PATH.

Every function that may take long takes ``should_stop``, asked several times a second: once it says
True, tar and zstd are ended, what is half done is removed, and Stopped is raised. All errors are
SnapshotError (Stopped is one), Refused, or NotFound from ``warmd.errors``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from warmd.adapters.archive import capture as _capture
from warmd.adapters.archive import restore as _restore
from warmd.adapters.archive import retention as _retention
from warmd.adapters.archive import room as _room
from warmd.adapters.archive import seal as _seal
from warmd.adapters.archive.children import Stopped, checker
from warmd.adapters.archive.manifest import snapshot_path
from warmd.adapters.archive.retention import Snapshot, list_snapshots
from warmd.core.model import SnapshotInfo
from warmd.ports import CaptureRequest, Volume

__all__ = [
    "Snapshot",
    "SnapshotInfo",
    "Stopped",
    "capture",
    "list_snapshots",
    "make_room",
    "prune",
    "restore",
    "snapshot_path",
    "verify",
]


def _never() -> bool:
    return False


def _volumes(volumes: Mapping[str, Path]) -> tuple[Volume, ...]:
    return tuple(Volume(name, "local", str(Path(path).absolute())) for name, path in volumes.items())


def make_room(folder: Path, volumes: Mapping[str, Path], *, should_stop: Callable[[], bool] = _never) -> None:
    """Raises Refused where a snapshot and a restored copy of ``volumes`` (name -> folder) would not fit."""
    _room.make_room(Path(folder).absolute(), _volumes(volumes), check=checker(should_stop))


def capture(
    folder: Path,
    volumes: Mapping[str, Path],
    *,
    id: str,  # noqa: A002 - the word that callers know
    service: str,
    stack: str = "",
    version: str | None = None,
    node: str = "",
    bundle: Mapping[str, Any] | None = None,
    at: datetime | None = None,
    level: int = 1,
    should_stop: Callable[[], bool] = _never,
) -> SnapshotInfo:
    """Copy ``volumes`` (name -> folder) to ``<folder>/snapshots/<id>``, read the copy back, and seal it.

    Nothing may write to the volumes meanwhile; if something does, SnapshotError names the file. An
    unsealed snapshot of the same ``id`` is removed first, a sealed one is replaced in the end.
    ``bundle`` is any JSON object worth keeping with the data; ``at`` is now unless given, aware;
    ``level`` is zstd's, 1 to 19.
    """
    folder, check = Path(folder).absolute(), checker(should_stop)
    request = CaptureRequest(
        id=id,
        service=service,
        stack=stack or service,
        volumes=_volumes(volumes),
        at=at or datetime.now(UTC),
        version=version,
        bundle=dict(bundle or {}),
    )
    _capture.capture(folder, request, node=node, level=level, check=check)
    return _seal.seal(folder, id, check=check)


def verify(path: Path, *, should_stop: Callable[[], bool] = _never) -> SnapshotInfo:
    """Read the snapshot's folder at ``path`` back, wherever it lies, and compare every file; writes nothing.

    Raises SnapshotError naming the first difference, and NotFound.
    """
    return _seal.verify(Path(path), check=checker(should_stop))


def restore(
    folder: Path,
    id: str,  # noqa: A002 - the word that callers know
    *,
    run: str,
    to: Mapping[str, Path] | None = None,
    at: datetime | None = None,
    should_stop: Callable[[], bool] = _never,
) -> dict[str, tuple[Path, ...]]:
    """Put a sealed snapshot back; returns where each volume's replaced data is now (name -> folders).

    Nothing may use the volumes meanwhile. ``run`` names this restore: the same call again finishes one
    that was ended half-way, and does nothing for one that is done. ``to`` sends volumes elsewhere
    (name -> folder, which has to exist). Raises SnapshotError with nothing touched where the snapshot
    is damaged, not sealed, or a volume's folder is missing.
    """
    done = _restore.restore(
        Path(folder).absolute(),
        id,
        run=run,
        at=at or datetime.now(UTC),
        check=checker(should_stop),
        mountpoints=lambda: {name: Path(path).absolute() for name, path in (to or {}).items()},
    )
    return {move.volume: tuple(Path(place) for place in move.places) for move in done.moves}


def prune(
    folder: Path,
    *,
    keep: int,
    needed: frozenset[str] = frozenset(),
    now: datetime | None = None,
    should_stop: Callable[[], bool] = _never,
) -> tuple[str, ...]:
    """Remove all but the newest ``keep`` sealed snapshots, never a ``needed`` id; the ids removed.

    Snapshots that were never sealed go too. Replaced data goes when it is older than 7 days and not
    among the newest ``keep``.
    """
    check = checker(should_stop)
    return _retention.prune(
        Path(folder).absolute(), keep=keep, needed=needed, now=now or datetime.now(UTC), check=check
    )
