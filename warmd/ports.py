"""What the engine needs from the world. Adapters and plugins meet these; tests run one contract a port.

Every method may raise ``Transient`` (try later) or ``Permanent`` (a person is needed) from
``warmd.errors`` and nothing else of its own; cancellation goes through anyio.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeAlias

from warmd.core.journal import Draft, Record
from warmd.core.model import (
    Bundle,
    Catalog,
    Container,
    Json,
    Mount,
    Probe,
    Release,
    SnapshotHandle,
    SnapshotInfo,
    StackSeen,
    Volume,
)

__all__ = [
    "Alerter",
    "Ask",
    "Blobs",
    "CaptureRequest",
    "Clock",
    "Container",
    "Deployer",
    "JournalStore",
    "Prober",
    "Rendered",
    "Snapshotter",
    "Source",
    "Swarm",
    "Volume",
]


class Clock(Protocol):
    """Time and randomness, the only place they come from."""

    def now(self) -> datetime:
        """Wall-clock time, aware, UTC."""

    def monotonic(self) -> float:
        """Seconds that never step back."""

    async def sleep(self, seconds: float) -> None: ...

    def jitter(self) -> float:
        """A random number in [0, 1)."""

    def new_id(self) -> str:
        """A short id that was never given before: 12 hex digits."""


class Source(Protocol):
    """Where versions are published."""

    async def releases(self, *, not_before: float, offline: bool = False) -> Catalog:
        """Everything published, lowest first.

        One fetch serves every caller whose ``not_before`` (monotonic) is older than the fetch's
        start. An unreachable remote is no error where something was fetched before: the catalogue
        then carries ``trouble``. Raises SourceUnreachable where there is nothing at all.
        """

    def tree(self, release: Release) -> AbstractAsyncContextManager[Path]:
        """A private folder with the release's files, removed on exit."""


class Swarm(Protocol):
    """The Docker Engine, as little of it as warmd needs. Specs go in and out as the API has them."""

    async def stacks(self, *, not_before: float) -> Mapping[str, StackSeen]:
        """All stacks by name, from one listing of services and one of tasks shared by all callers
        whose ``not_before`` (monotonic) is older than the listing's start."""

    async def stack(self, name: str) -> StackSeen:
        """One stack, listed now."""

    async def networks(self) -> Sequence[Json]: ...
    async def configs(self) -> Sequence[Json]: ...
    async def secrets(self) -> Sequence[Json]: ...

    async def create(self, kind: str, body: Json) -> str:
        """Make a network, config, secret, service or (on this node) volume; the id. ``kind`` is the
        plural. Raises Refused where the engine rejects it and SwarmConflict where one of that name
        exists; a volume that exists stays as it is."""

    async def update(self, kind: str, id_: str, index: int, body: Json) -> None:
        """Replace the whole spec of a service, config or secret at ``index``. Raises SwarmConflict
        where the index moved."""

    async def remove(self, kind: str, id_: str) -> None:
        """Remove one object; gone already is fine."""

    async def pull(self, image: str) -> str:
        """Pull on this node; the image as ``name@sha256:…``. Raises Refused (no such image) or
        RegistryUnreachable."""

    async def digest_of(self, image: str) -> str | None:
        """The image on this node as ``name@sha256:…``, without asking a registry; None where it is not
        here, or came from none."""

    async def image_config(self, image: str) -> Json | None:
        """The image's own ``Config`` (its declared Volumes among it), None where it is not here."""

    async def containers(self, *, stack: str | None = None, volume: str | None = None) -> Sequence[Container]:
        """Containers on this node in any state, of a stack or of those that use a volume."""

    async def volumes(self, stack: str | None = None) -> Sequence[Volume]:
        """Volumes on this node, of a stack by its label or all."""

    async def node(self) -> str:
        """This node's id."""

    def events(self) -> AsyncIterator[str]:
        """Names of stacks that something happened to. Hints only: some are lost. Ends when the
        connection does."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a release is in this place: the bundle, and a hash of all that it was rendered from.

    ``warnings`` are what the renderer ignored or disliked, a line each. ``hides`` are values that it was
    rendered with and that nobody may be shown.
    """

    bundle: Bundle
    inputs: str
    warnings: tuple[str, ...] = ()
    hides: tuple[str, ...] = field(default=(), repr=False)


#: Asked before each write, with the listing that it is made from: what it raises ends the call there. A
#: change that comes in between is a conflict, and then it is asked again.
Ask: TypeAlias = Callable[[StackSeen], Awaitable[None]]


class Deployer(Protocol):
    """Turns a release into a running stack, and back. ``stack`` is its own, from the settings."""

    async def inputs(self, release: Release) -> str:
        """The hash of what rendering depends on (commit, files' names, environment), without rendering."""

    async def render(self, release: Release, tree: Path) -> Rendered:
        """The release as a bundle, without touching the swarm. Raises Refused, naming what is
        missing: a variable, an external network or secret, a file that does not parse."""

    async def pin(self, bundle: Bundle) -> Bundle:
        """Pull every image on the node that will run it; the bundle with digests."""

    async def check(self, bundle: Bundle) -> tuple[Mount, ...]:
        """Everything that would fail at deploy, found now: externals, changed configs under an old
        name, missing secrets. Raises Refused. Returns what the stack could write to."""

    async def mounts(self, bundle: Bundle) -> tuple[Mount, ...]:
        """What a stack of this bundle could write to, read-only mounts left out."""

    async def seen(self, *, not_before: float | None = None) -> StackSeen:
        """The stack as it is: from the shared listing, or listed now where ``not_before`` is None."""

    async def read_back(self) -> Bundle:
        """The running stack as a bundle that ``deploy`` would accept, warmd's labels left out."""

    async def writable(self) -> tuple[Mount, ...]:
        """What the running stack can write to, read-only mounts left out."""

    async def stop(self, *, ask: Ask | None = None) -> None:
        """No task and no container of the stack left, proved; desired counts are zero. Idempotent.
        Raises Foreign where a service is scaled up again meanwhile."""

    async def deploy(self, bundle: Bundle, *, labels: Mapping[str, str], ask: Ask | None = None) -> None:
        """Make the swarm want exactly this bundle, with ``labels`` on every service. Idempotent;
        services that the bundle lacks are removed. Does not wait for health."""


class Prober(Protocol):
    """One health check."""

    async def probe(self) -> Probe:
        """Never raises for what it finds: what can't be asked is inconclusive."""


@dataclass(frozen=True, slots=True)
class CaptureRequest:
    """What a snapshot is of. ``id`` is the run's: capturing again under it starts anew."""

    id: str
    service: str
    stack: str
    volumes: tuple[Volume, ...]
    at: datetime
    version: str | None
    bundle: Json


class Snapshotter(Protocol):
    """Copies everything the stack can write to, proves the copy, and puts it back. Separate acts."""

    async def make_room(self, volumes: Sequence[Volume]) -> None:
        """Raises Refused where the archive and a restored copy would not fit, naming both sizes,
        or where a volume is of a sort that can't be copied."""

    async def capture(self, request: CaptureRequest) -> SnapshotHandle:
        """A durable copy on disk. The caller has proved that nothing runs."""

    async def seal(self, handle: SnapshotHandle) -> SnapshotInfo:
        """Read back and verify; sealing twice is fine. Raises SnapshotError where it is not whole."""

    async def restore(
        self,
        handle: SnapshotHandle,
        *,
        run: str,
        volumes: Sequence[Volume],
        still: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Verify, extract beside, swap; what was there goes to quarantine. Idempotent a ``run``.
        ``volumes`` are those that are there now, others among them: data goes where they lie, wherever
        it was copied from. ``still`` proves that nothing runs: it is asked when all is verified and lies
        ready, right before anything is swapped, also where an earlier call got so far. What it raises
        goes through; nothing is swapped then, and a later call does it. Raises SnapshotError with the
        volumes untouched where the archive is not whole, or one of its volumes is not among them."""

    async def moved(self, handle: SnapshotHandle, *, volumes: Sequence[Volume]) -> str:
        """What was written to since the volumes were captured in this snapshot, or restored from it: the
        first file that shows it; empty where nothing was. Reads no content. Raises SnapshotError
        where the snapshot is gone, can't be read or is not sealed: that says nothing of the volumes."""

    async def snapshots(self) -> Sequence[SnapshotInfo]:
        """All of this service, oldest first."""

    async def specs(self, handle: SnapshotHandle) -> Json:
        """The bundle that was running when the snapshot was taken. Raises SnapshotError."""

    async def measure(self, volumes: Sequence[Volume]) -> int:
        """Bytes that a capture of ``volumes`` would read, for estimates."""

    async def prune(self, *, keep: int, needed: frozenset[str]) -> Sequence[str]:
        """Remove all but the newest ``keep`` sealed ones, never one whose id is ``needed``; the ids."""


class Alerter(Protocol):
    """Delivers alert files."""

    async def deliver(self, name: str, body: Json) -> None:
        """Publish one alert under a file name, whole or not at all. The same name again is fine."""


class JournalStore(Protocol):
    """One append-only journal a service: what a file, and later the swarm's Raft store, can keep."""

    async def load(self, service: str) -> tuple[tuple[Record, ...], int]:
        """All records and a token for ``append``. A torn last line is dropped; other damage raises
        JournalError."""

    async def append(self, service: str, draft: Draft, *, expected: int) -> tuple[Record, int]:
        """Append durably after ``expected``; the record and the next token. Raises JournalError
        where somebody else appended."""

    async def reserve(self, service: str) -> None:
        """Make sure that the records of one run will find room. Raises Transient where they may not."""

    async def set_aside(self, service: str, first: Draft) -> None:
        """Keep what is there under another name, and begin a new journal with ``first``, in one step:
        whatever happens meanwhile, the next process finds the old one or the new one."""


class Blobs(Protocol):
    """Big things, named by their SHA-256."""

    async def put(self, data: bytes) -> str: ...

    async def get(self, name: str) -> bytes:
        """Raises JournalError where it is missing or is not what its name says."""
