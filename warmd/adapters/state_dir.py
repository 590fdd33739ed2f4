"""The state directory: its layout, its format, its installation id, and the lock that one daemon holds.

::

    FORMAT          the layout's version; a newer one is refused
    installation    an id made once, 32 hex digits; the label warmd.owner on what is deployed
    lock            held (flock) by the daemon, or by a command that acts while none runs
    services/<id>/  journal, snapshots, quarantine of one service
    blobs/          big things by their SHA-256
    mirrors/        git mirrors
    reserve/        room for a run to end when the disk is full (reserve.py)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from warmd.adapters import files
from warmd.errors import Locked, Refused

#: The version of the layout.
FORMAT = 1

_FOLDERS = ("services", "blobs", "mirrors")
#: What may be there before warmd was: made by a package, a person, or an administrator's PAUSE.
_HARMLESS = frozenset((*_FOLDERS, "installation", "lock", "alerts", "PAUSE", "heartbeat", "lost+found"))
_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)


@dataclass(frozen=True, slots=True)
class StateDir:
    """An open state directory. Get one from ``StateDir.open``."""

    path: Path
    installation: str

    @classmethod
    def open(cls, path: Path) -> StateDir:
        """Make what is missing and check what is there. Blocking; takes no lock.

        Raises Refused where the folder belongs to somebody else, can be written by others, holds
        other things than warmd's, or is of a newer warmd; Transient where the disk is full.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.make_folder(path)
            _check_folder(path)
            _check_format(path)
            for name in _FOLDERS:
                files.make_folder(path / name)
                _check_folder(path / name)
            return cls(path, _installation(path))
        except OSError as error:
            raise files.explain(error, f"can't use {error.filename or path}") from error

    @property
    def services(self) -> Path:
        return self.path / "services"

    @property
    def blobs(self) -> Path:
        return self.path / "blobs"

    @property
    def mirrors(self) -> Path:
        return self.path / "mirrors"

    @property
    def reserve(self) -> Path:
        return self.path / "reserve"

    def service(self, name: str) -> Path:
        """The service's own folder, made where it is missing. Raises Refused for a name that is no
        safe folder name."""
        if not _SERVICE.fullmatch(name):
            raise Refused(f"{name!r} can't be the name of a service's folder")
        folder = self.services / name
        try:
            files.make_folder(folder)
        except OSError as error:
            raise files.explain(error, f"can't make {folder}") from error
        return folder

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only one who changes things here. Raises Locked, naming the holder, at once.

        What a killed holder left half written is cleared away.
        The kernel lets go when the process ends, however it ends. Commands that this process starts
        don't inherit it.
        """
        path = self.path / "lock"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise files.explain(error, f"can't open {path}") from error
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
                raise Locked(
                    f"another warmd{f' (pid {holder})' if holder else ''} holds {self.path}",
                    hint=f"stop it first, or see: ps -fp {holder}" if holder else "try again",
                ) from None
            # Who holds it is only told to people: a full disk must not keep warmd from its work.
            with contextlib.suppress(OSError):
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
            # Only whoever holds the lock puts blobs: what is half written there is a killed warmd's.
            with contextlib.suppress(OSError):
                files.sweep_temps(self.blobs, older_than=0.0)
            try:
                yield
            finally:
                # Emptied before it is let go, and never removed: a removed file can be locked twice.
                with contextlib.suppress(OSError):
                    os.ftruncate(fd, 0)
        finally:
            os.close(fd)


def _check_folder(folder: Path) -> None:
    seen = folder.stat()
    if seen.st_uid not in (0, os.geteuid()):
        raise Refused(f"{folder} belongs to user {seen.st_uid}", hint=f"chown root: {folder}")
    if seen.st_mode & 0o022:
        raise Refused(
            f"{folder} can be written by others (mode {stat.S_IMODE(seen.st_mode):04o})",
            hint=f"chmod go-w {folder}",
        )


def _check_format(path: Path) -> None:
    file = path / "FORMAT"
    try:
        text = file.read_text("ascii", "replace").strip()
    except FileNotFoundError:
        _check_unused(path)
        with contextlib.suppress(FileExistsError):  # another warmd starts at the same moment
            files.publish(file, f"{FORMAT}\n".encode(), replace=False)
        return
    if not text.isdigit():
        raise Refused(f"{file} says {text[:40]!r}, which is no format", hint="is this warmd's folder?")
    if int(text) > FORMAT:
        raise Refused(
            f"{path} is in format {int(text)}, this warmd knows up to {FORMAT}",
            hint="run the newer warmd again",
        )


def _check_unused(path: Path) -> None:
    """A folder without FORMAT is a new one, or somebody else's: a typing error in the configuration."""
    strange = sorted(
        e.name for e in path.iterdir() if e.name not in _HARMLESS and not e.name.startswith((".", "control"))
    )
    if strange:
        raise Refused(
            f"{path} is not warmd's: it has no FORMAT but {', '.join(strange[:3])}",
            hint="let state_dir name a folder of its own",
        )


def _installation(path: Path) -> str:
    file = path / "installation"
    if not file.exists():
        # A new id on old state would make warmd a stranger to its own services.
        if any((path / "services").iterdir()):
            raise Refused(f"{file} is missing, though there are services", hint=_ID_HINT)
        with contextlib.suppress(FileExistsError):
            files.publish(file, f"{secrets.token_hex(16)}\n".encode(), replace=False)
    text = file.read_text("ascii", "replace").strip()
    if not _ID.fullmatch(text):
        raise Refused(f"{file} holds no installation id", hint=_ID_HINT)
    return text


_ID_HINT = "write it anew from the label warmd.owner of a service that warmd deployed"
