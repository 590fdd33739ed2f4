"""Children for processes that have threads, and so must not fork: a small process is forked instead.

::

    with Nursery() as nursery:
        ended = nursery.start(job).wait(60)

Its children have the methods of ``child.Child``.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from tests.crash.child import Child, Ended, Job, adopt_orphans, ended, orphans, preload, start


class Nursery:
    """A process to be forked. ``start`` and ``orphans`` as the functions; its children are like ``Child``."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            argv = [sys.executable, "-m", "tests.crash.nursery", str(theirs.fileno())]
            root = Path(__file__).parents[2]
            self._process = subprocess.Popen(argv, pass_fds=[theirs.fileno()], cwd=root)
        self._talk = Connection(ours.detach())

    def start(self, job: Job) -> Nursling:
        return Nursling(self, int(self.ask("start", job)), job)

    def orphans(self) -> dict[int, str]:
        """As the function, of the nursery: what its killed children left."""
        found: dict[int, str] = self.ask("orphans")
        return found

    def ask(self, what: str, *args: Any) -> Any:
        self._talk.send((what, args))
        answer, error = self._talk.recv()
        if error is not None:
            raise RuntimeError(error)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._talk.close()
        self._process.wait(30)


class Nursling(Child):
    """A child of the nursery's."""

    def __init__(self, nursery: Nursery, pid: int, job: Job) -> None:
        super().__init__(pid, job)
        self._nursery = nursery

    def over(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not self._nursery.ask("over", self.pid):
            left = until - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, 0.01))
        return True

    def wait(self, deadline: float) -> Ended:
        late = not self.over(deadline)
        if self._ears >= 0:
            os.close(self._ears)
            self._ears = -1
        code = int(self._nursery.ask("reap", self.pid))
        return ended(self.job, code, time.monotonic() - self._began, late)


def _serve(talk: Connection) -> None:
    """Until the other end is closed."""
    preload()
    adopt_orphans()
    children: dict[int, Child] = {}

    def do(what: str, *args: Any) -> Any:
        if what == "start":
            child = start(args[0])
            children[child.pid] = child
            return child.pid
        if what == "orphans":
            return orphans(but=frozenset(children))
        child = children[args[0]]
        if what == "over":
            return child.over(0.0)
        return children.pop(child.pid).wait(0.0).code

    with contextlib.suppress(EOFError):
        while True:
            what, args = talk.recv()
            try:
                talk.send((do(what, *args), None))
            except Exception as error:
                talk.send((None, f"{type(error).__name__}: {error}"))
    for child in children.values():
        child.wait(0.0)


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
