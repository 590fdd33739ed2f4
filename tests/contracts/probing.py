"""Waiting for what a prober says."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from warmd.core.model import Health, Probe
from warmd.ports import Prober


async def until(prober: Prober, wanted: Health | Callable[[Probe], bool], *, deadline: float = 60) -> Probe:
    """What it said once it said so. Raises AssertionError with its last word after ``deadline`` seconds."""
    said: Probe | None = None
    with anyio.move_on_after(deadline):
        while True:
            said = await prober.probe()
            if said.health is wanted if isinstance(wanted, Health) else wanted(said):
                return said
            await anyio.sleep(0.1)
    raise AssertionError(f"within {deadline} s it only said: {said}")
