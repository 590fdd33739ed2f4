"""The parts that the model test is made of, against the contracts of their ports."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.contracts import test_source as contract
from tests.stateful.parts import ListSource, Shelf
from tests.stateful.virtual import VirtualClock, VirtualLoop
from warmd.adapters.clock import SystemClock
from warmd.core.model import Catalog
from warmd.ports import Source

# What a source promises that has no repository of git behind it. The other tests are about git.
test_a_new_release_is_seen = contract.test_a_new_release_is_seen_by_the_next_look
test_a_moved_tag = contract.test_a_moved_tag_keeps_the_commit_it_was_first_seen_with
test_a_tag_that_went_away = contract.test_a_tag_that_went_away_is_gone_and_remembered
test_offline_asks_nobody = contract.test_offline_with_nothing_there_says_so


class _Upstream:
    """As much of ``tests.upstream.Upstream`` as those tests need."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def release(self, tag: str, files: Mapping[str, Any] | None = None) -> str:
        return self._shelf.publish(tag, datetime.now(UTC), files)

    def untag(self, tag: str) -> None:
        del self._shelf.commits[tag]


class _Published:
    served = None

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.upstream = _Upstream(self.shelf)
        self._first = dict(self.shelf.first)

    def source(self) -> Source:
        return ListSource(self.shelf, SystemClock())


@pytest.fixture
def published() -> _Published:
    return _Published()


async def now(source: Source) -> Catalog:
    return await source.releases(not_before=SystemClock().monotonic())


async def test_a_remote_that_is_away_is_trouble_and_no_error(published: _Published) -> None:
    published.upstream.release("1.0.0")
    source = published.source()
    before = await now(source)
    published.shelf.away = True
    during = await now(source)
    assert (during.releases, during.fetched_at) == (before.releases, before.fetched_at)
    assert during.trouble
    published.shelf.away = False
    assert (await now(source)).trouble is None


async def test_the_tree_has_the_release_s_files_and_is_gone_afterwards(published: _Published) -> None:
    published.upstream.release("1.0.0", {"conf/app.ini": "a = 1\n"})
    source = published.source()
    (release,) = (await now(source)).releases
    async with source.tree(release) as tree:
        assert (tree / "conf" / "app.ini").read_text() == "a = 1\n"
    assert not tree.exists()


def test_virtual_time_passes_in_the_order_in_which_it_is_due() -> None:
    loop = VirtualLoop()
    clock = VirtualClock(loop)
    told: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        told.append((name, clock.monotonic()))

    async def all_of_them() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(sleeper, "late", 86400.0)
            group.start_soon(sleeper, "soon", 1.0)
            with anyio.move_on_after(2.0) as scope:
                await anyio.sleep_forever()
            told.append(("deadline", clock.monotonic()))
            assert scope.cancelled_caught

    begun = clock.now()
    loop.run(all_of_them())
    loop.close()
    assert [name for name, _ in told] == ["soon", "deadline", "late"]
    assert [at for _, at in told] == pytest.approx([1.0, 2.0, 86400.0])
    assert (clock.now() - begun).total_seconds() == pytest.approx(86400.0)


def test_whoever_waits_for_nothing_is_found_out() -> None:
    loop = VirtualLoop()

    async def for_ever() -> None:
        await anyio.Event().wait()

    with pytest.raises(RuntimeError, match="nobody would ever go on"):
        loop.run(for_ever())
    loop.leave_nobody()
    loop.close()


def test_tasks_of_a_dead_process_are_gone(tmp_path: Path) -> None:
    loop = VirtualLoop()

    async def begin() -> None:
        loop.create_task(anyio.sleep(5.0))
        await anyio.lowlevel.checkpoint()

    loop.run(begin())
    loop.leave_nobody()
    assert loop.time() < 5.0
    loop.close()
