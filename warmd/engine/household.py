"""Alerts about warmd as a whole, opened and resolved by the daemon and by a lone pass in the same way."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress

import anyio
import structlog

from warmd.core import household
from warmd.core.household import Trouble
from warmd.core.notices import Notice
from warmd.engine import notify
from warmd.engine.ledger import Ledger
from warmd.engine.service import Shop
from warmd.errors import JournalDamaged, WarmdError

log = structlog.get_logger("warmd.daemon")

#: Its journal lies beside those of the services, under a name none can have.
DAEMON = "warmd.daemon"


class Household:
    """The alerts that belong to no service's journal, because that can't be used, or to all of them."""

    def __init__(self, shop: Shop) -> None:
        self.ledger = Ledger(shop.journals, DAEMON)
        self._shop = shop
        self._settling = anyio.Lock()
        self._lost: Notice | None = None

    @property
    def unsettled(self) -> bool:
        """Whether alerts are open, or their files not delivered yet."""
        return bool(self.ledger.history.alerts or self.ledger.history.undelivered)

    async def begin(self) -> None:
        """Know what was open when the last warmd ended, and hold room for what is to come. Trouble with
        either shows when something is to be told."""
        with suppress(WarmdError):
            await self._load()
            await self._shop.journals.reserve(DAEMON)

    async def _load(self) -> None:
        """What is open, from the journal. One that is damaged says nothing of any service: it must not
        keep the rest from being told, so a new one is begun, and that is told too."""
        try:
            await self.ledger.load()
        except JournalDamaged as error:
            log.error("daemon.journal-set-aside", why=error.message)
            await self._shop.journals.set_aside(DAEMON)
            self._lost = household.lost(DAEMON, error)
            await self.ledger.load()

    async def settle(self, looks: Mapping[str, Trouble | None], *, services: Collection[str]) -> None:
        """Make the open alerts fit ``looks``: how each service fared that was looked at, of all
        ``services``. Trouble with that ends nobody's care."""
        troubles = {name: trouble for name, trouble in looks.items() if trouble is not None}
        try:
            async with self._settling:
                await self._load()
                if not troubles and not self.unsettled and self._lost is None:
                    return
                open_now = notify.conditions(self.ledger)
                wanted = household.wanted(troubles, services=len(services), open_now=open_now)
                if self._lost is not None:
                    wanted, self._lost = (*wanted, self._lost), None
                await notify.settle(
                    self.ledger,
                    self._shop,
                    wanted,
                    service=None,
                    stack=None,
                    current=None,
                    # Of those that were not looked at nothing is known.
                    leave={key for key in open_now if key[1] in services and key[1] not in looks},
                )
        except WarmdError as error:
            log.error("daemon.alerts-failed", why=str(error))
