"""Before anything is stopped: can these volumes be copied at all, and is there space for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from warmd.adapters.archive.children import Check, Stopped, tool_versions
from warmd.adapters.archive.manifest import plain, snapshots_folder
from warmd.adapters.archive.tree import kind_of, walk
from warmd.errors import Permanent, Refused, SnapshotError
from warmd.ports import Volume

_MARGIN = 1.05
_PER_ENTRY = 1024  # bytes in archive and listing for a file's name and attributes, packed, at worst
_PER_SNAPSHOT = 64  # files a snapshot needs, at most a handful a volume
_BLOCK = 4096


@dataclass(slots=True)
class _Need:
    """What one file system has to have free, and what for."""

    where: Path
    bytes: int = 0
    files: int = 0


@dataclass(frozen=True, slots=True)
class Measure:
    """How much a volume holds: bytes an archive needs at worst, bytes and entries of a second copy."""

    archive: int
    copy: int
    entries: int


def require_copyable(volumes: Sequence[Volume], error: type[Permanent] = Refused) -> None:
    """Raises ``error`` where a volume is of a sort that can't be copied and put back, naming it and why."""
    for volume in volumes:
        if reason := _why_not(volume):
            raise error(
                f"volume {volume.name} can't be copied: {reason}",
                hint=f"add {volume.name!r} to snapshot.exclude if it needs no copy",
            )


def why_not_kind(volume: Volume) -> str | None:
    """Why a volume of this sort can't be copied and put back, wherever its folder is; None where it can."""
    if volume.driver != "local":
        return f"its driver is {volume.driver}, only local ones are copied"
    if volume.options:
        options = ", ".join(f"{key}={value}" for key, value in sorted(volume.options.items()))
        return f"its driver options ({options}) may mount it only while it is used"
    return None


def _why_not(volume: Volume) -> str | None:
    if reason := why_not_kind(volume):
        return reason
    path = Path(volume.mountpoint)
    if path.is_symlink():
        return f"{path} is a symbolic link"
    if not path.is_dir():
        return f"its folder {path} is not there"
    return None


def make_room(folder: Path, volumes: Sequence[Volume], *, check: Check) -> None:
    """Raises Refused where a snapshot of ``volumes``, and a restored copy beside them, would not fit.

    The archive is reckoned as big as the data (it may not compress at all), the copy as what the
    data takes now, with 5 % on top, for bytes and for files; what lies on one file system adds up.
    May run while the volumes are in use.
    """
    require_copyable(volumes)
    try:
        tool_versions()
        needs: dict[int, _Need] = {}
        here = _existing(snapshots_folder(folder))  # which may be a disk of its own
        archive = needs.setdefault(here.stat().st_dev, _Need(here))
        archive.files += _PER_SNAPSHOT
        for volume in volumes:
            plain(volume.name, "the name of a volume")
            root = Path(volume.mountpoint)
            size = measure(root, check)
            archive.bytes += size.archive
            copy = needs.setdefault(root.stat().st_dev, _Need(root))
            copy.bytes += size.copy
            copy.files += size.entries
    except Stopped:
        raise
    except SnapshotError as error:
        raise Refused(error.message, hint=error.hint) from error
    except OSError as error:
        raise Refused(f"the volumes can't be measured: {error}") from error
    for need in needs.values():
        _require_free(need)


def measure(root: Path, check: Check) -> Measure:
    """Walks the volume at ``root``, which may be in use."""
    archive = copy = count = 0
    linked: set[int] = set()
    for seen in walk(root, check, live=True):
        count += 1
        archive += _PER_ENTRY
        kind = kind_of(seen.stat.st_mode)
        if kind == "folder":
            copy += max(seen.stat.st_blocks * 512, _BLOCK)
        if kind == "file" and seen.stat.st_ino not in linked:
            if seen.stat.st_nlink > 1:
                linked.add(seen.stat.st_ino)
            allocated = seen.stat.st_blocks * 512
            archive += min(seen.stat.st_size, allocated)
            copy += allocated
    return Measure(archive, copy, count)


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _require_free(need: _Need) -> None:
    where = _existing(need.where)
    free = os.statvfs(where)
    free_bytes, free_files = free.f_bavail * free.f_frsize, free.f_favail
    wanted, wanted_files = int(need.bytes * _MARGIN), int(need.files * _MARGIN)
    if wanted > free_bytes:
        raise Refused(
            f"not enough space on the file system of {need.where}: a snapshot and a restored copy need "
            f"{human(wanted)}, free are {human(free_bytes)}",
            hint="make room there, or lower snapshot.keep",
        )
    # No limit is reported as no files at all (btrfs).
    if free.f_files and wanted_files > free_files:
        raise Refused(
            f"not enough inodes on the file system of {need.where}: a snapshot and a restored copy need "
            f"{wanted_files}, free are {free_files}",
            hint="remove small files there",
        )


def human(size: float) -> str:
    """Bytes for people, in powers of 1,024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
