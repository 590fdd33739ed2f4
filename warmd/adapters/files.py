"""Files that are whole or absent, also after a power cut.

Everything here is blocking; callers on the event loop use a thread. A failed fsync is never tried
again: after it the kernel may call pages clean that never reached the disk, so a second one would
only say what one would like to hear.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from pathlib import Path

from warmd.errors import Permanent, Transient, WarmdError

#: Errors that pass when somebody makes room, or by themselves.
_PASSING = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ESTALE)
)
_HINTS = {
    errno.ENOSPC: "make room on that disk (df -h, df -i)",
    errno.EDQUOT: "raise the quota, or make room",
    errno.EROFS: "the file system is mounted read-only; dmesg says why",
    errno.EACCES: "run it as root, or as the user that owns the file",
    errno.EPERM: "run it as root, or as the user that owns the file",
    errno.EIO: "the disk fails; dmesg says more",
    errno.EMFILE: "raise the limit of open files (LimitNOFILE= of the unit, ulimit -n)",
    errno.ENFILE: "raise fs.file-max",
}
_TEMP_SUFFIX = ".tmp"


def passes(error: OSError) -> bool:
    """Whether it may pass: a full disk, no descriptor or memory left."""
    return error.errno in _PASSING


def is_full(error: OSError) -> bool:
    """Whether it says that a disk, or somebody's share of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def explain(error: OSError, doing: str) -> WarmdError:
    """``error`` as one of ours: Transient where it may pass (a full disk), Permanent otherwise.

    ``doing`` says what could not be done, as in ``"can't write /var/lib/warmd/FORMAT"``.
    """
    kind = Transient if passes(error) else Permanent
    return kind(f"{doing}: {error.strerror or error}", hint=_HINTS.get(error.errno or 0, ""))


def fsync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data``: one ``write`` may take less. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def make_folder(folder: Path, *, mode: int = 0o700) -> bool:
    """Make one folder, durably and whatever the umask; True if it was not there. Raises OSError."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return False
    folder.chmod(mode)
    fsync_folder(folder.parent)
    return True


def publish(
    path: Path, data: bytes, *, mode: int = 0o600, group: int | None = None, replace: bool = True
) -> None:
    """Make ``path`` hold ``data``: a reader sees all of it, or what was there before, at any moment.

    On return it is durable. ``mode`` holds whatever the umask, ``group`` is a gid (None: ours).
    A symbolic link at ``path`` is replaced, not followed. Raises OSError, with what was at ``path``
    left as it was, or, where only the folder's fsync failed, with nothing there; FileExistsError where
    something is there and ``replace`` is False.
    """
    temp = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_TEMP_SUFFIX}")
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        try:
            write_all(fd, data)
            if group is not None:
                os.fchown(fd, -1, group)
            os.fchmod(fd, mode)
            os.fsync(fd)
        finally:
            os.close(fd)
        if replace:
            temp.rename(path)
        else:
            path.hardlink_to(temp)  # unlike rename it fails where the name is taken
            temp.unlink()
    except BaseException:
        with contextlib.suppress(OSError):
            temp.unlink(missing_ok=True)
        raise
    try:
        fsync_folder(path.parent)
    except BaseException:
        # So that the next attempt writes it anew, instead of asking the disk a second time.
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def sweep_temps(folder: Path, *, older_than: float) -> int:
    """Remove what ``publish`` left in ``folder`` when it was killed, if older than ``older_than``
    seconds; how many. Raises OSError."""
    removed = 0
    now = time.time()
    for entry in os.scandir(folder):
        if not (entry.name.startswith(".") and entry.name.endswith(_TEMP_SUFFIX)):
            continue
        with contextlib.suppress(FileNotFoundError):
            seen = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(seen.st_mode) and now - seen.st_mtime >= older_than:
                Path(entry.path).unlink()
                removed += 1
    return removed
