"""A machine with one warm service, everybody who works on it, and time: what the rules act upon."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.model import App, Model
from tests.stateful.engine import PointedEngine
from tests.stateful.parts import Disk, Points, Shelf, names
from tests.stateful.probing import AppProber, Blind
from tests.stateful.process import Machine, Process, Settings
from tests.stateful.stack import STACK, VOLUME, service
from tests.stateful.trees import TreeSnapshotter
from tests.stateful.truth import Hand, Running, Truth, image_of
from tests.stateful.virtual import EPOCH, VirtualClock, VirtualLoop
from warmd.adapters.docker.credentials import Credentials
from warmd.adapters.docker.images import Images
from warmd.adapters.docker.swarm import DockerSwarm
from warmd.core import history as h
from warmd.core.history import History
from warmd.core.model import Json
from warmd.core.runs import Kind
from warmd.core.versions import Version
from warmd.errors import DockerUnreachable, WarmdError
from warmd.ports import Swarm

#: Seconds up to which events are heard when they happen.
MOMENT = 600.0
#: Lines of what happened, and of the journal, that a failure shows.
TOLD = 40


class Died(BaseException):
    """SIGKILL: nobody catches it, and no port does anything for this process any more."""


@dataclass
class Meanwhile:
    """Something that happens at a port's call that is still so many away. ``where``: only at such a one."""

    away: int
    act: Callable[[], None]
    where: str = ""


class NoLogins(Credentials):
    async def header(self, registry: str) -> str | None:
        return None


class World:
    def __init__(self, folder: Path, settings: Settings, seed: int = 0) -> None:
        self.folder = folder
        self.settings = settings
        self.loop = VirtualLoop()
        self.loop.set_exception_handler(self._lost_exception)
        self.clock = VirtualClock(self.loop, seed)
        self.points = Points()
        self.points.hook = self._at
        self.truth = Truth()
        self.model = Model(folder / "docker", seed=seed)
        #: Nobody hears Docker's events: they are hints, and a crash loop makes thousands a day.
        self.deaf = False
        self.disk = Disk()
        self.shelf = Shelf()
        self.by: Hand = "warmd"
        self.images: dict[str, App] = {}  # image -> what it does
        self.meanwhile: list[Meanwhile] = []
        self.blind = False
        self.dead = False
        self.away = False  # killed, and nobody starts it
        self.down_for = 0.0
        self._seen: tuple[float, list[str]] = (-1.0, [])
        self._died = asyncio.Event()
        self._hears = asyncio.Event()
        self._hears.set()
        self.machine = Machine(
            swarm_of=self._client,
            clock=self.clock,
            disk=self.disk,
            shelf=self.shelf,
            points=self.points,
            alerts=folder / "alerts",
            snapshotter=TreeSnapshotter(
                folder / "state",
                self._node,
                self.points,
                full=lambda: self.disk.full,
                copying=lambda place: self.truth.copying(place, self.running()),
                restoring=self._restoring,
            ),
            probers=(AppProber(self.points, self._answers),),
        )
        self.log: list[str] = []
        self.process: Process | None = None
        self._daemon: asyncio.Task[None] | None = None

    # --- what the parts ask -----------------------------------------------------------------------

    def _client(self) -> Swarm:
        engine = PointedEngine(self)
        logins = NoLogins()
        images = Images(engine, logins, idle=120.0, deadline=7200.0)
        return DockerSwarm(engine, images, logins, self.clock)

    async def _node(self) -> str:
        return self.model.node_id

    def _restoring(self, mountpoint: Path, copy: Path) -> None:
        run = copy.name.removeprefix(".").partition("-")[0]
        self.truth.restoring(mountpoint, copy, run, self.running())

    @property
    def now(self) -> timedelta:
        return self.clock.true - EPOCH

    def running(self) -> list[Running]:
        return [Running(c.id, c.service, c.app.version, c.data) for c in self.model.running()]

    def advance(self) -> None:
        """The swarm does what was due by now."""
        self.model.advance(self.clock.monotonic(), self.clock.now().timestamp())

    def see(self) -> None:
        self.advance()
        running = self.model.running()
        now = self.clock.monotonic()
        # Called at every point: where nobody started and nobody is due to write, that is all.
        if now - self._seen[0] < 1.0 and self._seen[1] == [c.id for c in running]:
            return
        self._seen = (now, [c.id for c in running])
        self.truth.see(self.running(), self.now)

    def posted(self, spec: Json, before: Json | None) -> None:
        image = image_of(spec).partition("@")[0]
        version = self.images[image].version if image in self.images else ""
        self.truth.posted(spec, before, self.by, version, self.now)

    def healthy(self) -> bool | None:
        """What the application says of itself; None where nothing answers."""
        found = [c for c in self.model.running(f"{STACK}_app") if self.model.agent.age(c) >= 0.75]
        return all(c.app.healthy(self.model.agent.age(c)) for c in found) if found else None

    def _answers(self) -> bool | Blind | None:
        return Blind() if self.blind else self.healthy()

    # --- points -----------------------------------------------------------------------------------

    def _at(self, name: str) -> None:
        if self.dead:
            raise Died(name)
        self.see()
        if name.startswith("journal.appended run.planned"):
            self._planned()
        elif name == "journal.appended retry":
            self._retried()
        for one in self.meanwhile:
            if name.startswith(one.where):
                one.away -= 1
        due = next((one for one in self.meanwhile if one.away <= 0 and name.startswith(one.where)), None)
        if due is not None:
            self.meanwhile.remove(due)
            self.log.append(f"  at {name}")
            due.act()

    def _planned(self) -> None:
        record = self.disk.records["app"][-1]
        assert self.process is not None
        run, policy = str(record.run), self.process.settings.policy
        self.truth.lets_majors[run] = policy.recipe_major == policy.app_major == "allow"
        self.truth.horizons[run] = policy.rollback_horizon
        if record.data["kind"] == Kind.RESTORE:
            self.truth.persons_runs.add(run)

    def _retried(self) -> None:
        """A person's word counts from when it is written: it may wait for a run's end."""
        version = Version.parse(self.disk.records["app"][-1].data["version"] or "")
        if version is None:
            self.truth.failed.clear()
        else:
            self.truth.failed.pop(version, None)
        if (goes_on := self.history.unfinished) is not None:
            self.truth.persons_runs.add(goes_on.plan.id)

    def die(self, down_for: float = 0.0) -> None:
        self.dead, self.down_for = True, down_for
        self._died.set()
        raise Died

    def unreachable(self) -> None:
        raise DockerUnreachable("Docker did not answer within 30 s")

    # --- the process ------------------------------------------------------------------------------

    def boot(self) -> None:
        if self.away:
            return
        assert self.process is None
        self.process = Process(self.machine, self.settings)
        self._daemon = self.loop.create_task(self.process.supervisor.run())
        self._mover = self.loop.create_task(self._move())

    async def _move(self) -> None:
        """While events are heard, what is due in the swarm happens about when it is due."""
        while True:
            await self._hears.wait()
            due = self.model.due()
            wait = 5.0 if due is None else min(5.0, due - self.clock.monotonic())
            await self.clock.sleep(max(wait, 0.02))
            self.advance()

    def do(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Let ``work`` run to its end, or until the process dies; what it gave, or the WarmdError."""
        result: Any = None
        task = self.loop.create_task(work())
        died = self.loop.create_task(self._died.wait())
        self.loop.run_until_complete(asyncio.wait([task, died], return_when=asyncio.FIRST_COMPLETED))
        died.cancel()
        with suppress(asyncio.CancelledError):
            self.loop.run_until_complete(died)
        if self.dead:
            self._bury(task)
        else:
            try:
                result = task.result()
            except WarmdError as error:
                result = error
        self.see()
        self._alive()
        return result

    def _alive(self) -> None:
        if self._daemon is not None and self._daemon.done() and not self.dead:
            self._daemon.result()
            raise AssertionError("the daemon ended by itself")

    def _bury(self, *tasks: asyncio.Task[Any]) -> None:
        self.loop.leave_nobody()
        for task in (*tasks, self._daemon):
            if task is not None and task.done() and not task.cancelled():
                task.exception()
        self.process = self._daemon = None
        self.dead = False
        self._died = asyncio.Event()
        self.pass_time(self.down_for)
        self.boot()

    def stop_process(self) -> None:
        """SIGTERM, and until it is gone."""
        process, daemon = self.process, self._daemon
        assert process is not None
        assert daemon is not None
        began = self.clock.monotonic()

        async def leave() -> None:
            process.supervisor.leave()
            await asyncio.wait([daemon])

        self._daemon = None
        self.do(leave)
        if self.process is not process:
            return  # it was killed meanwhile, and began anew
        took = self.clock.monotonic() - began
        if took > 45.0:
            self.truth.wrong(f"it took {took:.0f} s to stop")
        daemon.result()
        self.process = None
        self.loop.leave_nobody()

    def pass_time(self, seconds: float) -> None:
        """Time passes, whether warmd runs or not. Over long times nobody hears events."""
        if seconds > MOMENT:
            self.deaf = True
            self._hears.clear()
        try:
            for _ in range(4):
                if self.process is None:
                    self.loop.run_until_complete(self.clock.sleep(seconds / 4))
                    self.see()
                else:
                    self.do(lambda: self.clock.sleep(seconds / 4))
        finally:
            self.deaf = False
            self._hears.set()

    def ask(self, verb: str, **args: object) -> Any:
        process = self.process
        assert process is not None
        return self.do(lambda: process.ask(verb, **args))

    def later(self, verb: str, **args: object) -> None:
        """A person types a command while something else goes on; nobody waits for its answer."""
        process = self.process
        if process is None:
            return

        async def type_it() -> None:
            with suppress(WarmdError):
                await process.ask(verb, **args)

        self.loop.create_task(type_it())

    # --- people and the world ---------------------------------------------------------------------

    def publish(self, release: str, app: App, *, missing: bool = False) -> None:
        """A release whose image is ``app``."""
        commit = self.shelf.publish(release, self.clock.true)
        image = f"registry:5000/app:{app.version}-{len(self.images)}"
        self.images[image] = app
        if not missing:
            self.model.publish(image, app)
        version = Version.parse(release)
        if version is not None:
            self.truth.releases[app.version] = version
        self.machine.bodies[commit] = (("services", service(image, app)),)

    def deploy_by_hand(self, release: str) -> None:
        """``docker stack deploy`` of a release by a person, with the label that recipes have."""
        ((_, body),) = self.machine.bodies[self.shelf.commits[release]]
        spec = {**body, "Labels": {**body["Labels"], f"coop-cloud.{STACK}.version": release}}
        self.advance()
        self.model.call("POST", "/services/create", {}, spec)
        self.by = "person"
        self.posted(spec, None)
        self.by = "warmd"
        self.loop.run_until_complete(self.clock.sleep(30.0))
        self.see()

    def edit(self, change: Callable[[dict[str, Any]], object]) -> bool:
        """``docker service update`` by a person; whether there was a service."""
        self.advance()
        if self.model.down:
            return False
        found = next((s for s in self.model.store.services.values() if s.name == f"{STACK}_app"), None)
        if found is None:
            return False
        spec = json.loads(json.dumps(found.spec))
        change(spec)
        before = found.spec
        self.model.set_spec(found, spec)
        self.by = "person"
        self.posted(spec, before)
        self.by = "warmd"
        return True

    def remove_stack(self) -> None:
        self.advance()
        if not self.model.down:
            self.model.remove_stack(STACK)

    def remove_volume(self) -> None:
        """The volume, once no container has it."""
        self.advance()
        users = [c for c in self.model.store.containers.values() if any(v == VOLUME for v, *_ in c.mounts)]
        if not users and not self.model.down:
            self.model.drop_volume(VOLUME)

    def restart_docker(self, seconds: float, *, kill: bool) -> None:
        self.advance()
        if not self.model.down:
            self.model.restart_engine(kill=kill, seconds=seconds)

    def set_clock(self, by: timedelta) -> None:
        self.clock.set_by += by
        if by < timedelta():
            self.truth.set_back.append((self.now, -by))

    # --- what can be read -------------------------------------------------------------------------

    @property
    def history(self) -> History:
        return h.fold(self.disk.records.get("app", []))

    def alerts(self) -> list[dict[str, Any]]:
        folder = self.folder / "alerts"
        return [json.loads(p.read_text()) for p in sorted(folder.glob("*.json"))] if folder.exists() else []

    def open_alerts(self) -> dict[tuple[str, str], dict[str, Any]]:
        last: dict[str, dict[str, Any]] = {}
        for body in sorted(self.alerts(), key=lambda b: (b["service"] or "", b["seq"])):
            last[body["fingerprint"]] = body
        return {(b["kind"], b["candidate"] or ""): b for b in last.values() if b["state"] == "open"}

    def tell(self) -> str:
        return "\n".join([*self.log[-TOLD:], "", *names(self.disk.records.get("app", []))[-TOLD:]])

    def _lost_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Died | BaseExceptionGroup):
            self.truth.wrong(f"an exception that nobody took: {context.get('message')} {error!r}")

    def close(self) -> None:
        self.dead = True
        self.loop.leave_nobody()
        self.loop.close()
