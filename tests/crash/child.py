"""One warmd under injection: a forked process that runs what ``warmd VERB`` runs, and nothing else.

In a driver, a process of one thread that has called ``preload`` once::

    adopt_orphans()                       # tar and zstd of a killed warmd come to us
    killed = Injection(at=(At("sealing/effect seal before"),))
    child = start(Job(config, "reconcile", folder, injection=killed))
    ended = child.wait(60)                # Ended: code (-9 for a kill), answer, seconds, late
    leftovers = orphans()                 # what it had started and did not take with it

``Job.folder`` gets ``log`` (stdout and stderr), ``answer`` (JSON of the verb's answer) and, for ``tell``
and ``ask``, two FIFOs: ``child.heard(deadline)`` gives the name of the point, ``child.answer()`` lets it
go on.

Forking a process that has threads (pytest's workers have) is no good: see ``nursery``.

I/O faults: first a run with ``Injection(below=(...,), calls="/some/file")``, which lists every call that a
``Fault`` could hit, in order and as Python makes them (buffered writes when they reach the system); then
``Injection(below=(...,), fault=Fault("fsync", errno.EIO, nth=3))``. Both are ``points``'s; tar's and zstd's
own calls are not seen, but a pipe or file that warmd feeds is. A wall clock that is wrong or fast:
``Job.offset`` (seconds) and ``Job.scale`` (times), which move ``Clock`` and nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import importlib
import io
import json
import os
import random
import secrets
import select
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio

from tests.crash import broken, points
from tests.crash.points import Injection

_TALK = ("tell", "ask")


@dataclass(frozen=True, slots=True)
class Job:
    """What a child runs. ``verb`` is one of warmd's (``run`` is the daemon), ``args`` what its request
    carries (``version``, ``why``, ``snapshot``, ``patient``). Sources stay off the network unless
    ``offline`` is False. ``env`` is put over the environment. ``epoch``: since when (Unix time) the clock
    goes ``scale`` times as fast, the same for all that share a journal; 0: since the child's start.
    ``broken``: which of ``broken.BROKEN`` it is."""

    config: Path
    verb: str
    folder: Path
    service: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    injection: Injection = field(default_factory=Injection)
    offset: float = 0.0
    scale: float = 1.0
    epoch: float = 0.0
    offline: bool = True
    env: Mapping[str, str] = field(default_factory=dict)
    broken: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended. ``code``: its exit code, or minus the signal. ``late``: the deadline passed and
    it was killed. ``answer``: of the verb, None where it gave none."""

    code: int
    seconds: float
    answer: Any = None
    late: bool = False
    log: str = ""

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL and not self.late


class Moved:
    """A clock ``offset`` seconds ahead that goes ``scale`` times as fast; ``step`` moves its wall time."""

    def __init__(self, offset: float = 0.0, scale: float = 1.0, epoch: float = 0.0) -> None:
        self._offset, self._scale = offset, scale
        self._began, now = time.monotonic(), time.time()
        self._wall = epoch + (now - epoch) * scale if epoch else now

    def step(self, seconds: float) -> None:
        self._offset += seconds

    def now(self) -> datetime:
        gone = (time.monotonic() - self._began) * self._scale
        return datetime.fromtimestamp(self._wall, UTC) + timedelta(seconds=gone + self._offset)

    def monotonic(self) -> float:
        return self._began + (time.monotonic() - self._began) * self._scale

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(max(0.0, seconds) / self._scale)

    def jitter(self) -> float:
        return random.random()

    def new_id(self) -> str:
        return secrets.token_hex(6)


class Child:
    """A started one. Whoever starts it waits for it."""

    def __init__(self, pid: int, job: Job) -> None:
        self.pid, self.job = pid, job
        self._began = time.monotonic()
        self._said = io.BytesIO()
        self._ears = -1
        if any(a.act in _TALK for a in job.injection.at):
            self._ears = os.open(job.folder / "said", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def heard(self, deadline: float) -> str | None:
        """The name of the next point at which it tells; None where it ended, or is silent so many seconds."""
        until, line = time.monotonic() + deadline, b""
        poll = select.poll()
        poll.register(self._ears, select.POLLIN)
        while not line.endswith(b"\n"):
            if poll.poll(20):
                line += os.read(self._ears, 1)
            elif time.monotonic() > until or self.over(0.0):
                return None
        return line[:-1].decode()

    def answer(self) -> None:
        """Let it go on from an ``ask``."""
        fd = os.open(self.job.folder / "answered", os.O_WRONLY)
        os.write(fd, b".")
        os.close(fd)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def over(self, seconds: float) -> bool:
        """Whether it has ended, now or within so many seconds. It is not reaped by this."""
        until = time.monotonic() + seconds
        while True:
            left = max(0.0, until - time.monotonic())
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return True
            if left == 0.0:
                return False
            with contextlib.suppress(ProcessLookupError):
                fd = os.pidfd_open(self.pid)
                try:
                    select.select([fd], [], [], left)
                finally:
                    os.close(fd)

    def wait(self, deadline: float) -> Ended:
        """Reap it; killed, and ``late``, where it takes longer than ``deadline`` seconds."""
        late = not self.over(deadline)
        if late:
            os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        if self._ears >= 0:
            os.close(self._ears)
            self._ears = -1
        seconds = time.monotonic() - self._began
        return ended(self.job, os.waitstatus_to_exitcode(status), seconds, late)


def ended(job: Job, code: int, seconds: float, late: bool) -> Ended:
    """What is known of a child that is over."""
    try:
        answer = json.loads((job.folder / "answer").read_bytes())
    except (FileNotFoundError, ValueError):
        answer = None
    return Ended(code, seconds, answer, late, (job.folder / "log").read_text(errors="replace"))


def start(job: Job) -> Child:
    """Fork it. The calling process has no thread but this one."""
    job.folder.mkdir(parents=True, exist_ok=True)
    for name in ("answer", "said", "answered"):
        (job.folder / name).unlink(missing_ok=True)
    if any(a.act in _TALK for a in job.injection.at):
        os.mkfifo(job.folder / "said", 0o600)
        os.mkfifo(job.folder / "answered", 0o600)
    (job.folder / "log").write_bytes(b"")
    pid = os.fork()
    if pid:
        return Child(pid, job)
    code = 70
    try:
        code = _inside(job)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(code)


def _inside(job: Job) -> int:
    """In the child: what the command line does, from here to the exit code."""
    log = os.open(job.folder / "log", os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 - for good
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.set_wakeup_fd(-1)
    warnings.simplefilter("error")
    os.environ.update(job.env)

    import warmd.app
    from warmd.errors import WarmdError

    clock = Moved(job.offset, job.scale, job.epoch)
    tell = hear = -1
    if any(a.act in _TALK for a in job.injection.at):
        tell = os.open(job.folder / "said", os.O_RDWR | os.O_CLOEXEC)
        hear = os.open(job.folder / "answered", os.O_RDWR | os.O_CLOEXEC)
    if job.broken:
        broken.BROKEN[job.broken]()
    points.install(job.injection, tell=tell, hear=hear, step=clock.step)
    setattr(warmd.app, "build", functools.partial(warmd.app.build, clock=clock))  # noqa: B010 - mypy forbids the other way
    try:
        answer = _verb(job)
    except WarmdError as error:
        sys.stderr.write(f"warmd: {error.message}\n  {error.hint}\n")
        answer, code = {"error": type(error).__name__, "message": error.message}, error.exit_code
    except KeyboardInterrupt:
        return 130
    else:
        from warmd.cli import asking

        rows = answer.get("looks", [answer]) if isinstance(answer, dict) else []
        code = asking.code_of(rows)
    points.put(job.folder / "answer", json.dumps(answer).encode())
    return code


def _verb(job: Job) -> Any:
    if job.verb == "run":
        from warmd import log
        from warmd.cli import run
        from warmd.config import load

        settings = load(job.config)
        log.setup(settings.daemon.log_level)
        anyio.run(run._run, settings, job.offline)
        return None
    from warmd.cli import asking

    verb, args = job.verb, dict(job.args)
    if verb == "up":
        verb, args = "reconcile", {"patient": True, **args}
    return asking.ask(job.config, verb, job.service, offline=job.offline, log_level="info", **args)


# --- the driver ------------------------------------------------------------------------------------

_NEEDED = (
    *("warmd.app", "warmd.cli.asking", "warmd.cli.run", "warmd.engine.control", "warmd.adapters.render"),
    *("warmd.plugins.sources.git", "warmd.plugins.deployers.stack", "warmd.plugins.snapshotters.archive"),
    *("warmd.plugins.snapshotters.none", "warmd.plugins.probers.http", "warmd.plugins.alerters.spool"),
    *("aiodocker", "aiohttp", "httpx", "anyio._backends._asyncio", "asyncio", "tarfile", "traceback"),
)


def preload() -> None:
    """Import all that a warmd needs, so that a fork is a warmd that has just started."""
    for name in _NEEDED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def adopt_orphans() -> None:
    """What children of this process leave behind becomes a child of this process, and is seen."""
    if ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0):  # PR_SET_CHILD_SUBREAPER
        raise OSError(ctypes.get_errno(), "prctl")


def orphans(*, but: frozenset[int] = frozenset()) -> dict[int, str]:
    """Living children of this process by pid -> command, without ``but``; dead ones are reaped."""
    found = {}
    for pid in _children():
        if pid in but:
            continue
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0]:
                continue
        with contextlib.suppress(OSError):
            found[pid] = (
                Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
    return found


def _children() -> Iterator[int]:
    for task in Path("/proc/self/task").iterdir():
        yield from map(int, (task / "children").read_text().split())
