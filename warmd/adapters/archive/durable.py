"""Files that are there after a power cut, or were never there: fsync, rename, fsync of the folder.

A failed fsync is never tried again: the kernel may have dropped the pages and would say yes next time.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from warmd.adapters.archive.children import CHUNK, Check, run
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


def replace(path: Path, data: bytes) -> None:
    """The file as a whole, old or new, also after a power cut. Mode 0600."""
    beside = path.with_name(f".{path.name}.partial")
    with suppress(FileNotFoundError):
        beside.unlink()  # what an earlier attempt left
    write_new(beside, data)
    beside.rename(path)
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
    doomed = path.with_name(f".{path.name}.doomed")
    if os.path.lexists(doomed):
        run("rm", "-rf", "--one-file-system", "--", str(doomed), doing=f"removing {doomed}", check=check)
    if os.path.lexists(path):
        path.rename(doomed)
        run("rm", "-rf", "--one-file-system", "--", str(doomed), doing=f"removing {doomed}", check=check)


def is_full(path: Path) -> bool:
    """Whether the file system at ``path`` has no room for another file of some size."""
    free = os.statvfs(path)
    return free.f_bavail * free.f_frsize < CHUNK or (free.f_files > 0 and free.f_favail == 0)


def sha256_of(path: Path, check: Check) -> str:
    """Hex SHA-256 of a file, read from the disk and not from what the kernel still remembers of it."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        with suppress(OSError):  # only advice: some file systems have none
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while block := file.read(CHUNK):
            check()
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """One writer a folder at a time; the kernel lets go when the process ends, however it ends."""
    make_private(folder)
    fd = os.open(folder / ".archive.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SnapshotError(
                f"another process is working on the snapshots in {folder}", hint="wait until it has finished"
            ) from error
        yield
    finally:
        os.close(fd)
