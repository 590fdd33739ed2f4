"""Which units there are: every point of every scenario, and what can happen there."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from tests.crash.runs import TWO_DAYS, How, Unit

Size: TypeAlias = Literal["quick", "crash", "long"]
#: Scenario -> the points of each of its commands: name -> how often it is reached.
Points: TypeAlias = Mapping[str, Sequence[Mapping[str, int]]]

#: States in which the service is down, or the old version's data lies ready.
_DOWN = ("stopping", "capturing", "sealing", "deploying", "halting", "restoring", "redeploying")
_AFTER_DEPLOY = ("deploying", "gating", "halting", "restoring", "redeploying", "regating")
#: States in which the new version is down, and may be started by hand.
_GOING_BACK = ("halting", "restoring", "redeploying")
#: What changes nothing.
_LOOKS = ("docker GET", "spawn git")
_STEPS = (TWO_DAYS, -TWO_DAYS, 30.0, -30.0)


@dataclass(frozen=True, slots=True)
class Plan:
    """Units in the order in which they are run: those that must be, and those for which there may be time."""

    must: list[Unit]
    may: list[Unit]


@dataclass(frozen=True, slots=True)
class _Point:
    scenario: str
    act: int
    name: str
    count: int

    @property
    def state(self) -> str:
        return self.name.partition("/")[0]


def number(points: Points) -> int:
    """How many points there are."""
    return sum(len(counted) for acts in points.values() for counted in acts)


def _all(points: Points) -> list[_Point]:
    return [
        _Point(scenario, act, name, count)
        for scenario, acts in sorted(points.items())
        for act, counted in enumerate(acts)
        for name, count in sorted(counted.items())
    ]


def plan(points: Points, size: Size, seed: int, *, times: int = 0) -> Plan:
    """The units of one size. ``times``: kills at each point, where it is not the size that says it."""
    chance = random.Random(f"{seed} {size}")
    every = _all(points)
    kills = times or {"quick": 1, "crash": 1, "long": 100}[size]
    must = [_unit(p, "kill", chance, first=n == 0) for n in range(kills) for p in every]
    if size == "quick" and not times:
        # A rollback is an upgrade until it is gated: the same points, and the same right ends of them.
        ours = {
            u.point for u in must if u.scenario == "upgrade" and not u.point.startswith(("gating/", "idle/"))
        }
        must = [u for u in must if u.scenario != "rollback" or u.point not in ours]
        return Plan([u for u in must if not _is_answer(u.point)], [])
    if size == "quick":
        return Plan(must, [])
    must += [_pair(chance.choice(every), points, chance) for _ in range({"crash": 500, "long": 2000}[size])]
    neighbours = [unit for _ in range({"crash": 1, "long": 4}[size]) for unit in _neighbours(every, chance)]
    told, others = _told(every, chance, first=True)
    if size == "long":
        again, others_again = _told(every, chance, first=False)
        rest = [*neighbours, *told, *others, *again, *others_again]
        chance.shuffle(rest)
        return Plan([*must, *rest], [])
    for units in (neighbours, told, others):
        chance.shuffle(units)
    some = len(neighbours) // 4
    more = [_unit(p, "kill", chance, first=False) for p in every]
    chance.shuffle(more)
    return Plan([*must, *told, *neighbours[:some]], [*_turns(others, neighbours[some:]), *more])


def _is_answer(point: str) -> bool:
    """Whether it is after a mere question: nothing is different from before what comes next."""
    return point.endswith(" after") and any(look in point for look in _LOOKS)


def _told(every: list[_Point], chance: random.Random, *, first: bool) -> tuple[list[Unit], list[Unit]]:
    """At every point a SIGTERM or an abort, as chance has it, and at every point the other of the two."""
    ways: list[How] = ["term", "abort"]
    pairs = [[_unit(p, how, chance, first=first) for how in chance.sample(ways, 2)] for p in every]
    return [one for one, _ in pairs], [other for _, other in pairs]


def _turns(*lists: list[Unit]) -> list[Unit]:
    longest = max(map(len, lists))
    return [units[n] for n in range(longest) for units in lists if n < len(units)]


def _unit(point: _Point, how: How, chance: random.Random, *, first: bool) -> Unit:
    nth = 1 if first else chance.randint(1, point.count)
    return Unit(point.scenario, how, point.name, nth, point.act, seed=chance.randrange(10**6))


def _pair(point: _Point, points: Points, chance: random.Random) -> Unit:
    unit = _unit(point, "pair", chance, first=False)
    total = sum(points[point.scenario][-1].values())
    # Recoveries are shorter than what they recover from; early deaths find the states in between.
    second = min(chance.randint(1, total), chance.randint(1, total))
    return replace(unit, second=second)


def _neighbours(every: list[_Point], chance: random.Random) -> Iterator[Unit]:
    for point in every:
        if point.scenario in ("upgrade", "rollback", "restore") and point.state in _DOWN:
            yield _unit(point, "scaled", chance, first=False)
            yield _unit(point, "visited", chance, first=False)
        if point.scenario == "rollback" and point.state in _GOING_BACK:
            yield _unit(point, "lingers", chance, first=False)
        if point.scenario in ("upgrade", "rollback") and point.state in _AFTER_DEPLOY:
            yield _unit(point, "late", chance, first=False)
        if point.scenario in ("upgrade", "rollback") and point.state in ("deploying", "gating", "halting"):
            unit = _unit(point, "clock", chance, first=False)
            yield replace(unit, step=chance.choice(_STEPS))


def sample(points: Points, count: int, seed: int) -> list[Unit]:
    """So many kills, spread over scenarios and kinds of points."""
    chance = random.Random(f"{seed} sample")
    kinds: dict[tuple[str, str], list[_Point]] = {}
    for point in _all(points):
        state, _, rest = point.name.partition("/")
        kinds.setdefault((point.scenario, f"{state} {rest.split(' ')[0]}"), []).append(point)
    for found in kinds.values():
        chance.shuffle(found)
    order = sorted(kinds)
    chance.shuffle(order)
    chosen: list[_Point] = []
    while len(chosen) < count and any(kinds.values()):
        chosen += [kinds[key].pop() for key in order if kinds[key]]
    return [_unit(p, "kill", chance, first=True) for p in chosen[:count]]
