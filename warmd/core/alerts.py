"""What an alert file says: schema v1. docs/alerts.md explains it to those who read the files.

An *opening* is one time that a condition began. It has an ``id`` of its own; its two files, open and
resolved, share it. The *condition* itself (installation, service, kind, candidate) has the
``fingerprint``, the same at every opening. Both, and the file's name, follow from the content alone,
so an alert that is written again after a crash is the same one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from warmd.core.model import Json, Note, canonical
from warmd.core.text import one_line, plain

#: The version of the schema. It changes where a reader of the old one would be misled.
SCHEMA = 1


class Kind(StrEnum):
    """What the matter is. The holds have the names that decisions have."""

    HELD_MAJOR = "held-major"
    HELD_MANUAL_MIGRATION = "held-manual-migration"
    HELD_APPROVAL = "held-approval"
    HELD_TOO_YOUNG = "held-too-young"
    HELD_WINDOW = "held-window"
    HELD_LEASE = "held-lease"
    HELD_DENIED = "held-denied"
    HELD_DEPENDENCY = "held-dependency"
    HELD_PINNED = "held-pinned"
    HELD_PAUSED = "held-paused"
    HELD_UNPARSABLE = "held-unparsable"
    HELD_TAG_MOVED = "held-tag-moved"
    HELD_FAILED_BEFORE = "held-failed-before"
    HELD_UNHEALTHY = "held-unhealthy"
    HELD_UNKNOWN_CURRENT = "held-unknown-current"
    HELD_CONFIG_DRIFT = "held-config-drift"
    HELD_DATA_WITHOUT_VERSION = "held-data-without-version"
    HELD_NOTHING_PUBLISHED = "held-nothing-published"
    HELD_REHEARSAL = "held-rehearsal"
    ROLLED_BACK = "rolled-back"
    STUCK = "stuck"
    INTERRUPTED = "interrupted"
    FAILED_UNCHANGED = "failed-unchanged"
    UNHEALTHY = "unhealthy"
    DRIFT = "drift"
    OWNED_ELSEWHERE = "owned-elsewhere"
    SOURCE_UNREACHABLE = "source-unreachable"
    DOCKER_UNREACHABLE = "docker-unreachable"
    CONFIG_INVALID = "config-invalid"
    JOURNAL_DAMAGED = "journal-damaged"
    LOOK_FAILED = "look-failed"


class Severity(StrEnum):
    """info: when there is time. warning: soon. critical: the service is, or may be, down."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Status(StrEnum):
    """open: it began. resolved: it is over."""

    OPEN = "open"
    RESOLVED = "resolved"


class _Model(BaseModel):
    # Unknown fields are passed over: a newer warmd may have added some to schema 1.
    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class AlertNote(_Model):
    """One notes file of the candidate."""

    path: str
    """Its path in the recipe's repository."""

    sha256: str
    """The hash of its bytes, in hex."""

    text: str | None
    """The whole text. null: it is binary or over 256 KiB, and has to be read where it lies."""


class Alert(_Model):
    """One alert file of warmd."""

    schema_: Literal[1] = Field(alias="schema")
    """The version of this schema."""

    installation: str
    """The id of the warmd that wrote it, one a state directory."""

    host: str
    """The name of the machine it runs on."""

    id: str = Field(pattern=r"^[0-9a-f]{16}$")
    """One opening of the condition; the open and the resolved file share it."""

    seq: int = Field(ge=0)
    """Grows from file to file of one service; gaps are normal."""

    fingerprint: str = Field(pattern=r"^[0-9a-f]{32}$")
    """The condition: installation, service, kind and candidate; the same whenever it opens again."""

    state: Status
    """Which of the two files of an opening this is."""

    kind: Kind
    """What the matter is."""

    severity: Severity
    """How soon somebody should look."""

    service: str | None
    """The service's name in the configuration. null: the daemon as a whole."""

    stack: str | None
    """The stack's name in the swarm."""

    summary: str
    """One line for a subject or a chat message."""

    detail: str
    """What happened, in full; may have several lines, may be empty."""

    current: str | None
    """The version that runs, where it is known."""

    candidate: str | None
    """The version that it is about."""

    notes: tuple[AlertNote, ...]
    """The candidate's release notes, where it has any."""

    run: str | None
    """The run that it came from; `warmd history` shows it."""

    opened_at: AwareDatetime
    """When the condition was first seen, UTC."""

    resolved_at: AwareDatetime | None
    """When it was found to be over, UTC."""

    resolution: str | None
    """How it ended, in a few words."""

    commands: tuple[str, ...]
    """What one may type about it, the most likely first. Empty in a resolved file."""

    @model_validator(mode="after")
    def _resolved_is_whole(self) -> Self:
        over = self.resolved_at is not None and self.resolution is not None
        nothing = self.resolved_at is None and self.resolution is None
        if not (over if self.state is Status.RESOLVED else nothing):
            raise ValueError("resolved_at and resolution are set exactly in resolved alerts")
        if self.resolved_at is not None and self.resolved_at <= self.opened_at:
            raise ValueError("resolved_at must be later than opened_at")
        return self

    @property
    def file_name(self) -> str:
        """``<UTC time>-<service>-<kind>-<short id>.json``: the time of opening or of resolution.

        Names sort by time. The microseconds keep the two files of one opening apart.
        """
        at = (self.resolved_at or self.opened_at).astimezone(UTC)
        return f"{at:%Y%m%dT%H%M%S.%fZ}-{self.service or 'daemon'}-{self.kind}-{self.id[:8]}.json"

    def to_json(self) -> dict[str, Any]:
        """What the file says, as JSON values."""
        data: dict[str, Any] = self.model_dump(mode="json", by_alias=True)
        return data

    @classmethod
    def from_json(cls, data: Json) -> Alert:
        """What ``to_json`` gave. Raises ValueError (pydantic's) where it is no alert of schema 1."""
        return cls.model_validate(data)

    def resolve(self, *, at: datetime, resolution: str, seq: int) -> Alert:
        """The resolved file of this opening. A clock that was set back does not end it before it began."""
        later = max(at.astimezone(UTC), self.opened_at + timedelta(microseconds=1))
        return Alert.from_json(
            self.to_json()
            | {
                "state": Status.RESOLVED,
                "seq": seq,
                "resolved_at": later,
                "resolution": one_line(resolution),
                "commands": [],
            }
        )


def fingerprint(*, installation: str, service: str | None, kind: str, candidate: str | None) -> str:
    """The condition's name: 32 hex digits of a SHA-256. An empty candidate is none."""
    parts = [installation, service, str(kind), candidate or None]
    return hashlib.sha256(canonical(parts)).hexdigest()[:32]


def open_alert(
    *,
    installation: str,
    host: str,
    seq: int,
    kind: str,
    severity: str,
    service: str | None,
    stack: str | None,
    summary: str,
    at: datetime,
    detail: str = "",
    current: str | None = None,
    candidate: str | None = None,
    notes: Sequence[Note] = (),
    run: str | None = None,
    commands: Sequence[str] = (),
) -> Alert:
    """A new opening at ``at``. The same arguments give the same alert. Raises ValueError for a kind
    or severity that is not in the schema."""
    name = fingerprint(installation=installation, service=service, kind=kind, candidate=candidate)
    opened = at.astimezone(UTC)
    return Alert(
        schema=SCHEMA,
        installation=installation,
        host=host,
        id=hashlib.sha256(canonical([name, opened.isoformat()])).hexdigest()[:16],
        seq=seq,
        fingerprint=name,
        state=Status.OPEN,
        kind=Kind(kind),
        severity=Severity(severity),
        service=service,
        stack=stack,
        summary=" ".join(one_line(summary).split()),  # one line, whatever went into it
        detail=plain(detail),
        current=current or None,
        candidate=candidate or None,
        notes=tuple(AlertNote(path=n.path, sha256=n.sha256, text=n.text) for n in notes),
        run=run,
        opened_at=opened,
        resolved_at=None,
        resolution=None,
        commands=tuple(commands),
    )


def json_schema() -> dict[str, Any]:
    """The JSON Schema of an alert file, as published in docs/alert.schema.json."""
    schema = Alert.model_json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "warmd alert, schema 1",
    }


def schema_text() -> str:
    """``json_schema`` as the text of the published file."""
    return json.dumps(json_schema(), indent=2) + "\n"
