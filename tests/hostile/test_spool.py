"""An alert folder that is not what it was: nothing is written elsewhere, and no alert is lost."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from structlog.testing import capture_logs

from warmd.adapters import files
from warmd.adapters.clock import SystemClock
from warmd.adapters.journal_file import JournalFiles
from warmd.core.notices import Notice
from warmd.engine import notify
from warmd.engine.ledger import Ledger
from warmd.engine.service import Shop
from warmd.errors import Permanent
from warmd.plugins.alerters import spool
from warmd.plugins.alerters.spool import Spool

#: Somebody who is neither root nor warmd.
NOBODY = 65534
NAME = "20260131T120000.000000Z-sso-held-major-01234567.json"
BODY: dict[str, Any] = {"schema": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "alerts"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere"


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def link(folder: Path, target: Path | str, owner: int) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(target)
    os.chown(folder, owner, owner, follow_symlinks=False)


def away(folder: Path) -> Path:
    """Move it out of its place, as somebody may who can write to the folder above."""
    return folder.rename(folder.parent / "away")


def gone(folder: Path) -> None:
    """Remove it, all that is in it, and the folder above."""
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.parent.rmdir()


def owner(folder: Path) -> tuple[int, int, int]:
    """(mode, uid, gid)"""
    seen = folder.stat()
    return seen.st_mode, seen.st_uid, seen.st_gid


def written(folder: Path) -> dict[str, int]:
    """When each file was written last."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def unlinked(path: Path) -> None:
    path.unlink()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- links ---------------------------------------------------------------------------------------


async def test_a_link_that_the_operator_made_is_followed(folder: Path, elsewhere: Path) -> None:
    link(folder, elsewhere, 0)
    await Spool(folder).deliver(NAME, BODY)
    assert names(elsewhere) == [NAME]


async def test_so_are_several_and_relative_ones(folder: Path, elsewhere: Path) -> None:
    link(folder, "next", 0)
    link(folder.parent / "next", "../elsewhere", 0)
    await Spool(folder).deliver(NAME, BODY)
    assert names(elsewhere) == [NAME]


async def test_a_link_that_somebody_else_made_is_not(folder: Path, elsewhere: Path) -> None:
    link(folder, elsewhere, NOBODY)
    with pytest.raises(Permanent, match=f"symlink that user {NOBODY} made") as refused:
        await Spool(folder).deliver(NAME, BODY)
    assert "chown -h root" in refused.value.hint
    assert names(elsewhere) == []


async def test_nor_one_behind_the_operators_or_in_place_of_the_folder(folder: Path, elsewhere: Path) -> None:
    link(folder, "next", 0)
    link(folder.parent / "next", elsewhere, NOBODY)
    alerter = Spool(folder)
    with pytest.raises(Permanent, match="is a symlink that user"):
        await alerter.deliver(NAME, BODY)
    unlinked(folder)
    await alerter.deliver(NAME, BODY)
    away(folder)
    link(folder, elsewhere, NOBODY)
    with pytest.raises(Permanent, match="is a symlink that user"):
        await alerter.deliver(NAME, BODY)
    assert names(elsewhere) == []


@pytest.mark.parametrize(
    ("target", "says"),
    [("nowhere", "File exists|No such file"), ("alerts", "symbolic links"), ("/dev/null", "Not a directory")],
)
async def test_a_link_that_leads_to_no_folder_is_an_error(folder: Path, target: str, says: str) -> None:
    link(folder, target, 0)
    with pytest.raises(Permanent, match=says):
        await Spool(folder).deliver(NAME, BODY)


async def test_a_folder_that_is_swapped_while_a_file_is_written_gets_nothing_of_it(
    folder: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As somebody could who may write to the folder above, between the check and the file."""
    made(folder)
    says = spool._says

    def swapped(path: Path, data: bytes) -> bool:
        away(folder)
        link(folder, elsewhere, NOBODY)
        return says(path, data)

    monkeypatch.setattr(spool, "_says", swapped)
    await Spool(folder).deliver(NAME, BODY)
    assert names(elsewhere) == []
    assert names(folder.parent / "away") == [NAME]


async def test_a_folder_of_somebody_elses_is_not_given_away_when_it_slips_in(
    folder: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(elsewhere, NOBODY, NOBODY)
    before, real = owner(elsewhere), files.make_folder

    def slipped(path: Path, *, mode: int) -> bool:
        done = real(path, mode=mode)
        path.rmdir()
        elsewhere.rename(path)
        return done

    monkeypatch.setattr(files, "make_folder", slipped)
    await Spool(folder, 1).deliver(NAME, BODY)
    assert owner(folder) == before


# --- what lies under our names -------------------------------------------------------------------

PLANTED: dict[str, Callable[[Path, Path], object]] = {
    "a link to a file": lambda path, victim: path.symlink_to(victim),
    "a second name of a file": lambda path, victim: path.hardlink_to(victim),
    "a link to itself": lambda path, victim: path.symlink_to(path.name),
    "a pipe": lambda path, victim: os.mkfifo(path),
    "a device": lambda path, victim: os.mknod(path, 0o20666, os.makedev(1, 5)),
    "a big file": lambda path, victim: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 1 << 40),
}


@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED.keys())
async def test_whatever_lies_under_an_alerts_name_is_replaced_and_not_touched(
    folder: Path, tmp_path: Path, plant: Callable[[Path, Path], object]
) -> None:
    made(folder)
    (tmp_path / "victim").write_text("keep")
    plant(folder / NAME, tmp_path / "victim")
    with anyio.fail_after(10):
        await Spool(folder).deliver(NAME, BODY)
    assert (tmp_path / "victim").read_text() == "keep"
    assert (folder / NAME).lstat().st_nlink == 1
    assert json.loads((folder / NAME).read_bytes()) == BODY


# --- kept and delivered later --------------------------------------------------------------------


class Told:
    """A service whose alerts go into ``folder``, as the engine handles them."""

    def __init__(self, folder: Path, state: Path) -> None:
        (state / "app").mkdir(parents=True)
        journals, clock = JournalFiles(state), SystemClock()
        self.shop = Shop(
            installation="i",
            host="h",
            swarm=cast(Any, None),
            journals=journals,
            blobs=cast(Any, None),
            alerter=Spool(folder),
            clock=clock,
            slots=anyio.CapacityLimiter(1),
            halted=lambda: None,
            interval=timedelta(minutes=5),
        )
        self.ledger = Ledger(journals, "app")

    async def holds(self, *kinds: str) -> None:
        """A look at which exactly these conditions hold."""
        await self.ledger.load()
        wanted = tuple(Notice(kind, "1.0.0", "info", kind) for kind in kinds)
        await notify.settle(self.ledger, self.shop, wanted, service="app", stack="app", current=None)


@pytest.fixture
async def told(folder: Path, tmp_path: Path) -> Told:
    return Told(folder, tmp_path / "state")


def of_kinds(folder: Path) -> list[str]:
    return sorted(json.loads(path.read_bytes())["kind"] for path in folder.glob("*.json"))


def _a_file(folder: Path) -> Callable[[], object]:
    made(folder.parent)
    folder.write_text("")
    return folder.unlink


def _a_foreign_link(folder: Path) -> Callable[[], object]:
    link(folder, made(folder.parent.parent / "trap"), NOBODY)
    return folder.unlink


def _read_only(folder: Path) -> Callable[[], object]:
    made(folder)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder], check=True)
    return lambda: subprocess.run(["umount", folder], check=True)


def _full(folder: Path) -> Callable[[], object]:
    made(folder)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=2", "tmpfs", folder], check=True)
    (folder / "other").write_text("x")
    return lambda: subprocess.run(["umount", folder], check=True)


def trapped(folder: Path) -> list[str]:
    trap = folder.parent.parent / "trap"
    return names(trap) if trap.exists() else []


BROKEN = {"a file": _a_file, "somebody's link": _a_foreign_link, "read-only": _read_only, "full": _full}


@pytest.fixture
def broken(request: pytest.FixtureRequest, folder: Path) -> Iterator[Callable[[], object]]:
    """The folder, broken; the function mends it, and is called in any case."""
    todo = [BROKEN[request.param](folder)]

    def mend() -> None:
        if todo:
            todo.pop()()

    yield mend
    mend()


@pytest.mark.parametrize("broken", BROKEN, indirect=True)
async def test_alerts_that_could_not_be_written_come_when_they_can_each_once(
    told: Told, folder: Path, broken: Callable[[], object]
) -> None:
    with capture_logs() as logs:
        await told.holds("held-major", "stuck")
        await told.holds("held-major", "stuck")
        await told.holds("stuck")
    failures = [entry for entry in logs if entry["event"] == "alert.not-delivered"]
    assert len(failures) == 3, "one line a look, however many wait"
    assert len(told.ledger.history.undelivered) == 3
    broken()
    assert trapped(folder) == []
    await told.holds("stuck")
    assert of_kinds(folder) == ["held-major", "held-major", "stuck"]
    assert told.ledger.history.undelivered == {}
    before = written(folder)
    await told.holds("stuck")
    assert written(folder) == before


async def test_a_folder_that_is_gone_or_made_again_by_others_is_used_again(told: Told, folder: Path) -> None:
    await told.holds("stuck")
    gone(folder)
    await told.holds("stuck", "held-major")
    assert of_kinds(folder) == ["held-major"], "what was delivered once is the reader's"
    away(folder)
    made(folder)
    os.chown(folder, NOBODY, NOBODY)
    await told.holds("held-major")
    assert of_kinds(folder) == ["stuck"]
    assert owner(folder)[1] == NOBODY, "a folder that exists is left as it is"


async def test_one_name_that_is_taken_keeps_no_other_alert_back(
    told: Told, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder under an alert's name can't be replaced by a file."""
    deliver, first = told.shop.alerter.deliver, True

    async def planted(name: str, body: Any) -> None:
        nonlocal first
        if first:
            (folder / name / "x").mkdir(parents=True)
            first = False
        await deliver(name, body)

    monkeypatch.setattr(told.shop.alerter, "deliver", planted)
    await told.holds("stuck", "held-major")
    (taken,) = told.ledger.history.undelivered
    assert len(names(folder)) == 2
    os.removedirs(folder / taken / "x")
    await told.holds("stuck", "held-major")
    assert of_kinds(folder) == ["held-major", "stuck"]
