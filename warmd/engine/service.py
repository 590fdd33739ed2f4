"""What the engine works with: one warm service, wired, and what all of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import anyio

from warmd.core.model import GateRule, Policy
from warmd.ports import Alerter, Blobs, Clock, Deployer, JournalStore, Prober, Snapshotter, Source, Swarm


@dataclass(frozen=True, slots=True)
class Service:
    """One warm service.

    ``tasks`` probes the stack's tasks and containers, for the health gate; looks judge them by the
    shared listing. ``copy`` is False for stacks without data, which are never stopped first.
    """

    name: str
    stack: str
    policy: Policy
    gate: GateRule
    source: Source
    deployer: Deployer
    snapshotter: Snapshotter
    tasks: Prober
    probers: tuple[Prober, ...]
    copy: bool = True
    exclude: tuple[str, ...] = ()
    keep: int = 3


@dataclass(frozen=True, slots=True)
class Shop:
    """What all services share.

    ``halted`` says why nothing at all may change (the PAUSE file), or None; ``slots`` bounds how
    many services change at once; ``offline`` keeps sources from the network.
    """

    installation: str
    host: str
    swarm: Swarm
    journals: JournalStore
    blobs: Blobs
    alerter: Alerter
    clock: Clock
    slots: anyio.CapacityLimiter
    halted: Callable[[], str | None]
    interval: timedelta
    offline: bool = False
