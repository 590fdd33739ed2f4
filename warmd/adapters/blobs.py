"""Blobs: ``<state_dir>/blobs/<sha256>``, mode 0600, proved when read."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from anyio import to_thread

from warmd.adapters import files
from warmd.adapters.reserve import Reserve
from warmd.errors import JournalError

_NAME = re.compile(r"[0-9a-f]{64}", re.ASCII)


class BlobFiles:
    """Big things below one folder, named by their SHA-256. Writing one twice is cheap."""

    def __init__(self, folder: Path, room: Reserve | None = None) -> None:
        self._folder = folder
        self._room = room or Reserve(folder / ".reserve")
        self._durable: set[str] = set()

    async def put(self, data: bytes) -> str:
        """Keep ``data`` durably; its SHA-256 in hex. Raises Transient where the disk is full."""
        return await to_thread.run_sync(self._put, data)

    async def get(self, name: str) -> bytes:
        """What was put. Raises JournalError where it is missing or is not what its name says."""
        return await to_thread.run_sync(self._get, name)

    def _put(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        path = self._folder / name
        try:
            if name in self._durable and path.exists():
                return name
            if self._read(path) == data:
                # Made by a process that may have been killed before it had fsynced the folder.
                files.fsync_folder(self._folder)
            else:
                # A damaged one is replaced.
                self._room.spent_if_full(lambda: files.publish(path, data))
        except OSError as error:
            raise files.explain(error, f"can't write {path}") from error
        self._durable.add(name)
        return name

    def _get(self, name: str) -> bytes:
        if not _NAME.fullmatch(name):
            raise JournalError(f"{name!r} is not the name of a blob")
        path = self._folder / name
        try:
            data = self._read(path)
        except OSError as error:
            raise files.explain(error, f"can't read {path}") from error
        if data is None:
            raise JournalError(f"{path}: missing, though the journal names it", hint=_HINT)
        if hashlib.sha256(data).hexdigest() != name:
            self._durable.discard(name)
            raise JournalError(f"{path}: its content is not what its name says: it was changed", hint=_HINT)
        return data

    @staticmethod
    def _read(path: Path) -> bytes | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        with os.fdopen(fd, "rb") as file:
            return file.read()


_HINT = "bring it back from a backup of the state folder, or run: warmd adopt SERVICE"
