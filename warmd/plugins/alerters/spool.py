"""Alerter: a folder of files, one an alert, for whatever picks them up. docs/alerts.md is its manual."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal

import structlog
from anyio import to_thread

from warmd.adapters import files
from warmd.core.model import Json
from warmd.errors import ConfigError, Refused
from warmd.plugins.base import Context, Settings

_log = structlog.get_logger()

_MODE = 0o640
#: Seconds after which a temporary file is no longer somebody's who is writing it.
_STALE = 3600.0


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
        data = (json.dumps(body, ensure_ascii=False, indent=2) + "\n").encode(errors="replace")
        await to_thread.run_sync(self._deliver, name, data)

    def _deliver(self, name: str, data: bytes) -> None:
        path = self._folder / name
        try:
            self._make_ready()
            if not _says(path, data):
                files.publish(path, data, mode=_MODE, group=self._group)
            else:
                files.fsync_folder(self._folder)  # its writer may have been killed before it did
        except OSError as error:
            raise files.explain(error, f"can't write the alert {path}") from error

    def _make_ready(self) -> None:
        """Once a process: the folder is there, and free of what a killed process left."""
        if self._ready and self._folder.is_dir():
            return
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        # Whoever may delete or move the files needs to write to their folder.
        mode = 0o700 if self._group is None else 0o2770
        if files.make_folder(self._folder, mode=0o700) and self._group is not None:
            os.chown(self._folder, -1, self._group)
            self._folder.chmod(mode)
        files.sweep_temps(self._folder, older_than=_STALE)
        self._warn_if_hidden()
        self._ready = True

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


def _says(path: Path, data: bytes) -> bool:
    """True where ``path`` is a file (no link) that holds exactly ``data``."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False  # not there, or not ours: publishing says what is wrong
    with os.fdopen(fd, "rb") as file:
        return file.read(len(data) + 1) == data
