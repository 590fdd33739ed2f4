"""Notes about labs: written before anything of a lab exists, so that what a killed one left is found."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.lab import host

_RECORDS = Path("/run/warmd-lab")


class LabError(Exception):
    """The lab could not be started, or something in it did not happen in time."""


@dataclass(frozen=True)
class Note:
    """What is written down about a lab before anything of it exists, so that its leavings are found."""

    id: str
    folder: str
    index: int
    pid: int
    started: int
    boot: str
    made: float  # wall clock
    keep: bool = False

    @property
    def path(self) -> Path:
        return _RECORDS / f"{self.id}.json"

    @property
    def orphan(self) -> bool:
        """True when its owner is gone and it was not meant to outlive it."""
        if self.boot != host.boot_id():
            return True
        return not self.keep and host.start_time(self.pid) != self.started

    def save(self) -> None:
        draft = self.path.with_suffix(".new")
        draft.write_text(json.dumps(asdict(self)))
        draft.rename(self.path)

    def sweep(self) -> None:
        host.sweep(
            folder=Path(self.folder), netns=self.name, link=self.name, cgroup=self.name, since=self.made
        )
        self.path.unlink(missing_ok=True)

    @property
    def name(self) -> str:
        return f"wl-{self.id}"


def notes() -> list[Note]:
    return [Note(**json.loads(p.read_text())) for p in sorted(_RECORDS.glob("*.json"))]


def sweep_orphans() -> None:
    """Take away what labs of dead owners left. Call it ``alone``; raises LabError where something stays."""
    for note in notes():
        if note.orphan:
            try:
                note.sweep()
            except OSError as error:
                raise LabError(f"leavings of lab {note.id} can't be taken away: {error}") from error


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One lab at a time looks for leavings and takes addresses."""
    _RECORDS.mkdir(mode=0o700, exist_ok=True)
    with (_RECORDS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
