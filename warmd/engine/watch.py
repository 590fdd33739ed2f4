"""Watches a service through the health gate's window, on a clock that doesn't step."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta

import structlog

from warmd.core.model import GateRule, Health, worst
from warmd.core.window import Outcome, Window
from warmd.engine.observe import probe_once
from warmd.engine.service import Service, Shop
from warmd.errors import Transient

log = structlog.get_logger("warmd.run")

#: How often a window may begin anew because Docker could not be asked in between.
FRESH_STARTS = 3


class Unhealthy(Exception):
    """The gate said no. An exception only so that it takes the road of failures."""


def blind(window: Window) -> bool:
    """Whether the window's last word is that the probes can't be made."""
    return window.last is not None and window.last.health is Health.INCONCLUSIVE


async def _nothing() -> None:
    """Nobody is looked for."""


async def watch(
    service: Service,
    shop: Shop,
    rule: GateRule,
    *,
    was_blind: bool = False,
    look: Callable[[], Awaitable[None]] = _nothing,
) -> Window:
    """Probe until the gate has an answer: the window if healthy or blind. Raises Unhealthy.

    While Docker can't be asked for the tasks, no other probe counts against the release; and what
    Docker may have restarted meanwhile gets the whole window again, a few times. With ``was_blind``
    its deadline passed in an earlier look: as long as the probes stay silent, nobody waits here.
    ``look`` is called in each round, after the probes, and ends the watch with what it raises: what
    somebody else did is no word about the release.
    """
    begun, started = shop.clock.now(), shop.clock.monotonic()

    def now() -> datetime:
        # Wall-clock time that goes on evenly: a clock that is set meanwhile must not end the window.
        return begun + timedelta(seconds=shop.clock.monotonic() - started)

    window = Window(rule, begun)
    told: Health | None = None
    docker_gone, fresh = False, 0
    while True:
        tasks, *others = await probe_once((service.tasks, *service.probers))
        with suppress(Transient):  # Docker's silence is the probes' to tell
            await look()
        was_gone, docker_gone = docker_gone, tasks.health is Health.INCONCLUSIVE
        if was_gone and not docker_gone and fresh < FRESH_STARTS:
            window, fresh = Window(rule, now()), fresh + 1
        probe = tasks if docker_gone else worst((tasks, *others))
        window = window.see(probe, now())
        if probe.health is not told:
            told = probe.health
            log.info("gate.saw", service=service.name, health=told.value, detail=probe.detail)
        outcome = window.outcome(now())
        still_blind = was_blind and window.rounds == 1 and blind(window)
        if still_blind or outcome in (Outcome.HEALTHY, Outcome.BLIND):
            return window
        if outcome is Outcome.UNHEALTHY:
            raise Unhealthy(f"not healthy within the gate's deadline: {window.describe()}")
        await shop.clock.sleep(rule.interval.total_seconds())
