"""Running other programs: an argv list, an exact environment, a deadline, bounded output.

Every command gets a session of its own, so that ending it ends whatever it started too. Errors name
the program and never its arguments or output: those may carry secrets, and the caller knows better
what to say.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import IO

import anyio
import anyio.to_thread

from warmd.adapters import files
from warmd.core import durations
from warmd.core.text import one_line
from warmd.errors import Permanent, Transient

#: Bytes kept of each stream unless told otherwise.
LIMIT = 4 * 1024 * 1024

#: Seconds between asking a command to end (TERM) and ending it (KILL).
GRACE = 3.0

#: Seconds to go on reading when the command has ended but something it started holds its pipes.
_LINGER = 1.0


class ProgramMissing(Permanent):
    """The program could not be started at all: not on PATH, or not executable."""


class ProcessFailed(Permanent):
    """The command ended with another code than 0; ``completed`` has its code and output."""

    def __init__(self, message: str, completed: Completed, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.completed = completed


class Deadline(Transient):
    """The command did not end in time and was ended, with everything it had started."""


def printable(line: str) -> str:
    """At most 300 characters of ``line``, those that could steer a terminal replaced."""
    return one_line(line)[:300]


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that ended by itself. ``code`` is its exit code, or minus the signal that ended it.

    ``stdout`` keeps the first ``limit`` bytes and ``stderr`` the last, where the reason stands;
    ``truncated`` says that there was more of either.
    """

    name: str
    code: int
    stdout: bytes
    stderr: bytes
    truncated: bool = False

    @property
    def reason(self) -> str:
        """The last line of stderr that says something: at most 300 characters, all printable."""
        lines = [line.strip() for line in self.stderr.decode(errors="replace").splitlines() if line.strip()]
        return printable(lines[-1] if lines else f"exit code {self.code} and no word on stderr")

    def check(self) -> Completed:
        """Itself. Raises ProcessFailed where the code is not 0; the message does not quote the output."""
        if self.code != 0:
            raise ProcessFailed(f"{self.name} ended with code {self.code}", self)
        return self


class _Kept:
    """The first or last ``limit`` bytes of what is read from a pipe."""

    def __init__(self, limit: int, *, tail: bool, cut: bool = False) -> None:
        self.data = bytearray()
        self.limit, self.tail, self.cut = limit, tail, cut
        self.truncated = False

    async def drain(self, pipe: IO[bytes] | None) -> None:
        """Read to the end, whatever is kept: a full pipe would stop the command. With ``cut`` no further
        than the limit; then the pipe breaks, and the command with it."""
        if pipe is None:
            return
        os.set_blocking(pipe.fileno(), False)
        while True:
            await anyio.wait_readable(pipe)
            chunk = os.read(pipe.fileno(), 65536)
            if not chunk:
                return
            self.data += chunk
            if len(self.data) > self.limit:
                self.truncated = True
                del self.data[slice(0, -self.limit) if self.tail else slice(self.limit, None)]
                if self.cut:
                    pipe.close()
                    return


class _Session:
    """A started command and all it starts, in a session of its own.

    anyio's Process answers ``wait`` only once every pipe is closed, so a daemon that a command
    leaves behind would hold its caller for ever; hence the process's own descriptor. The leader is reaped
    last: until then its id, which is the group's, can't become anybody else's.
    """

    def __init__(
        self,
        argv: list[str],
        *,
        env: Mapping[str, str] | None,
        cwd: Path | None,
        stdin: IO[bytes] | int,
        stdout: IO[bytes] | int,
        pass_fds: Sequence[int],
    ) -> None:
        self.process = process = Popen(
            argv,
            env=env,
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=PIPE,
            bufsize=0,
            start_new_session=True,
            pass_fds=pass_fds,
        )
        try:
            self._exited = os.pidfd_open(process.pid)
        except OSError:  # no descriptor left
            with process:
                process.kill()
            raise

    async def exited(self) -> None:
        await anyio.wait_readable(self._exited)

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    async def end(self, grace: float) -> None:
        """TERM to all of it, KILL after ``grace`` seconds; not to be interrupted itself."""
        with anyio.CancelScope(shield=True):
            self.signal(signal.SIGTERM)
            with anyio.move_on_after(grace):
                await self.exited()
            self.signal(signal.SIGKILL)
            await self.exited()

    def close(self) -> int:
        """End what is left, reap, and give the exit code. The leader has exited."""
        self.signal(signal.SIGKILL)
        os.close(self._exited)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        return self.process.wait()


async def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None,
    cwd: Path | None = None,
    deadline: float,
    limit: int = LIMIT,
    cut: bool = False,
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes] | None = None,
    pass_fds: Sequence[int] = (),
    grace: float = GRACE,
    name: str = "",
) -> Completed:
    """Run ``argv`` to its end, whatever its exit code (``.check()`` raises for a bad one).

    ``env`` is the whole environment; None passes this process's own on. ``deadline`` is in seconds
    from now, ``math.inf`` for none. ``cut`` ends a command that writes more than ``limit`` bytes to stdout;
    else the rest is read and dropped. stdin is closed (/dev/null) unless a file is given; with a file
    for ``stdout`` nothing is kept of it here. ``pass_fds`` stay open in the command and all it starts.
    ``name`` is what messages call it, the program's name unless given. What the command left running
    in its session is ended when it ends.

    Raises ProgramMissing, Transient where the machine has no descriptor or memory left, or Deadline once
    everything was ended: TERM first, KILL ``grace`` seconds later. The same happens when the caller is
    cancelled.
    """
    name = name or argv[0].rpartition("/")[2]
    out, err = _Kept(limit, tail=False, cut=cut), _Kept(limit, tail=True)
    start = partial(
        _Session,
        list(argv),
        env=env,
        cwd=cwd,
        stdin=DEVNULL if stdin is None else stdin,
        stdout=PIPE if stdout is None else stdout,
        pass_fds=pass_fds,
    )
    try:
        session = await anyio.to_thread.run_sync(start)  # exec of a big program takes its time
    except OSError as error:
        # subprocess names the folder where the folder is what is missing
        if cwd is not None and error.filename == cwd:
            raise ProgramMissing(f"{name} can't be started in {cwd}: {error.strerror}") from error
        if files.passes(error):
            raise files.explain(error, f"{name} can't be started") from error
        hint = f"is {argv[0]} installed, executable, and on PATH?"
        raise ProgramMissing(f"{name} can't be started: {error.strerror or error}", hint=hint) from error
    try:
        with anyio.move_on_after(None if deadline == math.inf else deadline) as scope:
            async with anyio.create_task_group() as readers:
                readers.start_soon(out.drain, session.process.stdout)
                readers.start_soon(err.drain, session.process.stderr)
                await session.exited()
                readers.cancel_scope.deadline = anyio.current_time() + _LINGER
        if scope.cancelled_caught:
            within = durations.format(timedelta(seconds=deadline))
            raise Deadline(f"{name} did not end within {within} and was stopped")
    except BaseException:
        await session.end(grace)
        session.close()
        raise
    code = session.close()
    return Completed(name, code, bytes(out.data), bytes(err.data), out.truncated or err.truncated)
