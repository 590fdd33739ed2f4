"""What the core's tests are made of: a moment, plans, and stories, journals as the engine writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from warmd.core import history as h
from warmd.core.history import History
from warmd.core.journal import Draft, Record, decode, encode
from warmd.core.machine import State
from warmd.core.model import LastGood
from warmd.core.runs import Cause, Kind, Run, RunPlan
from warmd.core.versions import Version

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
OLD, NEW = "1.0.0+5.0", "1.1.0+5.1"
SNAPSHOT = {"node": "n1", "id": "r1"}

S = State

#: The states of a run on its usual ways, from after PLANNED.
FORWARD = (S.PULLING, S.CHECKING, S.STOPPING, S.CAPTURING, S.SEALING, S.DEPLOYING, S.GATING)
STRAIGHT = (S.PULLING, S.CHECKING, S.DEPLOYING, S.GATING)
BACK = (S.HALTING, S.RESTORING, S.REDEPLOYING, S.REGATING)


def plan(id_: str = "r1", kind: Kind = Kind.UPGRADE, **changes: Any) -> RunPlan:
    """A run from ``OLD`` to ``NEW`` with a copy of the data, but for ``changes``."""
    usual: dict[str, Any] = {
        "copy": True,
        "horizon": HOUR,
        "from_version": OLD,
        "to_version": NEW,
        "previous": "blob-old",
    }
    return RunPlan(id_, kind, **{**usual, **changes})


def good(version: str | None = OLD, *, how: str = h.COMMITTED, at: datetime = NOW) -> LastGood:
    return LastGood(Version.of(version) if version else None, f"blob-{version}", at, how)


class Story:
    """A journal that grows, a minute a record. What is written goes through the codec's bytes."""

    def __init__(self) -> None:
        self.now = NOW
        self.lines: list[bytes] = []
        self._last: Record | None = None

    def tell(self, draft: Draft) -> Story:
        self._last, line = encode(draft, after=self._last)
        self.lines.append(line)
        self.now += MINUTE
        return self

    @property
    def records(self) -> tuple[Record, ...]:
        return decode(b"".join(self.lines), where="journal")[0]

    @property
    def history(self) -> History:
        return h.fold(self.records)

    @property
    def run(self) -> Run:
        """The run of which the story tells now, or the last that ended."""
        history = self.history
        return history.run or history.runs[-1]

    def begins(self, planned: RunPlan) -> Story:
        return self.tell(h.run_planned(planned, self.now))

    def enters(self, *states: State, cause: Cause | None = None, detail: str = "", **found: Any) -> Story:
        """The present run enters ``states``; what else is given stands in the last of the records."""
        *way, last = states
        for state in way:
            self.tell(h.run_state(self.run, state, self.now))
        return self.tell(h.run_state(self.run, last, self.now, cause=cause, detail=detail, found=found))

    def fails(self, state: State, detail: str = "it broke", **found: Any) -> Story:
        return self.enters(state, cause=Cause.FAILURE, detail=detail, **found)

    def commits(self, planned: RunPlan) -> Story:
        return self.begins(planned).enters(*FORWARD, S.COMMITTED)

    def rolls_back(self, planned: RunPlan) -> Story:
        self.begins(planned).enters(*FORWARD[:4], snapshot=SNAPSHOT)
        return self.enters(*FORWARD[4:]).fails(S.HALTING).enters(*BACK[1:], S.ROLLED_BACK)

    def gets_stuck(self, planned: RunPlan, *way: State, **found: Any) -> Story:
        """The run goes ``way`` and fails for good in the last of it."""
        return self.begins(planned).enters(*way, **found).fails(S.STUCK)
