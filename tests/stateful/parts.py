"""Ports without a disk, a network or a thread, for a process that lives as long as one example does.

Each meets its port's contract (tests/contracts, and test_parts.py here). What they keep is the
machine's, and outlives the processes that work on it: ``Shelf`` what is published, ``Disk`` the state.
Every call of a port passes ``Points``, before and after it has done something.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from warmd.core.journal import Draft, Record, decode, encode
from warmd.core.model import Catalog, Json, Note, Release
from warmd.core.versions import Version
from warmd.errors import JournalError, Refused, SourceUnreachable, Transient
from warmd.ports import Clock


class Points:
    """Where something may happen to a process: ``hook`` is called with each point's name, and may raise."""

    def __init__(self) -> None:
        self.count = 0
        self.hook: Callable[[str], None] | None = None

    def at(self, name: str) -> None:
        self.count += 1
        if self.hook is not None:
            self.hook(name)


@dataclass
class Disk:
    """What a machine keeps of warmd's state when the process dies: journals by service, and blobs."""

    lines: dict[str, list[bytes]] = field(default_factory=dict)
    records: dict[str, list[Record]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    full: bool = False


class MemoryJournals:
    """The JournalStore port over a ``Disk``."""

    def __init__(self, disk: Disk, points: Points | None = None) -> None:
        self._disk = disk
        self._points = points or Points()

    async def load(self, service: str) -> tuple[tuple[Record, ...], int]:
        self._points.at("journal.load")
        lines = self._disk.lines.get(service, [])
        # Read once, and then only what was added: an append proves its line by decoding the same bytes.
        records = self._disk.records.get(service, [])
        if len(records) != len(lines):
            records = list(decode(b"".join(lines), where=service)[0])
        return tuple(records), len(records)

    async def append(self, service: str, draft: Draft, *, expected: int) -> tuple[Record, int]:
        self._points.at(f"journal.append {draft.type} {draft.data.get('state', '')}".rstrip())
        lines = self._disk.lines.setdefault(service, [])
        records = self._disk.records.setdefault(service, [])
        if len(lines) != expected:
            raise JournalError(f"{service}: somebody else appended: it ends with record {len(lines)}")
        if self._disk.full:
            raise Transient(f"can't append to {service}: No space left on device")
        record, line = encode(draft, after=records[-1] if records else None)
        lines.append(line)
        records.append(record)
        self._points.at(f"journal.appended {draft.type} {draft.data.get('state', '')}".rstrip())
        return record, len(lines)

    async def reserve(self, service: str) -> None:
        if self._disk.full:
            raise Transient(f"can't hold room for {service}: No space left on device")

    async def set_aside(self, service: str, first: Draft) -> None:
        if self._disk.full:
            raise Transient(f"can't move away {service}: No space left on device")
        record, line = encode(first, after=None)
        self._disk.lines[service], self._disk.records[service] = [line], [record]


class MemoryBlobs:
    """The Blobs port over a ``Disk``."""

    def __init__(self, disk: Disk, points: Points | None = None) -> None:
        self._disk = disk
        self._points = points or Points()

    async def put(self, data: bytes) -> str:
        self._points.at("blobs.put")
        if self._disk.full:
            raise Transient("can't write a blob: No space left on device")
        name = hashlib.sha256(data).hexdigest()
        self._disk.blobs[name] = data
        return name

    async def get(self, name: str) -> bytes:
        self._points.at("blobs.get")
        if name not in self._disk.blobs:
            raise JournalError(f"{name}: missing, though the journal names it")
        return self._disk.blobs[name]


class PlainSpool:
    """The Alerter port over a folder, without the fsyncs; ``full`` says whether there is no space left."""

    def __init__(
        self, folder: Path, points: Points | None = None, full: Callable[[], bool] = lambda: False
    ) -> None:
        self._folder = folder
        self._points = points or Points()
        self._full = full

    async def deliver(self, name: str, body: Json) -> None:
        self._points.at("alert.deliver")
        if not name or name.startswith(".") or "/" in name or "\0" in name:
            raise Refused(f"{name!r} can't be the name of an alert file")
        if self._full():
            raise Transient(f"can't write the alert {name}: No space left on device")
        self._folder.mkdir(parents=True, exist_ok=True)
        path, half = self._folder / name, self._folder / f".{name}.tmp"
        text = json.dumps(body)
        if not path.is_file() or path.read_text() != text:
            half.write_text(text)
            half.rename(path)
        self._points.at("alert.delivered")


@dataclass
class Shelf:
    """What somebody has published, and when; tags can be moved and taken away, and notes come late."""

    commits: dict[str, str] = field(default_factory=dict)  # tag -> commit
    made: dict[str, datetime] = field(default_factory=dict)  # commit -> when
    files: dict[str, Mapping[str, str]] = field(default_factory=dict)  # commit -> path -> text
    notes: dict[str, list[Note]] = field(default_factory=dict)  # tag -> notes
    first: dict[str, str] = field(default_factory=dict)  # tag -> the commit it was first seen with
    away: bool = False

    def publish(self, tag: str, at: datetime, files: Mapping[str, str] | None = None) -> str:
        """A tag on a new commit; one that exists is moved. The commit."""
        commit = hashlib.sha1(f"{tag} {len(self.made)}".encode()).hexdigest()
        self.commits[tag], self.made[commit], self.files[commit] = commit, at, dict(files or {})
        return commit

    def note(self, tag: str, text: str) -> None:
        known = self.notes.setdefault(tag, [])
        path = f"release/{tag}.{len(known)}"
        known.append(Note(path, hashlib.sha256(text.encode()).hexdigest(), text))


class ListSource:
    """The Source port over a ``Shelf``, with what was fetched from it last."""

    def __init__(self, shelf: Shelf, clock: Clock, points: Points | None = None) -> None:
        self._shelf = shelf
        self._clock = clock
        self._points = points or Points()
        self._fetched: tuple[float, Catalog] | None = None

    async def releases(self, *, not_before: float, offline: bool = False) -> Catalog:
        self._points.at("source.releases")
        known = self._fetched
        if known is not None and (offline or known[0] >= not_before):
            return known[1]
        if self._shelf.away or offline:
            if known is None:
                raise SourceUnreachable("nothing was fetched yet", hint="run it once without --offline")
            catalog = known[1]
            return Catalog(catalog.releases, catalog.ignored, catalog.fetched_at, "it does not answer")
        self._fetched = (self._clock.monotonic(), self._catalog())
        return self._fetched[1]

    def _catalog(self) -> Catalog:
        found: dict[str, Release] = {}
        ignored = 0
        for tag, commit in self._shelf.commits.items():
            version = Version.parse(tag)
            if version is None:
                ignored += 1
                continue
            first = self._shelf.first.setdefault(tag, commit)
            notes = tuple(self._shelf.notes.get(tag, ()))
            found[tag] = Release(version, tag, commit, self._shelf.made[commit], notes, first)
        releases = sorted(found.values(), key=lambda r: r.version)
        return Catalog(tuple(releases), ignored, self._clock.now())

    @asynccontextmanager
    async def tree(self, release: Release) -> AsyncIterator[Path]:
        self._points.at("source.tree")
        with TemporaryDirectory() as place:
            for path, text in self._shelf.files[release.commit].items():
                file = Path(place) / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
            yield Path(place)


def names(records: Sequence[Record]) -> list[str]:
    """What a journal tells, in short: for messages of a failed test."""
    return [f"{r.seq} {r.type} {r.data.get('state', '')} {r.data.get('detail', '')}".strip() for r in records]
