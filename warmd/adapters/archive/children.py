"""tar, zstd and the other programs: started, fed, read and waited for so that all of it can stop at once."""

from __future__ import annotations

import io
import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import IO, TypeAlias

from warmd.errors import SnapshotError

Check: TypeAlias = Callable[[], None]

#: How much is read, hashed and written at a time, in bytes.
CHUNK = 1 << 20
_POLL = 0.2  # seconds between two looks at whether to stop, while nothing flows
_TAIL = 2000  # bytes of a program's complaints that go into the message

#: The extended attribute of a restored folder that says which restore made it: no part of the data.
MARK = "trusted.warmd.restore"
#: What makes GNU tar keep everything it can; the README of a snapshot names the same ones.
TAR_KEEP = ("--numeric-owner", "--xattrs", "--xattrs-include=*", f"--xattrs-exclude={MARK}", "--acls")


#: No line of a listing is longer: one that is, is no listing but something to fill the memory with.
_LONGEST_LINE = 4 << 20

_inherited: ContextVar[tuple[int, ...]] = ContextVar("inherited", default=())


@contextmanager
def inheriting(lock: int) -> Iterator[None]:
    """Programs started meanwhile inherit the descriptor ``lock``.

    So the lock is held until the last of them is gone, even if this process is killed: nobody else
    begins while a program of a dead attempt still writes.
    """
    token = _inherited.set((*_inherited.get(), lock))
    try:
        yield
    finally:
        _inherited.reset(token)


class Stopped(SnapshotError):
    """The caller's ``should_stop`` said so. Nothing half-done is left that the next call would not clear."""


def checker(should_stop: Callable[[], bool]) -> Check:
    """``should_stop`` as a function that raises Stopped."""

    def check() -> None:
        if should_stop():
            raise Stopped("stopped, as asked")

    return check


def _environment() -> dict[str, str]:
    # LC_ALL=C: names are bytes and stay bytes. Nothing else, because TAR_OPTIONS and ZSTD_CLEVEL
    # of whoever started warmd would change what is written.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


class Children:
    """The programs of one job. On the way out of the ``with`` none of them is left alive."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._running: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process, _ in self._running:
            process.kill()
        for process, complaints in self._running:
            process.wait()
            complaints.close()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def start(
        self,
        *argv: str,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Start one program, in a process group of its own so that a terminal's ^C doesn't reach it first."""
        complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        try:
            process = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=stdout,
                stderr=complaints,
                env=_environment(),
                bufsize=0,
                process_group=0,
                pass_fds=_inherited.get(),
            )
        except FileNotFoundError as error:
            complaints.close()
            raise SnapshotError(
                f"the program {argv[0]} is not installed", hint=f"apt-get install {argv[0]}"
            ) from error
        self._running.append((process, complaints))
        return process

    def read(self, pipe: IO[bytes], size: int = CHUNK) -> bytes:
        """Up to ``size`` bytes, empty at the end."""
        ready = select.poll()
        ready.register(pipe, select.POLLIN)
        self._check()
        while not ready.poll(_POLL * 1000):
            self._check()
        return pipe.read(size) or b""

    def feed(self, pipe: IO[bytes], data: bytes) -> bool:
        """Write all of it; False where the program at the other end is gone (``finish`` says why)."""
        os.set_blocking(pipe.fileno(), False)
        ready = select.poll()
        ready.register(pipe, select.POLLOUT)
        rest = memoryview(data)
        while rest:
            self._check()
            if not ready.poll(_POLL * 1000):
                continue
            try:
                rest = rest[os.write(pipe.fileno(), rest) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return False
        return True

    def finish(self, doing: str) -> None:
        """Wait for all. Raises SnapshotError where one ended with anything but 0, with what it said."""
        for process, _ in self._running:
            while True:
                self._check()
                try:
                    process.wait(_POLL)
                    break
                except subprocess.TimeoutExpired:
                    continue
        failed = [(p, c) for p, c in self._running if p.returncode != 0]
        if not failed:
            return
        # The one that fell first breaks the pipes of the others: it has the reason.
        failed.sort(key=lambda entry: entry[0].returncode == -signal.SIGPIPE)
        raise SnapshotError(f"{doing}: {_complaint(*failed[0])}")


def _complaint(process: subprocess.Popen[bytes], complaints: IO[bytes]) -> str:
    assert isinstance(process.args, tuple)
    name = str(process.args[0])
    code = process.returncode
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
    complaints.seek(0)
    said = complaints.read(_TAIL).decode("utf-8", "backslashreplace").strip()
    if name == "tar" and code == 1:
        how += ", which means that something was still writing"
    return f"{name} {how}: {said}" if said else f"{name} {how}"


def run(*argv: str, doing: str, check: Check) -> None:
    """Run one program to its end. Raises SnapshotError where it fails."""
    with Children(check) as children:
        children.start(*argv)
        children.finish(doing)


class Stream(io.RawIOBase):
    """What zstd makes of a compressed file, as tarfile and line readers want it."""

    def __init__(self, children: Children, pipe: IO[bytes]) -> None:
        super().__init__()
        self._children = children
        self._pipe = pipe

    def read(self, size: int = CHUNK, /) -> bytes:
        return self._children.read(self._pipe, size)

    def lines(self) -> Iterator[bytes]:
        """Lines without their newline. Raises SnapshotError at one that can't be meant."""
        rest = b""
        while block := self.read():
            *whole, rest = (rest + block).split(b"\n")
            yield from whole
            if len(rest) > _LONGEST_LINE:
                raise SnapshotError(f"a line is longer than {_LONGEST_LINE} bytes")
        if rest:
            yield rest


@contextmanager
def decompressed(path: Path, check: Check) -> Iterator[Stream]:
    """The content of a ``.zst`` file. Left without an exception, the whole file was sound."""
    with path.open("rb") as file, Children(check) as children:
        zstd = children.start("zstd", "-q", "-dc", stdin=file, stdout=subprocess.PIPE)
        assert zstd.stdout is not None
        stream = Stream(children, zstd.stdout)
        yield stream
        while stream.read():  # the rest, so that a fault behind the last thing wanted is seen as well
            pass
        children.finish(f"reading {path}")


def tool_versions() -> dict[str, str]:
    """What ``tar`` and ``zstd`` call themselves. Raises SnapshotError where one is missing or not GNU's."""
    found = {}
    for name, mark in (("tar", "GNU tar"), ("zstd", "Zstandard")):
        try:
            done = subprocess.run(
                [name, "--version"], env=_environment(), capture_output=True, check=False, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SnapshotError(f"{name} can't be run: {error}", hint=f"apt-get install {name}") from error
        first = done.stdout.decode(errors="replace").partition("\n")[0].strip(" *")
        if mark.lower() not in first.lower():
            raise SnapshotError(f"{name} on PATH is not {mark}: {first!r}", hint=f"apt-get install {name}")
        found[name] = first
    return found
