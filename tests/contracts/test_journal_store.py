"""What every JournalStore does, whatever keeps the lines."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.stateful.parts import Disk, MemoryJournals
from warmd.adapters.journal_file import JournalFiles
from warmd.core.journal import Draft
from warmd.errors import JournalError
from warmd.ports import JournalStore

AT = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)

#: Opens the same store anew, as another process would.
Open: TypeAlias = Callable[[], JournalStore]


@pytest.fixture(params=["file", "memory"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    disk = Disk()
    stores: dict[str, Open] = {"file": lambda: JournalFiles(tmp_path), "memory": lambda: MemoryJournals(disk)}
    return stores[request.param]


def draft(n: int, run: str | None = None) -> Draft:
    return Draft(f"type-{n}", AT + timedelta(seconds=n), {"n": n, "text": "größer\n"}, run)


async def test_a_service_that_never_was_has_no_records(open_store: Open) -> None:
    assert await open_store().load("sso") == ((), 0)


async def test_what_was_appended_is_loaded_in_order_with_everything_it_said(open_store: Open) -> None:
    store = open_store()
    token = 0
    appended = []
    for n in range(3):
        record, token = await store.append("sso", draft(n, run="r1" if n else None), expected=token)
        appended.append(record)
    for same in (store, open_store()):
        records, last = await same.load("sso")
        assert records == tuple(appended)
        assert last == token
    assert [(r.seq, r.type, r.at, r.run, r.data) for r in appended] == [
        (n + 1, f"type-{n}", AT + timedelta(seconds=n), "r1" if n else None, {"n": n, "text": "größer\n"})
        for n in range(3)
    ]


async def test_the_next_process_goes_on_where_the_last_ended(open_store: Open) -> None:
    for n in range(3):
        store = open_store()
        _, token = await store.load("sso")
        record, _ = await store.append("sso", draft(n), expected=token)
        assert record.seq == n + 1


async def test_appending_needs_no_load_before(open_store: Open) -> None:
    _, token = await open_store().append("sso", draft(0), expected=0)
    record, _ = await open_store().append("sso", draft(1), expected=token)
    assert record.seq == 2


async def test_who_has_not_seen_the_last_record_can_not_append(open_store: Open) -> None:
    store = open_store()
    _, old = await store.append("sso", draft(0), expected=0)
    await store.append("sso", draft(1), expected=old)
    for stale in (0, old):
        with pytest.raises(JournalError, match="somebody else appended"):
            await store.append("sso", draft(9), expected=stale)
    records, token = await store.load("sso")
    assert [r.data["n"] for r in records] == [0, 1]
    await store.append("sso", draft(2), expected=token)


async def test_two_processes_do_not_append_over_each_other(open_store: Open) -> None:
    mine, other = open_store(), open_store()
    _, token = await mine.append("sso", draft(0), expected=0)
    await other.load("sso")
    await other.append("sso", draft(1), expected=token)
    with pytest.raises(JournalError):
        await mine.append("sso", draft(9), expected=token)
    records, token = await mine.load("sso")
    assert [r.data["n"] for r in records] == [0, 1]
    await mine.append("sso", draft(2), expected=token)
    assert [r.data["n"] for r in (await open_store().load("sso"))[0]] == [0, 1, 2]


async def test_services_have_nothing_to_do_with_each_other(open_store: Open) -> None:
    store = open_store()
    await store.append("sso", draft(0), expected=0)
    await store.append("proxy", draft(1), expected=0)
    assert [r.data["n"] for r in (await store.load("sso"))[0]] == [0]
    assert [r.data["n"] for r in (await store.load("proxy"))[0]] == [1]


async def test_what_is_no_json_is_refused_and_leaves_the_journal_as_it_was(open_store: Open) -> None:
    store = open_store()
    _, token = await store.append("sso", draft(0), expected=0)
    with pytest.raises(JournalError, match="can't be written as JSON"):
        await store.append("sso", Draft("bad", AT, {"x": object()}), expected=token)
    await store.append("sso", draft(1), expected=token)
    assert [r.data["n"] for r in (await open_store().load("sso"))[0]] == [0, 1]


async def test_room_can_be_held_before_and_after_the_first_record_and_is_no_record(open_store: Open) -> None:
    store = open_store()
    await store.reserve("sso")
    _, token = await store.append("sso", draft(0), expected=0)
    await store.reserve("sso")
    await store.reserve("proxy")
    record, _ = await store.append("sso", draft(1), expected=token)
    assert record.seq == 2
    assert (await open_store().load("proxy")) == ((), 0)


async def test_what_is_set_aside_makes_room_for_a_journal_that_begins_with_what_was_given(
    open_store: Open,
) -> None:
    store = open_store()
    for n in range(2):
        await store.append("sso", draft(n), expected=n)
    await store.set_aside("sso", draft(7))
    for same in (store, open_store()):
        records, token = await same.load("sso")
        assert [(r.seq, r.data["n"]) for r in records] == [(1, 7)]
    await store.append("sso", draft(8), expected=token)
    assert len((await open_store().load("sso"))[0]) == 2
