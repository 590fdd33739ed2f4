"""How a verb gets its answer: from the daemon, or, where none runs, by doing the work itself.

Both ways end at the same ``Desk``. Doing the work itself takes the lock of the state directory, so a
daemon can't start meanwhile, unless the verb only reads.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import anyio

from warmd import log
from warmd.errors import Locked

Answer = dict[str, Any]


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
    with waiting(f"warmd {verb} {service or ''}".strip()):
        return anyio.run(_ask, config, verb, service, offline, given)


async def _ask(config: Any, verb: str, service: str | None, offline: bool, args: Answer) -> Answer:
    from warmd.engine.control import ask as ask_daemon

    try:
        return await ask_daemon(config.daemon.control_socket, verb, service, args)
    except Locked:
        return await _alone(config, verb, service, offline, args)


async def _alone(config: Any, verb: str, service: str | None, offline: bool, args: Answer) -> Answer:
    from warmd.app import build
    from warmd.core.runs import Cause
    from warmd.engine.desk import READING, Request

    async with build(config, offline=offline) as app, anyio.create_task_group() as tasks:

        async def leave_off() -> None:
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
                async for number in received:
                    for reconciler in app.reconcilers.values():
                        if reconciler.runner.active:
                            reconciler.runner.interrupt(Cause.SIGNAL, signal.Signals(number).name)
                        else:
                            tasks.cancel_scope.cancel()

        lock: AbstractContextManager[None] = nullcontext() if verb in READING else app.state.lock()
        with lock:
            tasks.start_soon(leave_off)
            answer = await app.desk().answer(Request(verb, service, args, os.getuid()))
            tasks.cancel_scope.cancel()
            return answer
    raise KeyboardInterrupt


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A sign of life on a terminal, for what may take minutes."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield
