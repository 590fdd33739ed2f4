"""One warmd in this process: the real core, engine and adapters, on parts that outlive it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import anyio

from tests.stateful.parts import Disk, ListSource, MemoryBlobs, MemoryJournals, PlainSpool, Points, Shelf
from warmd.adapters.stacks import StackOps
from warmd.core import specs
from warmd.core.model import GateRule, Json, Policy, Release
from warmd.engine.desk import Answer, Desk, Request
from warmd.engine.reconcile import Reconciler
from warmd.engine.service import Service, Shop
from warmd.engine.supervisor import Supervisor
from warmd.plugins.probers.tasks import TasksProber
from warmd.ports import Clock, Prober, Rendered, Snapshotter, Source, Swarm

INSTALLATION = "installation-1"


CAREFUL = Policy()
SHORT = GateRule(
    deadline=timedelta(minutes=3),
    interval=timedelta(seconds=10),
    successes=2,
    stable=timedelta(seconds=30),
)


@dataclass(frozen=True)
class Settings:
    """What a person may have configured for the service."""

    policy: Policy = CAREFUL
    gate: GateRule = SHORT
    keep: int = 2
    env: tuple[tuple[str, str], ...] = ()
    interval: timedelta = timedelta(hours=1)


class ListedDeployer(StackOps):
    """The Deployer port: applying is the real one; a release is rendered by looking it up.

    ``bodies`` has the bodies of the create calls a release's commit means: (kind, body).
    """

    def __init__(
        self,
        swarm: Swarm,
        stack: str,
        clock: Clock,
        bodies: Mapping[str, Sequence[tuple[str, Json]]],
        env: Sequence[tuple[str, str]],
    ) -> None:
        super().__init__(swarm, stack, clock)
        self._bodies = bodies
        self._env = [f"{name}={value}" for name, value in env]

    async def inputs(self, release: Release) -> str:
        return f"{release.commit} {self._env}"

    async def render(self, release: Release, tree: Path) -> Rendered:
        bundle = specs.recorded((kind, self._filled(kind, b)) for kind, b in self._bodies[release.commit])
        return Rendered(bundle, await self.inputs(release))

    def _filled(self, kind: str, body: Json) -> Json:
        if kind != "services" or not self._env:
            return body
        task = body["TaskTemplate"]
        container = {**task["ContainerSpec"], "Env": self._env}
        return {**body, "TaskTemplate": {**task, "ContainerSpec": container}}


@dataclass
class Machine:
    """What is there whether warmd runs or not."""

    swarm_of: Callable[[], Swarm]  # a client of its own for each process
    clock: Clock
    disk: Disk
    shelf: Shelf
    points: Points
    alerts: Path
    snapshotter: Snapshotter
    probers: tuple[Prober, ...]
    bodies: dict[str, Sequence[tuple[str, Json]]] = field(default_factory=dict)
    name: str = "app"
    stack: str = "app"
    pause_file: bool = False
    spool_full: bool = False

    def halted(self) -> str | None:
        return "the file PAUSE is there: nothing is changed until it is removed" if self.pause_file else None


class Process:
    """A daemon and its desk. ``start`` begins its looks; it ends when it is told to leave, or dies."""

    def __init__(self, machine: Machine, settings: Settings) -> None:
        swarm: Swarm = machine.swarm_of()
        clock, points = machine.clock, machine.points
        source: Source = ListSource(machine.shelf, clock, points)
        self.shop = Shop(
            installation=INSTALLATION,
            host="host",
            swarm=swarm,
            journals=MemoryJournals(machine.disk, points),
            blobs=MemoryBlobs(machine.disk, points),
            alerter=PlainSpool(machine.alerts, points, lambda: machine.spool_full),
            clock=clock,
            slots=anyio.CapacityLimiter(1),
            halted=machine.halted,
            interval=settings.interval,
        )
        self.service = Service(
            name=machine.name,
            stack=machine.stack,
            policy=settings.policy,
            gate=settings.gate,
            source=source,
            deployer=ListedDeployer(swarm, machine.stack, clock, machine.bodies, settings.env),
            snapshotter=machine.snapshotter,
            tasks=TasksProber(swarm, machine.stack),
            probers=machine.probers,
            keep=settings.keep,
        )
        self.reconciler = Reconciler(self.service, self.shop)
        self.supervisor = Supervisor({machine.name: self.reconciler}, self.shop, heartbeat=lambda: None)
        self.desk = Desk(
            {machine.name: self.reconciler},
            owners=frozenset({0}),
            troubles=self.supervisor.trouble,
            own=self.supervisor.ledger,
            ready=self.supervisor.poke,
        )
        self.settings = settings
        self._name = machine.name

    async def ask(self, verb: str, **args: object) -> Answer:
        """What the command line would ask. Raises WarmdError."""
        return await self.desk.answer(Request(verb, self._name, args, uid=0))
