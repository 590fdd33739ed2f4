"""The points at which a warmd can be killed, told something, or lied to by its disk. All of them, named here.

They are found by running, not listed by hand: ``install`` wraps the few functions through which
everything goes (in a process that was forked for it; production code knows nothing of this), and each
call of one gives a point before it and one after it, named

    ``<state of the run>/<kind> <what> <before|after>``        such as
    ``deploying/docker POST services/create after``

kind        what
journal     an append: the record's type, and the state it enters (``run.state:deploying``). Beside
            before and after there is ``torn``: half of the line is written
effect      an effect of the state machine
docker      a call of the Engine API, ids replaced. after: it was answered, so it is applied as well
rename      a rename or link, by the name it leads to, ids replaced
spawn       a program that is started
blob        a blob that is put
alert       an alert that is delivered

The state is ``idle`` while no run is being made. Points in a worker's thread count like all others.

What happens at a point is an ``At``, which I/O call fails a ``Fault``; ``Injection`` holds all of it.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

Act: TypeAlias = Literal["kill", "term", "tell", "ask", "clock"]
Call: TypeAlias = Literal["write", "fsync", "rename", "open", "link"]

CALLS: tuple[Call, ...] = ("write", "fsync", "rename", "open", "link")
ANY = "*"


@dataclass(frozen=True, slots=True)
class At:
    """What happens at the ``nth`` time that ``point`` is reached; ``*``: at the nth point, whichever it is.

    ``kill``: SIGKILL of itself. ``term``: SIGTERM of itself. ``tell``: a line with the point's name
    goes to the parent, and on it goes. ``ask``: the same, and it waits until the parent has answered (a
    line). ``clock``: the wall clock steps by ``seconds``, and on it goes.
    """

    point: str
    act: Act = "kill"
    nth: int = 1
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Fault:
    """The ``nth`` call of one sort, on a path below ``Injection.below``, fails with ``errno``; with
    ``for_ever`` so do all after it. Calls of any sort count where ``call`` is ``any``."""

    call: Call | Literal["any"]
    errno: int
    nth: int
    for_ever: bool = False


@dataclass(frozen=True, slots=True)
class Injection:
    """All that is done to one warmd.

    ``trace``: a file to which each point reached is appended, a line each. ``calls``: the same for I/O
    calls below ``below`` (all, if empty), as ``write /path``; counted in this order by ``fault``.
    ``stack`` is replaced in names, so that they are the same for every stack.
    """

    at: tuple[At, ...] = ()
    fault: Fault | None = None
    below: tuple[str, ...] = ()
    trace: str = ""
    calls: str = ""
    stack: str = ""


_write, _rename, _replace, _link = os.write, os.rename, os.replace, os.link
_open, _fsync, _io_open = os.open, os.fsync, io.open


@dataclass
class _Active:
    """What this process is subjected to. ``step`` moves its clock."""

    injection: Injection
    tell: int = -1
    hear: int = -1
    step: Callable[[float], None] = lambda seconds: None
    state: str = "idle"
    reached: Counter[str] = field(default_factory=Counter)
    total: int = 0
    io: Counter[str] = field(default_factory=Counter)
    lock: threading.RLock = field(default_factory=threading.RLock)
    trace: int = -1
    calls: int = -1

    def reach(self, what: str, when: str) -> None:
        """A point. Does not return from a kill."""
        with self.lock:
            name = f"{self.state}/{what} {when}"
            self.reached[name] += 1
            self.total += 1
            if self.trace >= 0:
                _write(self.trace, f"{name}\n".encode())
            due = [a for a in self.injection.at if self._due(a, name)]
        for at in due:
            self._do(at, name)

    def _due(self, at: At, name: str) -> bool:
        return (at.point == name and at.nth == self.reached[name]) or (
            at.point == ANY and at.nth == self.total
        )

    def _do(self, at: At, name: str) -> None:
        if at.act == "kill":
            die()
        elif at.act == "term":
            os.kill(os.getpid(), signal.SIGTERM)
        elif at.act == "clock":
            self.step(at.seconds)
        else:
            _write(self.tell, f"{name}\n".encode())
            if at.act == "ask":
                os.read(self.hear, 1)

    def touch(self, call: Call, path: str) -> None:
        """An I/O call. Raises the fault's OSError where it is its turn."""
        below = self.injection.below
        if below and not any(path == b or path.startswith(f"{b}/") for b in below):
            return
        with self.lock:
            fault = self.injection.fault
            if self.calls >= 0:
                _write(self.calls, f"{call} {path}\n".encode())
            if fault is None or fault.call not in (call, "any"):
                return
            self.io[fault.call] += 1
            count = self.io[fault.call]
            if count == fault.nth or (fault.for_ever and count > fault.nth):
                raise OSError(fault.errno, os.strerror(fault.errno), path)


def die() -> None:
    """End as if the power had gone, as far as this process can tell."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def install(
    injection: Injection, *, tell: int = -1, hear: int = -1, step: Callable[[float], None] | None = None
) -> None:
    """Subject this process to ``injection``, for good. ``tell`` and ``hear`` are descriptors to talk to
    the parent over; ``step`` moves the clock that warmd was given."""
    active = _Active(injection, tell, hear)
    if step is not None:
        active.step = step
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    if injection.trace:
        active.trace = _open(injection.trace, flags, 0o600)
    if injection.calls:
        active.calls = _open(injection.calls, flags, 0o600)
    _watch_journal(active)
    _watch_effects(active)
    _watch_docker(active)
    _watch_stores(active)
    _watch_files(active)
    _watch_programs(active)
    if injection.fault is not None or injection.calls:
        _watch_io(active)


# --- the functions through which everything goes ---------------------------------------------------


def _watch_journal(active: _Active) -> None:
    from warmd.adapters import files, journal_file
    from warmd.engine.ledger import Ledger

    append, load, write = journal_file.JournalFiles.append, Ledger.load, Ledger.write
    write_all = files.write_all
    record = threading.local()

    def note_state(ledger: Any) -> None:
        if not ledger.service.startswith("warmd."):
            run = ledger.history.run
            active.state = run.state.value if run else "idle"

    async def appended(self: Any, service: str, draft: Any, *, expected: int) -> Any:
        detail = draft.data.get("state") or (draft.data.get("body") or {}).get("kind") or ""
        what = f"journal {draft.type}" + (f":{detail}" if detail else "")
        active.reach(what, "before")
        record.what = what
        done = await append(self, service, draft, expected=expected)
        active.reach(what, "after")
        return done

    async def loaded(self: Any) -> Any:
        history = await load(self)
        note_state(self)
        return history

    async def written(self: Any, draft: Any) -> Any:
        history = await write(self, draft)
        note_state(self)
        return history

    def torn(fd: int, data: bytes) -> None:
        # A journal's line is the only thing that is written to a file in one piece without being
        # published by a rename: half of it may be there.
        if not data.startswith(b'{"at":'):
            return write_all(fd, data)
        kind = re.search(rb'"type":"([a-z.-]+)"', data)
        what = f"journal {kind[1].decode() if kind else '?'}"
        write_all(fd, data[: len(data) // 2])
        active.reach(what, "torn")
        return write_all(fd, data[len(data) // 2 :])

    _set(journal_file.JournalFiles, "append", appended)
    _set(Ledger, "load", loaded)
    _set(Ledger, "write", written)
    _set(files, "write_all", torn)


def _watch_effects(active: _Active) -> None:
    from warmd.engine.perform import Effects

    perform = Effects.perform

    async def performed(self: Any, effect: Any, run: Any) -> Any:
        active.reach(f"effect {effect.value}", "before")
        done = await perform(self, effect, run)
        active.reach(f"effect {effect.value}", "after")
        return done

    _set(Effects, "perform", performed)


def _watch_docker(active: _Active) -> None:
    from warmd.adapters.docker.client import Engine

    ask, stream = Engine.ask, Engine.stream

    async def asked(self: Any, method: str, path: str, **more: Any) -> Any:
        what = f"docker {method} {_call(path)}"
        active.reach(what, "before")
        answer = await ask(self, method, path, **more)
        active.reach(what, "after")
        return answer

    @contextlib.asynccontextmanager
    async def streamed(self: Any, method: str, path: str, **more: Any) -> AsyncIterator[Any]:
        what = f"docker {method} {_call(path)}"
        active.reach(what, "before")
        async with stream(self, method, path, **more) as lines:
            active.reach(what, "after")
            yield lines

    _set(Engine, "ask", asked)
    _set(Engine, "stream", streamed)


def _watch_stores(active: _Active) -> None:
    from warmd.adapters.blobs import BlobFiles
    from warmd.plugins.alerters.spool import Spool

    put, deliver = BlobFiles.put, Spool.deliver

    async def kept(self: Any, data: bytes) -> str:
        active.reach("blob put", "before")
        name = await put(self, data)
        active.reach("blob put", "after")
        return name

    async def delivered(self: Any, name: str, body: Any) -> None:
        what = f"alert {body['kind']} {body['state']}"
        active.reach(what, "before")
        await deliver(self, name, body)
        active.reach(what, "after")

    _set(BlobFiles, "put", kept)
    _set(Spool, "deliver", delivered)


def _watch_files(active: _Active) -> None:
    def watched(real: Callable[..., None]) -> Callable[..., None]:
        call: Call = "link" if real is _link else "rename"

        def moved(src: Any, dst: Any, **more: Any) -> None:
            what = f"{call} {_plain(Path(os.fsdecode(dst)).name, active.injection.stack)}"
            active.reach(what, "before")
            active.touch(call, os.path.abspath(os.fsdecode(dst)))  # noqa: PTH100 - pathlib is what is watched
            real(src, dst, **more)
            active.reach(what, "after")

        return moved

    for name, real in (("rename", _rename), ("replace", _replace), ("link", _link)):
        _set(os, name, watched(real))


def _watch_programs(active: _Active) -> None:
    start = subprocess.Popen.__init__

    def started(self: Any, args: Any, *rest: Any, **more: Any) -> None:
        what = f"spawn {Path(args[0]).name}"
        active.reach(what, "before")
        start(self, args, *rest, **more)
        active.reach(what, "after")

    _set(subprocess.Popen, "__init__", started)


def _watch_io(active: _Active) -> None:
    """Everything that Python code writes, opens and syncs. Programs it starts (tar, zstd) are strace's."""

    def of(fd: int) -> str:
        return str(Path(f"/proc/self/fd/{fd}").readlink()).removesuffix(" (deleted)")

    class Raw(io.FileIO):
        """A file whose every write, also one out of a buffer, is counted."""

        def write(self, data: Any, /) -> int:
            active.touch("write", of(self.fileno()))
            return int(super().write(data) or 0)

    def write(fd: int, data: Any, /) -> int:
        active.touch("write", of(fd))
        return _write(fd, data)

    def fsync(fd: Any) -> None:
        active.touch("fsync", of(fd if isinstance(fd, int) else fd.fileno()))
        _fsync(fd)

    def open_(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        active.touch("open", os.path.abspath(os.fsdecode(path)))  # noqa: PTH100 - as above
        return _open(path, flags, *rest, **more)

    def file(path: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if not isinstance(path, int):
            active.touch("open", os.path.abspath(os.fsdecode(path)))  # noqa: PTH100 - as above
        if not set(mode) & set("wxa+") or "b" not in mode or "+" in mode:
            return _io_open(path, mode, *rest, **more)
        raw = Raw(path, mode.replace("b", ""), more.get("closefd", True))
        return raw if (rest and rest[0] == 0) or more.get("buffering") == 0 else io.BufferedWriter(raw)

    def fdopen(fd: int, mode: str = "r", *rest: Any, **more: Any) -> Any:
        return file(fd, mode, *rest, **more)

    for module, name, made in (
        (os, "write", write),
        (os, "fsync", fsync),
        (os, "open", open_),
        (os, "fdopen", fdopen),
        (io, "open", file),
        (builtins, "open", file),
    ):
        _set(module, name, made)


_set = setattr  # what mypy would not have assigned

# --- names -----------------------------------------------------------------------------------------

_TAILS = frozenset(("update", "json", "stop", "kill", "start", "logs"))
_HEX = re.compile(r"[0-9a-f]{64}|[0-9a-f]{32}|[0-9a-f]{16}|[0-9a-f]{12}|[0-9a-f]{8}|\d{6,}(T\d+Z?)?")


def _call(path: str) -> str:
    """An Engine API path without ids and names: ``services/*/update``."""
    first, *rest = path.strip("/").split("/")
    if not rest or rest == ["create"] or rest == ["json"]:
        return "/".join((first, *rest))
    tail = f"/{rest[-1]}" if len(rest) > 1 and rest[-1] in _TAILS else ""
    return f"{first}/*{tail}"


def _plain(name: str, stack: str) -> str:
    """A file's name without what differs from run to run."""
    return _HEX.sub("*", name.replace(stack, "STACK") if stack else name)


def put(path: Path, data: bytes) -> None:
    """Write a file past all injection: what the harness itself keeps."""
    fd = _open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    _write(fd, data)
    os.close(fd)
