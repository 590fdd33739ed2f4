"""A restore that goes on, goes on from a record that is on the disk: what follows a failed fsync, or none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.adapters.archive_support import Place, mounted

ROOT = Path(__file__).parents[2]

#: Arguments: where, how it ends, and at which fsync of the folder of the restore's record.
_ENDED_IN_FSYNC = """
import errno, os, signal, sys
from pathlib import Path
from tests.adapters.archive_support import Place
place, how, left = Place(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
fsync = os.fsync
def fsync_or_end(fd):
    global left
    if os.readlink(f"/proc/self/fd/{fd}") == str(place.folder / "quarantine" / "r2"):
        left -= 1
        if not left and how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if not left:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
    fsync(fd)
os.fsync = fsync_or_end
place.restore("r1", "r2")
"""


@pytest.fixture
def place(tmp_path: Path, by: str) -> Iterator[Place]:
    """A sealed snapshot of a volume that says "good", and says "bad" by now."""
    place = Place(tmp_path)
    with ExitStack() as stack:
        if by == "moving what is inside":
            stack.enter_context(mounted(place.data("v"), "-t", "tmpfs", "-o", "size=9m", "tmpfs"))
        (place.data("v") / "x").write_text("good")
        place.sealed("r1", "v")
        (place.data("v") / "x").write_text("bad")
        yield place


@pytest.mark.parametrize(
    ("how", "code"),
    [
        pytest.param("failed", 1, id="the fsync of its folder failed"),
        pytest.param("killed", -signal.SIGKILL, id="its writer was killed before the fsync of its folder"),
    ],
)
@pytest.mark.parametrize(
    ("by", "fsync", "first", "run"),
    [
        pytest.param("renaming", 1, "old out v", "r2", id="before the folder is renamed"),
        pytest.param("moving what is inside", 2, "out one", "r2", id="before what is inside moves"),
        pytest.param("moving what is inside", 2, "out one", "r3", id="and by another run that comes first"),
    ],
)
def test_a_record_whose_name_may_not_be_on_the_disk_is_saved_again_before_anything_moves(
    place: Place, monkeypatch: pytest.MonkeyPatch, fsync: int, first: str, run: str, how: str, code: int
) -> None:
    script = [sys.executable, "-c", _ENDED_IN_FSYNC, str(place.root), how, str(fsync)]
    ended = subprocess.run(script, cwd=ROOT, check=False, capture_output=True, text=True)
    assert ended.returncode == code, ended.stderr
    assert (place.folder / "quarantine" / "r2" / "restore.json").exists()
    assert (place.data("v") / "x").read_text() == "bad"

    seen: list[str] = []
    really = os.fsync

    def told(fd: int) -> None:
        really(fd)
        seen.append(f"fsync {Path(f'/proc/self/fd/{fd}').readlink().name}")

    monkeypatch.setattr(os, "fsync", told)
    place.restore("r1", run, step=seen.append)
    # The folder's alone would not do: after one that failed, the kernel says yes to the next, and lies.
    assert seen[: seen.index(first)] == ["fsync .restore.json.partial", "fsync r2"]
    assert (place.data("v") / "x").read_text() == "good"
