"""Every call that an upgrade and a rollback make, and what may go wrong with each."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.faults.docker.faults import Call, Fault
from tests.size import size, tier

#: What a seed changes is which cases ``scripts/crash`` picks.
SEED = int(os.environ.get("WARMD_SEED", "4"))

#: In the order in which they come first; the tests hold it against a run that goes well.
UPGRADE = """\
idle GET version
idle GET services
idle GET tasks
planned HEAD _ping
planned GET info
planned GET secrets
planned GET configs
pulling POST images/create
pulling GET images/{}/json
checking GET services
checking GET tasks
checking GET networks
checking GET networks/bridge
checking GET networks/host
checking GET configs
checking GET secrets
checking GET images/{}/json
checking GET volumes
checking GET containers/json
checking GET containers/{}/json
stopping GET services
stopping GET tasks
stopping POST services/{}/update
stopping GET containers/json
capturing GET services
capturing GET tasks
capturing GET containers/json
capturing GET volumes
capturing GET images/{}/json
capturing GET info
sealing GET services
sealing GET tasks
deploying GET services
deploying GET tasks
deploying GET containers/json
deploying GET volumes
deploying GET networks
deploying GET configs
deploying GET secrets
deploying POST networks/create
deploying POST secrets/create
deploying POST configs/create
deploying DELETE services/{}
deploying POST services/{}/update
deploying POST services/create
gating GET services
gating GET tasks
gating GET containers/json
gating GET containers/{}/json
gating GET networks
gating GET configs
gating GET secrets
"""
ROLLBACK = """\
halting GET services
halting GET tasks
halting POST services/{}/update
halting GET containers/json
restoring GET services
restoring GET tasks
restoring GET containers/json
restoring GET volumes
redeploying GET volumes
redeploying GET secrets
redeploying GET services
redeploying GET tasks
redeploying GET containers/json
redeploying GET networks
redeploying GET configs
redeploying DELETE services/{}
redeploying POST services/{}/update
redeploying POST services/create
regating GET services
regating GET tasks
regating GET containers/json
regating GET containers/{}/json
regating GET networks
regating GET configs
regating GET secrets
"""
#: Made only where the new version is what stays.
COMMITS = frozenset(Call("gating", "GET", kind) for kind in ("networks", "configs", "secrets"))
#: Made or not, as it happens: a container that has ended is there until the swarm removes it.
SOMETIMES = frozenset(
    Call(state, "GET", "containers/{}/json")
    for state in ("stopping", "capturing", "deploying", "halting", "restoring", "redeploying")
)

_ALWAYS = (Fault.REFUSED, Fault.HANGS, Fault.CUT, Fault.FAILS)

#: For each state of a run the call that says most, for what happens in the midst of it.
FIRST = tuple(
    map(
        Call.parse,
        (
            "planned GET info",
            "pulling POST images/create",
            "checking GET services",
            "stopping POST services/{}/update",
            "capturing GET services",
            "sealing GET services",
            "deploying POST services/{}/update",
            "gating GET tasks",
            "halting POST services/{}/update",
            "restoring GET services",
            "redeploying POST services/{}/update",
            "regating GET tasks",
        ),
    )
)


@dataclass(frozen=True, slots=True)
class Case:
    """One fault at the first call of one kind."""

    call: Call
    fault: Fault

    @property
    def bad(self) -> bool:
        """Whether it takes a bad version to come there."""
        return self.call in calls(ROLLBACK)

    def __str__(self) -> str:
        path = self.call.path.replace("/{}", "").replace("/", "-")
        return f"{self.call.state}-{self.call.method}-{path}-{self.fault}"


def calls(listed: str) -> tuple[Call, ...]:
    return tuple(map(Call.parse, listed.splitlines()))


def faults_of(call: Call) -> Iterable[Fault]:
    yield from _ALWAYS
    if call.of_swarm:
        yield from (Fault.NO_LEADER, Fault.NO_MANAGER)
    else:
        yield Fault.UNAVAILABLE
    if call.method == "GET":
        yield Fault.GARBAGE
    if call.writes or call in FIRST:
        yield Fault.SLOW
    if call.writes:
        yield Fault.LOST
    if call.path.endswith("/update"):
        yield from (Fault.STALE, Fault.STALE_DONE)


def cases(listed: str) -> tuple[Case, ...]:
    return tuple(Case(call, fault) for call in calls(listed) for fault in faults_of(call))


def named(every: Sequence[Case], names: str) -> list[Case]:
    known = {str(case): case for case in every}
    return [known[name] for name in names.split()]


def share(every: Sequence[Case], quick: str, crash: int) -> list[Case]:
    """This session's: those that ``quick`` names, so many that the seed picks, or all."""
    if tier() == "quick":
        return named(every, quick)
    number = size(0, crash, len(every))
    return sorted(random.Random(SEED).sample(every, number), key=every.index)
