"""The only wiring: settings in, a ready app out. Everything else gets what it needs as arguments."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from warmd.adapters.blobs import BlobFiles
from warmd.adapters.clock import SystemClock
from warmd.adapters.docker.swarm import open_swarm
from warmd.adapters.journal_file import JournalFiles
from warmd.adapters.reserve import Reserve
from warmd.adapters.state_dir import StateDir
from warmd.config import Config
from warmd.config import Service as Settings
from warmd.engine.desk import Desk
from warmd.engine.household import Household
from warmd.engine.reconcile import Reconciler
from warmd.engine.service import Service, Shop
from warmd.engine.supervisor import Supervisor
from warmd.plugins import table
from warmd.plugins.alerters import spool
from warmd.plugins.base import Context
from warmd.plugins.probers.tasks import TasksProber
from warmd.ports import Clock, Swarm

#: A file of this name in the state directory stops all changes, at once, for everything.
PAUSE_FILE = "PAUSE"


@dataclass(frozen=True, slots=True)
class App:
    """Everything wired and nothing started."""

    config: Config
    state: StateDir
    shop: Shop
    reconcilers: Mapping[str, Reconciler]

    def supervisor(self) -> Supervisor:
        return Supervisor(self.reconcilers, self.shop, heartbeat=heartbeat(self.config.daemon.heartbeat))

    def desk(self, supervisor: Supervisor | None = None) -> Desk:
        """Acting is for root and for the user warmd runs as. ``supervisor``: where a daemon runs."""
        owners = frozenset({0, os.geteuid()})
        if supervisor is None:
            own = Household(self.shop)
            return Desk(self.reconcilers, owners=owners, own=own.ledger, household=own)
        return Desk(
            self.reconcilers,
            owners=owners,
            troubles=supervisor.trouble,
            own=supervisor.ledger,
            ready=supervisor.poke,
        )


@asynccontextmanager
async def build(config: Config, *, offline: bool = False, clock: Clock | None = None) -> AsyncIterator[App]:
    """Wire an app. Opens the state directory and a client for Docker; asks nobody anything yet.

    ``offline`` (or ``WARMD_SKIP_FETCH=1``) keeps sources from the network. ``clock`` is the machine's
    unless given. Raises WarmdError.
    """
    state = await anyio.to_thread.run_sync(StateDir.open, config.daemon.state_dir)
    clock = clock or SystemClock()
    room = Reserve(state.reserve)
    async with open_swarm(config.daemon.docker_host, clock) as swarm:
        shop = Shop(
            installation=state.installation,
            host=socket.gethostname(),
            swarm=swarm,
            journals=JournalFiles(state.services, room),
            blobs=BlobFiles(state.blobs, room),
            alerter=spool.Spool(config.daemon.alert_dir, config.daemon.alert_group),
            clock=clock,
            slots=anyio.CapacityLimiter(config.daemon.max_parallel),
            halted=pause_file(state.path / PAUSE_FILE),
            interval=config.daemon.interval,
            offline=offline or os.environ.get("WARMD_SKIP_FETCH") == "1",
        )
        wanted = {name: s for name, s in config.services.items() if s.enabled}
        reconcilers = {
            name: Reconciler(
                _service(name, settings, _context(name, settings, config, state, swarm, clock, room)), shop
            )
            for name, settings in wanted.items()
        }
        yield App(config, state, shop, reconcilers)


def _context(
    name: str, settings: Settings, config: Config, state: StateDir, swarm: Swarm, clock: Clock, room: Reserve
) -> Context:
    return Context(
        service=name,
        stack=settings.stack,
        folder=state.service(name),
        mirrors=state.mirrors,
        config_dir=config.folder,
        docker_host=config.daemon.docker_host,
        swarm=swarm,
        clock=clock,
        room=room,
        protected=(state.path.absolute(), config.path.absolute()),
    )


def _service(name: str, settings: Settings, context: Context) -> Service:
    snapshot = settings.snapshot
    return Service(
        name=name,
        stack=settings.stack,
        policy=settings.policy.to_core(),
        gate=settings.health_gate.to_core(),
        source=table.source(settings.source, context),
        deployer=table.deployer(settings.deploy, context),
        snapshotter=table.snapshotter(snapshot, context),
        tasks=TasksProber(context.swarm, settings.stack),
        probers=tuple(table.prober(probe, context) for probe in settings.health),
        copy=table.kind_of(snapshot) != "none",
        exclude=tuple(getattr(snapshot, "exclude", ())),
        keep=int(getattr(snapshot, "keep", 0)),
    )


def pause_file(path: Path) -> Callable[[], str | None]:
    """Why nothing may change: the file is there. Asked before each effect, so it is only a stat."""

    def halted() -> str | None:
        return f"{path} is there: nothing is changed until it is removed" if path.exists() else None

    return halted


def heartbeat(path: Path) -> Callable[[], None]:
    """Touch a file, so that the outside world sees that warmd looks. Trouble with it is no trouble."""

    def beat() -> None:
        try:
            path.touch()
        except OSError:
            return

    return beat
