"""That the journal of warmd's own alerts was damaged is told whatever happens: once, under one name."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import tempfile
import traceback
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

from tests.size import size
from warmd.adapters.journal_file import JournalFiles
from warmd.core.journal import Draft
from warmd.engine.household import DAEMON, Household
from warmd.engine.service import Shop
from warmd.errors import Permanent
from warmd.plugins.alerters.spool import Spool

AT = datetime(2026, 1, 31, tzinfo=UTC)

#: Everything by which a file changes, or is reached.
CALLS = ("open", "write", "pwrite", "fsync", "ftruncate", "link", "rename", "unlink", "mkdir")


class Clock:
    def now(self) -> datetime:
        return datetime.now(UTC)


def household(home: Path, alerter: object = None) -> Household:
    """What a new process has."""
    journals, spool = JournalFiles(home / "services"), Spool(home / "alerts")
    parts = {"journals": journals, "alerter": alerter or spool, "clock": Clock()}
    return Household(cast(Shop, SimpleNamespace(installation="i", host="h", **parts)))


async def looked(own: Household, times: int) -> None:
    """A daemon's life: it begins, and each look finds the one service well."""
    await own.begin()
    for _ in range(times):
        await own.settle({"app": None}, services=["app"])


async def written(home: Path) -> Path:
    """A journal of warmd's own alerts, of some records."""
    services = home / "services"
    services.mkdir(parents=True)
    store = JournalFiles(services)
    for n in range(3):
        await store.append(DAEMON, Draft("t", AT, {"n": n}), expected=n)
    return services / DAEMON / "journal"


def told(home: Path) -> list[tuple[str, str, str]]:
    """The files in the spool, by what they say of whom."""
    bodies = [json.loads(file.read_text()) for file in sorted((home / "alerts").glob("*.json"))]
    assert len({body["id"] for body in bodies}) <= 1, "under one name"
    return [(body["kind"], body["candidate"], body["state"]) for body in bodies]


OPEN, RESOLVED = ("journal-damaged", DAEMON, "open"), ("journal-damaged", DAEMON, "resolved")


def _garbage(journal: Path) -> None:
    journal.write_bytes(b"garbage\n")


def _garbage_without_a_tip(journal: Path) -> None:
    _garbage(journal)
    journal.with_name("journal.tip").unlink()


def _last_line_lost(journal: Path) -> None:
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))


def _removed(journal: Path) -> None:
    journal.unlink()


damages = pytest.mark.parametrize(
    "damage",
    [_garbage, _garbage_without_a_tip, _last_line_lost, _removed],
    ids=lambda damage: damage.__name__.strip("_"),
)


async def test_it_is_told_by_the_first_look_and_over_with_the_next(tmp_path: Path) -> None:
    _garbage(await written(tmp_path))
    own = household(tmp_path)
    await looked(own, 1)
    assert told(tmp_path) == [OPEN]
    await looked(own, 2)
    assert told(tmp_path) == [OPEN, RESOLVED]
    assert not own.unsettled


async def test_who_dies_before_the_first_look_leaves_it_to_be_told_by_the_next_process(
    tmp_path: Path,
) -> None:
    _garbage_without_a_tip(await written(tmp_path))
    await household(tmp_path).begin()
    assert told(tmp_path) == []
    await looked(household(tmp_path), 1)
    assert told(tmp_path) == [OPEN]


async def test_what_finds_no_room_at_first_is_told_by_a_later_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, full = os.write, [True] * 3

    def written_later(fd: int, data: bytes) -> int:
        if full:
            full.pop()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data)

    _garbage_without_a_tip(await written(tmp_path))
    monkeypatch.setattr(os, "write", written_later)
    await looked(household(tmp_path), 4)
    assert told(tmp_path) == [OPEN, RESOLVED]


async def test_it_is_not_over_before_it_could_be_told(tmp_path: Path) -> None:
    class Away:
        async def deliver(self, name: str, body: Any) -> None:
            raise Permanent("the folder is gone")

    _garbage(await written(tmp_path))
    await looked(household(tmp_path, Away()), 3)
    own = household(tmp_path)
    await looked(own, 1)
    assert told(tmp_path) == [OPEN], "as if nobody had been away"
    await looked(own, 1)
    assert told(tmp_path) == [OPEN, RESOLVED]


def _killed(call: str, real: Callable[..., Any], *given: Any, **more: Any) -> Any:
    if call == "write":
        fd, data = given
        real(fd, bytes(data)[: len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)


def _failing(number: int) -> Callable[..., Any]:
    def failing(call: str, real: Callable[..., Any], *given: Any, **more: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return failing


def afflicted(home: Path, nth: int, fate: Callable[..., Any], *, for_ever: bool) -> bool:
    """A process whose nth call has this fate, or each from there on; whether there were so many."""
    child = os.fork()
    if child == 0:  # pragma: no cover - it may be killed
        try:
            seen = _subject(nth, fate, for_ever=for_ever)
            anyio.run(looked, household(home), 3)
            os._exit(0 if len(seen) < nth else 1)
        except BaseException:
            traceback.print_exc(file=sys.stderr)
            os._exit(2)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 1, -signal.SIGKILL), "whatever fails, it does not end the process"
    return code != 0


def _subject(nth: int, fate: Callable[..., Any], *, for_ever: bool) -> list[str]:
    seen: list[str] = []

    def watched(call: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*given: Any, **more: Any) -> Any:
            seen.append(call)
            due = len(seen) >= nth if for_ever else len(seen) == nth
            return fate(call, real, *given, **more) if due else real(*given, **more)

        return instead

    for call in CALLS:
        setattr(os, call, watched(call, getattr(os, call)))
    return seen


@pytest.fixture
def quick_disk() -> Iterator[Path]:
    """Hundreds of processes sync what they write."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield Path(folder)


@pytest.mark.crash_too
@damages
@pytest.mark.parametrize(
    ("fate", "for_ever"),
    [
        pytest.param(_killed, False, id="killed"),
        pytest.param(_failing(errno.ENOSPC), False, id="no room once"),
        pytest.param(_failing(errno.ENOSPC), True, id="no room"),
        pytest.param(_failing(errno.EIO), False, id="a call fails once"),
        pytest.param(_failing(errno.EIO), True, id="the disk fails"),
    ],
)
def test_whatever_happens_at_whichever_call_it_is_told_once_and_what_was_there_is_kept(
    request: pytest.FixtureRequest,
    quick_disk: Path,
    damage: Callable[[Path], None],
    fate: Callable[..., Any],
    for_ever: bool,
) -> None:
    every = size(12, 3, 1)
    # Each case has other calls of its own.
    nth, reached = zlib.crc32(request.node.name.encode()) % every + 1 - every, True
    while reached:
        nth += every
        home = quick_disk / f"{nth}"
        journal = anyio.run(written, home)
        damage(journal)
        content = journal.read_bytes() if journal.exists() else None
        reached = afflicted(home, nth, fate, for_ever=for_ever)
        for _ in range(2):
            anyio.run(looked, household(home), 2)
        assert told(home) == [OPEN, RESOLVED], f"at call {nth}"
        kept = {file.read_bytes() for file in (journal.parent / "damaged").iterdir()}
        assert content is None or content in kept, f"at call {nth}"
    assert nth > 40, "to the last one"
