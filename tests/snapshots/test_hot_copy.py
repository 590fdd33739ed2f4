"""A copy of what runs is wrong, so the tests of snapshots can fail; and a snapshot of it is refused."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.snapshots.ledger import Mode, WrongError, audit, publish_ledger, writes_on
from tests.snapshots.watching import watching
from tests.swarm.world import World
from warmd import snapshot
from warmd.errors import SnapshotError


def hot_copy(volume: Path, into: Path) -> None:
    """What a backup script does that stops nothing."""
    into.mkdir()
    line = 'tar --create --directory="$1" --exclude=./ballast . | tar --extract --directory="$2"'
    subprocess.run(["bash", "-c", line, "-", volume, into], check=False, capture_output=True)


def failures(tries: int, act: Callable[[], object], error: type[Exception]) -> int:
    """How often it fails."""
    count = 0
    for _ in range(tries):
        try:
            act()
        except error:
            count += 1
    return count


@pytest.mark.crash
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_copy_of_what_runs_would_be_wrong_and_is_refused(world: World, tmp_path: Path, mode: Mode) -> None:
    """The database of test_sqlite.py, copied while it is written to."""
    publish_ledger(world, "1.0.0", mode, schema=0)
    world.up()
    writes_on(world)
    into = tmp_path / "copy"

    def copy_and_look() -> None:
        hot_copy(world.volume, into)
        try:
            audit(into)
        finally:
            subprocess.run(["rm", "-rf", into], check=True)

    def capture() -> None:
        snapshot.capture(world.state / "services" / "app", {"data": world.volume}, id="hot", service="app")

    # With a log that is written ahead about one copy in six is wrong, with a rollback journal most are.
    assert any(failures(1, copy_and_look, WrongError) for _ in range(100)), "no copy was wrong"
    with watching(world) as watch:
        assert failures(5, capture, SnapshotError) == 5, "a snapshot of it is refused each time"
    assert watch.ran, "and who looks at the containers sees one"
