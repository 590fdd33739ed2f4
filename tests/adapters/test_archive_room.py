"""What is known before anything is stopped, and what may go afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.archive_support import NOW, Place, go_on, mounted
from warmd.adapters.archive import durable
from warmd.adapters.archive.retention import list_snapshots, prune
from warmd.adapters.archive.room import human, make_room, measure
from warmd.errors import Refused, SnapshotError
from warmd.ports import Volume


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# --- room -----------------------------------------------------------------------------------------


def test_there_is_room(place: Place) -> None:
    (place.data("v") / "x").write_bytes(b"1" * 100_000)
    make_room(place.folder, [place.volume("v")], check=go_on)
    assert not place.folder.exists(), "looking makes nothing"


def test_holes_and_second_names_need_no_room(place: Place) -> None:
    data = place.data("v")
    with (data / "sparse").open("wb") as file:
        file.truncate(2**40)
    (data / "x").write_bytes(b"1" * 1_000_000)
    for name in "abc":
        (data / name).hardlink_to(data / "x")
    size = measure(data, go_on)
    assert 1_000_000 <= size.copy < 1_100_000
    assert 1_000_000 <= size.archive < 1_100_000
    assert size.entries == 6


def test_no_room_for_the_archive(place: Place) -> None:
    (place.data("v") / "x").write_bytes(b"1" * 2_000_000)
    place.folder.mkdir(parents=True)
    with mounted(place.folder, "-t", "tmpfs", "-o", "size=1m", "tmpfs"), pytest.raises(Refused) as caught:
        make_room(place.folder, [place.volume("v")], check=go_on)
    assert f"file system of {place.folder}: " in caught.value.message
    assert "need 2.0 MiB, free are 1.0 MiB" in caught.value.message


def test_no_room_for_the_restored_copy(place: Place) -> None:
    data = place.data("v")
    with mounted(data, "-t", "tmpfs", "-o", "size=3m", "tmpfs"):
        (data / "x").write_bytes(b"1" * 2_000_000)
        with pytest.raises(
            Refused, match=r"not enough space on the file system of .*/_data: .* free are 1.1 MiB"
        ):
            make_room(place.folder, [place.volume("v")], check=go_on)


def test_on_one_file_system_both_add_up(place: Place) -> None:
    with mounted(place.root, "-t", "tmpfs", "-o", "size=5m", "tmpfs"):
        data = place.data("v")
        (data / "x").write_bytes(b"1" * 1_500_000)
        make_room(place.folder, [place.volume("v")], check=go_on)
        (data / "y").write_bytes(b"1" * 500_000)  # 3.1 MiB are free, twice 2 MB is more
        with pytest.raises(Refused, match=r"need 4.0 MiB, free are 3.1 MiB"):
            make_room(place.folder, [place.volume("v")], check=go_on)


def test_files_are_counted_too(place: Place) -> None:
    data = place.data("v")
    with mounted(data, "-t", "tmpfs", "-o", "size=9m,nr_inodes=40", "tmpfs"):
        for number in range(30):
            (data / f"{number}").touch()
        with pytest.raises(Refused, match=r"not enough inodes .* need 32, free are 9"):
            make_room(place.folder, [place.volume("v")], check=go_on)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"driver": "nfs-plugin"}, "its driver is nfs-plugin"),
        ({"options": {"type": "nfs", "device": ":/x"}}, r"driver options \(device=:/x, type=nfs\)"),
        ({"mountpoint": "/nowhere/_data"}, "its folder /nowhere/_data is not there"),
        ({"mountpoint": "/proc/self/cwd"}, "is a symbolic link"),
    ],
    ids=["driver", "options", "missing", "link"],
)
def test_what_can_not_be_copied_is_named(place: Place, change: dict[str, Any], why: str) -> None:
    volume = Volume(**({"name": "sso_v", "driver": "local", "mountpoint": str(place.data("v"))} | change))
    with pytest.raises(Refused, match=rf"volume sso_v can't be copied: .*{why}") as caught:
        make_room(place.folder, [volume], check=go_on)
    assert "snapshot.exclude" in caught.value.hint


def test_a_mount_inside_is_refused_before_the_stop(place: Place) -> None:
    (place.data("v") / "sub").mkdir()
    with (
        mounted(place.data("v") / "sub", "-t", "tmpfs", "tmpfs"),
        pytest.raises(Refused, match="sub is a mount point"),
    ):
        make_room(place.folder, [place.volume("v")], check=go_on)


def test_a_volume_in_use_is_measured(place: Place) -> None:
    data = place.data("v")
    for name in "abc":
        (data / name).mkdir()

    def vanish() -> None:
        if (data / "b").exists():
            (data / "b").rmdir()

    assert measure(data, vanish).entries == 3


@pytest.mark.parametrize("tool", ["tar", "zstd"])
def test_another_tar_is_refused(place: Place, tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = place.root / "bin"
    fake.mkdir()
    (fake / tool).symlink_to("/bin/busybox")
    monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
    with pytest.raises(Refused, match=f"{tool} on PATH is not"):
        make_room(place.folder, [place.volume("v")], check=go_on)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**31, "2.0 GiB"), (2**52, "4096.0 TiB")],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert human(size) == text


def test_a_full_disk_during_the_copy_leaves_nothing_behind(place: Place) -> None:
    (place.data("v") / "x").write_bytes(os.urandom(2_000_000))
    place.folder.mkdir(parents=True)
    with mounted(place.folder, "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
        with pytest.raises(SnapshotError, match="No space left on device") as caught:
            place.capture("r1", "v")
        assert "make room there" in caught.value.hint
        assert list((place.folder / "snapshots").iterdir()) == []


# --- lists and retention --------------------------------------------------------------------------


def _ids(place: Place) -> list[str]:
    return [snapshot.info.handle.id for snapshot in list_snapshots(place.folder)]


def _prune(place: Place, keep: int, *needed: str, after: timedelta = timedelta()) -> tuple[str, ...]:
    return prune(place.folder, keep=keep, needed=frozenset(needed), now=NOW + after, check=go_on)


def test_nothing_is_there_yet(place: Place) -> None:
    assert list_snapshots(place.folder) == ()
    assert _prune(place, 1) == ()


def test_the_newest_stay_and_so_do_those_that_are_needed(place: Place) -> None:
    place.data("v")
    for number in range(1, 6):
        place.sealed(f"r{number}", "v")
    assert _prune(place, 2, "r1") == ("r2", "r3")
    assert _ids(place) == ["r1", "r4", "r5"]
    assert _prune(place, 2, "r1") == ()


def test_what_never_was_sealed_goes_unless_needed(place: Place) -> None:
    place.data("v")
    place.sealed("r1", "v")
    place.capture("r2", "v")
    place.capture("r3", "v")
    for left in (".r4.partial", ".r5.partial", ".r6.doomed"):
        (place.folder / "snapshots" / left / "x").mkdir(parents=True)
    assert _prune(place, 1, "r3", "r4") == ("r2",)
    assert sorted(p.name for p in (place.folder / "snapshots").iterdir()) == [".r4.partial", "r1", "r3"]


def _garbage(path: Path) -> None:
    (path / "manifest.json").write_bytes(b"\xff{")


def _newer(path: Path) -> None:
    (path / "manifest.json").write_text('{"format": 2}')


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "garbage": (_garbage, "not a manifest"),
    "newer": (_newer, "written in format 2, this warmd reads up to 1"),
    "missing": (lambda p: (p / "manifest.json").unlink(), "No such file"),
    "a number": (lambda p: (p / "manifest.json").write_text("7"), "not a manifest"),
    "changed": (
        lambda p: (p / "manifest.json").write_bytes((p / "manifest.json").read_bytes() + b"\n"),
        "its manifest was changed after it was sealed",
    ),
    "seal": (lambda p: (p / "sealed").write_text("[]"), "its seal can't be read"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_listed_and_kept_for_a_person_to_see(place: Place, damage: str) -> None:
    place.data("v")
    path = place.sealed("r1", "v")
    act, problem = DAMAGES[damage]
    act(path)
    place.sealed("r2", "v")
    found = {snapshot.info.handle.id: snapshot for snapshot in list_snapshots(place.folder)}
    assert problem in (found["r1"].problem or "")
    assert not found["r1"].info.sealed
    assert found["r2"].problem is None
    assert _prune(place, 1) == ()
    with pytest.raises(SnapshotError):
        place.restore("r1", "r3")


def test_replaced_data_goes_when_it_is_old_and_there_is_newer(place: Place) -> None:
    place.data("v")
    place.sealed("r1", "v")
    state = place.root / "state"
    with mounted(state, "--bind", str(state)):  # replaced data has to go elsewhere
        for run in ("q1", "q2", "q3"):
            place.restore("r1", run)
        elsewhere = place.root / "docker" / "warmd-quarantine"
        assert sorted(p.name for p in elsewhere.iterdir()) == ["q1", "q2", "q3"]
        _prune(place, 1, after=timedelta(days=6))
        assert len(list(elsewhere.iterdir())) == 3
        _prune(place, 2, after=timedelta(days=8))
        assert sorted(p.name for p in elsewhere.iterdir()) == ["q2", "q3"]
        assert sorted(p.name for p in (place.folder / "quarantine").iterdir()) == ["q2", "q3"]
        _prune(place, 1, after=timedelta(days=8))
        assert [p.name for p in elsewhere.iterdir()] == ["q3"]


def test_one_at_a_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.data("v")
    monkeypatch.setattr(durable, "PATIENCE", 0.0)

    def meanwhile() -> None:
        with pytest.raises(SnapshotError, match="another process is working"):
            _prune(place, 1)

    place.capture("r1", "v", check=meanwhile)
