"""Stopping a copy: at once, with no program left and nothing half done; through the façade and the plugin."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from tests.adapters.archive_support import Place, children, facts
from warmd import snapshot

#: Bytes that don't compress, packed at a level at which it takes many seconds.
_BIG, _SLOW = 48_000_000, 19


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "docker/volumes/v/_data").mkdir(parents=True)
    return Place(tmp_path)


def _stops_in_time(work: Callable[[Callable[[], bool]], object], begun: Callable[[], bool]) -> None:
    asked: list[float] = []

    def should_stop() -> bool:
        if not asked and begun():
            asked.append(time.monotonic())
        return bool(asked)

    with pytest.raises(snapshot.Stopped, match="stopped, as asked"):
        work(should_stop)
    assert time.monotonic() - asked[0] < 2
    assert not children()


def test_a_capture_stops_while_tar_and_zstd_are_at_work(place: Place) -> None:
    (place.data("v") / "x").write_bytes(os.urandom(_BIG))
    before = facts(place.data("v"))
    _stops_in_time(
        lambda stop: snapshot.capture(
            place.folder, {"v": place.data("v")}, id="r1", service="sso", level=_SLOW, should_stop=stop
        ),
        lambda: children() == {"tar", "zstd"},
    )
    assert list((place.folder / "snapshots").iterdir()) == []
    assert facts(place.data("v")) == before


def test_a_capture_stops_while_it_reads(place: Place) -> None:
    with (place.data("v") / "x").open("wb") as file:
        file.truncate(2**40)
    _stops_in_time(
        lambda stop: snapshot.capture(
            place.folder, {"v": place.data("v")}, id="r1", service="sso", should_stop=stop
        ),
        lambda: children() == {"zstd"},
    )
    assert list((place.folder / "snapshots").iterdir()) == []


def test_verifying_and_restoring_stop(place: Place) -> None:
    data = place.data("v")
    (data / "x").write_bytes(os.urandom(_BIG))
    snapshot.capture(place.folder, {"v": data}, id="r1", service="sso")
    (data / "x").write_text("newer")
    _stops_in_time(
        lambda stop: snapshot.verify(place.snapshot("r1"), should_stop=stop),
        lambda: children() == {"zstd"},
    )
    _stops_in_time(
        lambda stop: snapshot.restore(place.folder, "r1", run="r2", should_stop=stop),
        lambda: "tar" in children(),
    )
    assert (data / "x").read_text() == "newer"
    assert list(data.parent.iterdir()) == [data]
    snapshot.restore(place.folder, "r1", run="r2")
    assert (data / "x").stat().st_size == _BIG


async def test_the_facade_does_not_need_a_loop_and_agrees_with_itself(place: Place) -> None:
    """The example of docs/snapshots.md, in other words."""
    data = place.data("v")
    (data / "x").write_text("good")

    def work() -> None:
        snapshot.make_room(place.folder, {"v": data})
        made = snapshot.capture(place.folder, {"v": data}, id="r1", service="sso", bundle={"any": "thing"})
        assert made.sealed
        assert snapshot.verify(snapshot.snapshot_path(place.folder, "r1")) == made
        (data / "x").write_text("bad")
        kept = snapshot.restore(place.folder, "r1", run="r2")
        assert (data / "x").read_text() == "good"
        assert [(path / "x").read_text() for path in kept["v"]] == ["bad"]
        assert [found.info for found in snapshot.list_snapshots(place.folder)] == [made]
        assert snapshot.prune(place.folder, keep=0) == ("r1",)

    await anyio.to_thread.run_sync(work)


def test_the_example_in_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "snapshots.md").read_text()
    example = text.split("```python\n")[1].split("```")[0]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_text("good")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/snapshots.md", "exec"), {"__name__": "__main__"})
    assert (tmp_path / "data" / "x").read_text() == "good"
    assert [s.problem for s in snapshot.list_snapshots(Path("backups"))] == [None]
