"""Alerts about warmd as a whole, opened and resolved by the daemon and by a lone pass in the same way."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress

import anyio
import structlog

from warmd.core import alerts, household
from warmd.core import history as h
from warmd.core.household import Condition, Trouble
from warmd.core.journal import Draft
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
        keep the rest from being told, so a new one is begun, and that is its first record: whoever is
        killed in between leaves a journal that is still damaged, or an alert that is still to be told."""
        try:
            await self.ledger.load()
        except JournalDamaged as error:
            log.error("daemon.journal-set-aside", why=error.message)
            await self._shop.journals.set_aside(DAEMON, self._lost(error))
            await self.ledger.load()

    def _lost(self, error: JournalDamaged) -> Draft:
        """The alert that the journal was damaged, opened."""
        notice, now = household.lost(DAEMON, error), self._shop.clock.now()
        alert = alerts.open_alert(
            installation=self._shop.installation,
            host=self._shop.host,
            seq=1,
            kind=notice.kind,
            severity=notice.severity,
            service=None,
            stack=None,
            summary=notice.summary,
            at=now,
            detail=notice.detail,
            candidate=notice.candidate,
            commands=notice.commands,
        )
        return h.alert_opened(now, alert.fingerprint, alert.file_name, alert.to_json())

    def _untold(self) -> set[Condition]:
        """That the journal was damaged, until it was told: it is over only then."""
        key, history = (household.JOURNAL, DAEMON), self.ledger.history
        fingerprint = notify.conditions(self.ledger).get(key)
        told = fingerprint is None or history.alerts[fingerprint].name not in history.undelivered
        return set() if told else {key}

    async def settle(self, looks: Mapping[str, Trouble | None], *, services: Collection[str]) -> None:
        """Make the open alerts fit ``looks``: how each service fared that was looked at, of all
        ``services``. Trouble with that ends nobody's care."""
        troubles = {name: trouble for name, trouble in looks.items() if trouble is not None}
        try:
            async with self._settling:
                await self._load()
                if not troubles and not self.unsettled:
                    return
                open_now = notify.conditions(self.ledger)
                wanted = household.wanted(troubles, services=len(services), open_now=open_now)
                await notify.settle(
                    self.ledger,
                    self._shop,
                    wanted,
                    service=None,
                    stack=None,
                    current=None,
                    # Of those that were not looked at nothing is known.
                    leave={key for key in open_now if key[1] in services and key[1] not in looks}
                    | self._untold(),
                )
        except WarmdError as error:
            log.error("daemon.alerts-failed", why=str(error))
