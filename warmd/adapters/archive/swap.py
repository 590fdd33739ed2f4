"""The swap: new data in place of the old, which goes to quarantine. Only ever forward.

By renaming the volume's folder, where it can be renamed:

1. old folder -> its place in quarantine     (ended here: the folder is missing, both trees are whole)
2. new folder -> the volume's folder         (ended here: done, but not yet noted)

Inside the folder, where it is a mount point; each phase is noted on the disk before it starts:

1. phase "out": each thing in the folder -> quarantine    (ended here: some are out)
2. phase "in":  each new thing -> the folder              (ended here: all old ones are out, some new ones in)
3. phase "done", when the folder's own owner, mode, times and attributes are the new ones too

Called again, each goes on from what it finds.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from warmd.adapters.archive.children import Check
from warmd.adapters.archive.durable import make_private, sync_folder
from warmd.adapters.archive.quarantine import Restore, free
from warmd.adapters.archive.tree import QUARANTINE
from warmd.errors import SnapshotError

#: Called with the name of each step as it is reached: tests end the process there.
Step: TypeAlias = Callable[[str], None]


def no_step(_name: str) -> None:
    """What is called at each step outside of tests."""


def finish(folder: Path, record: Restore, check: Check, step: Step) -> Restore:
    """Bring a staged restore to its end; the record, all done. Nothing is left to do for one that is.
    Raises SnapshotError, OSError."""
    for number, move in enumerate(record.moves):
        check()
        if move.phase != "done":
            swap = _by_renaming if move.how == "rename" else _inside
            record = swap(folder, record, number, step)
    for move in record.moves:
        if move.how == "inside":
            with suppress(OSError):
                Path(move.ready).rmdir()  # all that was in it has moved
    step("done")
    return record


def _by_renaming(folder: Path, record: Restore, number: int, step: Step) -> Restore:
    move = record.moves[number]
    target, ready, place = Path(move.mountpoint), Path(move.ready), Path(move.places[-1])
    if ready.exists():
        if os.path.lexists(target):
            if os.path.lexists(place):
                # The old one is there already: somebody made a new folder while this lay half done.
                place = free(Path(move.places[0]))
                record = record.with_move(number, places=(*move.places, str(place)))
                record.save(folder)
            make_private(place.parent)
            _rename(target, place)
            step(f"old out {move.volume}")
            sync_folder(place.parent)
        _rename(ready, target)
        step(f"new in {move.volume}")
        sync_folder(target.parent)
    record = record.with_move(number, phase="done")
    record.save(folder)
    step(f"done {move.volume}")
    return record


def _rename(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise SnapshotError(
                f"{source} is a mount point now, it was none before", hint="unmount it"
            ) from error
        raise


def _inside(folder: Path, record: Restore, number: int, step: Step) -> Restore:
    move = record.moves[number]
    target, ready, place = Path(move.mountpoint), Path(move.ready), Path(move.places[-1])
    if move.phase == "staged":
        with suppress(OSError):
            place.rmdir()  # empty: an attempt was ended just here
        place = free(place)  # not empty: of an earlier restore whose record is gone
        make_private(place)
        copy_attributes(target, place)
        record = record.with_move(number, phase="out", places=(str(place),))
        record.save(folder)
        step(f"phase out {move.volume}")
    if record.moves[number].phase == "out":
        place = Path(record.moves[number].places[-1])
        _move_content(target, place, step, "out")
        record = record.with_move(number, phase="in")
        record.save(folder)
        step(f"phase in {move.volume}")
    _move_content(ready, target, step, "in", aside=place)
    copy_attributes(ready, target)
    os.utime(target, ns=(move.new_mtime, move.new_mtime))  # taking things out changed ready's own
    sync_folder(target)
    record = record.with_move(number, phase="done")
    record.save(folder)
    step(f"done {move.volume}")
    return record


def _move_content(source: Path, target: Path, step: Step, word: str, aside: Path | None = None) -> None:
    for name in sorted(child.name for child in source.iterdir()):
        if name == QUARANTINE:
            continue
        if aside is not None and os.path.lexists(target / name):
            (target / name).rename(free(aside / name))
        (source / name).rename(target / name)
        step(f"{word} one")
    sync_folder(source)
    sync_folder(target)


def copy_attributes(source: Path, target: Path) -> None:
    """Owner, mode, extended attributes (ACLs among them) and times of one folder onto another."""
    wanted = {name: os.getxattr(source, name) for name in _xattrs(source)}
    found = source.stat()
    os.chown(target, found.st_uid, found.st_gid)
    for name in _xattrs(target):
        if name not in wanted:
            os.removexattr(target, name)
    target.chmod(stat.S_IMODE(found.st_mode))
    for name, value in wanted.items():
        os.setxattr(target, name, value)
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def _xattrs(path: Path) -> list[str]:
    try:
        return [name for name in os.listxattr(path) if name != "security.selinux"]
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return []
        raise
