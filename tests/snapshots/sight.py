"""What is in a volume, seen by somebody who is not warmd: system calls, a hash, and nothing imported from it.

Two volumes that mean the same give equal sights. Left out is what docs/snapshots.md says is not kept:
sockets, times of access and change, the names that FIFOs and devices share.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

#: Paths (bytes, within the volume) and everything that has to be the same about them.
Sight: TypeAlias = dict[bytes, tuple[Any, ...]]

_BLOCK = 4096
#: What warmd itself puts into a volume or on its folder, and what belongs to the machine.
_IGNORED = frozenset({"trusted.warmd.restore", "security.selinux"})
_ASIDE = b".warmd-quarantine"
_WITH_CONTENT: Callable[[int], bool] = stat.S_ISREG


def sight(root: Path) -> Sight:
    """Everything in the volume at ``root``, its own folder as ``.``."""
    found: Sight = {}
    names_of: dict[int, list[bytes]] = {}
    for path, name, fd in _walk(root):
        seen = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISSOCK(seen.st_mode):
            continue
        found[path] = _facts(name, fd, seen)
        if seen.st_nlink > 1 and (stat.S_ISREG(seen.st_mode) or stat.S_ISLNK(seen.st_mode)):
            names_of.setdefault(seen.st_ino, []).append(path)
    for names in names_of.values():
        found[b"//one file: " + min(names)] = tuple(sorted(names))
    return found


def _walk(root: Path) -> Iterator[tuple[bytes, bytes, int]]:
    """Path within the volume, name, and the open folder that the name is in: a path may be too long."""
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield b".", b".", top
        yield from _below(b"", top)
    finally:
        os.close(top)


def _below(prefix: bytes, fd: int) -> Iterator[tuple[bytes, bytes, int]]:
    for name in sorted(os.fsencode(n) for n in os.listdir(fd)):
        if not prefix and name == _ASIDE:
            continue
        yield prefix + name, name, fd
        if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            try:
                yield from _below(prefix + name + b"/", inner)
            finally:
                os.close(inner)


def _facts(name: bytes, fd: int, seen: os.stat_result) -> tuple[Any, ...]:
    content: Any = None
    if _WITH_CONTENT(seen.st_mode):
        content = (seen.st_size, content_of(name, dir_fd=fd))
    elif stat.S_ISLNK(seen.st_mode):
        content = os.readlink(name, dir_fd=fd)
    elif stat.S_ISCHR(seen.st_mode) or stat.S_ISBLK(seen.st_mode):
        content = seen.st_rdev
    place = b"/proc/self/fd/%d/%s" % (fd, name)
    xattrs = {
        key: os.getxattr(place, key, follow_symlinks=False)
        for key in os.listxattr(place, follow_symlinks=False)
        if key not in _IGNORED
    }
    return (oct(seen.st_mode), seen.st_uid, seen.st_gid, seen.st_mtime_ns, content, xattrs)


def content_of(name: bytes | Path, *, dir_fd: int | None = None) -> str:
    """A hash of the content that passes over holes, so that 4 GiB of nothing take no time."""
    digest = hashlib.sha256()
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=dir_fd)
    try:
        for start, end in _data(fd):
            for at in range(start // _BLOCK * _BLOCK, end, _BLOCK):
                block = os.pread(fd, _BLOCK, at)
                if block.strip(b"\0"):  # zeros that are written are no other content than a hole
                    digest.update(b"%d:" % at + block.ljust(_BLOCK, b"\0"))
    finally:
        os.close(fd)
    return digest.hexdigest()


def _data(fd: int) -> Iterator[tuple[int, int]]:
    at = 0
    with suppress(OSError):  # ENXIO: nothing but a hole from here on
        while True:
            at = os.lseek(fd, at, os.SEEK_DATA)
            end = os.lseek(fd, at, os.SEEK_HOLE)
            yield at, end
            at = end


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def allocated(path: Path) -> int:
    """Bytes that a file takes on the disk."""
    return path.lstat().st_blocks * 512


def differences(was: Sight, now: Sight) -> list[str]:
    """The first few differences in words; none where both are the same."""
    return [
        f"{path!r}: was {was.get(path)}, is {now.get(path)}"
        for path in sorted(was.keys() | now.keys())
        if was.get(path) != now.get(path)
    ][:5]
