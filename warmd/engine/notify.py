"""Opens and resolves alerts so that what is open is what holds now. Journal first, file second."""

from __future__ import annotations

from collections.abc import Collection

import structlog

from warmd.core import alerts, notices
from warmd.core import history as h
from warmd.core.alerts import Alert
from warmd.core.model import Json
from warmd.core.notices import Notice
from warmd.engine.ledger import Ledger
from warmd.engine.service import Shop
from warmd.errors import WarmdError

log = structlog.get_logger("warmd.alert")


async def settle(
    ledger: Ledger,
    shop: Shop,
    wanted: tuple[Notice, ...],
    *,
    service: str | None,
    stack: str | None,
    current: str | None,
    resolution: str = "the condition is over",
    judged: bool = True,
    leave: Collection[tuple[str, str]] = (),
) -> None:
    """Make the open alerts be exactly ``wanted``, then deliver what is not yet delivered.

    Where the releases were not ``judged``, alerts about them stay open: nothing is known of them. So
    do those in ``leave``, by (kind, candidate).
    """
    known = {key: fingerprint for key, fingerprint in conditions(ledger).items() if key not in leave}
    said = {a.fingerprint: a.body for a in ledger.history.alerts.values()}
    changes = notices.changes(wanted, known, judged=judged, said=said)
    for fingerprint in changes.resolves:
        await _resolve(ledger, shop, fingerprint, resolution)
    for notice in changes.opens:
        await _open(ledger, shop, notice, service=service, stack=stack, current=current)
    await deliver(ledger, shop)


def conditions(ledger: Ledger) -> dict[tuple[str, str], str]:
    """What is open: (kind, candidate) -> fingerprint."""
    return {_condition(a.body): a.fingerprint for a in ledger.history.alerts.values()}


async def deliver(ledger: Ledger, shop: Shop) -> None:
    """Write every alert whose file isn't known to be there. One that can't be written is kept for later,
    and keeps no other from being written."""
    failed = 0
    for name, body in tuple(ledger.history.undelivered.items()):
        try:
            await shop.alerter.deliver(name, body)
        except WarmdError as error:
            if not failed:  # mostly it is the same with all
                log.error("alert.not-delivered", file=name, why=str(error))
            failed += 1
            continue
        await ledger.write(h.alert_delivered(shop.clock.now(), name))


def _condition(body: Json) -> tuple[str, str]:
    return body["kind"], body["candidate"] or ""


async def _open(
    ledger: Ledger, shop: Shop, notice: Notice, *, service: str | None, stack: str | None, current: str | None
) -> None:
    now = shop.clock.now()
    alert = alerts.open_alert(
        installation=shop.installation,
        host=shop.host,
        seq=ledger.history.seq + 1,
        kind=notice.kind,
        severity=notice.severity,
        service=service,
        stack=stack,
        summary=notice.summary,
        at=now,
        detail=notice.detail,
        current=current,
        candidate=notice.candidate,
        notes=notice.notes,
        run=notice.run,
        commands=notice.commands,
    )
    await ledger.write(h.alert_opened(now, alert.fingerprint, alert.file_name, alert.to_json()))
    log.warning(
        "alert.opened", service=service, kind=notice.kind, candidate=notice.candidate, summary=notice.summary
    )


async def _resolve(ledger: Ledger, shop: Shop, fingerprint: str, resolution: str) -> None:
    now = shop.clock.now()
    opened = Alert.from_json(ledger.history.alerts[fingerprint].body)
    resolved = opened.resolve(at=now, resolution=resolution, seq=ledger.history.seq + 1)
    await ledger.write(h.alert_resolved(now, fingerprint, resolved.file_name, resolved.to_json()))
    log.info("alert.resolved", service=opened.service, kind=opened.kind.value, candidate=opened.candidate)
