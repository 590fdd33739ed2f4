"""How a verb gets its answer: from the daemon, or, where none runs, by doing the work itself.

Both ways end at the same ``Desk``. Doing the work itself takes the lock of the state directory, so a
daemon can't start meanwhile, unless the verb only reads.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import anyio

from warmd import log
from warmd.errors import WarmdError

Answer = dict[str, Any]
Say = Callable[[str], None]
Glance = Callable[[], Awaitable[Answer]]

#: Seconds between two looks at how far a run is, for the line on a terminal.
GLANCE = 1.0


class Unasked(WarmdError):
    """A verb that destroys something was called where nobody can be asked, and without --yes."""

    exit_code = 2


class Declined(WarmdError):
    """A person was asked, and did not say yes."""


def ask(
    path: Path,
    verb: str,
    service: str | None = None,
    *,
    offline: bool = False,
    log_level: str = "warning",
    **args: Any,
) -> Answer:
    """The answer to one verb. ``path`` is the configuration's. Raises WarmdError."""
    from warmd.config import load

    config = load(path)
    log.setup(log_level)
    given = {key: value for key, value in args.items() if value is not None}
    # A line that moves and lines of a log would overwrite each other.
    quiet = log_level in ("debug", "info")
    with waiting(f"warmd {verb} {service or ''}".strip(), quiet=quiet) as say:
        try:
            return anyio.run(_ask, config, verb, service, offline, given, say)
        except BaseExceptionGroup as group:
            raise _only(group) from None


async def _ask(
    config: Any, verb: str, service: str | None, offline: bool, args: Answer, say: Say | None
) -> Answer:
    from warmd.engine.control import NoDaemon
    from warmd.engine.control import ask as ask_daemon

    socket = config.daemon.control_socket

    async def glance() -> Answer:
        return await ask_daemon(socket, "history", service, {})

    try:
        async with telling(glance if service else None, say):
            return await ask_daemon(socket, verb, service, args)
    except* NoDaemon:
        pass
    return await _alone(config, verb, service, offline, args, say)


async def _alone(
    config: Any, verb: str, service: str | None, offline: bool, args: Answer, say: Say | None
) -> Answer:
    from warmd.app import build
    from warmd.engine.desk import READING, Request

    async with build(config, offline=offline) as app:
        desk = app.desk()

        async def glance() -> Answer:
            return await desk.answer(Request("history", service, {}, os.getuid()))

        lock: AbstractContextManager[None] = nullcontext() if verb in READING else app.state.lock()
        with lock:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_leave_off, tasks.cancel_scope, app.reconcilers)
                async with telling(glance if service else None, say):
                    answer = await desk.answer(Request(verb, service, args, os.getuid()))
                tasks.cancel_scope.cancel()
                return answer
    raise KeyboardInterrupt


async def _leave_off(scope: anyio.CancelScope, reconcilers: Mapping[str, Any]) -> None:
    """At a signal: runs leave off as their state allows, then everything else is cut short."""
    from warmd.core.runs import Cause

    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async for number in received:
            for reconciler in reconcilers.values():
                reconciler.runner.interrupt(Cause.SIGNAL, f"warmd got {signal.Signals(number).name}")
            while any(r.runner.active for r in reconcilers.values()):  # noqa: ASYNC110 - rare and short
                await anyio.sleep(0.05)
            scope.cancel()


def _only(group: BaseException) -> BaseException:
    """The first error in groups of groups: task groups wrap even one."""
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


def code_of(rows: Sequence[Answer], *, strict: bool = False) -> int:
    """The exit code for answers about several services: the gravest. ``strict``: 3 for one that is held."""
    return max((_code(row, strict) for row in rows), default=0)


def _code(row: Answer, strict: bool) -> int:
    code = int(row.get("code", 0))
    return 3 if code == 0 and strict and row.get("decision") != "noop-healthy" else code


def confirm(question: str, *, yes: bool) -> None:
    """Ask on the terminal. Raises Unasked where there is none, Declined where the answer is not yes."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Unasked("this has to be confirmed, and there is no terminal to ask on", hint="add --yes")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Declined("nothing was done")


# --- a sign of life ------------------------------------------------------------------------------


@contextmanager
def waiting(what: str, *, quiet: bool = False) -> Iterator[Say | None]:
    """A sign of life on a terminal, for what may take minutes: a function that says more."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.text import Text

    from warmd.core.text import one_line

    with Console(stderr=True).status(Text(one_line(what))) as shown:
        yield lambda more: shown.update(Text(one_line(f"{what}: {more}")))


@asynccontextmanager
async def telling(glance: Glance | None, say: Say | None) -> AsyncIterator[None]:
    """While the body runs, say how far the service's run is. ``glance`` answers ``history``."""
    if glance is None or say is None:
        yield
        return
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_tell, glance, say)
        yield
        tasks.cancel_scope.cancel()


async def _tell(glance: Glance, say: Say) -> None:
    while True:
        await anyio.sleep(GLANCE)
        with suppress(WarmdError):
            runs = (await glance())["runs"]
            if runs and runs[-1]["ended"] is None:
                run = runs[-1]
                say(f"run {run['id']} ({run['kind']} {run['to_version'] or ''}) is {run['state']}")
