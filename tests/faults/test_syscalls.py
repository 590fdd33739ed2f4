"""Every I/O call that warmd makes in an upgrade and in a rollback fails, once and from then on.

``tests.faults.sweep`` does it, with real processes on the model of a swarm. What follows a failed fsync is
stated here: it is never tried again, neither by who saw it fail nor by the next process.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.size import size, tier
from warmd.adapters.blobs import BlobFiles
from warmd.adapters.journal_file import JournalFiles
from warmd.core.journal import Draft
from warmd.errors import JournalError, Permanent
from warmd.plugins.alerters.spool import Spool

AT = datetime(2026, 1, 31, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
PARTS = size(1, 1, 8)


@pytest.mark.crash_too
@pytest.mark.parametrize("part", range(1, PARTS + 1))
def test_whichever_call_fails_the_promise_is_kept_and_one_look_later_all_is_well(part: int) -> None:
    limit = [] if tier() == "long" else ["--limit", str(size(8, 110, 0))]
    which = ["--part", f"{part}/{PARTS}", *limit]
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.sweep", *which],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)  # noqa: T201 - the figures, with -rP
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", wrong 0 (" in done.stdout


# --- fsync ------------------------------------------------------------------------------------------


class Disk:
    """Tells what was written and synced, and fails one fsync."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: Path) -> None:
        self.seen: list[str] = []
        self.fails: Path | None = fails
        fsync, write, pwrite = os.fsync, os.write, os.pwrite

        def path(fd: int) -> Path:
            return Path(f"/proc/self/fd/{fd}").readlink()

        def failing(fd: int) -> None:
            self.seen.append(f"fsync {path(fd).name}")
            if path(fd) == self.fails:
                self.fails = None
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            fsync(fd)

        def written(fd: int, data: bytes) -> int:
            self.seen.append(f"write {path(fd).name}")
            return write(fd, data)

        def written_at(fd: int, data: bytes, offset: int) -> int:
            self.seen.append(f"write {path(fd).name}")
            return pwrite(fd, data, offset)

        monkeypatch.setattr(os, "fsync", failing)
        monkeypatch.setattr(os, "write", written)
        monkeypatch.setattr(os, "pwrite", written_at)

    def told(self, name: str) -> list[str]:
        """What was done to a file since this was asked last."""
        found = [line.split(" ")[0] for line in self.seen if line.split(" ")[1] == name]
        self.seen.clear()
        return found


def names(folder: Path) -> list[str]:
    return sorted(f.name for f in folder.iterdir())


def draft(n: int) -> Draft:
    return Draft("t", AT, {"n": n})


@pytest.mark.parametrize("what", ["journal", "its folder", "the folder above"])
async def test_a_journal_whose_fsync_failed_is_not_synced_nor_written_to_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    services = tmp_path / "services"
    (services / "sso").mkdir(parents=True)
    fails = {
        "journal": services / "sso/journal",
        "its folder": services / "sso",
        "the folder above": services,
    }
    disk = Disk(monkeypatch, fails[what])
    store = JournalFiles(services)
    for _ in range(3):
        with pytest.raises(JournalError, match="fsync failed: Input/output error"):
            await store.append("sso", draft(0), expected=0)
    with pytest.raises(JournalError, match="fsync failed"):
        await store.load("sso")
    assert disk.seen.count(f"fsync {fails[what].name}") == 1


async def test_the_next_process_writes_what_was_not_acknowledged_before_it_believes_an_fsync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = JournalFiles(tmp_path)
    await first.append("sso", draft(0), expected=0)
    disk = Disk(monkeypatch, tmp_path / "sso/journal")
    with pytest.raises(JournalError):
        await first.append("sso", draft(1), expected=1)
    assert disk.told("journal") == ["write", "fsync"]
    content = (tmp_path / "sso/journal").read_bytes()

    second = JournalFiles(tmp_path)
    assert (await second.load("sso"))[1] == 2
    assert disk.told("journal") == ["write", "fsync"]
    assert (tmp_path / "sso/journal").read_bytes() == content
    await second.append("sso", draft(2), expected=2)

    disk.told("journal")
    assert (await JournalFiles(tmp_path).load("sso"))[1] == 3
    assert disk.told("journal") == ["fsync"], "what was acknowledged is not written again"


async def test_a_blob_whose_folder_s_fsync_failed_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Disk(monkeypatch, tmp_path)
    blobs = BlobFiles(tmp_path)
    with pytest.raises(Permanent, match="Input/output error"):
        await blobs.put(b"bundle")
    assert names(tmp_path) == [], "a name that may not be on the disk is no name"
    name = await blobs.put(b"bundle")
    assert await blobs.get(name) == b"bundle"


async def test_an_alert_whose_folder_s_fsync_failed_is_written_anew_under_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerter = Spool(tmp_path)
    await alerter.deliver("first.json", {"n": 1})
    Disk(monkeypatch, tmp_path)
    with pytest.raises(Permanent, match="Input/output error"):
        await alerter.deliver("second.json", {"n": 2})
    assert names(tmp_path) == ["first.json"]
    await alerter.deliver("second.json", {"n": 2})
    assert names(tmp_path) == ["first.json", "second.json"]
