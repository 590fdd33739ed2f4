"""One unit of the matrix: a world, what happens to a warmd at a point, a restart, and a look at it."""

from __future__ import annotations

import os
import shutil
import signal
import time
import traceback
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from tests.crash import child, observer
from tests.crash.child import Ended
from tests.crash.observer import End
from tests.crash.points import ANY, At, Injection
from tests.crash.scenarios import SCENARIOS, Ends, Setting
from tests.crash.world import Site, World

How: TypeAlias = Literal["kill", "pair", "term", "abort", "scaled", "visited", "lingers", "late", "clock"]

#: Seconds in which a warmd has to be gone that was told to, or to have aborted: as documented.
LEAVE = 30.0
#: What may leave something behind that the next one would be held by has a world of its own.
_ALONE = ("cold-deploy", "approve", "deploy", "restore")
_TOO_SLOW = "not healthy within the gate's deadline"
TWO_DAYS = 2 * 86400.0
#: States in which the old version's data lies as it left it: what it is told then is nobody's to lose.
_OURS = ("stopping", "capturing", "sealing", "deploying")


@dataclass(frozen=True, slots=True)
class Unit:
    """What is done to which scenario, and where: all that a replay needs.

    ``act``: which of the scenario's commands. ``second``: at which point of the recovery it dies again.
    ``step``: seconds that the clock steps.
    """

    scenario: str
    how: How
    point: str
    nth: int = 1
    act: int = 0
    second: int = 0
    step: float = 0.0
    seed: int = 0

    def __str__(self) -> str:
        return "|".join(str(v) for v in asdict(self).values())

    @classmethod
    def parse(cls, text: str) -> Unit:
        scenario, how, point, nth, act, second, step, seed = text.split("|")
        return cls(scenario, how, point, int(nth), int(act), int(second), float(step), int(seed))  # type: ignore[arg-type]  # how


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a unit. ``reached``: whether its point was, and what is to happen there could;
    ``points``: that the recovery reached; ``log``: of every warmd that ran, where something was wrong.
    ``twice``: it died a second time, while it recovered. ``again``: the machine was too busy for the gate's
    deadline: it was run with a longer one."""

    unit: str
    wrong: tuple[str, ...] = ()
    reached: bool = True
    points: int = 0
    seconds: float = 0.0
    log: str = ""
    twice: bool = False
    again: bool = False


class Driver:
    """Runs units one after the other. Its process has one thread, and adopts what is orphaned."""

    def __init__(self, site: Site, home: Path) -> None:
        self._site, self._home = site, home
        self._kept: dict[str, tuple[World, Setting, dict[str, Any]]] = {}
        self._worlds = 0
        self._lasting: World | None = None
        self._logs: list[str] = []
        self._broken = ""
        child.preload()
        child.adopt_orphans()

    # --- worlds -----------------------------------------------------------------------------------

    def prepare(self, scenario: str, seed: int) -> tuple[World, Setting]:
        """A world that is ready for the scenario; made once and put back where the site can do that."""
        arrange = SCENARIOS[scenario]
        if not self._site.rewinds:
            if scenario in _ALONE or self._lasting is None:
                world = self._new_world()
                self._lasting = self._lasting if scenario in _ALONE else world
            else:
                world = self._lasting
            world.gate = self._site.slow_gate
            world.configure()
            return world, arrange(world)
        if scenario not in self._kept:
            self._site.rewind(None, seed)
            shutil.rmtree(self._home / "world", ignore_errors=True)
            recipes, gate = self._home / scenario, self._site.slow_gate
            world = World(self._site, self._home / "world", "crash", recipes=recipes, gate=gate)
            setting = arrange(world)
            self._site.keep(scenario)
            self._keep(world, scenario)
            self._kept[scenario] = (world, setting, {})
        world, setting, _ = self._kept[scenario]
        self._site.rewind(scenario, seed)
        self._put_back(world, scenario)
        return world, setting

    def _new_world(self) -> World:
        self._worlds += 1
        name = f"c{os.getpid()}x{self._worlds}"
        return World(self._site, self._home / name, name, gate=self._site.slow_gate)

    def _keep(self, world: World, scenario: str) -> None:
        """Copy what is warmd's, but for the mirror, which stays what it is when nothing is fetched."""
        kept = self._home / scenario
        (world.state / "mirrors").rename(kept / "mirrors")
        shutil.copytree(world.home, kept / "world", symlinks=True)

    def _put_back(self, world: World, scenario: str) -> None:
        kept = self._home / scenario
        shutil.rmtree(kept / "mirrors" / "trees", ignore_errors=True)
        shutil.rmtree(world.home, ignore_errors=True)
        shutil.copytree(kept / "world", world.home, symlinks=True)
        (world.state / "mirrors").symlink_to(kept / "mirrors")

    # --- units ------------------------------------------------------------------------------------

    def points(self, scenario: str) -> list[dict[str, int]]:
        """The points of each of the scenario's commands, undisturbed: name -> how often it is reached."""
        world, setting = self.prepare(scenario, 0)
        found = []
        for number, act in enumerate(setting.acts):
            trace = self._home / "trace"
            trace.unlink(missing_ok=True)
            self._run(world, act.verb, Injection(trace=str(trace), stack=world.stack), args=act.args)
            counted: dict[str, int] = {}
            for line in trace.read_text().splitlines():
                counted[line] = counted.get(line, 0) + 1
            if not counted:
                raise AssertionError(f"{scenario}: command {number} reaches no point:\n{self._logs[-1]}")
            found.append(counted)
        wrong = self._look(world, setting, setting.ends)
        if wrong:
            raise AssertionError(f"{scenario} is wrong before anything happens to it: {wrong}\n{self._logs}")
        return found

    def run(self, unit: Unit) -> Result:
        """One unit, and what is wrong afterwards."""
        result = self._once(unit)
        # Time goes fast on a model, and a machine that is busy makes a good version look like a bad one.
        if result.wrong and self._site.slow_gate and _TOO_SLOW in result.log:
            result = replace(self._once(unit, slow=True), again=True)
        return result

    def broken(self, name: str, unit: Unit) -> Result:
        """The same with a warmd that is broken on purpose."""
        self._broken = name
        try:
            return self._once(unit)
        finally:
            self._broken = ""

    def replay(self, unit: Unit) -> Result:
        """The same, with the log whatever comes out."""
        return replace(self.run(unit), log="\n".join(self._logs))

    def _once(self, unit: Unit, *, slow: bool = False) -> Result:
        began = time.monotonic()
        self._logs = []
        try:
            world, setting = self.prepare(unit.scenario, unit.seed)
            # Only what is to fail is worth waiting for.
            world.gate = self._site.slow_gate if slow or unit.scenario != "rollback" else ""
            world.configure()
            world.broken = self._broken
            result: Result = getattr(self, f"_{unit.how}")(unit, world, setting)
        except Exception as error:
            self._logs.append(traceback.format_exc())
            result = Result(str(unit), (f"the harness failed: {type(error).__name__}: {error}",))
        wrong = (*result.wrong, *self._orphans())
        log = "\n".join(self._logs) if wrong else ""
        self._lasting = None if wrong else self._lasting
        return replace(result, wrong=wrong, seconds=time.monotonic() - began, log=log)

    def _kill(self, unit: Unit, world: World, setting: Setting) -> Result:
        reached = self._die(unit, world, setting)
        wrong = self._look(world, setting, setting.ends)
        return Result(str(unit), tuple(wrong), reached)

    def _pair(self, unit: Unit, world: World, setting: Setting) -> Result:
        """It dies, and dies again while it recovers."""
        if not self._die(unit, world, setting):
            return Result(str(unit), reached=False)
        trace = self._home / "trace"
        trace.unlink(missing_ok=True)
        again = Injection(at=(At(ANY, "kill", unit.second),), trace=str(trace), stack=world.stack)
        twice = self._run(world, "reconcile", again).killed
        points = len(trace.read_text().splitlines()) if trace.exists() else 0
        wrong = self._look(world, setting, setting.ends)
        return Result(str(unit), tuple(wrong), points=points, twice=twice)

    def _term(self, unit: Unit, world: World, setting: Setting) -> Result:
        """It is told to stop: gone in time, and the service up or on its way up."""
        wrong: list[str] = []
        reached = False
        for number, act in enumerate(setting.acts):
            at = (At(unit.point, "term", unit.nth),) if number == unit.act else ()
            trace = self._home / "trace"
            trace.unlink(missing_ok=True)
            began = time.monotonic()
            injection = Injection(at=at, stack=world.stack, trace=str(trace))
            ended = self._run(world, act.verb, injection, args=act.args)
            if number < unit.act:
                continue
            reached = self._reached(unit, trace)
            gone = time.monotonic() - began
            if ended.late or gone > LEAVE + self._site.patience / 4:
                wrong.append(f"told to stop, it took {gone:.1f} s")
            break
        wrong += self._up(world, setting)
        wrong += self._look(world, setting, setting.ends)
        return Result(str(unit), tuple(wrong), reached)

    def _up(self, world: World, setting: Setting) -> list[str]:
        """Whether the service is wanted, where it ran before."""
        if setting.down:
            return []
        return [] if world.replicas() == 1 else ["told to stop, it left the service down"]

    def _abort(self, unit: Unit, world: World, setting: Setting) -> Result:
        """A person aborts what the daemon does."""
        daemon = world.start("run", self._home / "daemon", self._at(unit, world, "ask"))
        asked = None
        if setting.acts[0].verb != "reconcile":
            self._until_it_listens(world)
            asked = world.start(setting.acts[0].verb, self._home / "run", args=setting.acts[0].args)
        point = daemon.heard(self._site.patience)
        if point is None:
            self._stop(daemon, asked)
            return Result(str(unit), reached=False)
        began = time.monotonic()
        aborter = world.start("abort", self._home / "abort")
        time.sleep(0.03)  # until it has asked: the daemon holds still, and its socket queues the request
        daemon.answer()
        said = aborter.wait(LEAVE + self._site.patience / 4)
        self._logs.append(f"--- abort at {point}\n{said.log}")
        wrong = [f"abort took {time.monotonic() - began:.1f} s"] if said.late else []
        wrong += self._stop(daemon, asked)
        wrong += self._up(world, setting)
        wrong += self._look(world, setting, lambda records: (*setting.ends(records), *setting.aborted))
        return Result(str(unit), tuple(wrong))

    def _until_it_listens(self, world: World) -> None:
        world.wait((world.state / "control.sock").exists, "the daemon's socket")

    def _stop(self, daemon: child.Child, asked: child.Child | None) -> list[str]:
        wrong = []
        daemon.signal(signal.SIGTERM)
        ended = daemon.wait(LEAVE + self._site.patience / 4)
        self._logs.append(f"--- daemon: {ended.code}\n{ended.log}")
        if ended.late or ended.code:
            wrong.append(f"the daemon, told to stop, ended with {ended.code} after {ended.seconds:.1f} s")
        if asked is not None:
            said = asked.wait(LEAVE)
            self._logs.append(f"--- asked: {said.code}\n{said.log}")
        return wrong

    def _scaled(self, unit: Unit, world: World, setting: Setting, *, down_again: bool = False) -> Result:
        """Somebody scales the stopped service up before warmd is back, and the application writes."""
        if not self._die(unit, world, setting) or world.replicas() != 0:
            return self._as_killed(unit, world, setting)
        kept = self._state(world) in _OURS and observer.version(world) == setting.before.version
        note = self._meanwhile(unit, world, down_again=down_again)
        # Where nothing but the old version ever had the data, whatever runs in the end has the note.
        right = _with(note, setting) if note and kept else setting
        stuck, wrong = self._stuck(world)
        if stuck:
            self._run(world, "retry", Injection())
        wrong += self._look(world, right, right.ends)
        return Result(str(unit), tuple(wrong))

    def _visited(self, unit: Unit, world: World, setting: Setting) -> Result:
        """Somebody scales the stopped service up, and down again, before warmd is back."""
        return self._scaled(unit, world, setting, down_again=True)

    def _lingers(self, unit: Unit, world: World, setting: Setting) -> Result:
        """Somebody scales the new version up while it is being rolled back, people work with it for two
        days, and it is scaled down: what they wrote is not thrown away but by a person's word."""
        if not self._die(unit, world, setting) or world.replicas() != 0:
            return self._as_killed(unit, world, setting)
        note = self._meanwhile(unit, world, down_again=True)
        stuck, wrong = self._stuck(world, offset=TWO_DAYS)
        if note:
            wrong += [] if stuck else ["two days of work by hand, and it is not stuck"]
            wrong += observer.untouched(world, _noted(setting.given_up[0], note).data)
        if stuck:
            # What the alert names brings the old version back; an exchange that stands half-way goes on.
            wrong += self._type(world, "restore" if note else "retry")
        wrong += self._look(world, setting, setting.ends, offset=TWO_DAYS)
        return Result(str(unit), tuple(wrong))

    def _type(self, world: World, verb: Literal["restore", "retry"]) -> list[str]:
        """A person types, two days later, what the alert names."""
        way = observer.way(world, verb)
        args = {"snapshot": way} if verb == "restore" else {}
        self._run(world, verb, Injection(), args=args, offset=TWO_DAYS)
        return [] if way else [f"the alert does not name warmd {verb}"]

    def _meanwhile(self, unit: Unit, world: World, *, down_again: bool) -> str:
        """Somebody scales the stopped service up, and the application writes; "" where it can't start, as
        its volume has no folder while that is being exchanged."""
        world.scale(1)
        world.wait(lambda: world.running() or world.cannot_start(), "the service that somebody scaled up")
        note = "" if world.cannot_start() else f"written while warmd was away {unit.seed}"
        if note:
            world.site.write(world, note)
        if down_again:
            world.scale(0)
            world.wait(lambda: not world.running(), "the service that somebody scaled down")
        return note

    def _as_killed(self, unit: Unit, world: World, setting: Setting) -> Result:
        """What is to happen can't happen here: it is no more than a kill, or not even that."""
        return Result(str(unit), tuple(self._look(world, setting, setting.ends)), reached=False)

    def _stuck(self, world: World, *, offset: float = 0.0) -> tuple[bool, list[str]]:
        """Restart, one reconcile: whether it is stuck now, and whether the alert then says what to type."""
        ended = self._run(world, "reconcile", Injection(), offset=offset)
        stuck = bool(ended.answer) and ended.answer["looks"][0].get("decision") == "stuck"
        wrong = [f"the swarm saw: {v}" for v in world.site.violations()]
        return stuck, [*wrong, *(observer.ways_out(world) if stuck else [])]

    def _late(self, unit: Unit, world: World, setting: Setting) -> Result:
        """warmd is away for two days after the deploy: nothing is restored by itself any more."""
        if not self._die(unit, world, setting):
            return Result(str(unit), reached=False)
        deployed = observer.version(world)
        state = self._state(world)
        if unit.scenario == "rollback" and state == "restoring":
            # Whether somebody worked on the data in those days it can't know: it may stop, and say so.
            stuck, wrong = self._stuck(world, offset=TWO_DAYS)
            wrong += self._type(world, "retry") if stuck else []
            wrong += self._look(world, setting, setting.ends, offset=TWO_DAYS)
            return Result(str(unit), tuple(wrong))
        if unit.scenario != "rollback" or state not in ("deploying", "gating", "halting"):
            return Result(str(unit), tuple(self._look(world, setting, setting.ends, offset=TWO_DAYS)))
        if deployed == setting.before.version:  # the new version runs only now, and nobody has written yet
            given_up = lambda records: (*setting.ends(records), *setting.given_up)  # noqa: E731 - short
            return Result(str(unit), tuple(self._look(world, setting, given_up, offset=TWO_DAYS)))
        _, wrong = self._stuck(world, offset=TWO_DAYS)
        wrong += observer.stuck_past_the_horizon(world, str(deployed), setting.given_up[0].data)
        # And what the alert names brings it back.
        way = observer.way(world, "restore")
        if way is not None:
            self._run(world, "restore", Injection(), args={"snapshot": way}, offset=TWO_DAYS)
            wrong += self._look(world, setting, setting.ends, offset=TWO_DAYS)
        return Result(str(unit), tuple(wrong))

    def _clock(self, unit: Unit, world: World, setting: Setting) -> Result:
        """The wall clock steps in the middle of it, and it dies a moment later or goes on."""
        steps = At(unit.point, "clock", unit.nth, unit.step)
        later = (At(ANY, "kill", unit.second),) if unit.second else ()
        trace = self._home / "trace"
        trace.unlink(missing_ok=True)
        injection = Injection(at=(steps, *later), stack=world.stack, trace=str(trace))
        for act in setting.acts:
            self._run(world, act.verb, injection, args=act.args)
        wrong = self._look(
            world, setting, lambda records: (*setting.ends(records), *setting.given_up), offset=unit.step
        )
        return Result(str(unit), tuple(wrong), self._reached(unit, trace))

    # --- steps ------------------------------------------------------------------------------------

    def _at(self, unit: Unit, world: World, act: Literal["kill", "ask"]) -> Injection:
        return Injection(at=(At(unit.point, act, unit.nth),), stack=world.stack)

    def _reached(self, unit: Unit, trace: Path) -> bool:
        return trace.exists() and trace.read_text().splitlines().count(unit.point) >= unit.nth

    def _state(self, world: World) -> str:
        """The state of the run that was killed."""
        records, _ = observer.journal(world.folder)
        return observer.states(records)[-1][1]

    def _die(self, unit: Unit, world: World, setting: Setting) -> bool:
        """Run the commands up to the point; whether it was reached."""
        for number, act in enumerate(setting.acts):
            injection = self._at(unit, world, "kill") if number == unit.act else Injection()
            ended = self._run(world, act.verb, injection, args=act.args)
            if ended.killed:
                return True
        return False

    def _run(self, world: World, verb: str, injection: Injection, **more: Any) -> Ended:
        ended = world.start(verb, self._home / "run", injection, **more).wait(self._site.patience)
        self._logs.append(f"--- {verb} {injection.at}: {ended.code}\n{ended.log}")
        if ended.late:
            raise AssertionError(f"{verb} hangs")
        return ended

    def _look(self, world: World, setting: Setting, ends: Ends, *, offset: float = 0.0) -> list[str]:
        """Restart, one reconcile, and everything that is wrong then."""
        ended = self._run(world, "reconcile", Injection(), offset=offset)
        row = ended.answer["looks"][0] if ended.answer and "looks" in ended.answer else None
        records, _ = observer.journal(world.folder)
        wrong = observer.check(world, ends(records[setting.seq :]), row, setting.known)
        if row is None or ended.code not in (0, 4, 5):
            wrong.append(f"reconcile ended with {ended.code}: {ended.answer}")
        return wrong

    def _orphans(self) -> list[str]:
        """What a killed warmd had started has to be gone by now; it gets a second to notice."""
        until = time.monotonic() + 1.0
        while (left := child.orphans(but=self._site.processes)) and time.monotonic() < until:
            time.sleep(0.01)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return [f"outlives the warmd that started it: {command}" for command in left.values()]


def _noted(end: End, note: str) -> End:
    return replace(end, data=end.data.noted(note))


def _with(note: str, setting: Setting) -> Setting:
    """The same with the note in every right end. Copies may be of before or after it; the newest has it."""
    known = {version: (*found, found[-1].noted(note)) for version, found in setting.known.items()}
    ends: Ends = lambda records: tuple(_noted(end, note) for end in setting.ends(records))  # noqa: E731 - short
    return replace(setting, known=known, ends=ends)
