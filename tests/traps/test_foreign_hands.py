"""Somebody else works on the stack while a run does: warmd stops, says what was done, and does not fight.

Each case steps in right before the work of one state. Then: the run is stuck, nothing is changed any
more however often warmd looks, the alert says what somebody did and what to type; and what it says to
type leads to a healthy service on the data that belongs to it.
"""

from __future__ import annotations

import secrets
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from tests.lab import Lab
from tests.lab.warmapp import Bad
from tests.size import spread
from tests.swarm.observer import checksum
from tests.swarm.passing import passing, states
from tests.swarm.world import World

GATE = 'health_gate = { deadline = "6s", interval = "100ms", successes = 2, stable = "300ms" }'
Way = Literal["adopt", "retry", "restore"]


@dataclass
class Story:
    """One service through all cases; each leaves it healthy. ``old`` is what runs, ``new`` what is next.
    ``ended``: the last case came to its end."""

    world: World
    number: int = 0
    runs: str = ""
    old: str = ""
    new: str = ""
    before: str = ""
    ended: bool = False

    def publish(self, bad: Bad | None = None) -> None:
        self.number += 1
        self.new = f"1.{self.number}.0+1.{self.number}.0"
        self.world.publish(self.new, bad=bad)

    def begins(self, bad: Bad | None = None) -> None:
        """Something to lose, and the next version."""
        self.ended = False
        self.old = self.runs
        self.world.write_note(f"precious {self.number}")
        self.before = checksum(self.world.volume)
        self.publish(bad)

    def up(self, *, at: str, does: str, check: int) -> dict[str, Any]:
        """A pass in which somebody does something at a state."""
        mine = self.world.command
        self.world.command = (sys.executable, "-m", "tests.traps.meddling", at, does)
        try:
            return self.world.up(check=check)
        finally:
            self.world.command = mine

    def specs(self) -> dict[str, Any]:
        """What people would see changed."""
        return self.world.specs()

    def by_hand(self) -> str:
        """A compose file of somebody's own, with another version than any that was published."""
        path = self.world.folder / "by-hand.yml"
        path.write_text(self.world.compose(self.world.lab.warm_app("0.9.9", repo="by-hand")))
        return shlex.quote(str(path))

    def is_well(self, version: str) -> None:
        app = version.partition("+")[2]
        self.world.wait(lambda: self.world.serves(app) and self.world.settled(), f"{app} serves")
        assert self.world.schema == app
        self.runs, self.ended = version, True


Act = Callable[[Story], str]


def env(story: Story) -> str:
    # Another name each time: what was adopted once has the others already.
    return f"docker service update --detach --env-add THEIRS_{story.number}=1 {story.world.stack}_app"


def image(story: Story) -> str:
    theirs = story.world.lab.warm_app("0.9.8", repo="theirs")
    return f"docker service update --detach --image {theirs} {story.world.stack}_app"


def scale(count: int) -> Act:
    def act(story: Story) -> str:
        return f"docker service scale --detach {story.world.stack}_app={count}"

    act.__name__ = f"scale-{count}"
    return act


def deploy(story: Story) -> str:
    return f"docker stack deploy --compose-file {story.by_hand()} {story.world.stack}"


def remove(story: Story) -> str:
    return f"docker stack rm {story.world.stack}"


@dataclass(frozen=True)
class Case:
    """Who does what where, what the alert says of it, and what a person types then.

    ``old``: after that the old version runs (on its data) and not the new one.
    """

    at: str
    act: Act
    says: str
    way: Way
    old: bool = False
    bad: Bad | None = None

    @property
    def id(self) -> str:
        return f"{self.at}-{self.act.__name__}-{self.way}"


QUICK = [
    Case("capturing", scale(1), "app: replicas 0 -> 1", "adopt"),
    Case("gating", image, "app: image", "restore", old=True),
    Case("restoring", scale(1), "app: replicas 0 -> 1", "retry", old=True, bad="crash"),
]
CASES = [
    Case("stopping", env, "app: env THEIRS_", "adopt"),
    Case("stopping", remove, "service app removed", "retry"),
    Case("capturing", scale(1), "app: replicas 0 -> 1", "retry"),
    Case("capturing", image, "app: image", "retry"),
    Case("capturing", deploy, "app: image", "adopt"),
    Case("sealing", deploy, "app: replicas 0 -> 1", "restore", old=True),
    Case("sealing", remove, "service app removed", "retry"),
    Case("deploying", image, "app: image", "restore", old=True),
    Case("deploying", scale(1), "app: replicas 0 -> 1", "retry"),
    Case("deploying", remove, "service app removed", "restore", old=True),
    Case("gating", env, "app: env THEIRS_", "adopt"),
    Case("gating", scale(0), "app: replicas 1 -> 0", "restore", old=True),
    Case("gating", deploy, "app: image", "restore", old=True),
    Case("gating", remove, "service app removed", "restore", old=True),
    Case("halting", image, "app: image", "retry", old=True, bad="crash"),
    Case("halting", remove, "service app removed", "retry", old=True, bad="crash"),
    Case("restoring", deploy, "app: image", "restore", old=True, bad="crash"),
    Case("redeploying", scale(1), "app: replicas 0 -> 1", "retry", old=True, bad="crash"),
    Case("regating", env, "app: env THEIRS_", "adopt", old=True, bad="crash"),
    Case("regating", scale(0), "app: replicas 1 -> 0", "retry", old=True, bad="crash"),
]


@pytest.fixture(scope="module")
def stories(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Story]]:
    made: list[Story] = []
    yield made
    for story in made:
        lab.remove_stack(story.world.stack)


@pytest.fixture
def story(stories: list[Story], lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """The one of the case before, or a new one where that did not come to its end."""
    if not stories or not stories[-1].ended:
        stack = f"t{secrets.token_hex(4)}"
        stories.append(Story(World(lab, tmp_path_factory.mktemp("hands"), stack, gate=GATE)))
        stories[-1].publish()
        stories[-1].world.up()
        stories[-1].is_well(stories[-1].new)
    return stories[-1]


def cases() -> list[Any]:
    quick = [pytest.param(case, marks=pytest.mark.crash_too, id=case.id) for case in QUICK]
    return quick + [pytest.param(case, marks=pytest.mark.crash, id=case.id) for case in spread(CASES, 10)]


@pytest.mark.parametrize("case", cases())
def test_somebody_elses_change_stops_the_run_and_is_left_alone(story: Story, case: Case) -> None:
    world = story.world
    story.begins(case.bad)
    row = story.up(at=case.at, does=case.act(story), check=5)
    assert (row["decision"], row["ran"]["state"]) == ("stuck", "stuck"), row
    assert states(world)[-2:] == [case.at, "stuck"]

    alert = world.alert("stuck")
    assert "somebody else changed the stack meanwhile" in alert["detail"]
    assert case.says in alert["detail"]
    assert any(command.startswith(f"warmd {case.way} app") for command in alert["commands"])
    there = story.specs()
    assert world.up(check=5)["decision"] == "stuck"
    assert story.specs() == there, "nothing is done against them"

    WAYS[case.way](story, case)
    assert ("stuck", story.new) not in world.open_alerts()
    assert f"precious {story.number - 1}" in world.notes
    if case.old:
        assert "damaged" not in world.notes


@pytest.mark.crash
def test_what_was_started_while_warmd_was_away_is_neither_copied_nor_stopped_again(story: Story) -> None:
    world = story.world
    story.begins()
    snapshots = world.warmd("snapshots", "app", "--json").json
    (world.volume / "big").write_bytes(secrets.token_bytes(80 * 2**20))
    with passing(world) as pass_:
        pass_.reaches("capturing")
        world.wait(lambda: not world.running_tasks(), "the stop")
        pass_.kill()
    world.lab.docker("service", "scale", "--detach", f"{world.stack}_app=1")
    world.wait(lambda: world.serves(story.old.partition("+")[2]), "the old version, by hand")
    world.write_note("written meanwhile")
    tasks = world.running_tasks()
    assert world.up(check=5)["decision"] == "stuck"
    assert "app: replicas 0 -> 1" in world.alert("stuck")["detail"]
    assert world.running_tasks() == tasks
    assert world.warmd("snapshots", "app", "--json").json == snapshots, "no copy of a running volume"
    world.warmd("retry", "app", story.new)  # of others that failed it says nothing
    assert world.up()["current"] == story.new
    assert "written meanwhile" in world.notes
    (world.volume / "big").unlink()
    story.is_well(story.new)


@pytest.mark.crash
def test_a_volume_that_is_removed_after_it_was_copied_comes_back_with_the_old_version(story: Story) -> None:
    """``docker system prune --volumes`` in the wrong minute."""
    stack = story.world.stack
    story.begins()
    mine = f"label=com.docker.stack.namespace={stack}"
    prune = f"docker ps -aq --filter {mine} | xargs -r docker rm; docker volume rm {stack}_data"
    row = story.up(at="deploying", does=prune, check=4)
    assert (row["ran"]["state"], row["current"]) == ("rolled-back", story.old)
    assert checksum(story.world.volume) == story.before
    story.is_well(story.old)


def adopts(story: Story, case: Case) -> None:
    """What stands there is right, and the run is over; a new version that does not run waits for a word."""
    world = story.world
    # Of an image that was put there no label says the version.
    world.warmd("adopt", "app", *(["--version", story.old] if case.act is deploy else []))
    row = world.up()
    kept = row["current"] == story.new
    assert row["decision"] == (NOOP if kept else FAILED)
    if not case.old and not kept:
        world.warmd("retry", "app", story.new)  # of others that failed it says nothing
        assert world.up()["current"] == story.new
    story.is_well(story.old if case.old else story.new)


def retries(story: Story, case: Case) -> None:
    """Go on: back, where it was on its way back, and else from what stands there."""
    world = story.world
    world.warmd("retry", "app", story.new)  # of others that failed it says nothing
    row = world.up(check=4 if case.old else None)
    if case.old:
        assert (row["ran"]["state"], row["current"], row["decision"]) == ("rolled-back", story.old, FAILED)
        assert checksum(world.volume) == story.before
    elif case.act is image:  # nobody can tell whether that image ever ran on the data
        world.wait(lambda: world.up()["decision"] == UNKNOWN, "a question", pause=0.5)
        assert "warmd deploy app --version VERSION" in world.alert(UNKNOWN)["commands"]
        world.warmd("deploy", "app", "--version", story.new)
    elif row["decision"] == "drift":  # the next looks know what to do about that, or say what to type
        if ("held-config-drift", None) in world.open_alerts():
            assert "warmd deploy app" in world.alert("drift")["commands"]
            world.warmd("deploy", "app")
        world.wait(lambda: world.up()["current"] == story.new, "the upgrade", pause=0.5)
    story.is_well(story.old if case.old else story.new)


def restores(story: Story, case: Case) -> None:
    """The version and the data of before, whatever happened since."""
    world = story.world
    (command,) = [c for c in world.alert("stuck")["commands"] if c.startswith("warmd restore")]
    world.warmd(*command.split()[1:], "--yes")
    assert checksum(world.volume) == story.before
    row = world.up()
    assert (row["current"], row["decision"]) == (story.old, FAILED), "it does not go there again by itself"
    story.is_well(story.old)


FAILED, NOOP, UNKNOWN = "held-failed-before", "noop-healthy", "held-data-without-version"
WAYS: dict[Way, Callable[[Story, Case], None]] = {"adopt": adopts, "retry": retries, "restore": restores}
