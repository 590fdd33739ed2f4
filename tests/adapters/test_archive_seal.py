"""What a seal proves, and what it finds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.archive_support import Place, go_on
from warmd.adapters.archive.seal import seal, verify
from warmd.errors import NotFound, SnapshotError


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def _content(data: Path) -> None:
    (data / "folder" / "f").write_text("other")
    os.utime(data / "folder" / "f", ns=(0, 10**18))


def _link(data: Path) -> None:
    (data / "link").unlink()
    (data / "link").symlink_to("y")


def _type(data: Path) -> None:
    (data / "fifo").unlink()
    (data / "fifo").touch()


def _hard_link(data: Path) -> None:
    (data / "folder" / "g").unlink()
    (data / "folder" / "g").write_text("12345")
    os.utime(data / "folder" / "g", ns=(0, 10**18))


#: What is done to the volume, and what the seal says of it.
CHANGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "content": (_content, "folder/f: sha256 is "),
    "mode": (lambda d: (d / "folder" / "f").chmod(0o600), "folder/f: mode is 0o600, not 0o644"),
    "owner": (lambda d: os.chown(d / "folder" / "f", 7, 0), "folder/f: uid is 7, not 0"),
    "time": (
        lambda d: os.utime(d / "folder" / "f", ns=(0, 10**18 + 1)),
        "folder/f: mtime is 10000000000000000",
    ),
    "missing last": (lambda d: (d / "z").unlink(), "z is missing"),
    "missing between": (lambda d: (d / "fifo").unlink(), "folder was never captured, fifo should be there"),
    "extra": (lambda d: (d / "folder" / "e").touch(), "folder/e was never captured"),
    "link": (_link, "link: target is b'y', not b'x'"),
    "type": (_type, "fifo: type is file, not fifo"),
    "xattr": (
        lambda d: os.setxattr(d / "folder" / "f", "trusted.a", b"2"),
        "folder/f: extended attribute trusted.a differs",
    ),
    "hard link": (_hard_link, "folder/g: same is None, not b'folder/f'"),
}


def _small(data: Path) -> None:
    (data / "folder").mkdir()
    (data / "folder" / "f").write_text("12345")
    (data / "folder" / "f").chmod(0o644)
    (data / "folder" / "g").hardlink_to(data / "folder" / "f")
    os.setxattr(data / "folder" / "f", "trusted.a", b"1")
    (data / "link").symlink_to("x")
    os.mkfifo(data / "fifo")
    (data / "z").touch()


def _same_times(data: Path) -> None:
    for path in (data / "link", data / "fifo", data / "z", data / "folder", data):
        if os.path.lexists(path):
            os.utime(path, ns=(0, 10**18), follow_symlinks=False)


@pytest.mark.parametrize("change", CHANGES)
def test_an_archive_of_anything_else_is_not_sealed(place: Place, change: str) -> None:
    """The archive and its hash are exchanged for those of a slightly different volume."""
    data = place.data("v")
    _small(data)
    os.utime(data / "folder" / "f", ns=(0, 10**18))
    _same_times(data)
    path = place.capture("r1", "v")
    act, complaint = CHANGES[change]
    act(data)
    _same_times(data)
    other = place.capture("r2", "v")
    _exchange_archive(path, other)
    with pytest.raises(SnapshotError) as caught:
        seal(place.folder, "r1", check=go_on)
    assert complaint in caught.value.message
    assert not (path / "sealed").exists()
    seal(place.folder, "r2", check=go_on)


def _exchange_archive(path: Path, other: Path) -> None:
    (path / "1-v.tar.zst").write_bytes((other / "1-v.tar.zst").read_bytes())
    mine, its = (json.loads((p / "manifest.json").read_bytes()) for p in (path, other))
    mine["volumes"][0]["archive_sha256"] = its["volumes"][0]["archive_sha256"]
    (path / "manifest.json").write_text(json.dumps(mine))


def test_sealing_twice_and_verifying_are_fine(place: Place) -> None:
    (place.data("v") / "x").write_text("12345")
    path = place.capture("r1", "v")
    assert not verify(path, check=go_on).sealed
    first = seal(place.folder, "r1", check=go_on)
    assert first.sealed
    assert (first.files, first.data_bytes, first.version) == (2, 5, "1.0.0+2.3")
    assert seal(place.folder, "r1", check=go_on) == first == verify(path, check=go_on)


def test_there_is_no_such_snapshot(place: Place) -> None:
    with pytest.raises(NotFound, match="no snapshot at"):
        seal(place.folder, "r1", check=go_on)


@pytest.mark.parametrize("id_", ["", "..", "../x", "/etc", ".hidden", "a/b", "a\n"])
def test_an_id_is_no_path(place: Place, id_: str) -> None:
    with pytest.raises(SnapshotError, match="can't be the id of a snapshot"):
        place.capture(id_)
