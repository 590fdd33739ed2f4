"""The health gate: when is a service that was just deployed healthy? Pure; rounds come in as data.

Healthy = ``successes`` good rounds in a row, and good ever since for ``stable``. A restart (the
rounds' identity changes) or a bad round starts it anew. At the deadline the last word counts: bad
is unhealthy, not knowable is blind.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from warmd.core.model import GateRule, Health, Probe


class Outcome(StrEnum):
    PENDING = "pending"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    BLIND = "blind"


@dataclass(frozen=True, slots=True)
class Window:
    """What was seen so far. ``good_since`` is the time of the first good round of the present row."""

    rule: GateRule
    opened: datetime
    row: int = 0
    good_since: datetime | None = None
    identity: str = ""
    restarts: int = 0
    last: Probe | None = None
    rounds: int = 0

    def see(self, probe: Probe, at: datetime) -> Window:
        """The window after one more round."""
        restarted = bool(self.identity and probe.identity and probe.identity != self.identity)
        identity = probe.identity or self.identity
        seen = replace(
            self,
            identity=identity,
            restarts=self.restarts + restarted,
            last=probe,
            rounds=self.rounds + 1,
        )
        if probe.health is not Health.HEALTHY:
            return replace(seen, row=0, good_since=None)
        if restarted or self.good_since is None:
            return replace(seen, row=1, good_since=at)
        return replace(seen, row=self.row + 1)

    def outcome(self, at: datetime) -> Outcome:
        """What the rounds so far amount to at ``at``."""
        if (
            self.good_since is not None
            and self.row >= self.rule.successes
            and at - self.good_since >= self.rule.stable
        ):
            return Outcome.HEALTHY
        if at - self.opened < self.rule.deadline:
            return Outcome.PENDING
        # A row that began before the deadline may finish: a service that just came up is not
        # rolled back. Bounded, for one that comes up and falls over again and again.
        extra = self.rule.stable + self.rule.interval * (self.rule.successes + 1)
        if self.good_since is not None and at - self.opened < self.rule.deadline + extra:
            return Outcome.PENDING
        if self.last is None or self.last.health is Health.INCONCLUSIVE:
            return Outcome.BLIND
        return Outcome.UNHEALTHY

    def describe(self) -> str:
        """One line for logs and alerts."""
        last = self.last.detail if self.last else "no probe was made"
        restarted = f", {self.restarts} restarts" if self.restarts else ""
        return f"{last} (after {self.rounds} rounds{restarted})"
