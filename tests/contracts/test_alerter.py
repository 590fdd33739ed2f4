"""What every Alerter does."""

from __future__ import annotations

import grp
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.contracts.contexts import no_docker
from tests.stateful.parts import PlainSpool
from warmd.errors import ConfigError, Refused, Transient
from warmd.plugins.alerters import spool
from warmd.plugins.alerters.spool import Spool
from warmd.ports import Alerter

NAME = "20260131T120000.000000Z-sso-held-major-01234567.json"
BODY: dict[str, Any] = {"schema": 1, "summary": "größer"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "alerts"


@pytest.fixture(params=["spool", "plain"])
async def alerter(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Alerter]:
    """Built as the application builds it; the folder is relative to the configuration's."""
    if request.param == "plain":
        yield PlainSpool(tmp_path / "spool" / "alerts")
        return
    configs = {"spool": spool.Config(folder=Path("spool/alerts"))}
    async with no_docker(tmp_path) as context:
        yield spool.build(configs[request.param], context)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def rights(path: Path) -> tuple[int, int]:
    """(mode, gid)"""
    seen = path.stat()
    return seen.st_mode & 0o7777, seen.st_gid


def take(path: Path, name: str) -> Path:
    """What a reader does: move it away."""
    return path.rename(path.parent / name)


def made(folder: Path, mode: int = 0o700) -> Path:
    folder.mkdir(parents=True)
    folder.chmod(mode)
    return folder


async def test_an_alert_is_one_file_that_says_what_it_should(alerter: Alerter, folder: Path) -> None:
    await alerter.deliver(NAME, BODY)
    assert names(folder) == [NAME]
    assert json.loads((folder / NAME).read_bytes()) == BODY


async def test_the_same_again_changes_nothing(alerter: Alerter, folder: Path) -> None:
    await alerter.deliver(NAME, BODY)
    before = (folder / NAME).stat()
    await alerter.deliver(NAME, BODY)
    assert names(folder) == [NAME]
    assert (folder / NAME).stat().st_ino == before.st_ino


async def test_one_that_the_reader_took_comes_back_when_delivered_again(
    alerter: Alerter, folder: Path
) -> None:
    await alerter.deliver(NAME, BODY)
    taken = take(folder / NAME, "../taken.json")
    await alerter.deliver(NAME, BODY)
    assert (folder / NAME).read_bytes() == taken.read_bytes()


async def test_a_file_that_somebody_spoilt_is_put_right(alerter: Alerter, folder: Path) -> None:
    await alerter.deliver(NAME, BODY)
    (folder / NAME).write_text("{")
    await alerter.deliver(NAME, BODY)
    assert json.loads((folder / NAME).read_bytes()) == BODY


async def test_the_reader_may_take_the_whole_folder_away(alerter: Alerter, folder: Path) -> None:
    await alerter.deliver(NAME, BODY)
    take(folder, "moved")
    await alerter.deliver(NAME, BODY)
    assert names(folder) == [NAME]


async def test_a_reader_never_sees_half_a_file(alerter: Alerter, folder: Path) -> None:
    """A greedy reader: it takes every file the moment it appears."""
    await alerter.deliver("first.json", BODY)
    bodies = {f"{n:03}.json": {"n": n, "text": "x" * 200_000} for n in range(40)}
    taken: dict[str, Any] = {}
    stop = threading.Event()

    def read() -> None:
        while True:
            last = stop.is_set()
            for path in folder.iterdir():
                if not path.name.startswith("."):
                    taken[path.name] = json.loads(path.read_bytes())
                    path.unlink()
            if last:
                return

    reader = threading.Thread(target=read)
    reader.start()
    for name, body in bodies.items():
        await alerter.deliver(name, body)
    stop.set()
    reader.join()
    assert taken == bodies | {"first.json": BODY}


@pytest.mark.parametrize("name", ["", ".hidden.json", "../up.json", "a/b.json", "a\0b"])
async def test_a_name_that_leads_elsewhere_or_hides_is_refused(
    alerter: Alerter, folder: Path, name: str
) -> None:
    with pytest.raises(Refused, match="can't be the name"):
        await alerter.deliver(name, BODY)
    assert names(folder) == []


# --- the spool -----------------------------------------------------------------------------------


async def test_without_a_group_the_folder_is_closed_and_the_files_are_0640(folder: Path) -> None:
    await Spool(folder).deliver(NAME, BODY)
    assert rights(folder)[0] == 0o700
    assert rights(folder / NAME)[0] == 0o640


@pytest.mark.parametrize("group", ["daemon", grp.getgrnam("daemon").gr_gid], ids=["name", "number"])
async def test_the_group_may_read_take_and_delete(folder: Path, group: str | int) -> None:
    gid = grp.getgrnam("daemon").gr_gid
    await Spool(folder, group).deliver(NAME, BODY)
    assert rights(folder) == (0o2770, gid)
    assert rights(folder / NAME) == (0o640, gid)


async def test_a_folder_that_exists_is_left_as_it_is(folder: Path) -> None:
    made(folder, 0o755)
    await Spool(folder, "daemon").deliver(NAME, BODY)
    assert rights(folder) == (0o755, 0)


def test_a_group_that_does_not_exist_is_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no group 'nobody-has-this'"):
        Spool(tmp_path, "nobody-has-this")


async def test_a_group_that_can_not_get_there_is_told_once(folder: Path) -> None:
    made(folder.parent, 0o700)
    alerter = Spool(folder, "daemon")
    with capture_logs() as logs:
        await alerter.deliver(NAME, BODY)
        await alerter.deliver("second.json", BODY)
    assert [(e["event"], e["log_level"], e["folder"]) for e in logs] == [
        ("alerts.hidden-from-group", "warning", str(folder.parent))
    ]


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that everybody can get to; pytest's own are closed."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        Path(place).chmod(0o755)
        yield Path(place)


async def test_a_group_that_can_get_there_is_not_warned_of(open_place: Path) -> None:
    with capture_logs() as logs:
        await Spool(open_place / "alerts", "daemon").deliver(NAME, BODY)
    assert logs == []


async def test_what_a_killed_warmd_left_half_written_is_cleared_away(folder: Path) -> None:
    made(folder)
    for name, age in ((".old.json.01234567.tmp", 7200), (".new.json.01234567.tmp", 0)):
        (folder / name).write_text("{")
        at = (folder / name).stat().st_mtime - age
        os.utime(folder / name, (at, at))
    await Spool(folder).deliver(NAME, BODY)
    assert names(folder) == [".new.json.01234567.tmp", NAME]


async def test_a_link_planted_by_a_reader_is_replaced_and_not_followed(folder: Path) -> None:
    made(folder)
    (folder.parent / "victim").write_text("keep")
    (folder / NAME).symlink_to(folder.parent / "victim")
    await Spool(folder).deliver(NAME, BODY)
    assert (folder.parent / "victim").read_text() == "keep"
    assert json.loads((folder / NAME).read_bytes()) == BODY


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


async def test_on_a_full_disk_it_is_said_and_works_later(full_disk: Path) -> None:
    alerter = Spool(full_disk / "alerts")
    big = {"text": "x" * 100_000}
    with pytest.raises(Transient, match="No space left") as caught:
        await alerter.deliver(NAME, big)
    assert "df -h" in caught.value.hint
    assert names(full_disk / "alerts") == []
    await alerter.deliver(NAME, BODY)
    assert names(full_disk / "alerts") == [NAME]
