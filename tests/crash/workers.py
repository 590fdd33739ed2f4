"""Several drivers at once, each in a process of its own that has one thread."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeAlias

from tests.crash import child
from tests.crash.runs import Driver
from tests.crash.world import Site

#: Makes a worker's site, given a folder of its own and its number; it is there as long as the worker is.
Open: TypeAlias = Callable[[Path, int], contextlib.AbstractContextManager[Site]]


class Workers:
    """``jobs`` drivers. ``run`` gives each task (a method of Driver and its arguments) to whoever is free."""

    def __init__(self, jobs: int, home: Path, site: Open) -> None:
        child.preload()  # once for all of them
        self._links: list[Connection] = []
        self._pids: list[int] = []
        for number in range(jobs):
            ours, theirs = socket.socketpair()
            sys.stdout.flush()
            sys.stderr.flush()
            pid = os.fork()
            if pid == 0:
                ours.close()
                for link in self._links:
                    link.close()
                _work(Connection(theirs.detach()), home, number, site)
            theirs.close()
            self._pids.append(pid)
            self._links.append(Connection(ours.detach()))

    def run(self, tasks: Iterator[tuple[str, Sequence[Any]]]) -> Iterator[tuple[Sequence[Any], Any]]:
        """Answers as they come, each with its arguments; a task is asked for when somebody is free."""
        busy: dict[Connection, Sequence[Any]] = {}

        def give(link: Connection) -> None:
            for task in tasks:
                busy[link] = task[1]
                link.send(task)
                return

        for link in self._links:
            give(link)
        while busy:
            for link in select.select(list(busy), [], [])[0]:
                args = busy.pop(link)
                try:
                    answer, error = link.recv()
                except EOFError:
                    raise RuntimeError(f"a worker died of {args}") from None
                if error:
                    raise RuntimeError(f"{args}:\n{error}")
                yield args, answer
                give(link)

    def close(self) -> None:
        for link in self._links:
            link.close()
        for pid in self._pids:
            os.waitpid(pid, 0)


def _work(link: Connection, home: Path, number: int, site: Open) -> None:
    """In the worker, until the link is closed. Does not return."""
    for meant in (signal.SIGINT, signal.SIGTERM):  # for the parent, whose end is ours
        signal.signal(meant, signal.SIG_IGN)
    folder = Path(tempfile.mkdtemp(prefix=f"w{number}-", dir=home))
    code = 1
    try:
        with site(folder, number) as place:
            driver = Driver(place, folder)
            with contextlib.suppress(EOFError, BrokenPipeError):
                while True:
                    method, args = link.recv()
                    try:
                        answer: tuple[Any, Any] = getattr(driver, method)(*args), None
                    except Exception:
                        answer = None, traceback.format_exc()
                    link.send(answer)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(code)
