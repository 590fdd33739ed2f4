"""Files that are there after a power cut, or were never there: fsync, rename, fsync of the folder.

A failed fsync is never tried again: the kernel may have dropped the pages and would say yes next time.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from warmd.adapters.archive.children import CHUNK, Check, inheriting, run
from warmd.errors import SnapshotError


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turns an OSError into a SnapshotError that says what was being done, and where."""
    try:
        yield
    except OSError as error:
        where = f" ({os.fsdecode(error.filename)})" if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "make room there, or lower snapshot.keep" if full else ""
        raise SnapshotError(f"{doing}: {error.strerror or error}{where}", hint=hint) from error


#: Seconds for which another process, or the programs of one that was killed, may keep a folder's lock.
PATIENCE = 30.0


def sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_filesystem(path: Path, check: Check) -> None:
    """Everything written below ``path`` reaches the disk: one call for a whole tree."""
    run("sync", "--file-system", str(path), doing=f"writing {path} to the disk", check=check)


def write_new(path: Path, data: bytes) -> None:
    """A file that was not there, mode 0600, on the disk; its folder still wants a ``sync_folder``."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def half_written(path: Path) -> Path:
    """Where what ``replace`` will put at ``path`` is written first; it stays there if that is killed."""
    return path.with_name(f".{path.name}.partial")


def replace(path: Path, data: bytes) -> None:
    """The file as a whole, old or new, also after a power cut. Mode 0600."""
    beside = half_written(path)
    with suppress(FileNotFoundError):
        beside.unlink()  # what an earlier attempt left
    try:
        write_new(beside, data)
        beside.rename(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
    sync_folder(path.parent)


def make_private(path: Path) -> None:
    """The folder and those above it that are missing, mode 0700, on the disk."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)


def remove_tree(path: Path, check: Check) -> None:
    """Remove a folder if it is there. A mount inside is left alone, and makes this fail.

    It gets another name first: half of it is never found under the name of a whole one, and a
    program that outlived a killed warmd for a moment keeps writing there, not into a new folder
    of the same name.
    """
    _remove_doomed(path, check)
    if os.path.lexists(path):
        path.rename(_doomed(path))
        _remove_doomed(path, check)


def _doomed(path: Path) -> Path:
    return path.with_name(f".{path.name}.doomed")


def _remove_doomed(path: Path, check: Check) -> None:
    if os.path.lexists(doomed := _doomed(path)):
        run("rm", "-rf", "--one-file-system", "--", str(doomed), doing=f"removing {doomed}", check=check)


def replace_tree(path: Path, new: Path, check: Check) -> None:
    """The folder ``new`` in place of ``path``, on the disk, and then the old one removed.

    One of the two is at ``path`` at any moment, but where the file system can't exchange names: there
    it takes two renames. ``check`` is asked before anything changes.
    """
    _remove_doomed(path, check)
    check()
    # Under the name of what will be removed already: the exchange then needs no step of its own after it.
    doomed = _doomed(path)
    new.rename(doomed)
    try:
        exchanged = _exchange(doomed, path)
    except OSError:
        doomed.rename(new)
        raise
    if not exchanged:
        doomed.rename(new)
        path.rename(doomed)
        new.rename(path)
    sync_folder(path.parent)
    with suppress(SnapshotError):  # the new one is in place; whoever clears the folder tries again
        _remove_doomed(path, lambda: None)


_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def _exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step; False where kernel or file system can't."""
    renameat2 = getattr(_LIBC, "renameat2", None)
    if renameat2 is None:
        return False
    sys.audit("os.rename", str(one), str(other), -1, -1)  # as os.rename says it
    if not renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(other))


def is_full(path: Path) -> bool:
    """Whether the file system at ``path`` has no room for another file of some size."""
    free = os.statvfs(path)
    return free.f_bavail * free.f_frsize < CHUNK or (free.f_files > 0 and free.f_favail == 0)


def open_plain(path: Path) -> IO[bytes]:
    """An ordinary file for reading, unbuffered. Raises SnapshotError at a link, FIFO or device of that
    name: reading it might never end, and would say nothing about the disk."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise SnapshotError(f"{path} is a symbolic link, not a file of a snapshot") from error
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise SnapshotError(f"{path} is not an ordinary file")
    return os.fdopen(fd, "rb", buffering=0)


def sha256_of(path: Path, check: Check) -> str:
    """Hex SHA-256 of a file, read from the disk and not from what the kernel still remembers of it."""
    digest = hashlib.sha256()
    with open_plain(path) as file:
        with suppress(OSError):  # only advice: some file systems have none
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while block := file.read(CHUNK):
            check()
            digest.update(block)
    return digest.hexdigest()


_LOCK = ".archive.lock"


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def exclusive(folder: Path, check: Check) -> Iterator[None]:
    """One writer a folder at a time. The kernel lets go when the process has ended, however it ends, and
    the programs that it started have ended too. Raises SnapshotError where that takes too long."""
    with explained(f"locking {folder}"):
        make_private(folder)
        fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        until = time.monotonic() + PATIENCE
        while not _locked(fd):
            check()
            if time.monotonic() > until:
                raise SnapshotError(
                    f"another process is working on the snapshots in {folder}",
                    hint=f"wait until it has finished; fuser -v {folder / _LOCK} names it",
                )
            time.sleep(0.05)
        with inheriting(fd):
            yield
    finally:
        os.close(fd)
