"""Capture, seal and restore are the identity, whatever the volume holds; and what makes them refuse."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.archive_support import (
    Place,
    facts,
    go_on,
    mounted,
    one_of_everything,
)
from warmd.adapters.archive.manifest import load
from warmd.adapters.archive.tree import walk
from warmd.errors import SnapshotError


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# --- the identity (any tree: tests/snapshots/test_trees.py) ----------------------------------------


def test_one_of_each_sort_of_thing_comes_back(place: Place) -> None:
    data = place.data("sso_data")
    one_of_everything(data)
    before = facts(data)
    place.sealed("r1", "sso_data")
    (data / "binary").write_bytes(b"damaged")
    done = place.restore("r1", "r2")
    assert facts(data) == before
    assert Path(done.moves[0].places[0], "binary").read_bytes() == b"damaged"
    assert not (data / "socket").exists(), "a socket is nothing without its process"


def test_holes_stay_holes(place: Place) -> None:
    data = place.data("sso_data")
    with (data / "sparse").open("wb") as file:
        file.truncate(2**27)
    path = place.sealed("r1", "sso_data")
    place.restore("r1", "r2")
    assert (data / "sparse").stat().st_size == 2**27
    assert (data / "sparse").stat().st_blocks * 512 < 2**20
    assert sum(file.stat().st_size for file in path.iterdir()) < 2**15


def test_several_volumes_and_empty_ones(place: Place) -> None:
    (place.data("a") / "x").write_text("a")
    place.data("b").chmod(0o711)
    before = {name: facts(place.data(name)) for name in ("a", "b")}
    place.sealed("r1", "a", "b")
    (place.data("b") / "y").write_text("b")
    (place.data("a") / "x").unlink()
    place.restore("r1", "r2")
    assert {name: facts(place.data(name)) for name in ("a", "b")} == before


def test_no_volumes_at_all(place: Place) -> None:
    path = place.sealed("r1")
    place.restore("r1", "r2")
    assert load(path)[0].volumes == ()


@pytest.fixture
def deep(place: Place) -> Iterator[Callable[[str, int], Path]]:
    """Makes a volume of folders in folders, and clears up: pytest's own way is recursive and gives up."""

    def make(name: str, depth: int) -> Path:
        data = place.data("v")
        fd = os.open(data, os.O_RDONLY)
        for _ in range(depth):
            os.mkdir(name, dir_fd=fd)
            below = os.open(name, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        os.close(fd)
        return data

    yield make
    subprocess.run(["rm", "-rf", *place.root.iterdir()], check=True)


def test_a_tree_as_deep_as_a_path_may_be_long(place: Place, deep: Callable[[str, int], Path]) -> None:
    data = deep("eleven-long", 341)
    before = list(walk(data, go_on))
    assert len(before[-1].path) == 4091
    place.sealed("r1", "v")
    subprocess.run(["rm", "-rf", data / "eleven-long"], check=True)
    place.restore("r1", "r2")
    assert [seen.path for seen in walk(data, go_on)] == [seen.path for seen in before]


def test_a_path_that_tar_could_not_unpack_is_refused(place: Place, deep: Callable[[str, int], Path]) -> None:
    deep("n" * 255, 16)
    with pytest.raises(SnapshotError, match="is longer than 4093 bytes"):
        place.capture("r1", "v")


def test_many_small_files(place: Place) -> None:
    data = place.data("sso_data")
    for folder in range(20):
        (data / f"{folder}").mkdir()
        for file in range(100):
            (data / f"{folder}" / f"{file}").write_text(f"{folder}/{file}")
    before = facts(data)
    path = place.sealed("r1", "sso_data")
    assert load(path)[0].volumes[0].files == 2021
    place.restore("r1", "r2")
    assert facts(data) == before


# --- what is on the disk --------------------------------------------------------------------------


def test_a_snapshot_is_private_and_says_what_it_is(place: Place) -> None:
    (place.data("sso_data") / "x").write_text("hello")
    path = place.sealed("r1", "sso_data")
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {0o600}
    manifest = json.loads((path / "manifest.json").read_bytes())
    assert {k: manifest[k] for k in ("format", "service", "stack", "version", "run", "node")} == {
        "format": 1,
        "service": "sso",
        "stack": "sso",
        "version": "1.0.0+2.3",
        "run": "r1",
        "node": "node1",
    }
    assert manifest["volumes"][0]["mountpoint"] == str(place.data("sso_data"))
    assert "GNU tar" in manifest["tools"]["tar"]
    assert json.loads((path / "bundle.json").read_bytes())["services"] == []


def test_a_socket_is_listed_as_ignored(place: Place) -> None:
    os.mknod(place.data("v") / "s", stat.S_IFSOCK)
    path = place.sealed("r1", "v")
    lines = subprocess.run(
        ["zstd", "-dc", path / "1-v.files.jsonl.zst"], check=True, capture_output=True
    ).stdout
    assert [json.loads(line).get("ignored") for line in lines.splitlines()] == [None, True]


def test_the_readme_restores_without_warmd(place: Place) -> None:
    """The lines of README.txt, typed as they stand there (docker's own apart)."""
    data = place.data("sso_data")
    one_of_everything(data)
    before = facts(data)
    path = place.sealed("r1", "sso_data")
    (data / "binary").write_bytes(b"damaged")
    lines = [
        line.strip() for line in (path / "README.txt").read_text().splitlines() if line.startswith("   ")
    ]
    typed = [line for line in lines if line.startswith(("sha256sum ", "mv ", "mkdir ", "zstd "))]
    assert [shlex.split(line)[0] for line in typed] == ["sha256sum", "mv", "mkdir", "zstd"]
    subprocess.run(["bash", "-euo", "pipefail", "-c", "\n".join(typed)], cwd=path, check=True)
    assert facts(data) == before


def test_an_attempt_starts_anew_under_the_same_id(place: Place) -> None:
    data = place.data("v")
    (data / "x").write_text("1")
    leftover = place.snapshot(".r1.partial")
    leftover.mkdir(parents=True)
    (leftover / "1-v.tar.zst").write_text("half")
    place.capture("r1", "v")
    (data / "x").write_text("2")
    path = place.sealed("r1", "v")
    assert not leftover.exists()
    (data / "x").write_text("3")
    again = place.sealed("r1", "v")
    assert again == path
    place.restore("r1", "r2")
    assert (data / "x").read_text() == "3"


# --- something is still writing -------------------------------------------------------------------


def _once_there(path: Path, act: Callable[[], Any]) -> Callable[[], None]:
    """A check that acts, once, as soon as ``path`` exists."""
    done: list[Any] = []

    def check() -> None:
        if path.exists() and not done:
            done.append(act())

    return check


@pytest.mark.parametrize("what", ["written to", "removed", "added", "renamed", "chmod"])
def test_a_change_during_the_copy_is_found(place: Place, what: str) -> None:
    data = place.data("v")
    for name in "abc":
        (data / name).write_text("x" * 10)
    acts: dict[str, Callable[[], Any]] = {
        "written to": lambda: (data / "b").write_text("y" * 10),
        "removed": lambda: (data / "b").unlink(),
        "added": lambda: (data / "d").touch(),
        "renamed": lambda: (data / "b").rename(data / "z"),
        "chmod": lambda: (data / "b").chmod(0o600),
    }
    packing = place.snapshot(".r1.partial") / "1-v.tar.zst"
    with pytest.raises(SnapshotError, match=r"something (is|was) still writing"):
        place.capture("r1", "v", check=_once_there(packing, acts[what]))
    assert list(place.snapshot("").iterdir()) == []


def test_a_change_of_an_earlier_volume_is_found(place: Place) -> None:
    (place.data("a") / "x").write_text("1")
    place.data("b")
    second = place.snapshot(".r1.partial") / "2-b.tar.zst"
    with pytest.raises(SnapshotError, match="still writing"):
        place.capture(
            "r1", "a", "b", check=_once_there(second, lambda: (place.data("a") / "x").write_text("2"))
        )


def test_a_file_that_grows_while_it_is_read_is_found(place: Place) -> None:
    data = place.data("v")
    (data / "log").write_bytes(b"x" * 5_000_000)

    def grow() -> None:
        with (data / "log").open("ab") as file:
            file.write(b"more")

    with pytest.raises(SnapshotError, match="log changed or vanished while it was read"):
        place.capture("r1", "v", check=grow)


@pytest.mark.parametrize("how", [("-t", "tmpfs", "tmpfs"), ("--bind", "/")], ids=["tmpfs", "bind"])
def test_a_mount_inside_a_volume_is_named(place: Place, how: tuple[str, ...]) -> None:
    inner = place.data("v") / "in there"
    inner.mkdir()
    source = (*how[:-1], str(place.root)) if how[0] == "--bind" else how
    with mounted(inner, *source), pytest.raises(SnapshotError, match="in there is a mount point"):
        place.capture("r1", "v")
