"""What really happened, told from the disk and the swarm: here the promise is checked, never by warmd's word.

A person may break what warmd must not. So each change is put down to the hand that made it, and what
follows from a person's is no fault: a version that a person started on newer data, writes that a
person had a restore throw away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from tests.model import apps
from warmd.core.model import LABEL_RUN, LABEL_VERSION, Json
from warmd.core.versions import Version

Hand = Literal["warmd", "person"]

#: What stopping, copying and the swarm's own slowness may add to a span of time.
SLACK = timedelta(minutes=2)
#: How often the application writes.
WRITES = timedelta(seconds=5)


@dataclass(frozen=True)
class Running:
    """A container that runs now. ``data`` is None where it has none."""

    id: str
    service: str
    version: str
    data: Path | None


@dataclass
class Truth:
    """Accounts of one service. ``violations`` says what was broken, in words; none is right."""

    violations: list[str] = field(default_factory=list)
    hand: dict[str, Hand] = field(default_factory=dict)  # service -> who set its spec last
    #: (application, schema) that run together because of a person.
    mixed_by_person: set[tuple[str, str]] = field(default_factory=set)
    known: set[str] = field(default_factory=set)  # ids of containers that were seen running
    lines: int = 0
    wrote: timedelta | None = None
    #: Application version -> the release that it came with.
    releases: dict[str, Version] = field(default_factory=dict)
    ran: Version | None = None  # what ran last
    #: run -> when it first deployed what it was for, by true time
    begun: dict[str, timedelta] = field(default_factory=dict)
    set_back: list[tuple[timedelta, timedelta]] = field(default_factory=list)  # (when, how far)
    failed: dict[Version, str] = field(default_factory=dict)
    tried: dict[str, Version] = field(default_factory=dict)  # run -> what it deployed
    approved: set[Version] = field(default_factory=set)
    lets_majors: dict[str, bool] = field(default_factory=dict)  # run -> as configured when it was planned
    persons_runs: set[str] = field(default_factory=set)  # runs that a person told to put data back
    posts: int = 0
    may_be_empty: bool = True  # nothing ran yet
    horizons: dict[str, timedelta] = field(default_factory=dict)  # run -> as configured when it was planned

    def wrong(self, what: str) -> None:
        if what not in self.violations:
            self.violations.append(what)

    # --- containers and their data ----------------------------------------------------------------

    def see(self, running: Sequence[Running], now: timedelta) -> None:
        """What runs at this moment; whoever runs writes a line every few seconds."""
        for container in running:
            if container.id not in self.known:
                self._started(container, running)
        if self.wrote is not None and now - self.wrote < WRITES:
            return
        self.wrote = now
        for container in running:
            if container.data is not None:
                self.lines += 1
                with (container.data / "writes").open("a") as file:
                    file.write(f"{self.lines} {container.version} {now.total_seconds():.1f}\n")

    def _started(self, container: Running, running: Iterable[Running]) -> None:
        self.known.add(container.id)
        if container.data is None:
            return
        mine = self.hand.get(container.service) != "person"
        if container.version in self.releases:
            self.ran = self.releases[container.version]
        if mine and not self.may_be_empty and not (container.data / "writes").exists():
            self.wrong(f"{container.version} was started on a volume that lost its data")
        for other in running:
            if other.data == container.data and other.version != container.version and mine:
                self.wrong(f"two writers on one volume: {other.version} and {container.version}")
        schema = apps.read(container.data, "schema")
        if schema and apps.newer(schema, container.version):
            self._mixture(container, schema)

    def _mixture(self, container: Running, schema: str) -> None:
        pair = (container.version, schema)
        if pair in self.mixed_by_person:
            return
        if self.hand.get(container.service) == "person":
            self.mixed_by_person.add(pair)
            return
        self.wrong(f"a mixture: {container.version} runs on data that {schema} migrated")

    def copying(self, mountpoint: Path, running: Iterable[Running]) -> None:
        if any(c.data == mountpoint for c in running):
            self.wrong("a volume was copied while somebody wrote to it")

    def restoring(self, mountpoint: Path, copy: Path, run: str, running: Iterable[Running]) -> None:
        """A volume is about to be swapped for its copy."""
        if any(c.data == mountpoint for c in running):
            self.wrong("a volume was swapped while somebody wrote to it")
        if run in self.persons_runs:
            return
        lost = _lines(mountpoint) - _lines(copy)
        if run in self.begun:
            since = self.begun[run]
            late = [line for line in lost if _at(line) - since > self.horizon_of(run) + self._back(since)]
            if late:
                last = max(late, key=_at)
                self.wrong(f"run {run} threw {len(late)} writes away past the horizon, the last {last}")
        elif lost:
            self.wrong(f"run {run} deployed nothing and threw {len(lost)} writes away")

    def horizon_of(self, run: str) -> timedelta:
        return self.horizons.get(run, timedelta()) + SLACK

    def _back(self, since: timedelta) -> timedelta:
        """How far the wall clock was set back since: so much longer a horizon may seem."""
        return sum((by for at, by in self.set_back if at >= since), timedelta())

    # --- what was posted to the swarm -------------------------------------------------------------

    def posted(self, spec: Json, before: Json | None, by: Hand, version: str, now: timedelta) -> None:
        """A service was made or changed. ``version`` is its image's application version."""
        self.hand[spec["Name"]] = by
        release = self.releases.get(version)
        if by == "person":
            for v in [v for v in self.failed if release is not None and not release < v]:
                del self.failed[v]
            return
        self.posts += 1
        replicas = spec["Mode"]["Replicated"]["Replicas"]
        stops = replicas == 0 and before is not None
        if stops or release is None or not spec["Name"].endswith("_app"):
            return
        label = spec.get("Labels", {})
        run = label.get(LABEL_RUN, "")
        if label.get(LABEL_VERSION) != release.text:
            self.wrong(f"{release} was deployed under the label {label.get(LABEL_VERSION)}")
        if run.endswith(".back"):
            self._went_back(run.removesuffix(".back"), release)
        else:
            self._went_on(run, release, now)

    def _went_back(self, run: str, release: Version) -> None:
        tried = self.tried.get(run)
        if tried is not None and not tried.same_as(release):
            self.failed[tried] = run
            self.approved.discard(tried)

    def _went_on(self, run: str, release: Version, now: timedelta) -> None:
        self.begun.setdefault(run, now)
        again = run in self.tried
        self.tried[run] = release
        if release in self.failed and not again:
            self.wrong(f"{release} was tried again by itself; it had failed in run {self.failed[release]}")
        if self.ran is None or again:
            return
        if release < self.ran:
            self.wrong(f"went down from {self.ran} to {release}")
        major = release.recipe[0] != self.ran.recipe[0]
        if major and release > self.ran and release not in self.approved and not self.lets_majors.get(run):
            self.wrong(f"a major upgrade that nobody approved: {self.ran} to {release}")


def _lines(folder: Path) -> set[str]:
    return set(apps.read(folder, "writes").splitlines())


def _at(line: str) -> timedelta:
    return timedelta(seconds=float(line.split()[2]))


def image_of(spec: Json) -> str:
    container: dict[str, Any] = spec["TaskTemplate"]["ContainerSpec"]
    return str(container["Image"])
