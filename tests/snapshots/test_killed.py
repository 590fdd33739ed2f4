"""A restore that is killed leaves each volume old or new, or says that it has to be finished first."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.adapters.archive_support import NOW, Place, children, mounted
from tests.size import size
from tests.snapshots.restorer import Restorer, restorer
from tests.snapshots.sight import Sight, differences, names, sight
from warmd.adapters.archive.restore import restore
from warmd.adapters.archive.retention import list_snapshots, prune
from warmd.adapters.archive.seal import verify
from warmd.errors import SnapshotError

KILLED = -signal.SIGKILL


@dataclass
class Scene:
    """A snapshot of two volumes, one of them a mount point that can't be renamed; newer data in both."""

    place: Place
    plain: Path
    mount: Path
    good: tuple[Sight, Sight] = field(init=False)
    bad: tuple[Sight, Sight] = field(init=False)

    def fill(self, *, files: int, bulk: int) -> None:
        for number, volume in enumerate((self.plain, self.mount)):
            for folder in range(3):
                (volume / f"folder{folder}").mkdir()
                for file in range(files):
                    (volume / f"folder{folder}" / f"{file}").write_text(f"{number} {folder} {file}")
            (volume / "bulk").write_bytes(random.Random(number).randbytes(bulk))
            (volume / "again").hardlink_to(volume / "bulk")
            volume.chmod(0o1771)
        self.good = self.seen()
        self.place.sealed("r1", "plain", "mount")

    def spoil(self, run: str) -> None:
        """The newer version was at it."""
        for volume in (self.plain, self.mount):
            (volume / "folder0" / "0").write_text(run)
            (volume / "again").unlink(missing_ok=True)
            (volume / f"made for {run}").touch()
            volume.chmod(0o700)
        self.bad = self.seen()

    def seen(self) -> tuple[Sight, Sight]:
        return sight(self.plain), sight(self.mount)

    def require_old_new_or_to_be_finished(self, run: str) -> str:
        """What a kill may leave. How far it came: "old", "staged" or "new"."""
        record = self.place.folder / "quarantine" / run / "restore.json"
        staged = record.exists()
        ready = self.plain.with_name(f"_data.warmd-new-{run}")
        if self.plain.exists():
            assert sight(self.plain) in (self.bad[0], self.good[0])
            assert staged or sight(self.plain) == self.bad[0]
        else:  # between its two renames: nobody can be served by it, and both are whole
            assert staged
            assert sight(ready) == self.good[0]
            assert sight(self.place.folder / "quarantine" / run / "plain") == self.bad[0]
        mount = sight(self.mount)
        # Making its own folder in there moves the time of the volume's.
        if _but_the_time(mount) not in (_but_the_time(self.bad[1]), _but_the_time(self.good[1])):
            phases = [move["phase"] for move in json.loads(record.read_bytes())["moves"]]
            assert phases[1] in ("out", "in"), "mixed, and the record doesn't say so"
        if not staged:
            return "old"
        return "new" if self.plain.exists() and not ready.exists() and mount == self.good[1] else "staged"

    def require_finished(self, run: str) -> None:
        assert [differences(*pair) for pair in zip(self.good, self.seen(), strict=True)] == [[], []]
        assert names(self.plain.parent) == names(self.mount.parent) == ["_data"]
        aside = self.mount / ".warmd-quarantine" / run
        assert names(aside) == ["old"]
        kept = self.place.folder / "quarantine" / run / "plain"
        assert differences(self.bad[0], sight(kept)) == [], "what was replaced is kept whole"
        assert _but_the_time(sight(aside / "old")) == _but_the_time(self.bad[1])
        subprocess.run(["rm", "-rf", aside, kept.parent], check=True)


def _but_the_time(seen: Sight) -> Sight:
    top = seen[b"."]
    return seen | {b".": (*top[:3], *top[4:])}


@contextmanager
def a_scene(*, files: int, bulk: int) -> Iterator[Scene]:
    with TemporaryDirectory() as folder:
        place = Place(Path(folder))
        scene = Scene(place, place.data("plain"), place.data("mount"))
        with mounted(scene.mount, "--bind", str(scene.mount)):
            scene.fill(files=files, bulk=bulk)
            yield scene


def points_of(scene: Scene, runner: Restorer) -> list[str]:
    """Each call of a restore that changes something."""
    told = scene.place.root / "points"
    for run in ("first", "count"):  # the first makes folders that the others find
        scene.spoil(run)
        runner.begin(scene.place, run, tell=told)
        assert runner.end() == 0
        scene.require_finished(run)
    found: list[str] = json.loads(told.read_text())
    return found


@pytest.mark.slow
@pytest.mark.crash_too
def test_killed_before_any_change_it_is_finished_by_the_next_call() -> None:
    ends: set[str] = set()
    with a_scene(files=1, bulk=3000) as scene, restorer() as runner:
        points = points_of(scene, runner)
        assert {"os.rename", "os.mkdir", "os.setxattr", "os.chown", "subprocess.Popen"} <= set(points)
        for number in range(1, len(points) + 1, size(7, 1, 1)):
            run = f"at{number}"
            scene.spoil(run)
            runner.begin(scene.place, run, point=number)
            assert runner.end() == KILLED, f"point {number}: {points[number - 1]}"
            ends.add(scene.require_old_new_or_to_be_finished(run))
            scene.place.restore("r1", run)
            scene.require_finished(run)
    assert {"old", "staged"} <= ends


@pytest.mark.crash_too
@pytest.mark.slow
def test_killed_again_and_again_it_is_finished_by_the_last_call() -> None:
    """During the restore, during the one that finishes it, and during that one's successor."""
    pairs = size(4, 60, 500)
    with a_scene(files=1, bulk=3000) as scene, restorer() as runner:
        last = len(points_of(scene, runner))
        for seed in range(pairs):
            dice, run = random.Random(seed), f"again{seed}"
            scene.spoil(run)
            for _ in range(3):
                runner.begin(scene.place, run, point=dice.randint(1, last))
                if runner.end() == KILLED:
                    scene.require_old_new_or_to_be_finished(run)
            # Another restore may come first, of a person who doesn't wait: it finishes the other one.
            scene.place.restore("r1", run if seed % 2 else f"{run}.2")
            if not seed % 2:
                assert scene.seen() == scene.good
                assert not list(scene.place.folder.glob("quarantine/*/.*")), (
                    "records that were never finished"
                )
                subprocess.run(["rm", "-rf", scene.mount / ".warmd-quarantine"], check=True)
                subprocess.run(["rm", "-rf", scene.place.folder / "quarantine"], check=True)
                continue
            scene.require_finished(run)


@pytest.mark.crash_too
@pytest.mark.slow
def test_killed_at_any_moment_it_is_finished_by_the_next_call() -> None:
    """Whatever tar and zstd are at just then; they are not told, and see for themselves."""
    ends: dict[str, int] = {}
    with a_scene(files=40, bulk=4_000_000) as scene, restorer() as runner:
        scene.spoil("time")
        begun = time.monotonic()
        runner.begin(scene.place, "time")
        assert runner.end() == 0
        takes = time.monotonic() - begun
        scene.require_finished("time")
        for seed in range(size(5, 50, 600)):
            run = f"moment{seed}"
            scene.spoil(run)
            pid = runner.begin(scene.place, run)
            time.sleep(random.Random(seed).uniform(0, takes))  # the moment is what is tried
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            if runner.end() == KILLED:
                state = scene.require_old_new_or_to_be_finished(run)
                ends[state] = ends.get(state, 0) + 1
            scene.place.restore("r1", run)
            scene.require_finished(run)
    assert {"old", "staged"} & ends.keys(), f"each was over before it was killed: {ends}"


@pytest.mark.slow
@pytest.mark.crash_too
def test_killed_while_it_copies_again_a_whole_snapshot_of_that_id_is_there(tmp_path: Path) -> None:
    """The run's journal names it: the old one or the new one, never none and never a mixture."""
    place, found = Place(tmp_path), set[bool]()
    file, home = place.data("v") / "x", place.snapshot("r1").parent
    file.write_text("old")
    place.sealed("r1", "v")
    with restorer() as runner:
        told = tmp_path / "points"
        runner.begin_copy(place, "v", tell=told)
        assert runner.end() == 0
        points = json.loads(told.read_text())
        assert "os.rename" in points
        for number in range(1, len(points) + 1):
            file.write_text("old")
            old = place.sealed("r1", "v").joinpath("manifest.json").read_bytes()
            file.write_text(f"newer {number}")
            runner.begin_copy(place, "v", point=number)
            assert runner.end() == KILLED, f"point {number}: {points[number - 1]}"
            is_old = (place.snapshot("r1") / "manifest.json").read_bytes() == old
            info = verify(place.snapshot("r1"), check=lambda: None)
            assert info.sealed == is_old
            assert [listed.path.name for listed in list_snapshots(place.folder)] == ["r1"]
            found.add(is_old)
            # Nothing beside it stays that is never cleared: needed or not, it isn't the whole one.
            place.sealed("r1", "v")
            prune(place.folder, keep=1, needed=frozenset({"r1"}), now=NOW, check=lambda: None)
            assert names(home) == ["r1"]
    assert found == {True, False}, "it was killed before the new one took the old one's place, and after"


# --- only its programs ----------------------------------------------------------------------------


@pytest.fixture
def instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a script in the place of a program; ``$real`` in it is the program itself."""
    (tmp_path / "bin").mkdir()

    def put(name: str, script: str) -> None:
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\nreal={shutil.which(name, path=os.defpath)}\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:{os.defpath}")

    return put


@pytest.mark.crash_too
@pytest.mark.parametrize("name", ["tar", "zstd", "sync"])
def test_where_a_program_of_it_is_killed_the_volumes_stay_as_they_were(
    name: str, instead: Callable[[str, str], None]
) -> None:
    count = size(2, 10, 50)
    with a_scene(files=1, bulk=2_000_000) as scene:
        for number in range(count):
            scene.spoil(f"run{number}")
            # After a part of what it was to do.
            instead(name, f'head -c {2_000_000 * number // count} | $real "$@"; kill -KILL $$')
            with pytest.raises(SnapshotError, match=rf"{name} was killed by SIGKILL"):
                scene.place.restore("r1", f"run{number}")
            assert sight(scene.plain) == scene.bad[0]
            assert _but_the_time(sight(scene.mount)) == _but_the_time(scene.bad[1])
            assert names(scene.plain.parent) == ["_data"]
            assert not children()
        instead(name, 'exec $real "$@"')
        scene.place.restore("r1", "last")
        assert scene.seen() == scene.good


def test_a_program_that_outlives_a_killed_restore_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instead: Callable[[str, str], None]
) -> None:
    """tar hangs, warmd is killed, and is back: nobody works in the folder until tar is gone."""
    begun, go_on = tmp_path / "begun", tmp_path / "go on"
    os.mkfifo(begun)
    os.mkfifo(go_on)
    with a_scene(files=1, bulk=3000) as scene, ExitStack() as stack:
        scene.spoil("r2")
        instead("tar", f'echo > "{begun}"; read -r line < "{go_on}"; exec $real "$@"')
        runner = stack.enter_context(restorer())
        pid = runner.begin(scene.place, "r2")
        begun.read_text()
        os.kill(pid, signal.SIGKILL)
        assert runner.end() == KILLED
        instead("tar", 'exec $real "$@"')
        monkeypatch.setattr("warmd.adapters.archive.durable.PATIENCE", 0.3)
        with pytest.raises(SnapshotError, match="another process is working"):
            scene.place.restore("r1", "r2")
        assert scene.seen()[0] == scene.bad[0]
        monkeypatch.setattr("warmd.adapters.archive.durable.PATIENCE", 60)
        asked: list[str] = []

        def check() -> None:
            if not asked:
                go_on.write_text("\n")  # it sees that nobody feeds it any more, and ends
            asked.append("")

        restore(scene.place.folder, "r1", run="r2", at=NOW, check=check)
        scene.require_finished("r2")
