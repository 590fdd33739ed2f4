"""Alert files as whoever picks them up meets them: whole, once, and again when something went wrong."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Lab
from tests.swarm.world import World

#: A group of its own for whoever reads alerts; any number does.
READERS = 4711


@pytest.fixture
def world(lab: Lab, tmp_path: Path, stack_name: str) -> World:
    """A service that runs and was taken over."""
    world = World(lab, tmp_path, stack_name)
    world.publish("1.0.0+1.0.0", compose=world.labelled("1.0.0+1.0.0"))
    world.by_hand(world.labelled("1.0.0+1.0.0"))
    return world


@contextmanager
def reader(world: World) -> Iterator[list[dict[str, Any]]]:
    """Somebody who picks alert files up the moment they appear, and takes them away: what was read."""
    read: list[dict[str, Any]] = []
    spool = world.state / "alerts"
    over = threading.Event()
    wrong: list[str] = []

    def pick_up(path: Path) -> None:
        text = path.read_text()
        seen = path.stat()
        if (seen.st_mode & 0o777, seen.st_gid) != (0o640, READERS):
            wrong.append(f"{path.name}: mode {seen.st_mode:o}, group {seen.st_gid}")
        try:
            read.append({**json.loads(text), "file": path.name})
        except ValueError:
            wrong.append(f"{path.name}: half a file, {len(text)} characters")
        if len(read) % 2:
            path.unlink()
        else:
            path.rename(world.folder / path.name)

    def run() -> None:
        while not over.is_set():
            for path in sorted(spool.glob("*.json")):
                pick_up(path)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield read
    finally:
        over.set()
        thread.join()
    assert wrong == []


def test_a_reader_never_sees_half_a_file_and_may_take_them_away(world: World) -> None:
    world.daemon = f"alert_group = {READERS}"
    world.write_config()
    notes = "Read this.\n" * 10_000
    for major in range(2, 14):
        world.publish(f"{major}.0.0+1.0.0", compose=world.labelled("1.0.0+1.0.0"), notes=notes)
    with reader(world) as read:
        assert world.up()["decision"] == "held-major"
        world.wait(lambda: len(read) == 12, "all of them")
        world.up()
        with world.running():
            world.wait(lambda: world.told("look.decided"), "a look")
        names = [alert["file"] for alert in read]
        assert names == sorted(names)
        assert len(set(names)) == len(names) == 12, "each once, also after a restart"
        assert {a["candidate"] for a in read} == {f"{major}.0.0+1.0.0" for major in range(2, 14)}
        assert {a["state"] for a in read} == {"open"}
        assert all(note["text"] == notes for alert in read for note in alert["notes"])

        by_candidate = {a["candidate"]: a for a in read}
        world.warmd("adopt", "app", "--version", "13.0.0+1.0.0")
        world.up()
        world.wait(lambda: len(read) == 24, "that they are over")
        for alert in read[12:]:
            opened = by_candidate[alert["candidate"]]
            assert alert["state"] == "resolved"
            assert (alert["fingerprint"], alert["id"]) == (opened["fingerprint"], opened["id"])
            assert alert["file"] != opened["file"]
            assert alert["resolved_at"] > alert["opened_at"] == opened["opened_at"]
    assert [*(world.state / "alerts").iterdir()] == [], "nothing half-written is left"


def test_an_alert_that_cannot_be_written_is_kept_for_later(world: World) -> None:
    world.up()
    spool = world.state / "alerts"
    if spool.exists():
        spool.rmdir()
    spool.write_text("somebody's typing error")
    world.publish("2.0.0+1.0.0")
    with world.running():
        world.wait(lambda: world.told("alert.not-delivered"), "it says that it can't")
        promised = world.told("alert.not-delivered")[0]["file"]
        assert len(world.told("alert.opened")) == 1
        assert world.told("look.decided", decision="held-major"), "the look itself went on"
    with world.running():
        world.wait(lambda: len(world.told("alert.not-delivered")) > 1, "a new start tries again")
        assert {line["file"] for line in world.told("alert.not-delivered")} == {promised}
        spool.unlink()
        world.wait(lambda: [f.name for f in spool.glob("*.json")] == [promised], "the same file comes")
    assert len(world.told("alert.opened")) == 1
    assert world.open_alerts() == {("held-major", "2.0.0+1.0.0")}


def test_a_source_that_is_silent_for_a_day(world: World) -> None:
    away = world.recipe.path.with_name("away")
    with world.running():
        world.wait(lambda: world.told("look.decided", decision="noop-healthy"), "the first look")
        world.recipe.path.rename(away)
        seen = (world.state / "heartbeat").stat().st_mtime_ns
        world.wait(lambda: (world.state / "heartbeat").stat().st_mtime_ns > seen, "a look without it")
        assert world.alerts() == [], "an hour's silence is no news"
        assert "source: " in str(world.status()["warnings"]), "but whoever looks can see it"
        assert len(world.told("look.odd")) == 1, "and the log says it once"

        (marker,) = (world.state / "mirrors").glob("*/warmd-fetched")
        yesterday = time.time() - 25 * 3600
        os.utime(marker, (yesterday, yesterday))
        world.wait(lambda: world.open_alerts() == {("source-unreachable", None)}, "the alert")
        assert world.alert("source-unreachable")["severity"] == "warning"

        # Looked after all the same: what goes away is missed, and comes back.
        world.lab.docker("service", "scale", "--detach", f"{world.stack}_app=0")
        world.wait(lambda: world.told("run.committed", version="1.0.0+1.0.0"), "the repair")
        assert world.serves("1.0.0")

        away.rename(world.recipe.path)
        world.wait(lambda: world.open_alerts() == set(), "it answers again")
    silence = [a for a in world.alerts() if a["kind"] == "source-unreachable"]
    assert [a["state"] for a in silence] == ["open", "resolved"]
    assert len({a["fingerprint"] for a in silence}) == 1
