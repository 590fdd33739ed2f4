"""What comes out of a repository is what was committed: nothing run, hidden, rewritten or left behind."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.upstream import (
    Link,
    Program,
    Submodule,
    Upstream,
    fetched,
    mirror_at,
)
from warmd.adapters.repository import Damaged, moment
from warmd.errors import Refused


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path / "srv" / "recipe")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mirrors"


@pytest.fixture
def hostile(upstream: Upstream) -> str:
    """A commit that would run, hide or rewrite something if anybody checked it out as usual."""
    return upstream.commit(
        {
            ".gitattributes": "*.yml filter=evil export-ignore\n*.txt export-subst text eol=crlf\n",
            ".gitmodules": '[submodule "sub"]\n\tpath = sub\n\turl = https://example.org/sub.git\n',
            "compose.yml": "services: {}\n",
            "subst.txt": "$Format:%H$\n",
            "run.sh": Program("#!/bin/sh\n"),
            "deep/er/file with space": b"\0binary\xff",
            "sub": Submodule("1" * 40),
            "inside": Link("deep/er"),
            "deep/up": Link("../compose.yml"),
            "dangling": Link("nowhere"),
            "out": Link("/etc/passwd"),
            "deep/out": Link("../../.."),
            "here": Link("."),
            "round": Link("here/here/../../other"),
            "via": Link("out"),
        }
    )


async def test_the_tree_is_what_was_committed_and_nothing_was_run(
    folder: Path, upstream: Upstream, hostile: str
) -> None:
    mirror = mirror_at(folder, upstream)
    await fetched(mirror)
    async with mirror.tree(hostile) as tree:
        files = {
            p.relative_to(tree).as_posix() for p in tree.rglob("*") if p.is_file() and not p.is_symlink()
        }
        links = {p.relative_to(tree).as_posix() for p in tree.rglob("*") if p.is_symlink()}
        assert files == {
            *(".gitattributes", ".gitmodules", "compose.yml", "subst.txt", "run.sh"),
            "deep/er/file with space",
        }
        assert links == {"inside", "deep/up", "dangling", "here"}
        assert (tree / "subst.txt").read_bytes() == b"$Format:%H$\n"
        assert (tree / "inside" / "file with space").read_bytes() == b"\0binary\xff"
        assert {p.stat().st_mode & 0o777 for p in (tree, tree / "run.sh")} == {0o700}
        assert (tree / "compose.yml").stat().st_mode & 0o777 == 0o600
    assert list((folder / "trees").iterdir()) == []


async def test_one_content_under_many_names_is_written_under_each(folder: Path, upstream: Upstream) -> None:
    commit = upstream.commit({"a": "same", "b": "same", "c/d": Program("same")})
    mirror = mirror_at(folder, upstream)
    await fetched(mirror)
    async with mirror.tree(commit) as tree:
        assert [(tree / name).read_text() for name in ("a", "b", "c/d")] == ["same"] * 3
        assert [(tree / name).stat().st_mode & 0o777 for name in ("a", "c/d")] == [0o600, 0o700]


async def test_a_commit_that_is_not_there_is_an_error_and_leaves_no_folder(
    folder: Path, upstream: Upstream
) -> None:
    upstream.release("1.0.0")
    mirror = mirror_at(folder, upstream)
    await fetched(mirror)

    async def enter() -> None:
        async with mirror.tree("1" * 40):
            pytest.fail("there is nothing to show")

    with pytest.raises(Damaged, match="1111 is not in"):
        await enter()
    assert list((folder / "trees").iterdir()) == []


def overwrite_blobs(repository: Path) -> None:
    """Spoil every file's content, as a bad disk would; commits and folders stay whole."""
    (pack,) = repository.glob("objects/pack/*.pack")
    listed = subprocess.run(
        ["git", "verify-pack", "-v", pack], capture_output=True, check=True
    ).stdout.decode()
    offsets = [int(line.split()[4]) for line in listed.splitlines() if line.split()[1:2] == ["blob"]]
    pack.chmod(0o600)
    with pack.open("r+b") as file:
        for offset in offsets:
            file.seek(offset + 2)
            file.write(b"\xff\xff\xff\xff")


async def test_objects_that_are_spoilt_are_an_error_that_names_the_mirror(
    folder: Path, upstream: Upstream
) -> None:
    commit = upstream.release("1.0.0")
    mirror = mirror_at(folder, upstream)
    await fetched(mirror)
    overwrite_blobs(mirror.repository.path)

    async def enter() -> None:
        async with mirror.tree(commit):
            pytest.fail("a file is missing")

    with pytest.raises(Damaged, match=re.escape(str(mirror.repository.path))):
        await enter()


@pytest.mark.parametrize(
    ("seconds", "year"), [("0", 1970), ("", 1970), ("-5", 1970), ("1700000000", 2023), ("9" * 18, 9999)]
)
def test_no_date_of_a_tag_is_too_far_away(seconds: str, year: int) -> None:
    assert moment(seconds).year == year


async def test_a_release_of_too_many_bytes_is_refused(
    folder: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = upstream.commit({"big": "x" * 2000})
    mirror = mirror_at(folder, upstream)
    await fetched(mirror)
    monkeypatch.setattr("warmd.adapters.repository.TREE_LIMIT", 1000)

    async def enter() -> None:
        async with mirror.tree(commit):
            pytest.fail("too big")

    with pytest.raises(Refused, match="2,000 bytes"):
        await enter()


async def test_trees_of_a_killed_warmd_go_and_those_in_use_stay(folder: Path, upstream: Upstream) -> None:
    commit = upstream.release("1.0.0")
    mirror = mirror_at(folder, upstream)
    await fetched(mirror)
    left = folder / "trees" / "left"
    left.mkdir(parents=True)
    async with mirror.tree(commit) as used:
        for tree in (left, used):
            os.utime(tree, (0, 0))
        async with mirror.tree(commit):
            assert not left.exists()
            assert (used / "compose.yml").exists()
