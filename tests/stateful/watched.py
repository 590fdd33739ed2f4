"""``warmd`` as it is, and a thread beside it that writes down what the process holds, twice a second.

``python -m tests.stateful.watched FIGURES OFFSET run --config …``: FIGURES gets a JSON line a sample; OFFSET
is a file with the seconds by which the wall clock is off, as the test sets it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from warmd.adapters.clock import SystemClock

PAUSE = 0.5
_PAGE = 4  # kB


class _Policy(asyncio.DefaultEventLoopPolicy):
    """Remembers the loop, so that its tasks can be counted."""

    loop: asyncio.AbstractEventLoop | None = None

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        self.loop = super().new_event_loop()
        return self.loop


def _sample(policy: _Policy) -> dict[str, float]:
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    files = len(list(Path("/proc/self/fd").iterdir()))
    tasks = 0
    with suppress(RuntimeError):  # one was made while they were counted
        tasks = len(asyncio.all_tasks(policy.loop)) if policy.loop else 0
    threads = threading.active_count()
    return {"at": time.monotonic(), "rss": resident, "files": files, "tasks": tasks, "threads": threads}


def _watch(policy: _Policy, figures: Path) -> None:
    with figures.open("a") as file:
        while True:
            file.write(json.dumps(_sample(policy)) + "\n")
            file.flush()
            time.sleep(PAUSE)


def _set_clock(offset: Path) -> None:
    """The clock that warmd sees is the machine's and what the file says."""
    now = SystemClock.now

    def shifted(self: SystemClock) -> datetime:
        seconds = 0.0
        with suppress(OSError, ValueError):
            seconds = float(offset.read_text())
        return now(self) + timedelta(seconds=seconds)

    SystemClock.now = shifted  # type: ignore[method-assign]  # the machine's own clock must not be set


def main() -> None:
    figures, offset = Path(sys.argv[1]), Path(sys.argv[2])
    policy = _Policy()
    asyncio.set_event_loop_policy(policy)
    _set_clock(offset)
    threading.Thread(target=_watch, args=(policy, figures), daemon=True).start()
    sys.argv = ["warmd", *sys.argv[3:]]
    from warmd.cli import main as warmd

    warmd()


if __name__ == "__main__":
    main()
