"""Asks, before a run writes to its stack, whether somebody else has changed it meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from warmd.core import hands, live
from warmd.core.model import Bundle, StackSeen
from warmd.core.runs import Run
from warmd.engine import bundles
from warmd.engine.service import Service, Shop
from warmd.errors import Foreign


class Hands:
    """The hands of others on one service's stack; what counts as theirs is decided in ``core.hands``."""

    def __init__(self, service: Service, shop: Shop) -> None:
        self._service = service
        self._shop = shop

    async def look(self, run: Run) -> None:
        """Raises Foreign where the stack, listed now, is not as the run left it."""
        if run.stands is not None and run.state in hands.HELD:
            await self.judge(run, await self._service.deployer.seen())

    async def judge(self, run: Run, seen: StackSeen) -> None:
        """The same of a listing, from which something is about to be written."""
        posted = await self._posted(run)
        names = hands.suspects(run, seen, posted=posted)
        if not names or run.stands is None:
            return
        words = hands.told(
            run,
            names,
            seen,
            stood=await bundles.fetch(self._shop, run.stands.bundle),
            now=await self._service.deployer.read_back(),
            posted=posted,
        )
        if words:
            raise Foreign(f"somebody else changed the stack meanwhile: {'; '.join(words)}")

    async def stands(self, run: Run) -> dict[str, Any]:
        """The stack as it is now, for the journal: from here on other hands are told by it. Raises Foreign
        where it is not as the run left it, or changes right now."""
        deployer = self._service.deployer
        seen = await deployer.seen()
        await self.judge(run, seen)
        marks, bundle = live.marks(seen), await deployer.read_back()
        if live.marks(await deployer.seen()) != marks:
            raise Foreign("somebody else changes the stack right now")
        return {"marks": marks, "bundle": await bundles.keep(self._shop, bundle)}

    async def _posted(self, run: Run) -> Mapping[str, Bundle]:
        names = {run.forth: run.target, run.back: run.goes_back_to} if run.wrote else {}
        return {label: await bundles.fetch(self._shop, name) for label, name in names.items() if name}
