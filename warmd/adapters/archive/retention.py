"""Which snapshots there are, and which may go."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from warmd.adapters.archive.children import Check
from warmd.adapters.archive.durable import exclusive, explained, remove_tree
from warmd.adapters.archive.manifest import (
    SEALED,
    info_of,
    load,
    name_problem,
    seal_problem,
    snapshots_folder,
)
from warmd.adapters.archive.quarantine import Restore, quarantine_folder, restores
from warmd.core.model import SnapshotHandle, SnapshotInfo
from warmd.errors import NotFound, SnapshotError

#: Replaced data younger than this is never removed, however much there is.
QUARANTINE_AGE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot's folder. ``problem`` says why it can't be restored now; None where it can."""

    path: Path
    info: SnapshotInfo
    problem: str | None


def list_snapshots(folder: Path) -> tuple[Snapshot, ...]:
    """All snapshots in ``<folder>/snapshots``, oldest first; damaged ones too, with their problem."""
    home = snapshots_folder(folder)
    with explained(f"listing {home}"):
        paths = (
            [p for p in home.iterdir() if p.is_dir() and not p.name.startswith(".")] if home.is_dir() else []
        )
        found = []
        for path in paths:
            with suppress(NotFound):  # removed while we looked
                found.append(_look_at(path))
        return tuple(sorted(found, key=lambda s: (s.info.at, s.info.handle.id)))


def _look_at(path: Path) -> Snapshot:
    try:
        manifest, content = load(path)
    except SnapshotError as error:
        at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        nothing = SnapshotInfo(SnapshotHandle("", path.name), at, None, None, (), 0, 0, 0, sealed=False)
        return Snapshot(path, nothing, error.message)
    problem = name_problem(path, manifest) or seal_problem(path, content)
    info = replace(info_of(manifest, sealed=problem is None), handle=SnapshotHandle(manifest.node, path.name))
    return Snapshot(path, info, problem)


def to_remove(found: tuple[Snapshot, ...], *, keep: int, needed: frozenset[str]) -> tuple[Snapshot, ...]:
    """Sealed ones but the newest ``keep``, and those never sealed; nothing that is ``needed``.

    What was sealed once and is damaged now stays: a person should see it.
    """
    sealed = [s for s in found if s.problem is None]
    old = sealed[: max(0, len(sealed) - keep)]
    never_sealed = [s for s in found if s.problem is not None and not (s.path / SEALED).exists()]
    return tuple(s for s in found if (s in old or s in never_sealed) and s.path.name not in needed)


def prune(folder: Path, *, keep: int, needed: frozenset[str], now: datetime, check: Check) -> tuple[str, ...]:
    """Remove what ``to_remove`` says and what killed captures left; the ids of the snapshots removed.

    Replaced data (quarantine) goes too where it is older than ``QUARANTINE_AGE`` and not among the
    newest ``keep``.
    """
    home = snapshots_folder(folder)
    with explained(f"removing old snapshots in {home}"), exclusive(folder, check):
        doomed = to_remove(list_snapshots(folder), keep=keep, needed=needed)
        for snapshot in doomed:
            remove_tree(snapshot.path, check)
        for leftover in home.glob(".*") if home.is_dir() else ():
            id_ = leftover.name.removeprefix(".").removesuffix(".partial")
            if leftover.name.endswith((".partial", ".doomed")) and id_ not in needed:
                remove_tree(leftover, check)
        _prune_quarantine(folder, keep, now, check)
    return tuple(s.path.name for s in doomed)


def _prune_quarantine(folder: Path, keep: int, now: datetime, check: Check) -> None:
    found = sorted(restores(folder, damaged="skip"), key=lambda r: (r.at, r.run), reverse=True)
    for record in found[keep:]:
        # One that lies half done needs its parts, unless they are gone.
        if (record.done or not record.whole) and now - record.at > QUARANTINE_AGE:
            _forget(folder, record, check)


def _forget(folder: Path, record: Restore, check: Check) -> None:
    home = quarantine_folder(folder) / record.run
    for move in record.moves:
        for place in map(Path, move.places):
            remove_tree(place, check)
            if place.parent != home:
                with suppress(OSError):  # others' data may still be in there
                    place.parent.rmdir()
    remove_tree(home, check)
