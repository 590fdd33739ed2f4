"""``python -m tests.faults.sweep``: every I/O call of a run fails once, and from then on, with each error.

The run is a real warmd process on the model of a swarm; its calls are counted and made to fail by
``tests.crash.points``. After each fault the promise is checked by the crash matrix's observer. Then the
fault is gone, and one more look has to end well, or the service is stuck and what the alert says to type
works. Exits 1 where anything is wrong. ``--replay`` runs one again.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from tests.crash import child, observer
from tests.crash.child import Ended
from tests.crash.modelled import Modelled, remember_renderings
from tests.crash.points import CALLS, Call, Fault, Injection
from tests.crash.runs import Driver
from tests.crash.scenarios import Setting
from tests.crash.world import World

SCENARIOS = ("upgrade", "rollback")
#: What each call can say. Only opening a file finds that there is no descriptor left.
ERRORS = {
    call: (errno.EIO, errno.ENOSPC, errno.EDQUOT, *((errno.EMFILE,) if call == "open" else ()))
    for call in CALLS
}


@dataclass(frozen=True, slots=True)
class Unit:
    """One fault in one scenario: all that a replay needs."""

    scenario: str
    call: Call
    error: str
    nth: int
    for_ever: bool

    def __str__(self) -> str:
        return f"{self.scenario} {self.call} {self.error} {self.nth} {'ever' if self.for_ever else 'once'}"

    @classmethod
    def parse(cls, text: str) -> Unit:
        scenario, call, error, nth, often = text.split()
        return cls(scenario, cast(Call, call), error, int(nth), often == "ever")

    @property
    def fault(self) -> Fault:
        return Fault(self.call, getattr(errno, self.error), self.nth, self.for_ever)


@dataclass(frozen=True, slots=True)
class Found:
    """What is wrong after a unit; what it ended in, ``where`` the fault hit, and what the warmds said."""

    unit: Unit
    wrong: tuple[str, ...]
    end: str = ""
    where: str = ""
    log: str = ""


class Faulty(Driver):
    """Runs units on one swarm, one after the other."""

    def calls(self, scenario: str) -> list[str]:
        """Every I/O call of the scenario, undisturbed and in order: ``write /path``."""
        world, setting = self.prepare(scenario, 0)
        self._afflicted(world, setting, None)
        return self._listed()

    def fault(self, unit: Unit) -> Found:
        """One unit."""
        self._logs = []
        try:
            found = self._fault(unit)
        except Exception as error:
            self._logs.append(traceback.format_exc())
            found = Found(unit, (f"the harness failed: {type(error).__name__}: {error}",))
        wrong = (*found.wrong, *self._orphans())
        return replace(found, wrong=wrong, log="\n".join(self._logs) if wrong else "")

    def _fault(self, unit: Unit) -> Found:
        world, setting = self.prepare(unit.scenario, unit.nth)
        ended = self._afflicted(world, setting, unit.fault)
        listed = self._listed()
        if sum(line.startswith(f"{unit.call} ") for line in listed) < unit.nth:
            return Found(unit, (), "not reached")
        hit = [n for n, line in enumerate(listed) if line.startswith(f"{unit.call} ")][unit.nth - 1]
        where = listed[hit].partition(" ")[2].replace(str(world.home), "")
        wrong = _retried(listed, hit) if unit.call == "fsync" and not unit.for_ever else []
        if ended.code not in (0, 1, 2, 4, 5, 6, 7):
            wrong.append(f"with the fault, warmd ended with {ended.code}")
        if "Traceback (most recent call last)" in ended.log or ".crashed" in ended.log:
            wrong.append("with the fault, warmd crashed")
        wrong += _mixed(world, setting)
        end, more = self._mended(world, setting)
        return Found(unit, (*wrong, *more), end, where)

    def _afflicted(self, world: World, setting: Setting, fault: Fault | None) -> Ended:
        calls = self._home / "calls"
        calls.unlink(missing_ok=True)
        mirrors = self._home / world.recipes.name if world.recipes else world.home
        volume = world.volume
        assert volume is not None, "both scenarios begin with data"
        below = (str(world.state), str(volume.parent), str(mirrors / "mirrors"))
        injection = Injection(fault=fault, below=below, calls=str(calls), stack=world.stack)
        for act in setting.acts:
            ended = self._run(world, act.verb, injection, args=act.args)
        return ended

    def _listed(self) -> list[str]:
        return (self._home / "calls").read_text().splitlines()

    def _mended(self, world: World, setting: Setting) -> tuple[str, list[str]]:
        """The fault is gone: one look, and where that says stuck, what the alert says to type."""
        wrong: list[str] = []
        row = self._row(self._run(world, "reconcile", Injection()))
        end = str(row and row["decision"])
        if end == "stuck":
            wrong += [f"stuck: {w}" for w in observer.ways_out(world)]
            self._run(world, "retry", Injection())
            row = self._row(self._run(world, "reconcile", Injection()))
        records, _ = observer.journal(world.folder)
        ends = (*setting.ends(records[setting.seq :]), *setting.aborted)
        return end, wrong + observer.check(world, ends, row, setting.known)

    @staticmethod
    def _row(ended: Ended) -> Any:
        answer = ended.answer
        return answer["looks"][0] if answer and "looks" in answer else None


def _mixed(world: World, setting: Setting) -> list[str]:
    """Whatever runs now runs on data of its own: never the old version on what the new one has touched."""
    if not world.running():
        return []
    app, data = observer.application(world), world.data
    ends = (*setting.ends([]), *setting.aborted, *setting.given_up)
    right = [e for e in ends if e.version.partition("+")[2] == app and data.same(e.data)]
    # The new version needs a moment to migrate what it finds.
    fresh = app != setting.before.version.partition("+")[2] and data.same(setting.before.data)
    return [] if right or fresh else [f"{app} runs on {data.told}"]


def _retried(listed: Sequence[str], hit: int) -> list[str]:
    """A failed fsync is never tried again: not before what it was to keep was written anew."""
    path = listed[hit].partition(" ")[2]
    if path.endswith("/state/services"):  # in which folders are made, which is no call that is listed
        return []
    for line in listed[hit + 1 :]:
        call, _, where = line.partition(" ")
        if call in ("write", "rename", "link") and (where == path or where.startswith(f"{path}/")):
            return []
        if call == "fsync" and where == path:
            return [f"fsync of {path} failed, and was tried again"]
    return []


# --- all of them ------------------------------------------------------------------------------------


def units(scenario: str, listed: Sequence[str], share: int) -> list[Unit]:
    """Every call with every error, once and for ever; of these every ``share``-th."""
    counts = Counter(line.split(" ")[0] for line in listed)
    every = [
        Unit(scenario, call, errno.errorcode[error], nth, for_ever)
        for call in CALLS
        for nth in range(1, counts[call] + 1)
        for error in ERRORS[call]
        for for_ever in (False, True)
    ]
    # The same for everybody, and from all over the run.
    random.Random(scenario).shuffle(every)
    return every[::share]


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.sweep", description=__doc__)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS)
    parser.add_argument("--share", type=int, default=1, metavar="N", help="every N-th of all faults")
    parser.add_argument("--limit", type=int, default=10**9, metavar="N", help="at most N a scenario")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="the I-th of N parts")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--replay", action="append", metavar="UNIT")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Run what the arguments say; 1 where anything is wrong."""
    options = _arguments(argv)
    began = time.monotonic()
    fast = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="wf-", dir=fast) as home:
        child.preload()
        remember_renderings(Path(home) / "renderings")
        found = list(_parallel(Path(home), options))
    bad = [f for f in found if f.wrong]
    ends = Counter(f.end for f in found)
    kinds = Counter(f"{f.unit.call} {f.unit.error}" for f in found)
    sys.stdout.write(f"faults: {', '.join(f'{kind} {n}' for kind, n in sorted(kinds.items()))}\n")
    sys.stdout.write(f"ends: {', '.join(f'{end} {n}' for end, n in sorted(ends.items()))}\n")
    sys.stdout.write(f"io: {len(found)} faults, wrong {len(bad)} ({time.monotonic() - began:.0f} s)\n")
    return 1 if bad or not found else 0


def _parallel(home: Path, options: argparse.Namespace) -> Iterator[Found]:
    """Each job takes its turn of the units, and tells what it found over a pipe."""
    import pickle

    pipes = []
    for job in range(options.jobs):
        reading, writing = os.pipe()
        sys.stdout.flush()
        if os.fork() == 0:
            code = 1
            try:
                os.close(reading)
                found = _work(home / f"{job}", options, job)
                with os.fdopen(writing, "wb") as pipe:
                    pickle.dump(found, pipe)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writing)
        pipes.append(reading)
    for reading in pipes:
        with os.fdopen(reading, "rb") as pipe:
            yield from pickle.load(pipe)
    for _ in pipes:
        _, status = os.wait()
        if status:
            raise RuntimeError("a job failed")


def _work(home: Path, options: argparse.Namespace, job: int) -> list[Found]:
    home.mkdir()
    found = []
    with Modelled(home) as site:
        driver = Faulty(site, home)
        wanted = [Unit.parse(text) for text in options.replay or ()]
        if not wanted:
            for scenario in options.scenario or SCENARIOS:
                wanted += units(scenario, driver.calls(scenario), options.share)[: options.limit]
        part, parts = map(int, options.part.split("/"))
        for unit in wanted[part - 1 :: parts][job :: options.jobs]:
            one = driver.fault(unit)
            found.append(one)
            if one.wrong:
                _tell(one)
    return found


def _tell(found: Found) -> None:
    lines = [f"WRONG {found.unit} at {found.where}", *(f"  {w}" for w in found.wrong)]
    lines.append(f"  again: python -m tests.faults.sweep --jobs 1 --replay '{found.unit}'")
    lines += [f"    {line}" for line in found.log.splitlines()[-50:]]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
