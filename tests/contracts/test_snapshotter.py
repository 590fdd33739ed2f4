"""What every snapshotter does, whatever it keeps; then what only ``archive`` promises."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import anyio
import anyio.lowlevel
import pytest
from pydantic import ValidationError

from tests.adapters.archive_support import children
from tests.stateful.trees import TreeSnapshotter
from warmd.adapters.archive.restore import restore
from warmd.core.model import SnapshotHandle
from warmd.errors import Refused, SnapshotError
from warmd.plugins.base import Context
from warmd.plugins.snapshotters import archive, none
from warmd.ports import CaptureRequest, Clock, Snapshotter, Swarm, Volume

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class _Here:
    """The only two facts that a snapshotter asks the world for: the node's id and the time."""

    async def node(self) -> str:
        return "node1"

    def now(self) -> datetime:
        return NOW


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(
        service="sso",
        stack="sso",
        folder=tmp_path / "state" / "services" / "sso",
        mirrors=tmp_path / "mirrors",
        config_dir=tmp_path,
        docker_host="unix:///nowhere",
        swarm=cast(Swarm, _Here()),
        clock=cast(Clock, _Here()),
    )


@pytest.fixture(params=["archive", "none", "trees"])
def snapshotter(request: pytest.FixtureRequest, context: Context) -> Snapshotter:
    if request.param == "trees":
        return TreeSnapshotter(context.folder, context.swarm.node)
    if request.param == "archive":
        return archive.build(archive.Config(), context)
    return none.build(none.Config(kind="none", allow_volumes=True), context)


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    data = tmp_path / "docker" / "volumes" / "sso_data" / "_data"
    data.mkdir(parents=True)
    (data / "x").write_text("good")
    return Volume("sso_data", "local", str(data))


def request_of(id_: str, *volumes: Volume) -> CaptureRequest:
    bundle: dict[str, object] = {"networks": [], "configs": [], "secrets": [], "services": []}
    return CaptureRequest(id_, "sso", "sso", volumes, NOW, "1.0.0", bundle)


async def test_a_handle_names_the_node_and_the_id(snapshotter: Snapshotter, volume: Volume) -> None:
    assert await snapshotter.capture(request_of("r1", volume)) == SnapshotHandle("node1", "r1")


async def test_capturing_again_under_an_id_is_fine(snapshotter: Snapshotter, volume: Volume) -> None:
    first = await snapshotter.capture(request_of("r1", volume))
    assert await snapshotter.capture(request_of("r1", volume)) == first


async def test_a_seal_says_what_it_proved(snapshotter: Snapshotter, volume: Volume) -> None:
    handle = await snapshotter.capture(request_of("r1", volume))
    info = await snapshotter.seal(handle)
    assert info.sealed
    assert info.handle == handle
    assert await snapshotter.seal(handle) == info


async def test_restoring_is_idempotent_a_run(snapshotter: Snapshotter, volume: Volume) -> None:
    handle = await snapshotter.capture(request_of("r1", volume))
    await snapshotter.seal(handle)
    await snapshotter.restore(handle, run="r1", volumes=[volume])
    await snapshotter.restore(handle, run="r1", volumes=[volume])
    assert (Path(volume.mountpoint) / "x").read_text() == "good"


async def test_nothing_moved_since_a_copy_was_made_or_put_back(
    snapshotter: Snapshotter, volume: Volume
) -> None:
    handle = await snapshotter.capture(request_of("r1", volume))
    await snapshotter.seal(handle)
    assert await snapshotter.moved(handle, volumes=[volume]) == ""
    await snapshotter.restore(handle, run="r2", volumes=[volume])
    assert await snapshotter.moved(handle, volumes=[volume]) == ""


class _SomebodyStartedIt(TimeoutError):
    """An OSError too, as deadlines of the swarm are: nobody may take it for one of the disk."""


def _identity(file: Path) -> tuple[int, int, int]:
    """What a swap would change; reading a file may move its time of access."""
    found = file.stat()
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns


async def test_where_something_runs_by_then_nothing_is_swapped_and_a_later_call_does_it(
    snapshotter: Snapshotter, volume: Volume
) -> None:
    handle = await snapshotter.capture(request_of("r1", volume))
    await snapshotter.seal(handle)
    file = Path(volume.mountpoint) / "x"
    file.write_text("newer")
    before = _identity(file)

    async def still() -> None:
        raise _SomebodyStartedIt

    for _ in range(2):  # what the first one made ready is there at the second, and it is asked again
        with pytest.raises(_SomebodyStartedIt):
            await snapshotter.restore(handle, run="r2", volumes=[volume], still=still)
        assert (_identity(file), file.read_text()) == (before, "newer")
    if isinstance(snapshotter, none.NoSnapshotter):
        return
    await snapshotter.restore(handle, run="r2", volumes=[volume])
    assert file.read_text() == "good"


@pytest.mark.parametrize("snapshotter", ["archive", "trees"], indirect=True)
async def test_it_asks_when_all_lies_ready_and_before_anything_is_swapped(
    snapshotter: Snapshotter, volume: Volume, tmp_path: Path
) -> None:
    other = tmp_path / "docker" / "volumes" / "sso_other" / "_data"
    other.mkdir(parents=True)
    volumes = [volume, Volume("sso_other", "local", str(other))]
    places = [Path(each.mountpoint) for each in volumes]
    for place in places:
        (place / "x").write_text("good")
    handle = await snapshotter.capture(request_of("r1", *volumes))
    await snapshotter.seal(handle)
    for place in places:
        (place / "x").write_text("newer")
    asked = []

    async def still() -> None:
        await anyio.lowlevel.checkpoint()  # it is asked on the loop
        for place in places:
            assert (place / "x").read_text() == "newer"
            (ready,) = (beside for beside in place.parent.iterdir() if beside != place)
            assert (ready / "x").read_text() == "good"
        asked.append("")

    await snapshotter.restore(handle, run="r2", volumes=volumes, still=still)
    assert len(asked) == 1
    assert [(place / "x").read_text() for place in places] == ["good", "good"]
    await snapshotter.restore(handle, run="r2", volumes=volumes, still=still)
    assert len(asked) == 1, "there was nothing left to swap"


async def test_no_volumes_are_fine(snapshotter: Snapshotter) -> None:
    await snapshotter.make_room(())
    handle = await snapshotter.capture(request_of("r1"))
    assert (await snapshotter.seal(handle)).volumes == ()
    await snapshotter.restore(handle, run="r1", volumes=())


async def test_what_is_listed_can_be_pruned_but_not_what_is_needed(
    snapshotter: Snapshotter, volume: Volume
) -> None:
    assert await snapshotter.snapshots() == ()
    for id_ in ("r1", "r2", "r3"):
        await snapshotter.seal(await snapshotter.capture(request_of(id_, volume)))
    before = [info.handle.id for info in await snapshotter.snapshots()]
    gone = await snapshotter.prune(keep=1, needed=frozenset({"r1"}))
    after = [info.handle.id for info in await snapshotter.snapshots()]
    assert sorted([*gone, *after]) == sorted(before)
    assert "r1" not in gone
    assert len(gone) <= 1


# --- archive --------------------------------------------------------------------------------------


@pytest.fixture
def keeper(context: Context) -> Snapshotter:
    return archive.build(archive.Config(exclude=("cache", "sso_tmp", "other_full")), context)


async def test_version_and_data_go_back_together(keeper: Snapshotter, volume: Volume) -> None:
    handle = await keeper.capture(request_of("r1", volume))
    await keeper.seal(handle)
    (Path(volume.mountpoint) / "x").write_text("damaged")
    await keeper.restore(handle, run="r1", volumes=[volume])
    assert (Path(volume.mountpoint) / "x").read_text() == "good"
    (info,) = await keeper.snapshots()
    assert (info.version, info.run, info.volumes, info.files) == ("1.0.0", "r1", ("sso_data",), 2)


async def test_data_goes_where_the_volume_is_now(keeper: Snapshotter, volume: Volume, tmp_path: Path) -> None:
    """Docker's folder was moved to another disk since: what the manifest names is nobody's volume now."""
    handle = await keeper.capture(request_of("r1", volume))
    await keeper.seal(handle)
    moved = tmp_path / "new disk" / "volumes" / "sso_data" / "_data"
    moved.mkdir(parents=True)
    (moved / "x").write_text("damaged")
    (Path(volume.mountpoint) / "x").write_text("left over")
    await keeper.restore(handle, run="r1", volumes=[Volume("sso_data", "local", str(moved))])
    assert (moved / "x").read_text() == "good"
    assert (Path(volume.mountpoint) / "x").read_text() == "left over"


async def test_a_volume_that_is_not_there_or_can_not_take_it_is_named(
    keeper: Snapshotter, volume: Volume
) -> None:
    handle = await keeper.capture(request_of("r1", volume))
    await keeper.seal(handle)
    (Path(volume.mountpoint) / "x").write_text("newer")
    with pytest.raises(SnapshotError, match="volume sso_data is not there"):
        await keeper.restore(handle, run="r1", volumes=[Volume("other", "local", "/nowhere")])
    bind = Volume("sso_data", "local", volume.mountpoint, {"o": "bind"})
    with pytest.raises(SnapshotError, match="volume sso_data can't take its data back: its driver options"):
        await keeper.restore(handle, run="r1", volumes=[bind])
    assert (Path(volume.mountpoint) / "x").read_text() == "newer"


def _is_there(volume: Volume) -> bool:
    return Path(volume.mountpoint).exists()


class _Ended(BaseException):
    """warmd is killed here, as far as the disk can tell."""


@pytest.mark.parametrize("at", ["staged", "old out sso_data", "new in sso_data"])
async def test_a_restore_that_was_killed_is_finished_whatever_became_of_the_snapshot(
    keeper: Snapshotter, context: Context, volume: Volume, at: str
) -> None:
    handle = await keeper.capture(request_of("r1", volume))
    await keeper.seal(handle)
    (Path(volume.mountpoint) / "x").write_text("damaged")

    def step(name: str) -> None:
        if name == at:
            raise _Ended

    with pytest.raises(_Ended):
        restore(context.folder, "r1", run="r2", at=NOW, check=lambda: None, step=step)
    assert _is_there(volume) == (at != "old out sso_data")
    (context.folder / "snapshots" / "r1" / "manifest.json").write_text("damaged by now")
    await keeper.restore(handle, run="r2", volumes=[volume])
    assert (Path(volume.mountpoint) / "x").read_text() == "good"


@pytest.mark.parametrize("at", ["staged", "old out sso_data"])
@pytest.mark.parametrize("run", ["r2", "r3"], ids=["of the same run", "of another one, which comes after it"])
async def test_going_on_after_a_kill_asks_too(
    keeper: Snapshotter, context: Context, volume: Volume, at: str, run: str
) -> None:
    handle = await keeper.capture(request_of("r1", volume))
    await keeper.seal(handle)
    (Path(volume.mountpoint) / "x").write_text("newer")

    def step(name: str) -> None:
        if name == at:
            raise _Ended

    async def still() -> None:
        raise _SomebodyStartedIt

    with pytest.raises(_Ended):
        restore(context.folder, "r1", run="r2", at=NOW, check=lambda: None, step=step)
    was_there = _is_there(volume)
    volume_folder = Path(volume.mountpoint)
    with pytest.raises(_SomebodyStartedIt):
        await keeper.restore(handle, run=run, volumes=[volume], still=still)
    assert _is_there(volume) == was_there
    assert not was_there or (volume_folder / "x").read_text() == "newer"
    await keeper.restore(handle, run=run, volumes=[volume])
    assert (volume_folder / "x").read_text() == "good"


async def test_cancelled_while_it_asks_it_returns_at_once(keeper: Snapshotter, volume: Volume) -> None:
    handle = await keeper.capture(request_of("r1", volume))
    await keeper.seal(handle)
    (Path(volume.mountpoint) / "x").write_text("newer")
    asked = anyio.Event()

    async def still() -> None:
        asked.set()
        await anyio.sleep_forever()

    async def put_back() -> None:
        await keeper.restore(handle, run="r2", volumes=[volume], still=still)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(put_back)
            await asked.wait()
            group.cancel_scope.cancel()
    assert group.cancel_scope.cancelled_caught
    assert (Path(volume.mountpoint) / "x").read_text() == "newer"
    await keeper.restore(handle, run="r2", volumes=[volume])  # the folder's lock was let go
    assert (Path(volume.mountpoint) / "x").read_text() == "good"


@pytest.mark.parametrize("snapshotter", ["archive", "trees"], indirect=True)
@pytest.mark.parametrize(
    "lost", ["", "manifest.json", "sealed"], ids=["gone", "without manifest", "unsealed"]
)
async def test_a_snapshot_that_can_not_be_put_back_does_not_say_that_nobody_wrote(
    snapshotter: Snapshotter, context: Context, volume: Volume, lost: str
) -> None:
    handle = await snapshotter.capture(request_of("r1", volume))
    await snapshotter.seal(handle)
    (context.folder / "snapshots" / "r1" / lost).rename(context.folder / "elsewhere")
    with pytest.raises(SnapshotError):
        await snapshotter.moved(handle, volumes=[volume])


@pytest.mark.parametrize("left", [None, b""], ids=["gone", "empty"])
async def test_a_listing_that_can_not_be_read_does_not_say_that_somebody_wrote(
    keeper: Snapshotter, context: Context, volume: Volume, left: bytes | None
) -> None:
    handle = await keeper.capture(request_of("r1", volume))
    await keeper.seal(handle)
    listing = context.folder / "snapshots" / "r1" / "1-sso_data.files.jsonl.zst"
    listing.unlink()
    if left is not None:
        listing.write_bytes(left)
    with pytest.raises(SnapshotError, match=r"files\.jsonl\.zst"):
        await keeper.moved(handle, volumes=[volume])


@pytest.mark.parametrize("put_back", [False, True], ids=["copied", "put back"])
@pytest.mark.parametrize("change", ["written", "same size", "new", "gone", "mode"])
async def test_what_was_written_since_shows(
    keeper: Snapshotter, volume: Volume, change: str, put_back: bool
) -> None:
    data = Path(volume.mountpoint)
    (data / "page").write_text("old")
    handle = await keeper.capture(request_of("r1", volume))
    await keeper.seal(handle)
    if put_back:
        await keeper.restore(handle, run="r2", volumes=[volume])
    if change == "new":
        (data / "other").touch()
    elif change == "gone":
        (data / "page").unlink()
    elif change == "mode":
        (data / "page").chmod(0o600)
    else:
        (data / "page").write_text("new" if change == "same size" else "longer")
    assert str(data) in await keeper.moved(handle, volumes=[volume])


async def test_excluded_volumes_are_neither_judged_nor_copied(keeper: Snapshotter, volume: Volume) -> None:
    nfs = {"type": "nfs"}
    excluded = [Volume(name, "local", "/nowhere", nfs) for name in ("sso_cache", "sso_tmp", "other_full")]
    await keeper.make_room((volume, *excluded))
    handle = await keeper.capture(request_of("r1", volume, *excluded))
    assert (await keeper.seal(handle)).volumes == ("sso_data",)
    with pytest.raises(Refused, match="volume sso_full can't be copied"):
        await keeper.make_room((Volume("sso_full", "local", "/nowhere", nfs),))


async def test_another_nodes_snapshot_is_refused(keeper: Snapshotter) -> None:
    with pytest.raises(SnapshotError, match="lies on node node2, this is node node1"):
        await keeper.restore(SnapshotHandle("node2", "r1"), run="r1", volumes=())


async def test_cancelled_it_returns_when_all_is_over(context: Context, volume: Volume) -> None:
    slow = archive.build(archive.Config(level=19), context)
    (Path(volume.mountpoint) / "big").write_bytes(os.urandom(48_000_000))
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(slow.capture, request_of("r1", volume))
            while children() != {"tar", "zstd"}:  # noqa: ASYNC110 - the kernel has no event for it
                await anyio.sleep(0.01)
            started = anyio.current_time()
            group.cancel_scope.cancel()
    assert group.cancel_scope.cancelled_caught
    assert anyio.current_time() - started < 2
    assert not children()
    assert list((context.folder / "snapshots").iterdir()) == []
    await slow.prune(keep=1, needed=frozenset())  # the folder's lock was let go


async def test_an_error_comes_as_it_is(keeper: Snapshotter, volume: Volume) -> None:
    with pytest.raises(SnapshotError, match="can't be the id"):
        await keeper.capture(request_of("../r1", volume))


@pytest.mark.parametrize(
    "bad", [{"keep": 0}, {"level": 0}, {"level": 20}, {"kind": "none"}, {"folder": "/x"}]
)
def test_a_configuration_out_of_bounds_is_an_error(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        archive.Config.model_validate(bad)


# --- none -----------------------------------------------------------------------------------------


async def test_without_snapshots_volumes_need_saying_so(context: Context, volume: Volume) -> None:
    careful = none.build(none.Config(kind="none"), context)
    await careful.make_room(())
    with pytest.raises(Refused, match=r"has volumes \(sso_data\)") as caught:
        await careful.make_room((volume,))
    assert "allow_volumes = true" in caught.value.hint
    await none.build(none.Config(kind="none", allow_volumes=True), context).make_room((volume,))
