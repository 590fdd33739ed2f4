"""Room that is held while there is some, for what a run has to write when the disk is full.

A folder of files that nobody reads: their bytes and their places in the table of files are given back
to the file system the moment that a record, a blob or the note of a restore finds none. It is taken before
a service is stopped. Others may be quicker to use what was given back; then it was of no help.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from warmd.adapters import files

T = TypeVar("T")

#: Many times what a run writes between the stop and its end, apart from the copy: a hundred short
#: records, some bundles of a few kB, and a handful of new files.
FILES, EACH = 16, 64 * 1024


class Reserve:
    """One folder, for all services. Everything here is blocking."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()

    def hold(self) -> None:
        """Take what is not held yet. Raises OSError where there is no room for it."""
        with self._lock:
            files.make_folder(self.folder)
            for number in range(FILES):
                self._take(self.folder / f"{number:02}")

    def _take(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_blocks * 512 >= EACH:
                return
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            # Random, because a file system that packs would give zeros no room.
            files.write_all(fd, os.urandom(EACH))
            os.fsync(fd)
        finally:
            os.close(fd)

    def give_back(self) -> bool:
        """Let all of it go; whether there was any."""
        with self._lock, contextlib.suppress(OSError):
            held = list(self.folder.iterdir())
            for path in held:
                path.unlink(missing_ok=True)
            files.fsync_folder(self.folder)  # some file systems have the room only then
            return bool(held)
        return False

    def spent_if_full(self, write: Callable[[], T], undo: Callable[[], object] = lambda: None) -> T:
        """What ``write`` gives. Where it finds the disk full, the reserve is given back and it is done
        once more, after ``undo``. Raises its OSError."""
        try:
            return write()
        except OSError as error:
            if not files.is_full(error) or not self.give_back():
                raise
            undo()
            return write()
