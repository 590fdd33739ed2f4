"""What may happen to a warm service, as rules for Hypothesis; and what must hold whatever happens."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.model import App
from tests.stateful.choices import BEHAVIOURS, DEATHS, LONG, SETTINGS, SHORT, STEPS, app_of
from tests.stateful.process import Settings
from tests.stateful.quiet import settle
from tests.stateful.world import Meanwhile, World
from warmd.core.alerts import Alert
from warmd.core.versions import Version
from warmd.errors import WarmdError


class WarmService(RuleBasedStateMachine):
    """One service for as long as an example is. What it found is told in tests/stateful/test_stories.py."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="warmd-model-", dir=_fast()))
        self.world: World = World(self.folder, Settings())
        self.files: dict[str, dict[str, Any]] = {}

    @initialize(settings=SETTINGS, found=st.booleans())
    def begin(self, settings: Settings, found: bool) -> None:
        """The first version runs. Where it was ``found``, a person had deployed it before warmd came."""
        world = self.world
        world.settings = replace(settings, policy=replace(settings.policy, require_approval=False))
        world.publish("1.0.0+5.0.0", App("5.0.0"))
        if found:
            world.deploy_by_hand("1.0.0+5.0.0")
        world.boot()
        world.pass_time(120.0)
        assert world.healthy(), self._report()
        world.truth.may_be_empty = False
        if settings.policy.require_approval:
            self.other_settings(settings)

    # --- publishing -------------------------------------------------------------------------------

    @rule(
        step=st.sampled_from(STEPS),
        behaviour=st.sampled_from(BEHAVIOURS),
        noted=st.sampled_from([0, 0, 0, 1]),
    )
    def publish(self, step: str, behaviour: str, noted: int) -> None:
        world = self.world
        known = list(self.world.truth.releases.values())  # also those that were withdrawn
        x, y, z = max(v.recipe for v in known)
        a = max(v.app_major or 0 for v in known)
        if step == "pre-release":
            tag, app = f"{x}.{y}.{z + 1}-rc1+{a}.{y}.{z + 1}", f"{a}.{y}.{z + 1}"
        elif step == "below":
            lowest = min(v.recipe for v in known)
            if lowest[2] > 0 or lowest[1] > 0:
                return
            tag, app = f"0.{len(known)}.0+{a - 1}.{len(known)}.0", f"{a - 1}.{len(known)}.0"
        else:
            new = {
                "patch": (x, y, z + 1),
                "minor": (x, y + 1, 0),
                "app-major": (x, y + 1, 0),
                "major": (x + 1, 0, 0),
            }
            x, y, z = new[step]
            a += step in ("app-major", "major")
            app = f"{a}.{x * 100 + y}.{z}"
            tag = f"{x}.{y}.{z}+{app}"
        self._log(f"publish {tag} {behaviour}{' with notes' * noted}")
        world.publish(tag, app_of(app, behaviour), missing=behaviour == "missing")
        if noted:
            world.shelf.note(tag, "Run the migration by hand.")

    @rule(pick=st.integers(0, 3), text=st.sampled_from(["Read this.", "Nothing to do."]))
    def note_late(self, pick: int, text: str) -> None:
        tag = self._tag(pick)
        self._log(f"note on {tag}")
        self.world.shelf.note(tag, text)

    @rule(behaviour=st.sampled_from(["good", "never-healthy"]))
    def move_the_newest_tag(self, behaviour: str) -> None:
        tag = self._tag(0)
        self._log(f"move {tag}: {behaviour}")
        self.world.publish(
            tag,
            replace(
                app_of(tag.partition("+")[2], behaviour), labels=(("moved", str(len(self.world.images))),)
            ),
        )

    @rule(pick=st.integers(0, 3))
    def withdraw(self, pick: int) -> None:
        tag = self._tag(pick)
        if sum(Version.parse(known) is not None for known in self.world.shelf.commits if known != tag) == 0:
            return
        self._log(f"withdraw {tag}")
        del self.world.shelf.commits[tag]

    # --- time -------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from(SHORT))
    def a_moment(self, seconds: float) -> None:
        self._log(f"{seconds:.0f} s pass")
        self.world.pass_time(seconds)

    @rule(seconds=st.sampled_from(LONG))
    def a_while(self, seconds: float) -> None:
        self._log(f"{seconds:.0f} s pass")
        self.world.pass_time(seconds)

    @rule(minutes=st.sampled_from([-2000, -45, -1, 1, 45, 3000]))
    def set_the_clock(self, minutes: int) -> None:
        self._log(f"the clock is set by {minutes} min")
        self.world.set_clock(timedelta(minutes=minutes))

    # --- trouble ----------------------------------------------------------------------------------

    @rule(away=st.integers(0, 150), down_for=st.sampled_from([0.0, 0.0, 60.0, 7200.0, 100_000.0]))
    def will_die(self, away: int, down_for: float) -> None:
        self._arm(f"killed, and down for {down_for:.0f} s", away, lambda: self.world.die(down_for))

    @rule(where=st.sampled_from(DEATHS), down_for=st.sampled_from([0.0, 60.0, 7200.0, 100_000.0]))
    def will_die_at(self, where: str, down_for: float) -> None:
        """At the next such moment, of which there are too few to be met by counting."""
        self._arm(
            f"killed at {where}, and down for {down_for:.0f} s", 1, lambda: self.world.die(down_for), where
        )

    @rule(away=st.integers(0, 60), lost=st.booleans(), times=st.sampled_from([1, 1, 3, 12]))
    def docker_will_not_answer(self, away: int, lost: bool, times: int) -> None:
        where = "docker.done" if lost else "docker "
        for _ in range(times):
            self._arm(f"{where.strip()}: no answer", away, self.world.unreachable, where)

    @rule(
        seconds=st.sampled_from([1.0, 20.0, 400.0]), kill=st.booleans(), away=st.sampled_from([0, 0, 40, 80])
    )
    def docker_restarts(self, seconds: float, kill: bool, away: int) -> None:
        what = "is killed" if kill else "ends"
        self._soon(
            f"docker {what} for {seconds:.0f} s",
            away,
            lambda: self.world.restart_docker(seconds, kill=kill),
        )

    @rule()
    def sigterm(self) -> None:
        self._log("SIGTERM, and started again")
        self.world.stop_process()
        if self.world.process is None:
            self.world.boot()

    @rule(what=st.sampled_from(["blind", "source", "registry", "spool", "disk", "pause"]))
    def toggle(self, what: str) -> None:
        world = self.world
        self._log(f"toggle {what}")
        if what == "blind":
            world.blind = not world.blind
        elif what == "source":
            world.shelf.away = not world.shelf.away
        elif what == "registry":
            world.model.images.registry_down = not world.model.images.registry_down
        elif what == "spool":
            world.machine.spool_full = not world.machine.spool_full
        elif what == "disk":
            world.disk.full = not world.disk.full
        else:
            world.machine.pause_file = not world.machine.pause_file

    # --- people at the swarm ----------------------------------------------------------------------

    @rule(
        away=st.sampled_from([0, 0, 3, 10, 30, 60, 90]),
        what=st.sampled_from(["scale-0", "scale-1", "label", "env", "image", "rm"]),
        pick=st.integers(0, 3),
    )
    def somebody_edits(self, away: int, what: str, pick: int) -> None:
        self._soon(f"a person: {what} {pick}", away, lambda: self._edit(what, pick))

    def _edit(self, what: str, pick: int) -> None:
        world = self.world
        if what == "rm":
            world.remove_stack()
        elif what == "image":
            images = [i for i in world.images if world.model.images.available(i)] or list(world.images)
            image = images[-1 - pick % len(images)]
            world.edit(lambda spec: spec["TaskTemplate"]["ContainerSpec"].update(Image=image))
        elif what == "label":
            world.edit(lambda spec: spec["Labels"].update(note="by hand"))
        elif what == "env":
            world.edit(lambda spec: spec["TaskTemplate"]["ContainerSpec"].update(Env=["BY=hand"]))
        else:
            count = int(what[-1])
            world.edit(lambda spec: spec["Mode"]["Replicated"].update(Replicas=count))

    @rule()
    def somebody_removes_stack_and_volume(self) -> None:
        """``docker stack rm``, and the volume once nothing uses it."""
        self._log("a person removes stack and volume")
        world = self.world
        world.remove_stack()
        world.pass_time(5.0)
        world.remove_volume()

    # --- people at warmd --------------------------------------------------------------------------

    @rule(pick=st.integers(0, 3), away=st.sampled_from([0, 0, 20]))
    def approve(self, pick: int, away: int) -> None:
        tag = self._tag(pick)

        def act() -> None:
            version = Version.parse(tag)
            if version is not None:
                self.world.truth.approved.add(version)
            self.world.later("approve", version=tag, why="read")

        self._soon(f"approve {tag}", away, act)

    @rule(verb=st.sampled_from(["pause", "resume", "resume", "adopt"]), away=st.sampled_from([0, 0, 20]))
    def say(self, verb: str, away: int) -> None:
        self._soon(verb, away, lambda: self.world.later(verb))

    @rule(pick=st.none() | st.integers(0, 2))
    def retry(self, pick: int | None) -> None:
        version = None if pick is None else self._tag(pick)
        self._log(f"retry {version}")
        self._answered(self.world.ask("retry", version=version))

    @rule(away=st.integers(0, 120))
    def will_abort(self, away: int) -> None:
        self._arm("abort", away, lambda: self.world.later("abort"))

    @rule(pick=st.none() | st.integers(0, 2))
    def deploy(self, pick: int | None) -> None:
        version = None if pick is None else self._tag(pick)
        self._log(f"deploy {version}")
        self._answered(self.world.ask("deploy", version=version))

    @rule()
    def snapshot(self) -> None:
        self._log("snapshot")
        self._answered(self.world.ask("snapshot"))

    @rule(pick=st.integers(0, 2))
    def restore(self, pick: int) -> None:
        folder = self.folder / "state" / "snapshots"
        known = (
            sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.exists() else []
        )
        if not known:
            return
        name = known[-1 - pick % len(known)]
        self._log(f"restore {name}")
        self._answered(self.world.ask("restore", snapshot=name))

    @rule(settings=SETTINGS)
    def other_settings(self, settings: Settings) -> None:
        self._log(f"restarted with {settings}")
        self.world.settings = settings  # also of one that dies while it stops
        self.world.stop_process()
        if self.world.process is None:
            self.world.boot()

    @rule()
    def quiet_for_a_while(self) -> None:
        self._log("quiet for a while")
        settle(self.world)

    def teardown(self) -> None:
        try:
            if self.world.process is not None:
                settle(self.world)
                self.the_promise_holds()
                self.alerts_are_right()
        finally:
            self.world.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    # --- what must hold ---------------------------------------------------------------------------

    @invariant()
    def the_promise_holds(self) -> None:
        assert not self.world.truth.violations, self._report()

    @invariant()
    def alerts_are_right(self) -> None:
        """Each file says what its name says; a resolved one follows its open one; none is there twice."""
        folder = self.folder / "alerts"
        if not folder.exists():
            return
        for body, name in self._new_files(folder):
            alert = Alert.from_json(body)
            assert alert.file_name == name
            twin = [
                n
                for n, b in self.files.items()
                if (b["id"], b["state"]) == (body["id"], body["state"]) and n != name
            ]
            assert not twin, f"one alert under two names: {name}, {twin[0]}\n{self._report()}"

    @invariant()
    def no_code_crashed(self) -> None:
        process = self.world.process
        if process is not None:
            trouble = process.supervisor.trouble("app")
            assert not (trouble or "").startswith("unexpected"), f"{trouble}\n{self._report()}"

    # --- shared -----------------------------------------------------------------------------------

    def _new_files(self, folder: Path) -> list[tuple[dict[str, Any], str]]:
        found = []
        for path in folder.glob("*.json"):
            if path.name not in self.files:
                self.files[path.name] = json.loads(path.read_text())
                found.append((self.files[path.name], path.name))
        return found

    def _tag(self, pick: int) -> str:
        """A published tag, from the newest down."""
        tags = list(self.world.shelf.commits)
        return tags[-1 - pick % len(tags)]

    def _log(self, text: str) -> None:
        self.world.log.append(f"{self.world.now} {text}")

    def _arm(self, text: str, away: int, act: Callable[[], None], where: str = "") -> None:
        self._log(f"in {away}: {text}")
        self.world.meanwhile.append(Meanwhile(away, act, where))

    def _soon(self, text: str, away: int, act: Callable[[], object]) -> None:
        """Now, or in the middle of what happens next."""
        if away:
            self._arm(text, away, lambda: _ignore(act))
        else:
            self._log(text)
            act()
            self.world.see()

    def _answered(self, answer: Any) -> None:
        self.world.log.append(f"  -> {answer}"[:200])
        assert answer is None or isinstance(answer, WarmdError | dict)

    def _report(self) -> str:
        return "\n".join(["", self.world.tell(), *self.world.truth.violations])


def _ignore(act: Callable[[], object]) -> None:
    act()


def _fast() -> str | None:
    shm = Path("/dev/shm")
    return str(shm) if shm.is_dir() else None
