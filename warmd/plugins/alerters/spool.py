"""Alerter: a folder of files, one an alert, for whatever picks them up. docs/alerts.md is its manual."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Literal

import structlog
from anyio import to_thread

from warmd.adapters import files
from warmd.core.model import Json
from warmd.core.text import escaped
from warmd.errors import ConfigError, Permanent, Refused
from warmd.plugins.base import Context, Settings

_log = structlog.get_logger()

_MODE = 0o640
#: Seconds after which a temporary file is no longer somebody's who is writing it.
_STALE = 3600.0
#: Symlinks one after another.
_LINKS = 8


class Config(Settings):
    """Alert files in a folder."""

    kind: Literal["spool"] = "spool"

    folder: Path
    """Where the files go. Made if it is missing."""

    group: str | int | None = None
    """The group, by name or number, that may read, move and delete the files. Default: the daemon's own."""


def build(config: Config, context: Context) -> Spool:
    """The alerter. Raises ConfigError where there is no such group."""
    return Spool(context.config_dir / config.folder, config.group)


class Spool:
    """The Alerter port over one folder. ``group`` as in ``Config``; raises ConfigError where the
    machine has none of that name."""

    def __init__(self, folder: Path, group: str | int | None = None) -> None:
        self._folder = folder
        self._group = _gid(group) if isinstance(group, str) else group
        self._ready = False

    async def deliver(self, name: str, body: Json) -> None:
        """Publish one alert under a file name, whole or not at all, mode 0640, durably.

        The same name again is fine: a file that is there and says the same is left alone, one that
        was taken away comes back (with the same id, by which readers know it). Raises Transient
        where the disk is full, Permanent where the folder can't be written.
        """
        if not name or name.startswith(".") or "/" in name or "\0" in name:
            raise Refused(f"{name!r} can't be the name of an alert file")
        # People look at the files with cat: nothing in them may steer their terminal.
        data = (escaped(json.dumps(body, ensure_ascii=False, indent=2)) + "\n").encode()
        await to_thread.run_sync(self._deliver, name, data)

    def _deliver(self, name: str, data: bytes) -> None:
        try:
            folder = self._open()
            try:
                # By the descriptor: whatever becomes of the path meanwhile, this is the folder that was
                # looked at.
                path = Path(f"/proc/self/fd/{folder}", name)
                if not _says(path, data):
                    files.publish(path, data, mode=_MODE, group=self._group)
                else:
                    os.fsync(folder)  # its writer may have been killed before it did
            finally:
                os.close(folder)
        except OSError as error:
            raise files.explain(error, f"can't write the alert {self._folder / name}") from error

    def _open(self) -> int:
        """A descriptor of the folder, which is made where it is missing; once a process it is freed of what a
        killed one left. Raises OSError, and Permanent for a link that is not to be followed."""
        try:
            folder, made = _open_folder(self._folder), False
        except FileNotFoundError:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            made = files.make_folder(self._folder, mode=0o700)
            folder = _open_folder(self._folder)
        try:
            if made and self._group is not None:
                _give(folder, self._group)
            if not self._ready:
                files.sweep_temps(Path(f"/proc/self/fd/{folder}"), older_than=_STALE)
                self._warn_if_hidden()
                self._ready = True
        except BaseException:
            os.close(folder)
            raise
        return folder

    def _warn_if_hidden(self) -> None:
        """A group that may read the files can't get at them through a folder that is closed to it."""
        if self._group is None:
            return
        for folder in self._folder.resolve().parents:
            seen = folder.stat()
            if not seen.st_mode & (0o010 if seen.st_gid == self._group else 0o001):
                _log.warning(
                    "alerts.hidden-from-group",
                    folder=str(folder),
                    alert_dir=str(self._folder),
                    group=self._group,
                    hint=f"let alert_dir name a folder outside of {folder}, or: chmod o+x {folder}",
                )
                return


def _gid(group: str) -> int:
    import grp

    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(
            f"alert_group: this machine has no group {group!r}", hint=f"groupadd --system {group}"
        ) from None


def _open_folder(path: Path, depth: int = 0) -> int:
    """The folder, also behind a symlink that root or warmd's user made: who else may put one there could
    have root's files written anywhere. Raises OSError, and Permanent for such a link."""
    place = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        seen = os.fstat(place)
        if not stat.S_ISLNK(seen.st_mode):
            return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if seen.st_uid not in (0, os.geteuid()):
            raise Permanent(
                f"the alert folder {path} is a symlink that user {seen.st_uid} made: it is not followed",
                hint=f"remove it, or make it root's: chown -h root {path}",
            )
        if depth > _LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = os.readlink("", dir_fd=place)
    finally:
        os.close(place)
    return _open_folder(path.parent / target, depth + 1)


def _give(folder: int, group: int) -> None:
    """Whoever may delete or move the files needs to write to their folder: one that was just made."""
    if os.fstat(folder).st_uid == os.geteuid():
        os.fchown(folder, -1, group)
        os.fchmod(folder, 0o2770)


def _says(path: Path, data: bytes) -> bool:
    """True where ``path`` is a file (no link) that holds exactly ``data``."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False  # not there, or not ours: publishing says what is wrong
    with os.fdopen(fd, "rb") as file:
        return file.read(len(data) + 1) == data
