"""The journal in a file: what the contract leaves to this implementation."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from anyio import from_thread, to_thread

from warmd.adapters import files
from warmd.adapters.journal_file import JournalFiles
from warmd.core.journal import Draft, encode
from warmd.errors import JournalDamaged, JournalError, Permanent, Transient

AT = datetime(2026, 1, 31, tzinfo=UTC)


def draft(n: int) -> Draft:
    return Draft("t", AT, {"n": n})


async def filled(services: Path, count: int) -> Path:
    store = JournalFiles(services)
    for n in range(count):
        await store.append("sso", draft(n), expected=n)
    return services / "sso" / "journal"


async def test_the_file_is_private_lines_of_json(tmp_path: Path) -> None:
    path = await filled(tmp_path, 2)
    assert path.stat().st_mode & 0o7777 == 0o600
    assert path.parent.stat().st_mode & 0o7777 == 0o700
    first, first_line = encode(draft(0), after=None)
    assert path.read_bytes() == first_line + encode(draft(1), after=first)[1]


@pytest.mark.parametrize("torn", [b"{", b"\x00" * 5000, b'{"at":"2026-01-31T00:00:00+00:00"'], ids=len)
async def test_a_torn_tail_is_dropped_and_cut_off_by_the_next_append(tmp_path: Path, torn: bytes) -> None:
    path = await filled(tmp_path, 2)
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    store = JournalFiles(tmp_path)
    records, token = await store.load("sso")
    assert (len(records), token) == (2, 2)
    assert path.read_bytes() == whole + torn  # looking changes nothing
    await store.append("sso", draft(2), expected=token)
    assert path.read_bytes().startswith(whole)
    assert [r.data["n"] for r in (await JournalFiles(tmp_path).load("sso"))[0]] == [0, 1, 2]


async def test_every_place_where_a_crash_can_tear_the_last_line(tmp_path: Path) -> None:
    path = await filled(tmp_path, 1)
    tip = path.with_name("journal.tip")
    acknowledged = tip.read_bytes()
    await JournalFiles(tmp_path).append("sso", draft(1), expected=1)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole)):
        path.write_bytes(whole[:cut])
        tip.write_bytes(acknowledged)
        store = JournalFiles(tmp_path)
        assert (await store.load("sso"))[1] == 1
        await store.append("sso", draft(1), expected=1)
        assert path.read_bytes() == whole


async def test_damage_is_an_error_that_names_file_and_line_and_changes_nothing(tmp_path: Path) -> None:
    path = await filled(tmp_path, 3)
    damaged = path.read_bytes().replace(b'"n":1', b'"n":7')
    path.write_bytes(damaged)
    store = JournalFiles(tmp_path)
    with pytest.raises(JournalError, match=f"{path}:2: its checksum does not fit"):
        await store.load("sso")
    with pytest.raises(JournalError, match=f"{path}:2"):
        await store.append("sso", draft(3), expected=3)
    assert path.read_bytes() == damaged


async def test_one_services_damage_is_not_anothers(tmp_path: Path) -> None:
    path = await filled(tmp_path, 1)
    path.write_bytes(b"\n")
    store = JournalFiles(tmp_path)
    with pytest.raises(JournalError):
        await store.load("sso")
    await store.append("proxy", draft(0), expected=0)
    assert (await store.load("proxy"))[1] == 1


async def test_an_append_reads_nothing(tmp_path: Path) -> None:
    path = await filled(tmp_path, 1)
    store = JournalFiles(tmp_path)
    await store.load("sso")
    before = path.read_bytes()
    # Changed in place, same size and inode: an append that looked would find damage.
    with path.open("r+b") as file:
        file.write(b"#")
    await store.append("sso", draft(1), expected=1)
    assert path.read_bytes()[1 : len(before)] == before[1:]


def _grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def _shrunk(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _replaced(path: Path) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.rename(path)


@pytest.mark.parametrize(
    "change", [_grown, _shrunk, _replaced, Path.unlink], ids=lambda f: f.__name__.strip("_")
)
async def test_a_file_that_changed_since_it_was_read_is_not_appended_to(
    tmp_path: Path, change: object
) -> None:
    path = await filled(tmp_path, 2)
    store = JournalFiles(tmp_path)
    await store.load("sso")
    assert callable(change)
    change(path)
    changed = path.read_bytes() if path.exists() else None
    with pytest.raises(JournalError, match="changed since it was read"):
        await store.append("sso", draft(2), expected=2)
    assert (path.read_bytes() if path.exists() else None) == changed


async def test_loading_again_sees_what_another_process_appended(tmp_path: Path) -> None:
    mine, other = JournalFiles(tmp_path), JournalFiles(tmp_path)
    assert (await mine.load("sso"))[1] == 0
    await other.append("sso", draft(0), expected=0)
    records, token = await mine.load("sso")
    assert (len(records), token) == (1, 1)
    await mine.append("sso", draft(1), expected=token)


async def test_a_journal_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "sso").mkdir()
    (tmp_path / "sso" / "journal").symlink_to(tmp_path / "elsewhere")
    store = JournalFiles(tmp_path)
    with pytest.raises(Permanent):
        await store.load("sso")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("service", ["", ".", "..", "a/b", "a\0b"])
async def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, service: str) -> None:
    with pytest.raises(JournalError, match="can't be the name"):
        await JournalFiles(tmp_path).load(service)


async def test_on_a_full_disk_nothing_is_appended_and_later_it_is(small_disk: Path) -> None:
    store = JournalFiles(small_disk)
    await store.append("sso", draft(0), expected=0)
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * (os.statvfs(small_disk).f_bavail * 4096))
    long = Draft("t", AT, {"note": "x" * 20_000})
    with pytest.raises(Transient, match="No space left"):
        await store.append("sso", long, expected=1)
    assert (await store.load("sso"))[1] == 1
    filler.unlink()
    assert (await store.append("sso", long, expected=1))[1] == 2
    assert (await JournalFiles(small_disk).load("sso"))[1] == 2


async def test_cancelled_in_the_middle_of_an_append_memory_and_disk_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The append is held open by the test at its most awkward point: written, not yet fsynced."""
    store = JournalFiles(tmp_path)
    await store.append("sso", draft(0), expected=0)
    written, go_on = threading.Event(), threading.Event()
    write_all = files.write_all

    def slow(fd: int, data: bytes) -> None:
        write_all(fd, data)
        written.set()
        assert go_on.wait(30)

    monkeypatch.setattr(files, "write_all", slow)
    async with anyio.create_task_group() as tasks:

        async def append() -> None:
            await store.append("sso", draft(1), expected=1)

        tasks.start_soon(append)
        assert await to_thread.run_sync(written.wait, 30)
        tasks.cancel_scope.cancel()
        go_on.set()
    monkeypatch.undo()
    on_disk = await JournalFiles(tmp_path).load("sso")
    assert await store.load("sso") == on_disk
    assert on_disk[1] == 2
    await store.append("sso", draft(2), expected=2)


async def test_many_at_once_get_one_place_each(tmp_path: Path) -> None:
    store = JournalFiles(tmp_path)
    won: list[int] = []

    async def append(n: int) -> None:
        try:
            await store.append("sso", draft(n), expected=0)
        except JournalError:
            return
        won.append(n)

    async with anyio.create_task_group() as tasks:
        for n in range(8):
            tasks.start_soon(append, n)
    assert len(won) == 1
    assert [r.data["n"] for r in (await JournalFiles(tmp_path).load("sso"))[0]] == won


FAILING = """
import anyio, pathlib, sys
from datetime import UTC, datetime
from warmd.adapters.journal_file import JournalFiles
from warmd.core.journal import Draft
from warmd.errors import JournalError

async def main():
    store = JournalFiles(pathlib.Path(sys.argv[1]))
    for attempt in range(3):
        try:
            await store.append("sso", Draft("t", datetime.now(UTC), {}), expected=0)
        except JournalError as error:
            print(error.message)
        else:
            print("appended")
    try:
        await store.load("sso")
    except JournalError as error:
        print(error.message)

anyio.run(main)
"""


def test_after_a_failed_fsync_nothing_is_believed_or_tried_again(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    services = tmp_path / "services"
    (services / "sso").mkdir(parents=True)
    journal = services / "sso" / "journal"
    inject = ["strace", "-f", "-y", "-qq", "-o", str(trace), "-e", "trace=fsync"]
    fault = ["-P", str(journal), "-e", f"inject=fsync:error={errno.errorcode[errno.EIO]}:when=1"]
    done = subprocess.run(
        [*inject, *fault, sys.executable, "-c", FAILING, str(services)],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert set(lines) == {f"{journal}: fsync failed: Input/output error; what is on the disk is not known"}
    assert trace.read_text().count("fsync(") == 1


def test_an_append_is_on_disk_before_it_returns(tmp_path: Path) -> None:
    """In the kernel's own words: once fsync of the folders' names, then write and fsync of the file, and
    only when the line is there to stay the tip that says so."""
    trace = tmp_path / "trace"
    services = tmp_path / "services"
    services.mkdir()
    program = FAILING.replace("expected=0", "expected=attempt")
    calls = ["strace", "-f", "-y", "-qq", "-o", str(trace), "-e", "trace=write,fsync"]
    subprocess.run([*calls, sys.executable, "-c", program, str(services)], check=True, capture_output=True)
    seen = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines() if f"<{services}" in line]
    short = [f"{call.partition('(')[0]} {call.partition('<')[2].partition('>')[0]}" for call in seen]
    journal = f"{services}/sso/journal"
    assert short == [
        f"fsync {services}",  # the service's folder was made
        f"fsync {services}/sso",
        f"fsync {services}",
        *[f"write {journal}", f"fsync {journal}", f"write {journal}.tip"] * 3,
    ]


async def damaged(services: Path) -> tuple[Path, bytes]:
    path = await filled(services, 3)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    return path, path.read_bytes()


async def test_what_is_set_aside_is_kept_and_the_new_journal_begins_with_what_was_given(
    tmp_path: Path,
) -> None:
    path, content = await damaged(tmp_path)
    tip = path.with_name("journal.tip").read_bytes()
    store = JournalFiles(tmp_path)
    await store.set_aside("sso", draft(7))
    assert {f.read_bytes() for f in (path.parent / "damaged").iterdir()} == {content, tip}
    assert path.stat().st_mode & 0o7777 == 0o600
    for opened in (store, JournalFiles(tmp_path)):
        assert [r.data["n"] for r in (await opened.load("sso"))[0]] == [7]
    await store.append("sso", draft(8), expected=1)
    assert {f.name for f in path.parent.iterdir()} == {"journal", "journal.tip", "damaged"}
    path.write_bytes(b"")
    with pytest.raises(JournalDamaged, match="cut short"):
        await JournalFiles(tmp_path).load("sso")


async def test_on_a_full_disk_nothing_is_set_aside_and_later_it_is(small_disk: Path) -> None:
    services = small_disk / "services"
    services.mkdir()
    path, content = await damaged(services)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    store = JournalFiles(services)
    for _ in range(3):
        with pytest.raises(Transient, match="No space left on device"):
            await store.set_aside("sso", draft(7))
        assert path.read_bytes() == content
        assert not list((path.parent / "damaged").iterdir()), "nothing piles up"
        with pytest.raises(JournalDamaged):
            await store.load("sso")
    filler.unlink()
    await store.set_aside("sso", draft(7))
    assert [r.data["n"] for r in (await store.load("sso"))[0]] == [7]


SETTING_ASIDE = """
import anyio, pathlib, sys
from datetime import UTC, datetime
from warmd.adapters.journal_file import JournalFiles
from warmd.core.journal import Draft

anyio.run(JournalFiles(pathlib.Path(sys.argv[1])).set_aside, "sso", Draft("t", datetime.now(UTC), {}))
"""


async def test_a_power_cut_while_it_is_set_aside_finds_the_old_journal_its_tip_or_the_new_one(
    tmp_path: Path,
) -> None:
    """In the kernel's own words: nothing is taken away before what takes its place is there to stay."""
    trace, services = tmp_path / "trace", tmp_path / "services"
    services.mkdir()
    path, _ = await damaged(services)
    calls = ["strace", "-f", "-y", "-z", "-qq", "-o", str(trace), "-e", "trace=/^(fsync|link|rename|unlink)"]
    await anyio.run_process([*calls, sys.executable, "-c", SETTING_ASIDE, str(services)])
    seen = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines() if f"{services}/" in line]
    dull = rf"\d+<|{path.parent}/?|[<>\",()]|\d{{9,}}|= .*"
    assert [" ".join(re.sub(dull, " ", call).split()) for call in seen] == [
        "fsync",  # the folder "damaged" was made
        "fsync journal.new",
        "link journal damaged/journal.",
        "link journal.tip damaged/journal.tip.",
        "fsync damaged",
        "rename journal.new journal",
        "fsync",
        "unlink journal.tip",
        "fsync",
    ]


def test_it_can_be_used_from_a_thread(tmp_path: Path) -> None:
    with from_thread.start_blocking_portal() as portal:
        store = JournalFiles(tmp_path)
        portal.call(lambda: store.append("sso", draft(0), expected=0))
        assert portal.call(store.load, "sso")[1] == 1
