"""However warmd ends, the next one brings what it began to a good end.

Good is: the new version on migrated data, or the old version on the old data. Never both, and never
the old one on data that the new one has touched.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lab import Lab
from tests.lab.warmapp import Bad
from tests.swarm.observer import checksum, deployed, replicas
from tests.swarm.passing import journal, passing, records, states
from tests.swarm.world import World

GATE = 'health_gate = { deadline = "6s", interval = "100ms", successes = 2, stable = "1s" }'
MIB = 2**20

UPGRADES = ("pulling", "stopping", "capturing", "deploying", "gating")
ROLLBACKS = ("restoring", "regating")


@dataclass
class Story:
    """One service through all of it; each test leaves it healthy, on a higher version or the same."""

    world: World
    number: int = 0

    def publish(self, bad: Bad | None = None) -> str:
        self.number += 1
        version = f"1.{self.number}.0+1.{self.number}.0"
        self.world.publish(version, bad=bad)
        return version

    @property
    def deployed(self) -> str:
        return deployed(self.world)

    def is_good(self) -> None:
        """One task, of the version that warmd says runs, on data of just that version."""
        app = self.deployed.partition("+")[2]
        assert self.world.serves(app)
        assert self.world.schema == app
        assert len(self.world.running_tasks()) == 1
        assert "damaged" not in self.world.notes
        assert "precious" in self.world.notes


@pytest.fixture(scope="module")
def story(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    stack = f"t{secrets.token_hex(4)}"
    story = Story(World(lab, tmp_path_factory.mktemp("resume"), stack, gate=GATE))
    story.publish()
    story.world.up()
    story.world.write_note("precious")
    # So that copying it and putting it back takes a while.
    (story.world.volume / "big").write_bytes(secrets.token_bytes(80 * MIB))
    yield story
    lab.remove_stack(stack)


@pytest.mark.parametrize("state", UPGRADES)
def test_an_upgrade_that_was_killed_is_finished(story: Story, state: str) -> None:
    world, version = story.world, story.publish()
    with passing(world) as pass_:
        pass_.reaches(state)
        pass_.kill()
    seen = len(records(world))
    row = world.up()
    assert (row["ran"]["state"], row["current"], row["decision"]) == ("committed", version, "noop-healthy")
    assert "planned" not in states(world, seen), "it is the same run that goes on"
    story.is_good()


@pytest.mark.parametrize("state", ROLLBACKS)
def test_a_rollback_that_was_killed_is_finished(story: Story, state: str) -> None:
    world, before = story.world, story.deployed
    data = checksum(world.volume)
    story.publish(bad="never-healthy")
    with passing(world) as pass_:
        pass_.reaches(state)
        pass_.kill()
    row = world.up(check=4)
    assert (row["ran"]["state"], row["current"]) == ("rolled-back", before)
    assert checksum(world.volume) == data
    story.is_good()


@pytest.mark.parametrize("state", UPGRADES)
def test_an_upgrade_that_is_told_to_stop_leaves_the_service_up(story: Story, state: str) -> None:
    world, version = story.world, story.publish()
    before, data = story.deployed, checksum(world.volume)
    with passing(world) as pass_:
        pass_.reaches(state)
        assert pass_.terminate() < 30
    assert replicas(world) == 1, "the service is up, or on its way up"
    # Before the deploy the old version goes on with its data; after it, the new one is there to stay.
    went_back = state in ("pulling", "stopping", "capturing")
    assert story.deployed == (before if went_back else version)
    world.wait(lambda: world.serves(story.deployed.partition("+")[2]), "the service")
    if went_back:
        assert checksum(world.volume) == data
    row = world.up()
    assert (row["current"], row["decision"]) == (version, "noop-healthy"), "and the upgrade is made after all"
    story.is_good()


def test_a_rollback_that_is_told_to_stop_gets_as_far_as_starting_the_old_version(story: Story) -> None:
    world, before = story.world, story.deployed
    data = checksum(world.volume)
    story.publish(bad="never-healthy")
    with passing(world) as pass_:
        pass_.reaches("restoring")
        assert pass_.terminate() < 30
    assert (replicas(world), story.deployed) == (1, before)
    world.wait(lambda: world.serves(before.partition("+")[2]), "the old version")
    assert checksum(world.volume) == data
    assert world.up(check=4)["ran"]["state"] == "rolled-back"
    story.is_good()


def test_a_torn_last_line_is_cut_off(story: Story) -> None:
    with journal(story.world).open("ab") as file:
        file.write(b'{"at":"2026-')
    whole = len(records(story.world))
    story.world.warmd("pause", "app", "--why", "to write a line")
    story.world.warmd("resume", "app")
    assert [r["type"] for r in records(story.world)[whole:]] == ["paused", "resumed"]
    row = story.world.up()
    assert (row["current"], row["ran"]) == (story.deployed, None)


def test_a_damaged_journal_stops_this_service_only(story: Story, stack_name: str) -> None:
    world = story.world
    other = world.neighbour("other", stack_name, gate=GATE)
    other.publish("1.0.0+1.0.0")
    file = journal(world)
    whole = file.read_bytes()
    lines = whole.split(b"\n")
    number = len(lines) // 2
    line = lines[number - 1]
    lines[number - 1] = line.replace(b'"type"', b'"tyqe"', 1)
    file.write_bytes(b"\n".join(lines))
    story.publish()
    tasks = world.tasks()

    rows = {row["service"]: row for row in world.warmd("up", "--json", check=7).json}
    assert f"{file}:{number}" in rows["app"]["error"]
    assert rows["other"]["decision"] == "noop-healthy", "the others are served"
    assert other.serves("1.0.0")
    assert world.tasks() == tasks
    assert f"{file}:{number}" in world.warmd("history", "app", check=7).err
    assert b"\n".join(lines) == file.read_bytes(), "it is left as it was found"

    file.write_bytes(whole)
    story.is_good()
