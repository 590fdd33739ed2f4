"""``python -m tests.crash``: the crash matrix. ``--help`` tells the options.

Every violation is printed with a line that replays it. Exits 1 where there is one.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast, get_args

from tests.crash import matrix
from tests.crash.broken import BROKEN
from tests.crash.matrix import Points
from tests.crash.runs import How, Result, Unit
from tests.crash.scenarios import SCENARIOS
from tests.crash.sites import Real
from tests.crash.workers import Open, Workers
from tests.crash.world import Site
from tests.lab import Lab
from tests.size import tier

#: Kills on a real engine: so many points, or every point so many times.
SAMPLE, TIMES = 60, 5
#: Seconds from the start after which nothing is begun that need not be run, in the size crash.
BUDGET = 540.0
_BOTH = ("model", "docker")
#: Seconds between two lines about how far it is.
_TELL = 15.0


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--size", choices=("quick", "crash", "long"), default=tier())
    parser.add_argument("--on", choices=("model", "docker"), help="default: both, one after the other")
    parser.add_argument(
        "--scenario", action="append", choices=sorted(SCENARIOS), help="only this one (repeatable)"
    )
    parser.add_argument(
        "--how", action="append", choices=get_args(How), help="only units of this kind (repeatable)"
    )
    parser.add_argument(
        "--point", action="append", metavar="TEXT", help="only points with this in their name"
    )
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="the I-th of N parts")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--budget", type=float, default=0.0, metavar="SECONDS", help="for what need not be run"
    )
    parser.add_argument("--jobs", type=int, default=0, help="default: 2 a core, 6 on docker")
    parser.add_argument(
        "--progress", type=Path, metavar="FILE", help="units in it are skipped, done ones added"
    )
    parser.add_argument("--replay", action="append", metavar="UNIT", help="run this again (repeatable)")
    parser.add_argument(
        "--broken", choices=sorted(BROKEN), help="replay with a warmd that is broken on purpose"
    )
    parser.add_argument("--list", action="store_true", help="print the points, and run nothing")
    parser.add_argument("--keep-going", type=int, default=20, metavar="N", help="stop after N violations")
    return parser.parse_args(argv)


class Tally:
    """What has been run so far, and the file that keeps it."""

    def __init__(self, progress: Path | None) -> None:
        self.runs: Counter[str] = Counter()
        self.violations: list[Result] = []
        self.points = 0
        self.missed = 0
        self.twice = 0
        self.again = 0
        self.done: set[str] = set()
        self._file = None
        if progress is not None:
            progress.parent.mkdir(parents=True, exist_ok=True)
            if progress.exists():
                for line in progress.read_text().splitlines():
                    unit, *flags = line.split("\t")
                    self._count(unit, "missed" in flags, "twice" in flags)
            self._file = progress.open("a")

    def _count(self, unit: str, missed: bool, twice: bool) -> None:
        """Where nothing of its kind happened, it is none of that kind."""
        self.done.add(unit)
        if missed:
            self.missed += 1
        else:
            self.runs[Unit.parse(unit).how] += 1
        self.twice += twice

    def add(self, result: Result) -> None:
        """Units with a violation are not kept: they are run again by the next attempt."""
        if result.wrong:
            self.violations.append(result)
            self.runs[Unit.parse(result.unit).how] += 1
            return
        self._count(result.unit, not result.reached, result.twice)
        self.again += result.again
        if self._file is not None:
            flags = [*(["missed"] if not result.reached else []), *(["twice"] if result.twice else [])]
            self._file.write("\t".join([result.unit, *flags]) + "\n")
            self._file.flush()

    def __str__(self) -> str:
        kinds = ", ".join(f"{how} {n}" for how, n in sorted(self.runs.items()))
        more = f", died twice {self.twice}" if self.runs["pair"] else ""
        rest = f"point not reached {self.missed}, with a longer deadline {self.again}"
        return f"{sum(self.runs.values())} runs ({kinds}{more}; {rest})"


def main(argv: Sequence[str]) -> int:
    options = _arguments(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    small = options.size == "quick" or options.replay or options.list
    tallies = [_on(on, options) for on in ((options.on,) if options.on else ("model",) if small else _BOTH)]
    if options.list:
        return 0
    points = max(tally.points for tally in tallies)
    runs = sum(sum(tally.runs.values()) for tally in tallies)
    violations = sum(len(tally.violations) for tally in tallies)
    took = f"{time.monotonic() - began:.0f} s, seed {options.seed}"
    _say(f"crash: {points} points, {runs} runs, violations {violations} ({took})")
    return 1 if violations else 0


def _on(on: str, options: argparse.Namespace) -> Tally:
    """Everything that is to be run on one sort of swarm."""
    began = time.monotonic()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wc-", dir=_fast())))
        # They wait for gates and for the engine more than they work.
        jobs = options.jobs or (6 if on == "docker" else 2) * (os.cpu_count() or 1)
        workers = Workers(jobs, home, _site(on, home, stack))
        stack.callback(workers.close)
        progress: Path | None = options.progress
        tally = Tally(progress.with_name(f"{progress.name}.{on}") if progress else None)
        may: list[Unit] = []
        if options.replay:
            must = [Unit.parse(text) for text in options.replay]
        else:
            points = _points(workers, options.scenario or list(SCENARIOS))
            tally.points = matrix.number(points)
            if options.list:
                _list(points)
                return tally
            _say(f"{on}: {tally.points} points in {len(points)} scenarios, seed {options.seed}")
            must, may = _units(points, on, options)
        budget = options.budget or (BUDGET if options.size == "crash" else 0.0)
        method = ("broken", options.broken) if options.broken else ("replay",) if options.replay else ("run",)
        for result in _run(workers, must, may, tally, began + budget, method):
            tally.add(result)
            if options.replay and not result.wrong:
                _say(f"{result.unit} {'is right' if result.reached else 'is not reached'}\n{result.log}")
            if result.wrong:
                _tell_violation(result, on)
            if len(tally.violations) >= options.keep_going:
                _say("that is enough")
                break
    _say(f"{on}: {tally}, {time.monotonic() - began:.0f} s")
    return tally


def _fast() -> str | None:
    """In memory, where there is such a folder: no disk is under test here."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _site(on: str, home: Path, stack: ExitStack) -> Open:
    if on == "docker":
        lab = stack.enter_context(Lab())

        @contextmanager
        def real(folder: Path, worker: int) -> Iterator[Site]:
            yield Real(lab, worker)

        return real
    from tests.crash.modelled import Modelled, remember_renderings

    @contextmanager
    def modelled(folder: Path, worker: int) -> Iterator[Site]:
        remember_renderings(home / "renderings")
        with Modelled(folder, worker) as site:
            yield site

    return modelled


def _points(workers: Workers, scenarios: list[str]) -> Points:
    found: dict[str, Any] = {}
    for (scenario,), answer in workers.run(("points", (s,)) for s in scenarios):
        found[scenario] = answer
    return cast(Points, dict(sorted(found.items())))


def _list(points: Points) -> None:
    for scenario, acts in points.items():
        for act, counted in enumerate(acts):
            for name, count in counted.items():
                _say(f"{scenario}\t{act}\t{count}\t{name}")


def _units(points: Points, on: str, options: argparse.Namespace) -> tuple[list[Unit], list[Unit]]:
    if on == "docker":
        long = options.size == "long"
        plan = matrix.plan(points, "quick", options.seed, times=TIMES) if long else None
        must, may = (plan.must if plan else matrix.sample(points, SAMPLE, options.seed)), []
    else:
        both = matrix.plan(points, options.size, options.seed)
        must, may = both.must, both.may
    shard, shards = map(int, options.shard.split("/"))

    def asked_for(unit: Unit) -> bool:
        how, point = options.how, options.point
        return (not how or unit.how in how) and (not point or any(text in unit.point for text in point))

    def mine(units: list[Unit]) -> list[Unit]:
        return [unit for n, unit in enumerate(units) if n % shards == shard - 1 and asked_for(unit)]

    return mine(must), mine(may)


def _run(
    workers: Workers, must: list[Unit], may: list[Unit], tally: Tally, until: float, method: tuple[str, ...]
) -> Iterator[Result]:
    """Results as they come; of ``may`` as many as there is time for."""
    must = [u for u in must if str(u) not in tally.done]
    told = time.monotonic()

    def tasks() -> Iterator[tuple[str, Sequence[Any]]]:
        for unit in must:
            yield method[0], (*method[1:], unit)
        for unit in may:
            if time.monotonic() > until:
                return
            if str(unit) not in tally.done:
                yield "run", (unit,)

    for count, (_, result) in enumerate(workers.run(tasks()), start=1):
        yield result
        if time.monotonic() - told > _TELL:
            told = time.monotonic()
            _say(f"{count} of {len(must)}{f' and up to {len(may)} more' if may else ''}: {tally}")


def _tell_violation(result: Result, on: str) -> None:
    _say(f"VIOLATION {result.unit}")
    for line in result.wrong:
        _say(f"  {line}")
    _say(f"  again: python -m tests.crash --on {on} --replay '{result.unit}'")
    for line in result.log.splitlines()[-80:]:
        _say(f"    {line}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
