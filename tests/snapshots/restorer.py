"""Restores and copies in processes that end where a test says: it kills them, or they kill themselves.

``python -m tests.snapshots.restorer`` forks one process for each line that it reads, so that a restore
doesn't begin with a second of imports, and answers with its process id and then with how it ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.adapters.archive_support import Place

#: What Python says before a call that changes something on the disk, or starts a program that does.
_CHANGES = frozenset({
    "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.chmod", "os.chown", "os.setxattr", "os.removexattr",
    "os.utime", "os.link", "os.symlink", "os.truncate", "subprocess.Popen", "os.posix_spawn", "fcntl.flock",
})  # fmt: skip


class _Points:
    """Counts the calls that change something; at number ``last`` the process is killed before it."""

    def __init__(self, last: int) -> None:
        self.seen: list[str] = []
        self._last = last

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        writes = (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if event in _CHANGES or writes:
            self.seen.append(event)
            if len(self.seen) == self._last:
                os.kill(os.getpid(), signal.SIGKILL)


def _work(order: dict[str, Any]) -> None:
    points = _Points(order["point"])
    sys.addaudithook(points)
    place = Place(Path(order["root"]))
    if order["run"]:
        place.restore("r1", order["run"])
    else:
        place.capture("r1", *order["volumes"])
    if order["tell"]:
        Path(order["tell"]).write_text(json.dumps(points.seen))


class Restorer:
    """The process that forks; one restore or copy at a time."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def begin(self, place: Place, run: str, *, point: int = 0, tell: Path | None = None) -> int:
        """The process id of a restore of snapshot r1; it kills itself before its ``point``-th change."""
        return self._begin(place, point, tell, {"run": run})

    def begin_copy(self, place: Place, *volumes: str, point: int = 0, tell: Path | None = None) -> int:
        """The same of a capture of those volumes under the id r1."""
        return self._begin(place, point, tell, {"run": "", "volumes": volumes})

    def _begin(self, place: Place, point: int, tell: Path | None, what: dict[str, Any]) -> int:
        order = {"root": str(place.root), "point": point, "tell": str(tell) if tell else ""}
        self._write(json.dumps(order | what))
        return int(self._answer())

    def end(self) -> int:
        """How it ended: an exit code, or a signal as a negative number."""
        return int(self._answer())

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _answer(self) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def restorer() -> Iterator[Restorer]:
    """Ready to begin restores, for as long as the block lasts."""
    with subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as process:
        yield Restorer(process)
        assert process.stdin is not None
        process.stdin.close()


def _say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _main() -> None:
    for line in sys.stdin.buffer:
        child = os.fork()
        if not child:
            code = 0
            try:
                _work(json.loads(line))
            except BaseException:
                traceback.print_exc()
                code = 1
            os._exit(code)
        _say(child)
        _, status = os.waitpid(child, 0)
        _say(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    _main()
