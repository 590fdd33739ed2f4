"""Putting a snapshot back: verify, unpack beside, compare, and only then swap.

The steps, and what is on the disk if the process ends at each of them:

1. Verified: the archives' hashes and the seal.       Nothing was touched.
2. Each volume unpacked beside its folder, compared   The volumes are untouched; leftovers are removed
   with the listing, on the disk.                      by the next attempt, which starts at 1.
3. ``restore.json`` written, phase "staged".          The volumes are untouched; the next attempt goes
                                                       on at 4, and so do all that follow.
   Whoever restores is asked whether still nothing     The same: all this took its time, and somebody may
   runs.                                               have started the service meanwhile.
4. Each volume swapped (swap.py).                     Each volume is the old one, the new one, or half
                                                       done; running it again finishes it.
5. Phase "done" for all.                              Running it again does nothing.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Literal

from warmd.adapters.archive.children import CHUNK, TAR_KEEP, Check, Children, Stopped
from warmd.adapters.archive.durable import (
    exclusive,
    explained,
    is_full,
    make_private,
    open_plain,
    remove_tree,
    sync_filesystem,
    sync_folder,
)
from warmd.adapters.archive.manifest import Part, listed, plain, snapshot_path
from warmd.adapters.archive.quarantine import (
    Move,
    Restore,
    choose_place,
    clear_half_written,
    load_restore,
    put_mark,
    restores,
)
from warmd.adapters.archive.seal import require_hashes, require_sealed
from warmd.adapters.archive.swap import Step, finish, no_step
from warmd.adapters.archive.tree import (
    QUARANTINE,
    entries,
    is_mount_point,
    mount_points_below,
    require_own_quarantine,
    require_same,
    shown,
)
from warmd.errors import SnapshotError


def restore(
    folder: Path,
    id_: str,
    *,
    run: str,
    at: datetime,
    check: Check,
    mountpoints: Callable[[], Mapping[str, Path]] = dict,
    still: Callable[[], None] = lambda: None,
    step: Step = no_step,
) -> Restore:
    """Put the snapshot's data back into its volumes; what was there goes to quarantine.

    Nothing may use the volumes meanwhile: ``still`` is asked right before the first of them is touched,
    and raises where something does, in place of the swap. Idempotent a ``run``, and safe to be ended at
    any moment: the same call again finishes the job, even if the snapshot is gone by then.
    ``mountpoints`` sends volumes elsewhere, by name; it is asked where there is something to unpack.
    Returns where everything went. Raises NotFound, what ``still`` raises, and SnapshotError with the
    volumes untouched where the snapshot is not whole or sealed, or a volume's folder is missing.
    """
    path = snapshot_path(folder, id_)
    with explained(f"restoring {path}"), exclusive(folder, check):
        clear_half_written(folder)
        # Whoever was ended in the middle of its swaps comes first: a volume may be missing meanwhile.
        for other in restores(folder):
            if other.run != run and other.begun and other.whole and not other.done:
                other.save(folder)
                still()
                finish(folder, other, check, step)
        record = load_restore(folder, plain(run, "the id of a run"))
        if record is not None and record.snapshot != id_:
            raise SnapshotError(f"run {run} already restored another snapshot, {record.snapshot}")
        if record is None or not record.whole:
            record = _stage(folder, path, run, at, check, mountpoints(), step)
        elif not record.done:
            # Whoever wrote it may have been killed before its name was on the disk, or told that it isn't.
            record.save(folder)
        if not record.done:
            still()
        return finish(folder, record, check, step)


def _stage(
    folder: Path, path: Path, run: str, at: datetime, check: Check, elsewhere: Mapping[str, Path], step: Step
) -> Restore:
    manifest = require_sealed(path)
    require_hashes(path, manifest, check=check)
    targets = [(part, Path(elsewhere.get(part.volume, part.mountpoint))) for part in manifest.volumes]
    for part, target in targets:
        _require_target(part, target)
    step("verified")
    moves: list[Move] = []
    try:
        for part, target in targets:
            moves.append(_unpack(folder, path, part, target, run, check))
            step(f"unpacked {part.volume}")
    except Exception:
        for move in moves:
            with suppress(SnapshotError, OSError):
                remove_tree(Path(move.ready), lambda: None)
        raise
    record = Restore(run, path.name, at, tuple(moves))
    record.save(folder)
    step("staged")
    return record


def _require_target(part: Part, target: Path) -> None:
    if target.is_symlink():
        raise SnapshotError(f"{target}, the folder of volume {part.volume}, is a symbolic link")
    if not target.is_dir():
        raise SnapshotError(
            f"{target}, the folder of volume {part.volume}, is not there",
            hint=f"docker volume create {part.volume}",
        )
    if inside := mount_points_below(target):
        raise SnapshotError(f"{shown(min(inside))} is mounted inside {target}", hint="unmount it")


def _unpack(folder: Path, path: Path, part: Part, target: Path, run: str, check: Check) -> Move:
    how: Literal["rename", "inside"] = "inside"
    home, name = target / QUARANTINE / run, "new"
    if not is_mount_point(target):
        how = "rename"
        home, name = target.parent, f"{target.name}.warmd-new-{run}"
        leftovers = [*home.glob(f"{target.name}.warmd-new-*"), *home.glob(f".{target.name}.warmd-new-*")]
    else:
        require_own_quarantine(target)
        make_private(home)
        if home.is_symlink():
            raise SnapshotError(f"{home} is a symbolic link", hint="remove it")
        # Never through a symbolic link: what is in a volume was written by others.
        runs = [entry for entry in home.parent.iterdir() if entry.is_dir() and not entry.is_symlink()]
        leftovers = [run / left for run in runs for left in ("new", "new.partial")]
    for leftover in leftovers:  # of attempts that were ended, and of runs that were given up
        remove_tree(leftover, check)
    ready, partial = home / name, home / f"{name}.partial"
    partial.mkdir(mode=0o700)
    try:
        _extract(path / part.archive, partial, check)
        require_same(f"unpacked {part.archive}", listed(path / part.listing, check), entries(partial, check))
        mark = put_mark(partial, run)
        sync_filesystem(partial, check)
        partial.rename(ready)
        sync_folder(home)
    except Exception as error:
        full = is_full(partial)
        with suppress(SnapshotError, OSError):
            remove_tree(partial, lambda: None)
        if full and not isinstance(error, Stopped):  # tar only says that it wrote less than it should
            raise SnapshotError(f"No space left on the file system of {target}: {error}") from error
        raise
    place = home / "old" if how == "inside" else choose_place(folder, target, run, part.volume)
    new = ready.stat()
    return Move(
        part.volume, str(target), how, str(ready), new.st_ino, new.st_mtime_ns, (str(place),), mark=mark
    )


def _extract(archive: Path, into: Path, check: Check) -> None:
    with open_plain(archive) as file, Children(check) as children:
        # Fed by us and not from the file: if we are killed, both see the end and don't go on alone.
        zstd = children.start("zstd", "-q", "-dc", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert zstd.stdin is not None
        assert zstd.stdout is not None
        children.start(
            "tar", "--extract", "--same-owner", "--preserve-permissions", *TAR_KEEP,
            "--warning=no-timestamp", f"--directory={into}", "--file=-",
            stdin=zstd.stdout,
        )  # fmt: skip
        zstd.stdout.close()
        while (block := file.read(CHUNK)) and children.feed(zstd.stdin, block):
            pass
        zstd.stdin.close()
        children.finish(f"unpacking {archive}")
