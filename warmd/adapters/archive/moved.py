"""Whether anybody wrote to volumes since they were copied, or since the copy was put back."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import closing
from itertools import zip_longest
from pathlib import Path

from warmd.adapters.archive.children import Check
from warmd.adapters.archive.durable import explained
from warmd.adapters.archive.manifest import listed
from warmd.adapters.archive.seal import require_sealed
from warmd.adapters.archive.tree import Entry, kind_of, shown, walk
from warmd.errors import NotFound, SnapshotError


def moved(path: Path, places: Mapping[str, Path], *, check: Check) -> str:
    """The first thing in the volumes (name -> folder) that is not as in the snapshot at ``path``: other
    names, sizes, times, owners or modes. Empty where all is as it was. Reads no content.

    Raises SnapshotError where the snapshot is gone, can't be read or is not sealed: what it says of the
    volumes is nothing then, and nothing else could be put back from it.
    """
    with explained(f"comparing volumes with {path}"):
        try:
            manifest = require_sealed(path)
        except NotFound as error:
            raise SnapshotError(error.message, hint=error.hint) from error
        for part in manifest.volumes:
            root = places[part.volume]
            if not (path / part.listing).is_file():  # below, what is missing is the volume's
                raise SnapshotError(f"{path / part.listing} is missing", hint="this snapshot can't be used")
            try:
                name = _moved(path / part.listing, root, check)
            except FileNotFoundError:
                return f"{root}: something goes away right now"
            if name:
                return f"{root}: {name}"
    return ""


def _moved(listing: Path, root: Path, check: Check) -> str:
    with closing(listed(listing, check)) as before, closing(walk(root, check)) as found:
        was_there = (entry for entry in before if entry.kind != "socket")
        is_there = ((s.path, s.stat) for s in found if kind_of(s.stat.st_mode) != "socket")
        for was, now in zip_longest(was_there, is_there):
            if was is None or now is None or was.path != now[0] or _differs(was, now[1]):
                paths = [*([was.path] if was else []), *([now[0]] if now else [])]
                return shown(min(paths)) or "."
    return ""


def _differs(was: Entry, now: os.stat_result) -> bool:
    if was.kind != kind_of(now.st_mode):
        return True
    same = (was.uid, was.gid) == (now.st_uid, now.st_gid)
    if was.kind in ("file", "folder"):
        same = same and (was.mode, was.mtime) == (stat.S_IMODE(now.st_mode), now.st_mtime_ns)
    return not same or (was.kind == "file" and was.same is None and was.size != now.st_size)
