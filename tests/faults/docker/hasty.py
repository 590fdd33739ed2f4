"""``warmd`` with short waits: the same program, whose tests need not sit out half a minute.

``python -m tests.faults.docker.hasty VERB …``. What is cut short is named here and nowhere else.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from functools import partial

import warmd.app
from warmd.adapters.docker.swarm import open_swarm
from warmd.adapters.render import recorder
from warmd.cli import main
from warmd.core import pacing
from warmd.engine import runner
from warmd.plugins.probers import tasks

#: Seconds for one answer, and of silence in a pull.
ANSWER = 4.0


def hasten() -> None:
    short = partial(open_swarm, connect=1.0, deadline=ANSWER, pull_idle=ANSWER)
    vars(warmd.app)["open_swarm"] = short
    recorder.DEADLINE = ANSWER
    tasks.TIMEOUT = ANSWER
    runner.WAIT = 0.3
    pacing.FIRST = timedelta(milliseconds=50)


if __name__ == "__main__":
    hasten()
    sys.exit(main())
