"""A second copy under the same id takes the first one's place, whatever the file system can do."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
from pathlib import Path

import pytest

from tests.adapters.archive_support import Place, go_on
from warmd.adapters.archive import durable
from warmd.adapters.archive.children import checker
from warmd.adapters.archive.durable import replace_tree
from warmd.adapters.archive.seal import verify
from warmd.errors import SnapshotError


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A sealed snapshot of a volume that says "old", and says "newer" by now."""
    place = Place(tmp_path)
    (place.data("v") / "x").write_text("old")
    place.sealed("r1", "v")
    (place.data("v") / "x").write_text("newer")
    return place


def _only_r1(place: Place) -> bytes:
    """Its manifest, proved to be that of a whole snapshot, with nothing beside it."""
    path = place.snapshot("r1")
    assert [found.name for found in path.parent.iterdir()] == ["r1"]
    verify(path, check=go_on)
    return (path / "manifest.json").read_bytes()


def test_two_folders_exchange_their_names_in_one_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen where it could be caught half done: nothing but the new one's own name is given by renaming."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    rename, renamed = Path.rename, list[str]()

    def told(source: Path, target: Path) -> Path:
        renamed.append(source.name)
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", told)
    replace_tree(tmp_path / "old", tmp_path / "new", go_on)
    assert renamed == ["new"]
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*")] == [Path("old"), Path("old/new")]


@pytest.mark.parametrize("how", ["the kernel says no", "there is no such function"])
def test_where_names_can_not_be_exchanged_it_takes_two_renames(
    place: Place, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    class Libc:
        @staticmethod
        def renameat2(*_: object) -> int:
            ctypes.set_errno(errno.EINVAL)
            return -1

    before = _only_r1(place)
    monkeypatch.setattr(durable, "_LIBC", Libc if how == "the kernel says no" else None)
    place.capture("r1", "v")
    assert _only_r1(place) != before


def test_an_exchange_that_fails_leaves_the_old_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_one: Path, _other: Path) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    before = _only_r1(place)
    monkeypatch.setattr(durable, "_exchange", fails)
    with pytest.raises(SnapshotError, match="Input/output error"):
        place.capture("r1", "v")
    assert _only_r1(place) == before


def test_a_copy_that_is_stopped_at_the_last_moment_leaves_the_old_one(place: Place) -> None:
    before, whole = _only_r1(place), place.snapshot(".r1.partial") / "manifest.json"
    with pytest.raises(SnapshotError, match="stopped, as asked"):
        place.capture("r1", "v", check=checker(whole.exists))
    assert _only_r1(place) == before


def test_an_old_one_that_can_not_be_removed_does_not_undo_the_new_one(place: Place) -> None:
    """Something is mounted in it: the next one to clear the folder says so."""
    before = _only_r1(place)
    busy = place.snapshot("r1") / "busy"
    busy.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", busy], check=True)
    try:
        path = place.capture("r1", "v")
        assert (path / "manifest.json").read_bytes() != before
        verify(path, check=go_on)
        with pytest.raises(SnapshotError, match="removing"):
            place.capture("r1", "v")
    finally:
        (busy,) = busy.parents[1].glob("*/busy")  # it went with the folder
        subprocess.run(["umount", busy], check=True)
