"""Durable writes: whole or absent, with the rights that were asked for."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from warmd.adapters import files
from warmd.errors import Permanent, Transient


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_what_is_published_is_there_with_its_rights(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        files.publish(tmp_path / "a", b"text", mode=0o640, group=12345)
    finally:
        os.umask(old)
    seen = (tmp_path / "a").stat()
    assert (seen.st_mode & 0o7777, seen.st_gid) == (0o640, 12345)
    assert (tmp_path / "a").read_bytes() == b"text"
    assert names(tmp_path) == ["a"]


def test_a_reader_sees_the_old_or_the_new_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    contents = [bytes([n]) * 300_000 for n in (1, 2)]
    files.publish(path, contents[0])
    seen: set[bytes] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(30):
        files.publish(path, contents[turn % 2])
    stop.set()
    reader.join()
    assert seen <= set(contents)


def test_nothing_is_replaced_where_that_was_not_wanted(tmp_path: Path) -> None:
    files.publish(tmp_path / "a", b"first", replace=False)
    with pytest.raises(FileExistsError):
        files.publish(tmp_path / "a", b"second", replace=False)
    assert (tmp_path / "a").read_bytes() == b"first"
    assert names(tmp_path) == ["a"]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"keep")
    (tmp_path / "a").symlink_to(tmp_path / "secret")
    files.publish(tmp_path / "a", b"new")
    assert (tmp_path / "secret").read_bytes() == b"keep"
    assert not (tmp_path / "a").is_symlink()


def test_on_a_full_disk_the_old_content_stays_and_nothing_is_left_over(small_disk: Path) -> None:
    path = small_disk / "a"
    files.publish(path, b"old")
    with pytest.raises(OSError, match="No space left") as caught:
        files.publish(path, b"x" * 2_000_000)
    assert path.read_bytes() == b"old"
    assert names(small_disk) == ["a"]
    error = files.explain(caught.value, f"can't write {path}")
    assert isinstance(error, Transient)
    assert "No space left" in error.message
    assert "df -h" in error.hint


def test_a_failed_fsync_is_not_tried_again_and_leaves_nothing(tmp_path: Path) -> None:
    """A real failing fsync, injected by the kernel's tracer, in a process of its own."""
    (tmp_path / "folder").mkdir()
    program = f"""
import pathlib
from warmd.adapters import files
try:
    files.publish(pathlib.Path({str(tmp_path / "folder" / "a")!r}), b"text")
except OSError as error:
    print(error.errno)
"""
    trace = tmp_path / "trace"
    inject = [
        "strace",
        "-f",
        "-qq",
        "-o",
        str(trace),
        "-e",
        "trace=fsync",
        "-e",
        "inject=fsync:error=EIO:when=1",
    ]
    done = subprocess.run(
        [*inject, sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(errno.EIO)
    assert trace.read_text().count("fsync(") == 1
    assert names(tmp_path / "folder") == []


def test_a_publication_is_fsync_rename_fsync_of_the_folder(tmp_path: Path) -> None:
    """The order is the whole point, and only the kernel sees it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path = str(folder / "a")
    program = f"import pathlib; from warmd.adapters import files; files.publish(pathlib.Path({path!r}), b't')"
    trace = tmp_path / "trace"
    calls = "trace=fsync,rename,renameat,renameat2"
    subprocess.run(
        ["strace", "-f", "-y", "-qq", "-o", str(trace), "-e", calls, sys.executable, "-c", program],
        check=True,
    )
    lines = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines() if str(folder) in line]
    assert [line.partition("(")[0].removesuffix("at2").removesuffix("at") for line in lines] == [
        "fsync",
        "rename",
        "fsync",
    ]
    assert ".tmp>" in lines[0]
    assert f"<{folder}>" in lines[2]


def test_a_folder_is_made_once(tmp_path: Path) -> None:
    assert files.make_folder(tmp_path / "f", mode=0o750)
    assert not files.make_folder(tmp_path / "f", mode=0o700)
    assert (tmp_path / "f").stat().st_mode & 0o7777 == 0o750
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        files.make_folder(tmp_path / "file")


def test_only_old_leavings_of_our_own_are_swept(tmp_path: Path) -> None:
    old = time.time() - 100
    for name in (".a.json.01234567.tmp", ".b.json.01234567.tmp", "c.tmp", ".keep"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (old, old))
    os.utime(tmp_path / ".b.json.01234567.tmp")
    (tmp_path / ".folder.tmp").mkdir()
    assert files.sweep_temps(tmp_path, older_than=50) == 1
    assert names(tmp_path) == [".b.json.01234567.tmp", ".folder.tmp", ".keep", "c.tmp"]


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, Transient),
        (errno.EDQUOT, Transient),
        (errno.EMFILE, Transient),
        (errno.EIO, Permanent),
        (errno.EACCES, Permanent),
        (errno.EROFS, Permanent),
    ],
    ids=lambda v: errno.errorcode[v] if isinstance(v, int) else v.__name__,
)
def test_errors_of_the_system_become_ours(number: int, kind: type[Exception]) -> None:
    error = files.explain(OSError(number, os.strerror(number)), "can't write X")
    assert type(error) is kind
    assert error.message == f"can't write X: {os.strerror(number)}"
