"""A database that is written to without pause is right in every snapshot and after every rollback."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.size import size
from tests.snapshots.ledger import Books, Mode, audit, publish_ledger, writes_on
from tests.snapshots.watching import Watch, lives, still_times, watching
from tests.swarm.passing import records
from tests.swarm.world import World


def in_snapshot(world: World, run: str, into: Path) -> Books:
    """The books in a snapshot, unpacked by hand."""
    into.mkdir()
    archive = world.state / "services" / "app" / "snapshots" / run / f"1-{world.stack}_data.tar.zst"
    line = 'zstd -dc "$1" | tar --extract --directory="$2" --file=-'
    subprocess.run(["bash", "-euo", "pipefail", "-c", line, "-", archive, into], check=True)
    books = audit(into)
    subprocess.run(["rm", "-rf", into], check=True)
    return books


def nothing_ran(world: World, watch: Watch, since: float, after: int, *, copies: int) -> None:
    """While data was copied or put back no container ran: whoever looked saw none, nor did the engine."""
    assert watch.ran == []
    times = still_times(world, after)
    assert len(times) == copies
    alive = lives(world, since)
    assert alive, "the engine's account is empty"
    assert [
        (life, still) for life in alive for still in times if life[0] < still[1] and still[0] < life[1]
    ] == []


@pytest.mark.crash_too
@pytest.mark.parametrize("mode", ["wal", pytest.param("delete", marks=pytest.mark.crash)])
def test_each_copy_and_each_rollback_adds_up_and_nothing_runs_meanwhile(
    world: World, tmp_path: Path, mode: Mode
) -> None:
    publish_ledger(world, "1.0.0", mode, schema=0)
    world.up()
    looks = 0
    for cycle in range(1, size(1, 5, 50) + 1):
        since, after = time.time(), len(records(world))
        with watching(world) as watch:
            before = writes_on(world)
            publish_ledger(world, f"1.{cycle}.0", mode, schema=cycle)
            row = world.up()
            assert row["ran"]["state"] == "committed"
            copied = in_snapshot(world, row["ran"]["snapshot"], tmp_path / "copy")
            assert (copied.schema, copied.rows[: len(before.rows)]) == (cycle - 1, before.rows)
            now = writes_on(world)
            assert (now.schema, now.rows[: len(copied.rows)]) == (cycle, copied.rows), "migrated, all there"
            assert f"{world.stack}-1.{cycle}.0" in now.writers

            publish_ledger(world, f"1.{cycle}.1", mode, schema=999, bad=True)
            row = world.up(check=4)
            assert row["ran"]["state"] == "rolled-back"
            copied = in_snapshot(world, row["ran"]["snapshot"], tmp_path / "copy")
            assert (copied.schema, copied.rows[: len(now.rows)]) == (cycle, now.rows)
            back = writes_on(world)
            assert (back.schema, back.rows[: len(copied.rows)]) == (cycle, copied.rows), "old data, all of it"
            assert len(back.rows) > len(copied.rows), "and the old version writes on"
        nothing_ran(world, watch, since, after, copies=3)
        looks += watch.looks
    assert looks > 3 * cycle, "nobody looked while it was copied"
