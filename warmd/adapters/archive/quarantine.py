"""Where replaced data goes, and the record that makes a restore crash-safe.

``<folder>/quarantine/<run>/restore.json`` is written when everything is unpacked beside the volumes,
compared and on the disk, before the first volume is touched. From then on the restore only goes
forward, also by another process.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from warmd.adapters.archive import durable
from warmd.adapters.archive.children import MARK
from warmd.adapters.archive.manifest import FORMAT, plain
from warmd.errors import SnapshotError

RECORD = "restore.json"


def put_mark(folder: Path, run: str) -> str:
    """Mark a folder as made by ``run``; what was marked, "" where the file system keeps no such thing."""
    try:
        os.setxattr(folder, MARK, run.encode())
    except OSError:
        return ""
    return run


@dataclass(frozen=True, slots=True)
class Move:
    """One volume of a restore. ``how``: its folder is renamed, or, being a mount point, what is inside.

    ``ready`` is the new data, ``new_ino`` and ``new_mtime`` (ns) its folder's. ``places`` is where
    replaced data went, the last one where it goes next: there are several only if something appeared
    while a restore lay half done. ``mark`` is what its folder carries as ``MARK``, "" where it can't.
    """

    volume: str
    mountpoint: str
    how: Literal["rename", "inside"]
    ready: str
    new_ino: int
    new_mtime: int
    places: tuple[str, ...]
    phase: Literal["staged", "out", "in", "done"] = "staged"
    mark: str = ""

    @property
    def begun(self) -> bool:
        """Whether the volume was touched."""
        return self.phase != "staged" or any(os.path.lexists(place) for place in self.places)

    @property
    def whole(self) -> bool:
        """Whether the new data is still where this restore put it: ready, or in place."""
        if self.how == "inside" and self.phase == "done":
            return Path(self.places[-1]).is_dir()
        places = (self.ready, self.mountpoint) if self.how == "rename" else (self.ready,)
        return any(_inode(place) == self.new_ino and self._carries_mark(place) for place in places)

    def _carries_mark(self, place: str) -> bool:
        # The number of a folder that was removed is given to the next one: it alone proves nothing.
        if not self.mark:
            return True
        try:
            return os.getxattr(place, MARK) == self.mark.encode()
        except OSError:
            return False


def _inode(path: str) -> int | None:
    try:
        return os.lstat(path).st_ino
    except (FileNotFoundError, NotADirectoryError):
        return None


@dataclass(frozen=True, slots=True)
class Restore:
    """What ``restore.json`` says: which snapshot goes where, and how far it got."""

    run: str
    snapshot: str
    at: datetime
    moves: tuple[Move, ...]

    @property
    def done(self) -> bool:
        return all(move.phase == "done" for move in self.moves)

    @property
    def begun(self) -> bool:
        return any(move.begun for move in self.moves)

    @property
    def whole(self) -> bool:
        return all(move.whole for move in self.moves)

    def save(self, folder: Path) -> None:
        path = record_path(folder, self.run)
        durable.make_private(path.parent)
        data = {"format": FORMAT} | asdict(self) | {"at": self.at.isoformat()}
        durable.replace(path, json.dumps(data, indent=2).encode() + b"\n")

    def with_move(self, number: int, **changes: object) -> Restore:
        moves = list(self.moves)
        moves[number] = replace(moves[number], **changes)  # type: ignore[arg-type]  # fields of Move
        return replace(self, moves=tuple(moves))


def quarantine_folder(folder: Path) -> Path:
    return folder / "quarantine"


def record_path(folder: Path, run: str) -> Path:
    return quarantine_folder(folder) / plain(run, "the id of a run") / RECORD


_PROBE = ".warmd-probe-"


def clear_half_written(folder: Path) -> None:
    """Remove records that were never finished: whoever was killed writing one may not come back under
    that run's name. Only while nobody else writes there. Raises OSError."""
    home = quarantine_folder(folder)
    for entry in home.iterdir() if home.is_dir() else ():
        if entry.is_dir() and not entry.is_symlink():
            with suppress(FileNotFoundError):
                durable.half_written(entry / RECORD).unlink()
            for probe in entry.glob(f"{_PROBE}*"):
                probe.rmdir()  # made empty, to see whether a rename works


def load_restore(folder: Path, run: str) -> Restore | None:
    """The record of a run's restore; None where it never got so far. Raises SnapshotError if damaged."""
    path = record_path(folder, run)
    try:
        data = json.loads(path.read_bytes())
        if data["format"] > FORMAT:
            raise SnapshotError(f"{path}: written by a newer warmd", hint="use the newer warmd")
        moves = tuple(Move(**(move | {"places": tuple(move["places"])})) for move in data["moves"])
        return Restore(data["run"], data["snapshot"], datetime.fromisoformat(data["at"]), moves)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise SnapshotError(
            f"{path} can't be read: {error}", hint="move it aside, then restore again"
        ) from error


def restores(folder: Path, *, damaged: Literal["raise", "skip"] = "raise") -> Iterator[Restore]:
    """All records, by run. Raises SnapshotError at a damaged one, unless it is to be skipped."""
    home = quarantine_folder(folder)
    for entry in sorted(home.iterdir()) if home.is_dir() else ():
        if entry.is_dir() and not entry.name.startswith("."):
            try:
                record = load_restore(folder, entry.name)
            except SnapshotError:
                if damaged == "raise":
                    raise
                continue
            if record is not None:
                yield record


def choose_place(folder: Path, mountpoint: Path, run: str, volume: str) -> Path:
    """A path, not there yet, to which the volume's folder can be renamed. Found out by renaming."""
    candidates = [quarantine_folder(folder) / run / volume]
    if mountpoint.parent.parent.name == "volumes":
        # Docker's own root, where all volumes lie. Not in "volumes": each folder there is a volume to docker.
        candidates.append(mountpoint.parents[2] / "warmd-quarantine" / run / volume)
    candidates.append(mountpoint.with_name(f"{mountpoint.name}.warmd-old-{run}"))
    for candidate in candidates:
        with suppress(OSError):  # one that can't be made, or not be written to, is none
            durable.make_private(candidate.parent)
            if can_rename(mountpoint.parent, candidate.parent, run):
                return free(candidate)
    raise SnapshotError(f"there is no place to which {mountpoint} could be moved", hint="is it read-only?")


def can_rename(source: Path, target: Path, run: str) -> bool:
    """Whether something in ``source`` can be renamed into ``target``, tried with an empty folder.

    Comparing device numbers would not do: a bind mount has the same one and refuses all the same.
    """
    name = f"{_PROBE}{run}"
    before = source.stat()
    try:
        for leftover in (*source.glob(f"{_PROBE}*"), *target.glob(f"{_PROBE}*")):
            leftover.rmdir()  # of an attempt that was killed here
        (source / name).mkdir(mode=0o700)
        try:
            if source != target:
                (source / name).rename(target / name)
        except OSError as error:
            if error.errno == errno.EXDEV:
                return False
            raise
        finally:
            for leftover in (source / name, target / name):
                with suppress(FileNotFoundError):
                    leftover.rmdir()
    finally:
        os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    return True


def free(path: Path) -> Path:
    """``path``, or, where that is taken, the first of ``path.2``, ``path.3`` … that isn't."""
    number, found = 1, path
    while os.path.lexists(found):
        number += 1
        found = path.with_name(f"{path.name}.{number}")
    return found
