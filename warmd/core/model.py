"""The nouns of warmd, as frozen data. docs/architecture.md explains each word.

Swarm objects (specs) stay what the Engine API says they are, JSON objects, and are never mutated.
Times are aware datetimes in UTC; durations are timedeltas.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from warmd.core.text import one_line
from warmd.core.versions import Version

Json: TypeAlias = Mapping[str, Any]

#: Labels that warmd puts on the swarm services it deploys.
LABEL_OWNER = "warmd.owner"
LABEL_VERSION = "warmd.version"
LABEL_RUN = "warmd.run"
LABEL_STACK = "com.docker.stack.namespace"


class Health(StrEnum):
    """What one probe, or all probes together, said. Inconclusive: it could not be made."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Probe:
    """One answer of one prober. ``identity`` changes when what was probed was restarted. ``detail`` is one
    line of what can be seen, whatever the service said: it goes into the journal and everywhere else."""

    health: Health
    detail: str
    identity: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", one_line(self.detail))


def worst(probes: tuple[Probe, ...]) -> Probe:
    """All probes as one: unhealthy beats inconclusive beats healthy; identities are joined."""
    order = (Health.UNHEALTHY, Health.INCONCLUSIVE, Health.HEALTHY)
    identity = " ".join(p.identity for p in probes if p.identity)
    for health in order:
        found = [p for p in probes if p.health is health]
        if found:
            return Probe(health, "; ".join(p.detail for p in found if p.detail), identity)
    return Probe(Health.INCONCLUSIVE, "no probe is configured", identity)


@dataclass(frozen=True, slots=True)
class Note:
    """One notes file of a release. ``text`` is None where it is binary or over 256 KiB."""

    path: str
    sha256: str
    text: str | None


@dataclass(frozen=True, slots=True)
class Release:
    """One published version. ``first_commit`` is the commit this tag had when first seen."""

    version: Version
    tag: str
    commit: str
    at: datetime
    notes: tuple[Note, ...] = ()
    first_commit: str | None = None

    @property
    def moved(self) -> bool:
        return self.first_commit is not None and self.first_commit != self.commit

    @property
    def fingerprint(self) -> str:
        """What an approval binds: the commit and every note's hash. Hex SHA-256."""
        parts = [self.version.text, self.commit, *sorted(f"{n.path}={n.sha256}" for n in self.notes)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Catalog:
    """What a source has published, lowest first. ``ignored`` counts tags that are no versions.

    ``fetched_at`` is when the source last answered (None: never); ``trouble`` is why it did not now.
    """

    releases: tuple[Release, ...]
    ignored: int = 0
    fetched_at: datetime | None = None
    trouble: str | None = None

    def find(self, version: Version | None) -> Release | None:
        return next((r for r in self.releases if r.version.same_as(version)), None) if version else None


def canonical(value: object) -> bytes:
    """JSON with sorted keys and no spaces: the same bytes for the same value. UTF-8; half a character (a
    lone surrogate, as in a file's name that is no text) becomes a question mark."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="replace")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A whole stack as data: what is posted to the Engine API to make it.

    ``networks``, ``configs``, ``secrets`` and ``services`` are the bodies of the create calls, each
    with its ``Name``, sorted by it. References between them are by *name*: a service's
    ``Networks[].Target`` is a network name, ``ConfigReference.ConfigID`` and ``SecretID`` are empty.
    ``Data`` of configs and secrets is base64, as the API has it; secrets that were read back from
    a swarm have none. External objects do not stand here; services name them all the same.
    """

    networks: tuple[Json, ...] = ()
    configs: tuple[Json, ...] = ()
    secrets: tuple[Json, ...] = ()
    services: tuple[Json, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON, without the data of secrets: what may be written to disk (mode 0600)."""
        return {
            "networks": list(self.networks),
            "configs": list(self.configs),
            "secrets": [{k: v for k, v in s.items() if k != "Data"} for s in self.secrets],
            "services": list(self.services),
        }

    @classmethod
    def from_json(cls, data: Json) -> Bundle:
        return cls(*(tuple(data[part]) for part in ("networks", "configs", "secrets", "services")))

    @property
    def images(self) -> dict[str, str]:
        """Service name -> image reference."""
        return {s["Name"]: s["TaskTemplate"]["ContainerSpec"]["Image"] for s in self.services}


@dataclass(frozen=True, slots=True)
class Mount:
    """Something the stack can write to. ``kind``: volume, bind or anonymous (a volume without a name).

    ``source`` is the volume's name or the bind's path; ``options`` are the volume driver's.
    """

    service: str
    kind: Literal["volume", "bind", "anonymous"]
    source: str
    target: str
    driver: str = "local"
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskSeen:
    """One swarm task, as listed. ``image`` may carry a digest. ``container`` is an id or empty."""

    id: str
    service: str
    state: str
    desired: str
    image: str
    node: str
    container: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class ServiceSeen:
    """One swarm service of a stack, as listed. ``replicas`` is None for a global service; ``previous`` is
    the spec before the last update, which tasks that were not yet replaced still run."""

    id: str
    name: str
    index: int
    spec: Json
    tasks: tuple[TaskSeen, ...] = ()
    previous: Json | None = None

    @property
    def image(self) -> str:
        return str(self.spec["TaskTemplate"]["ContainerSpec"]["Image"])

    @property
    def labels(self) -> Mapping[str, str]:
        return self.spec.get("Labels") or {}

    @property
    def replicas(self) -> int | None:
        replicated = (self.spec.get("Mode") or {}).get("Replicated")
        return None if replicated is None else int(replicated.get("Replicas", 1))

    @property
    def running(self) -> int:
        """Tasks that are meant to run, do run, and run what the spec says."""
        return sum(t.state == t.desired == "running" and t.image == self.image for t in self.tasks)

    @property
    def job(self) -> bool:
        mode = self.spec.get("Mode") or {}
        return "ReplicatedJob" in mode or "GlobalJob" in mode

    @property
    def converged(self) -> bool:
        if self.job:
            return True
        live = [t for t in self.tasks if t.desired in ("running", "ready") or t.state == "running"]
        if self.replicas is None:
            return bool(live) and len(live) == self.running
        return len(live) == self.running == self.replicas


@dataclass(frozen=True, slots=True)
class StackSeen:
    """What the swarm shows of one stack: all from one shared listing."""

    stack: str
    services: tuple[ServiceSeen, ...] = ()

    @property
    def deployed(self) -> bool:
        return bool(self.services)

    @property
    def owner(self) -> str | None:
        """The installation whose label stands on any service, or None."""
        return next((s.labels[LABEL_OWNER] for s in self.services if LABEL_OWNER in s.labels), None)

    def label(self, name: str) -> str | None:
        """The first value of a label over all services, by service name."""
        return next((s.labels[name] for s in self.services if s.labels.get(name)), None)

    @property
    def mismatch(self) -> str | None:
        """Where warmd's label and the recipe's name different versions: a maintainer forgot one."""
        ours, theirs = self.label(LABEL_VERSION), self.label(f"coop-cloud.{self.stack}.version")
        if not ours or not theirs or ours == theirs:
            return None
        return f"the label {LABEL_VERSION} says {ours}, coop-cloud.{self.stack}.version says {theirs}"

    @property
    def version_text(self) -> str | None:
        """warmd's own label, else the recipe's; some recipes put it on another service than ``app``."""
        return self.label(LABEL_VERSION) or self.label(f"coop-cloud.{self.stack}.version")


@dataclass(frozen=True, slots=True)
class Container:
    """One container on the node asked, in any state. ``started`` is empty if it never ran."""

    id: str
    service: str
    task: str
    running: bool
    started: str
    health: str  # starting | healthy | unhealthy | "" without a HEALTHCHECK
    image: str
    volumes: tuple[str, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class Volume:
    """One volume on the node asked. ``options`` are the driver's (bind, NFS …)."""

    name: str
    driver: str
    mountpoint: str
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules' settings of one service; every default is the careful one."""

    recipe_major: Literal["hold", "allow"] = "hold"
    app_major: Literal["hold", "allow"] = "hold"
    notes: Literal["hold-any", "hold-marked", "ignore"] = "hold-any"
    notes_markers: tuple[str, ...] = ()
    require_approval: bool = False
    upgrade_unhealthy: bool = False
    rollback_horizon: timedelta = timedelta(hours=1)
    repair_after: timedelta = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class GateRule:
    """The health gate: ``successes`` good rounds in a row, then good through ``stable``."""

    deadline: timedelta = timedelta(minutes=10)
    interval: timedelta = timedelta(seconds=5)
    successes: int = 3
    stable: timedelta = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class LastGood:
    """What passed health last. ``bundle`` and ``rendered`` are blob names; ``inputs`` a hash.

    ``bundle`` is the stack as read back from the swarm; ``rendered`` is what was rendered for it
    (None after a take-over) and ``inputs`` the hash of what rendering depends on, so that a look
    need not render to know that nothing changed. ``said`` is the version that the labels named then:
    as long as they say the same, ``version`` is what runs, whatever a maintainer forgot to change.
    ``pinned`` is ``bundle`` with the digests of images that were deployed by tag alone.
    """

    version: Version | None
    bundle: str
    at: datetime
    how: str
    commit: str | None = None
    rendered: str | None = None
    inputs: str | None = None
    run: str | None = None
    said: str | None = None
    pinned: str | None = None

    @property
    def deployable(self) -> str:
        """The blob to deploy in order to come back to this: with digests, where tags may have moved."""
        return self.pinned or self.bundle


@dataclass(frozen=True, slots=True)
class SnapshotHandle:
    """Names one snapshot. Opaque: the node it lies on and an id, never a path."""

    node: str
    id: str

    def to_json(self) -> dict[str, str]:
        return {"node": self.node, "id": self.id}


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """One snapshot, for lists. Sizes in bytes."""

    handle: SnapshotHandle
    at: datetime
    version: str | None
    run: str | None
    volumes: tuple[str, ...]
    archive_bytes: int
    data_bytes: int
    files: int
    sealed: bool
