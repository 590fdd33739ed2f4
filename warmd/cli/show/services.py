"""``status``, and the table after ``up`` and ``reconcile``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from warmd.cli.show.base import Answer, Row, ago, console, table, tell, word
from warmd.core import gate, status
from warmd.core.status import ServiceStatus

_TITLES = ("SERVICE", "CURRENT", "DECISION", "HEALTH", "LAST GOOD")


def services(rows: Sequence[Answer], *, to: Console | None = None, now: datetime | None = None) -> None:
    """All services in one table, and in one line under it. ``rows`` are the answers to ``status`` or
    ``reconcile``."""
    to, now = to or console(), now or datetime.now(UTC)
    shown = tuple(_model(row) for row in rows)
    if not shown:
        tell(to, "No service is configured, or none is enabled.")
        return
    table(to, _TITLES, [_row(service, now) for service in shown])
    to.print()
    tell(to, status.summary(shown))


def _model(row: Answer) -> ServiceStatus:
    """A look that failed has no more than its error."""
    if "error" not in row:
        return ServiceStatus.model_validate(row)
    nothing = {name: None for name, of in ServiceStatus.model_fields.items() if of.is_required()}
    known = {"decision": "error", "reason": "", "stack": "", "detail": "", "alerts": (), "paused": False}
    return ServiceStatus.model_validate(
        nothing | known | {"service": row["service"], "trouble": row["error"]}
    )


def _row(service: ServiceStatus, now: datetime) -> Row:
    return Row(
        (
            word(service.service, "bold"),
            word(service.current),
            word(service.decision),
            word(service.health),
            _last_good(service, now),
        ),
        tuple(_notes(service)),
    )


def _last_good(service: ServiceStatus, now: datetime) -> Text:
    """Its age, and the version only where another one runs."""
    age = ago(service.last_good_at, now)
    other = service.last_good if service.last_good != service.current else None
    return word(f"{other}, {age}" if other else age if service.last_good_at else None)


def _notes(service: ServiceStatus) -> list[Text]:
    notes: list[Text] = []
    if service.trouble:
        notes.append(word(service.trouble, "red"))
    if service.reason and service.decision != gate.NOOP:
        notes.append(word(service.reason))
    if service.detail and service.health != "healthy" and service.detail not in service.reason:
        notes.append(word(service.detail))
    notes += [word(warning, "yellow") for warning in service.warnings]
    if service.paused and service.decision != gate.PAUSED:
        notes.append(word(service.paused_why or "paused", "yellow"))
    others = [alert for alert in service.alerts if alert.split()[0] != service.decision]
    if others:
        notes.append(word(f"alerts: {', '.join(others)}", "yellow"))
    return notes
