"""A restore leaves the volume alone until everything is proved, and can be ended at any step."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.archive_support import Place, facts, go_on, mounted, one_of_everything
from warmd.adapters.archive.quarantine import can_rename
from warmd.adapters.archive.seal import verify
from warmd.errors import SnapshotError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# --- nothing is touched unless the snapshot is whole ----------------------------------------------


@pytest.fixture
def damaged(place: Place) -> Place:
    """A sealed snapshot, and a volume that has moved on since."""
    (place.data("v") / "x").write_bytes(os.urandom(3000))
    place.sealed("r1", "v")
    (place.data("v") / "x").write_text("newer")
    return place


def _requires_untouched(place: Place, complaint: str) -> None:
    before = facts(place.data("v"))
    with pytest.raises(SnapshotError, match=complaint):
        place.restore("r1", "r2")
    assert facts(place.data("v")) == before
    assert list(place.data("v").parent.iterdir()) == [place.data("v")]
    assert not (place.folder / "quarantine").exists()


@pytest.mark.parametrize("name", ["1-v.tar.zst", "1-v.files.jsonl.zst", "bundle.json", "manifest.json"])
def test_a_flipped_bit_anywhere_is_found(damaged: Place, name: str) -> None:
    path = damaged.snapshot("r1") / name
    whole = path.read_bytes()
    before = facts(damaged.data("v"))
    for position in range(0, len(whole), max(1, len(whole) // 25)):
        broken = bytearray(whole)
        broken[position] ^= 1 << position % 8
        path.write_bytes(broken)
        with pytest.raises(SnapshotError):
            verify(damaged.snapshot("r1"), check=go_on)
        with pytest.raises(SnapshotError):
            damaged.restore("r1", "r2")
    assert facts(damaged.data("v")) == before
    path.write_bytes(whole)
    damaged.restore("r1", "r2")


@pytest.mark.parametrize("left", [0, 1, 500, -1])
def test_a_truncated_archive_is_found(damaged: Place, left: int) -> None:
    path = damaged.snapshot("r1") / "1-v.tar.zst"
    path.write_bytes(path.read_bytes()[:left])
    _requires_untouched(damaged, "1-v.tar.zst was damaged")


def test_a_missing_archive_is_found(damaged: Place) -> None:
    (damaged.snapshot("r1") / "1-v.tar.zst").unlink()
    _requires_untouched(damaged, "No such file")


def test_an_archive_that_never_was_verified_is_not_restored(place: Place) -> None:
    (place.data("v") / "x").touch()
    place.capture("r1", "v")
    _requires_untouched(place, "it was never verified")


def test_a_full_disk_is_found_before_the_swap(place: Place) -> None:
    disk = place.root / "docker"
    disk.mkdir()
    with mounted(disk, "-t", "tmpfs", "-o", "size=3m", "tmpfs"):
        (place.data("v") / "x").write_bytes(os.urandom(2_000_000))
        place.sealed("r1", "v")
        _requires_untouched(place, "No space left on the file system of")


def test_a_volume_that_is_gone_has_to_be_made_first(place: Place) -> None:
    (place.data("v") / "x").write_text("1")
    place.sealed("r1", "v")
    subprocess.run(["rm", "-rf", place.data("v").parent], check=True)
    with pytest.raises(SnapshotError, match="docker volume create v"):
        place.restore("r1", "r2")
    place.data("v")
    place.restore("r1", "r2")
    assert (place.data("v") / "x").read_text() == "1"


# --- what was there -------------------------------------------------------------------------------


def test_replaced_data_is_kept_beside_the_snapshots(damaged: Place) -> None:
    damaged.restore("r1", "r2")
    assert (damaged.folder / "quarantine" / "r2" / "v" / "x").read_text() == "newer"
    record = json.loads((damaged.folder / "quarantine" / "r2" / "restore.json").read_bytes())
    assert (record["snapshot"], record["moves"][0]["phase"]) == ("r1", "done")


def test_on_another_file_system_it_is_kept_outside_of_dockers_volumes(damaged: Place) -> None:
    state = damaged.root / "state"
    with mounted(state, "--bind", str(state)):  # the same device, and no rename all the same
        done = damaged.restore("r1", "r2")
        kept = damaged.root / "docker" / "warmd-quarantine" / "r2" / "v"
        assert done.moves[0].places == (str(kept),)
        assert (kept / "x").read_text() == "newer"


def test_where_docker_has_a_disk_for_its_volumes_it_stays_beside(place: Place) -> None:
    disk = place.root / "docker" / "volumes"
    disk.mkdir(parents=True)
    with mounted(disk, "-t", "tmpfs", "-o", "size=9m", "tmpfs"):
        (place.data("v") / "x").write_text("good")
        place.sealed("r1", "v")
        (place.data("v") / "x").write_text("bad")
        done = place.restore("r1", "r2")
        assert done.moves[0].places == (f"{place.data('v')}.warmd-old-r2",)
        assert Path(done.moves[0].places[0], "x").read_text() == "bad"
        assert (place.data("v") / "x").read_text() == "good"


def test_twice_is_once(damaged: Place) -> None:
    first = damaged.restore("r1", "r2")
    (damaged.data("v") / "since").touch()
    assert damaged.restore("r1", "r2") == first
    assert (damaged.data("v") / "since").exists(), "the second call had nothing to do"


def test_another_run_restores_again(damaged: Place) -> None:
    damaged.restore("r1", "r2")
    (damaged.data("v") / "since").touch()
    damaged.restore("r1", "r3")
    assert not (damaged.data("v") / "since").exists()
    assert (damaged.folder / "quarantine" / "r3" / "v" / "since").exists()


def test_the_same_run_fills_a_volume_that_was_made_anew(damaged: Place) -> None:
    damaged.restore("r1", "r2")
    subprocess.run(["rm", "-rf", damaged.data("v").parent], check=True)
    damaged.data("v")
    damaged.restore("r1", "r2")
    assert (damaged.data("v") / "x").stat().st_size == 3000
    assert (damaged.folder / "quarantine" / "r2" / "v" / "x").read_text() == "newer"


def test_a_run_restores_one_snapshot(damaged: Place) -> None:
    damaged.restore("r1", "r2")
    damaged.sealed("r3", "v")
    with pytest.raises(SnapshotError, match="already restored another snapshot, r1"):
        damaged.restore("r3", "r2")


def test_elsewhere_for_a_look(damaged: Place) -> None:
    there = damaged.root / "a copy"
    there.mkdir()
    damaged.restore("r1", "r2", mountpoints=lambda: {"v": there})
    assert (there / "x").stat().st_size == 3000
    assert (damaged.data("v") / "x").read_text() == "newer"


# --- a volume whose folder is a mount point -------------------------------------------------------


@pytest.fixture
def mount(place: Place) -> Iterator[Path]:
    data = place.data("v")
    with mounted(data, "-t", "tmpfs", "-o", "size=64m,mode=0711", "tmpfs"):
        yield data


def test_a_mount_point_answers_ebusy_and_the_probe_knows(mount: Path, place: Place) -> None:
    with pytest.raises(OSError, match="busy") as caught:
        mount.rename(mount.with_name("elsewhere"))
    assert caught.value.errno == errno.EBUSY
    assert not can_rename(mount, mount.parent, "r1")
    assert can_rename(place.data("w"), place.data("w").parent, "r1")
    assert list(mount.iterdir()) == list(place.data("w").iterdir()) == []


def test_inside_a_mount_point_each_thing_is_swapped(mount: Path, place: Place) -> None:
    one_of_everything(mount)
    before = facts(mount)
    place.sealed("r1", "v")
    (mount / "binary").write_text("damaged")
    (mount / "folder").rename(mount / "other folder")
    mount.chmod(0o755)
    replaced = facts(mount)
    done = place.restore("r1", "r2")
    assert _without_quarantine(mount) == before
    assert Path(done.moves[0].places[0]) == mount / ".warmd-quarantine" / "r2" / "old"
    # Making the quarantine's own folder in the volume moved the time of the volume's folder.
    assert facts(mount / ".warmd-quarantine" / "r2" / "old").keys() - {"."} == replaced.keys() - {"."}


def test_what_is_kept_inside_is_no_part_of_the_next_snapshot(mount: Path, place: Place) -> None:
    (mount / "x").write_text("1")
    place.sealed("r1", "v")
    place.restore("r1", "r2")
    place.sealed("r3", "v")
    place.restore("r3", "r4")
    assert sorted(path.name for path in (mount / ".warmd-quarantine").iterdir()) == ["r2", "r4"]
    assert (mount / "x").read_text() == "1"


def _without_quarantine(data: Path) -> dict[str, Any]:
    return {k: v for k, v in facts(data).items() if ".warmd-quarantine" not in k}


# --- ended at any step ----------------------------------------------------------------------------

_CHILD = """
import os, signal, sys
from tests.adapters.archive_support import Place
from pathlib import Path
left = int(sys.argv[2])
def step(name):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
Place(Path(sys.argv[1])).restore("r1", sys.argv[3], step=step)
"""


def _killed_at(place: Place, step: int, run: str) -> None:
    ended = subprocess.run([sys.executable, "-c", _CHILD, place.root, str(step), run], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL


def _steps(place: Place, run: str) -> list[str]:
    found: list[str] = []
    place.restore("r1", run, step=found.append)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("by", ["renaming", "moving what is inside"])
def test_killed_at_any_step_it_is_finished_by_the_next_call(place: Place, by: str) -> None:
    if by == "renaming":
        _each_step(place)
    else:
        with mounted(place.data("v"), "-t", "tmpfs", "-o", "size=9m", "tmpfs"):
            _each_step(place)


def _each_step(place: Place) -> None:
    v, w = place.data("v"), place.data("w")
    for data in (v, w):
        for name in ("a", "b"):
            (data / name).write_text("good")
    good = facts(v), facts(w)
    place.sealed("r1", "v", "w")
    names = _steps(place, "count")
    assert names[:4] == ["verified", "unpacked v", "unpacked w", "staged"]
    assert names[-2:] == ["done w", "done"]
    for number, name in enumerate(names, start=1):
        run = f"run{number}"
        for data in (v, w):
            (data / "a").write_text(run)
            (data / "new").touch()
        bad = _without_quarantine(v), _without_quarantine(w)
        _killed_at(place, number, run)
        if number <= names.index("staged") + 1:
            assert (_without_quarantine(v), _without_quarantine(w)) == bad, f"touched at {name}"
        if not w.exists():
            # Between the two renames: both trees are whole, under other names.
            assert facts(w.with_name(f"_data.warmd-new-{run}")) == good[1]
            assert facts(place.folder / "quarantine" / run / "w") == bad[1]
        done = place.restore("r1", run)
        assert (_without_quarantine(v), _without_quarantine(w)) == good, f"killed at {name}"
        kept = [Path(move.places[-1]) for move in done.moves]
        assert [(path / "a").read_text() for path in kept] == [run, run]
        assert [path.name for path in w.parent.iterdir()] == ["_data"]


def test_a_record_that_was_never_finished_is_cleared_whichever_run_comes_next(place: Place) -> None:
    """Killed before its name was given, and what comes back has another one: somebody worked on the data."""
    (place.data("v") / "x").write_text("good")
    place.sealed("r1", "v")
    home, outside = place.folder / "quarantine", place.root / "outside"
    others = [home / "r2" / "v" / ".restore.json.partial", home / ".restore.json.partial"]
    others += [home / "r2" / "other.partial", outside / ".restore.json.partial"]
    for other in (*others, home / "r2" / ".restore.json.partial"):
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_text("half")
    (home / "link").symlink_to(outside)
    place.restore("r1", "r2-1")
    assert not (home / "r2" / ".restore.json.partial").exists()
    assert [other for other in others if not other.exists()] == [], "nothing else was touched"


def test_a_new_folder_made_while_it_lay_half_done_is_kept_too(place: Place) -> None:
    (place.data("v") / "x").write_text("good")
    place.sealed("r1", "v")
    (place.data("v") / "x").write_text("bad")
    step = _steps(place, "count").index("old out v") + 1
    (place.data("v") / "x").write_text("bad")
    _killed_at(place, step, "r2")
    (place.data("v") / "stranger").touch()
    done = place.restore("r1", "r2")
    assert (place.data("v") / "x").read_text() == "good"
    old, stranger = map(Path, done.moves[0].places)
    assert (old / "x").read_text() == "bad"
    assert (stranger / "stranger").exists()


def test_another_run_first_finishes_the_one_that_was_killed(place: Place) -> None:
    (place.data("v") / "x").write_text("good")
    place.sealed("r1", "v")
    step = _steps(place, "count").index("old out v") + 1
    (place.data("v") / "x").write_text("bad")
    _killed_at(place, step, "r2")
    place.restore("r1", "r3")
    assert (place.data("v") / "x").read_text() == "good"
    assert (place.folder / "quarantine" / "r2" / "v" / "x").read_text() == "bad"


def test_another_run_drops_one_that_had_not_touched_anything(place: Place) -> None:
    (place.data("v") / "x").write_text("good")
    path = place.sealed("r1", "v")
    (place.data("v") / "x").write_text("bad")
    _killed_at(place, 3, "r2")
    place.restore("r1", "r3")
    assert not (place.folder / "quarantine" / "r2" / "v").exists()
    assert [p.name for p in place.data("v").parent.iterdir()] == ["_data"]
    (path / "1-v.tar.zst").write_text("damaged by now")
    (place.data("v") / "x").write_text("newer")
    with pytest.raises(SnapshotError, match="was damaged"):
        place.restore("r1", "r4")
    assert (place.data("v") / "x").read_text() == "newer"


def test_once_staged_it_goes_on_without_the_archive(place: Place) -> None:
    (place.data("v") / "x").write_text("good")
    path = place.sealed("r1", "v")
    (place.data("v") / "x").write_text("bad")
    _killed_at(place, 3, "r2")
    (path / "1-v.tar.zst").write_text("damaged by now")
    place.restore("r1", "r2")
    assert (place.data("v") / "x").read_text() == "good"
