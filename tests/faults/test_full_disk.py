"""Disks that are full: nothing stops before there is room for its end, and what was stopped comes back."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.archive_support import Place, facts, go_on
from tests.faults.disks import Disk, disk
from tests.lab import Lab
from tests.lab.warmapp import Bad
from tests.swarm.observer import checksum, deployed, replicas
from tests.swarm.passing import journal, passing, states
from tests.swarm.world import World
from warmd.adapters.archive.capture import capture
from warmd.adapters.archive.restore import restore
from warmd.adapters.journal_file import JournalFiles
from warmd.adapters.reserve import EACH, FILES
from warmd.core.journal import Draft
from warmd.errors import Refused, SnapshotError, Transient
from warmd.plugins.alerters.spool import Spool
from warmd.ports import CaptureRequest

GATE = 'health_gate = { deadline = "15s", interval = "100ms", successes = 2, stable = "300ms" }'
AT = datetime(2026, 1, 31, tzinfo=UTC)
MIB = 2**20


# --- a journal ------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Disk]:
    with disk(tmp_path / "disk", size="2m", files=50) as made:
        yield made


def held(small: Disk) -> int:
    return sum(f.stat().st_size for f in (small.path / ".reserve").iterdir())


def draft(n: int) -> Draft:
    return Draft("t", AT, {"n": n, "text": "x" * 1000})


async def test_what_is_held_for_a_run_is_enough_for_its_records_on_a_full_disk(small: Disk) -> None:
    store = JournalFiles(small.path)
    await store.append("sso", draft(0), expected=0)
    await store.reserve("sso")
    small.fill()
    for n in range(1, 40):  # a run has a dozen, most of them far shorter
        await store.append("sso", draft(n), expected=n)
    assert (await JournalFiles(small.path).load("sso"))[1] == 40


async def test_without_it_a_full_disk_takes_no_record_and_later_it_does(small: Disk) -> None:
    store = JournalFiles(small.path)
    await store.append("sso", draft(0), expected=0)
    small.fill()
    number = 1
    with suppress(Transient):
        while True:
            await store.append("sso", draft(number), expected=number)
            number += 1
    with pytest.raises(Transient, match="No space left"):
        await store.append("sso", draft(number), expected=number)
    assert (await JournalFiles(small.path).load("sso"))[1] == number
    small.empty()
    assert (await store.append("sso", draft(number), expected=number))[1] == number + 1


@pytest.mark.parametrize("full", [Disk.fill, Disk.use_up_files], ids=["bytes", "files"])
async def test_room_that_is_not_there_can_not_be_held(small: Disk, full: Any) -> None:
    store = JournalFiles(small.path)
    await store.append("sso", draft(0), expected=0)
    full(small)
    with pytest.raises(Transient, match=r"can't hold room in .*: No space left"):
        await store.reserve("sso")
    small.empty()
    await store.reserve("sso")
    small.fill()
    await store.reserve("sso")  # it is held already
    assert held(small) == FILES * EACH


async def test_what_was_used_up_is_held_again_once_there_is_room(small: Disk) -> None:
    store = JournalFiles(small.path)
    await store.append("sso", draft(0), expected=0)
    await store.reserve("sso")
    small.fill()
    for n in range(1, 20):
        await store.append("sso", draft(n), expected=n)
    assert held(small) == 0
    small.empty()
    await store.reserve("sso")
    assert held(small) == FILES * EACH


# --- a spool --------------------------------------------------------------------------------------


@pytest.mark.parametrize("full", [Disk.fill, Disk.use_up_files], ids=["bytes", "files"])
async def test_a_full_spool_takes_nothing_and_shows_nothing_half(small: Disk, full: Any) -> None:
    folder = small.path / "alerts"
    alerter = Spool(folder)
    await alerter.deliver("first.json", {"n": 1})
    full(small)
    with pytest.raises(Transient, match="No space left"):
        await alerter.deliver("second.json", {"n": 2})
    assert [f.name for f in folder.iterdir()] == ["first.json"]
    small.empty()
    await alerter.deliver("second.json", {"n": 2})
    assert sorted(f.name for f in folder.iterdir()) == ["first.json", "second.json"]


# --- a snapshot's disk, a volume's disk -----------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    data = made.data("v")
    for number in range(6):
        (data / f"{number}").write_bytes(secrets.token_bytes(MIB))
    return made


@dataclass
class Filling:
    """A check that fills a disk once it was asked so often: somewhere in the middle of the work."""

    disk: Disk
    after: int
    asked: int = field(default=0)

    def __call__(self) -> None:
        self.asked += 1
        if self.asked == self.after:
            self.disk.fill()


def request(place: Place) -> CaptureRequest:
    bundle: dict[str, list[Any]] = {"networks": [], "configs": [], "secrets": [], "services": []}
    return CaptureRequest("r1", "sso", "sso", (place.volume("v"),), AT, "1.0.0", bundle)


def test_snapshots_on_a_disk_of_their_own_are_measured_there(place: Place) -> None:
    from warmd.adapters.archive.room import make_room

    with disk(place.folder / "snapshots", size="2m"), pytest.raises(Refused, match="snapshots: a snapshot"):
        make_room(place.folder, [place.volume("v")], check=go_on)
    make_room(place.folder, [place.volume("v")], check=go_on)


@pytest.mark.parametrize("after", [10, 40, *(pytest.param(n, marks=pytest.mark.crash) for n in (1, 25, 55))])
def test_a_disk_that_fills_up_during_a_copy_leaves_no_snapshot_and_untouched_data(
    place: Place, after: int
) -> None:
    before = facts(place.data("v"))
    with disk(place.folder, size="12m") as full:
        filling = Filling(full, after)
        with pytest.raises(SnapshotError, match=r"No space left|failed with exit code"):
            capture(place.folder, request(place), node="node1", level=1, check=filling)
        assert filling.asked >= after
        assert not place.snapshot("r1").exists()
        assert facts(place.data("v")) == before
        full.empty()
        place.sealed("r1", "v")


@pytest.mark.parametrize("after", [30, 50, *(pytest.param(n, marks=pytest.mark.crash) for n in (1, 20, 40))])
def test_a_disk_that_fills_up_during_a_restore_leaves_the_old_data_or_the_new(
    place: Place, after: int
) -> None:
    """The volume is a disk of its own, so the snapshot is unpacked into it, beside what is there."""
    with disk(place.data("v"), size="20m") as full:
        for number in range(6):
            (full.path / f"{number}").write_bytes(secrets.token_bytes(MIB))
        saved = facts(full.path)
        place.sealed("r1", "v")
        (full.path / "0").write_bytes(b"migrated")
        now = facts(full.path)
        filling = Filling(full, after)
        with pytest.raises(SnapshotError, match="No space left"):
            restore(place.folder, "r1", run="r2", at=AT, check=filling)
        full.empty()
        assert {k: v for k, v in facts(full.path).items() if k[0] != "."} == {
            k: v for k, v in now.items() if k[0] != "."
        }
        restore(place.folder, "r1", run="r2", at=AT, check=go_on)
        found = facts(full.path)
        assert {k: v for k, v in found.items() if not k.startswith(".warmd")} == saved
        assert filling.asked >= after


# --- on a real swarm ------------------------------------------------------------------------------


@dataclass
class Story:
    """One service, with a small disk for its state, one for its snapshots, and one for its alerts."""

    world: World
    state: Disk
    snapshots: Disk
    spool: Disk
    number: int = 0

    def publish(self, **app: Any) -> str:
        self.number += 1
        version = f"1.{self.number}.0+1.{self.number}.0"
        self.world.publish(version, **app)
        return version

    def alerts(self) -> list[dict[str, Any]]:
        return [json.loads(f.read_text()) for f in sorted(self.spool.path.glob("*.json"))]

    def open(self) -> set[str]:
        """The kinds of the alerts that are open."""
        newest = {a["fingerprint"]: a for a in self.alerts()}
        return {a["kind"] for a in newest.values() if a["state"] == "open"}

    def is_good(self, version: str) -> None:
        app = version.partition("+")[2]
        assert deployed(self.world) == version
        assert self.world.serves(app)
        assert self.world.schema == app
        assert len(self.world.running_tasks()) == 1
        assert "precious" in self.world.notes


@pytest.fixture(scope="module")
def story(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    stack = f"t{secrets.token_hex(4)}"
    folder = tmp_path_factory.mktemp("full")
    with (
        disk(folder / "state", size="20m", files=4000) as state,
        disk(folder / "spool", size="2m", files=60) as spool,
    ):
        world = World(lab, folder, stack, gate=GATE, daemon=f'alert_dir = "{spool.path}"')
        story = Story(world, state, Disk(world.state / "services/app/snapshots"), spool)
        story.publish()
        world.up()
        world.write_note("precious")
        # So that copying it takes a while.
        (world.volume / "big").write_bytes(secrets.token_bytes(60 * MIB))
        with disk(story.snapshots.path, size="400m", files=400):  # keep = 3, and one more
            yield story
        lab.remove_stack(stack)


NOWHERE = ("state, bytes", "state, files", "snapshots, bytes", "snapshots, files")


@pytest.mark.parametrize(
    "which", [w if w == NOWHERE[0] else pytest.param(w, marks=pytest.mark.crash) for w in NOWHERE]
)
def test_on_a_full_disk_nothing_is_stopped_and_with_room_it_is_done(story: Story, which: str) -> None:
    world, before = story.world, deployed(story.world)
    tasks, data = world.tasks(), checksum(world.volume)
    version = story.publish()
    place, what = which.split(", ")
    full: Disk = getattr(story, place)
    full.fill() if what == "bytes" else full.use_up_files()
    try:
        row = world.up(check=None)
        assert row.get("current", before) == before
        assert world.tasks() == tasks
        assert checksum(world.volume) == data
        story.is_good(before)
    finally:
        full.empty()
    row = world.warmd("reconcile", "app", "--json").json[0]
    assert (row["current"], row["decision"]) == (version, "noop-healthy")
    assert story.open() == set()
    story.is_good(version)


@pytest.mark.crash
def test_a_disk_that_fills_up_during_the_copy_has_the_service_back_at_once(story: Story) -> None:
    world, before = story.world, deployed(story.world)
    data = checksum(world.volume)
    version = story.publish()
    try:
        with passing(world) as pass_:
            pass_.reaches("capturing")
            story.snapshots.fill()
            assert pass_.ends() == 4, pass_.log
        assert states(world, pass_.before)[-3:] == ["restarting", "reviving", "interrupted"]
        assert replicas(world) == 1
        assert checksum(world.volume) == data
        story.is_good(before)
    finally:
        story.snapshots.empty()
    assert world.up()["current"] == before
    assert story.open() == {"interrupted"}
    world.warmd("retry", "app")
    assert world.up()["current"] == version
    story.is_good(version)


@pytest.mark.parametrize("bad", [None, pytest.param("never-healthy", marks=pytest.mark.crash)])
def test_a_journal_s_disk_that_fills_up_while_the_service_is_down_does_not_leave_it_down(
    story: Story, bad: Bad | None
) -> None:
    world, before = story.world, deployed(story.world)
    data = checksum(world.volume)
    version = story.publish(bad=bad)
    try:
        with passing(world) as pass_:
            pass_.reaches("capturing")
            story.state.fill()
            assert pass_.ends() == (4 if bad else 0), pass_.log
        assert states(world, pass_.before)[-1] == ("rolled-back" if bad else "committed")
        assert story.state.free < MIB, "it was full all the time"
        right = before if bad else version
        story.is_good(right)
    finally:
        story.state.empty()
    row = world.up()
    assert row["current"] == right
    story.is_good(right)
    if bad:
        assert checksum(world.volume) == data
        assert story.open() == {"rolled-back"}


def test_with_a_full_spool_the_alert_is_kept_and_comes_later_once(story: Story) -> None:
    world = story.world
    files = {f.name for f in story.spool.path.glob("*.json")}
    story.spool.fill()
    try:
        world.publish("2.0.0+2.0.0")
        for _ in range(2):
            assert world.up()["decision"] == "held-major"
        assert {f.name for f in story.spool.path.glob("*.json")} == files
    finally:
        story.spool.empty()
    promised = [
        line["data"]["name"]
        for line in map(json.loads, journal(world).read_text().splitlines())
        if line["type"] == "alert.opened" and line["data"]["body"]["kind"] == "held-major"
    ]
    for _ in range(2):
        world.up()
        assert sorted({f.name for f in story.spool.path.glob("*.json")} - files) == promised
    assert len(promised) == 1
