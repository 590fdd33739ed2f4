"""Stacks that somebody else deployed, or moved: taken over as they are, or told of and left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import Lab
from tests.swarm.world import World

#: A second service without a port; ``{labels}`` in either form of a compose file.
SIDE = """
  side:
    image: "{image}"
    networks: [internal]
    deploy:
      endpoint_mode: dnsrr
      labels: {labels}
"""


@pytest.fixture
def world(lab: Lab, tmp_path: Path, stack_name: str) -> World:
    return World(lab, tmp_path, stack_name)


def with_side(world: World, compose: str, labels: str) -> str:
    """``compose`` with the service ``side``, which carries ``labels``."""
    side = SIDE.format(image=world.lab.warm_app("1.0.0"), labels=labels)
    return compose.replace("\nnetworks:\n", f"{side}\nnetworks:\n")


def test_a_running_stack_is_taken_over_as_it_is_and_upgraded_from_there(world: World) -> None:
    world.publish("1.0.0+1.0.0", compose=world.labelled("1.0.0+1.0.0"))
    world.by_hand(world.labelled("1.0.0+1.0.0"))
    world.write_note("from before warmd")
    before = world.tasks()

    found = world.up()
    assert (found["decision"], found["current"], found["ran"]) == ("noop-healthy", "1.0.0+1.0.0", None)
    assert found["last_good"] == "1.0.0+1.0.0"
    assert world.history()["last_good"]["how"] == "taken-over"
    assert not [label for label in world.specs()["app"]["Labels"] if label.startswith("warmd.")]
    assert world.up()["decision"] == "noop-healthy"
    assert world.tasks() == before, "taking over creates no task"
    assert world.alerts() == []

    world.publish("1.1.0+1.1.0", compose=world.labelled("1.1.0+1.1.0"))
    upgraded = world.up()
    assert (upgraded["current"], upgraded["ran"]["state"]) == ("1.1.0+1.1.0", "committed")
    assert "from before warmd" in world.notes
    kinds = [(e["how"], e["version"]) for e in world.history()["taken_over"]]
    assert kinds == [("taken-over", "1.0.0+1.0.0")], "the history still tells where it came from"


def test_the_version_label_may_be_in_map_form_and_on_another_service(world: World) -> None:
    version = "1.0.0+1.0.0"
    plain = world.compose(world.lab.warm_app("1.0.0"))
    compose = with_side(world, plain, f'{{ "coop-cloud.{world.stack}.version": "{version}" }}')
    world.publish(version, compose=compose)
    world.by_hand(compose)
    before = world.tasks()
    found = world.up()
    assert (found["decision"], found["last_good"]) == ("noop-healthy", version)
    assert world.tasks() == before


def test_a_stack_without_a_version_label_waits_for_a_persons_word(world: World) -> None:
    world.publish("1.0.0+1.0.0")
    world.publish("1.1.0+1.1.0")
    world.by_hand(world.compose(world.lab.warm_app("1.0.0")))
    before = world.tasks()
    held = world.up()
    assert (held["decision"], held["current"], held["ran"]) == ("held-unknown-current", None, None)
    assert world.open_alerts() == {("held-unknown-current", None)}
    assert "warmd adopt app --version VERSION" in world.alert("held-unknown-current")["commands"]
    assert "--version" in world.warmd("adopt", "app", check=7).err
    assert world.tasks() == before, "nothing was touched"

    world.warmd("adopt", "app", "--version", "1.0.0+1.0.0")
    assert world.tasks() == before, "a word creates no task"
    upgraded = world.up()
    assert (upgraded["current"], upgraded["ran"]["state"]) == ("1.1.0+1.1.0", "committed")
    assert world.open_alerts() == set()


def test_an_unhealthy_stack_is_not_taken_over(world: World) -> None:
    world.publish("1.0.0+1.0.0", compose=world.labelled("1.0.0+1.0.0"))
    world.publish("1.1.0+1.1.0")
    world.by_hand(world.labelled("1.0.0+1.0.0", bad="never-healthy", repo="sick"))
    before = world.tasks()
    held = world.up()
    assert (held["decision"], held["last_good"], held["ran"]) == ("held-unhealthy", None, None)
    assert world.open_alerts() == {("held-unhealthy", None)}
    assert world.alert("held-unhealthy")["severity"] == "critical"
    assert world.up()["decision"] == "held-unhealthy"
    assert world.tasks() == before


def test_a_stack_moved_by_hand_to_a_published_version_is_taken_over(world: World) -> None:
    world.publish("1.0.0+1.0.0", compose=with_side(world, world.labelled("1.0.0+1.0.0"), "[]"))
    world.up()
    assert world.specs()["app"]["Labels"]["warmd.version"] == "1.0.0+1.0.0"
    world.publish("1.1.0+1.1.0", compose=world.labelled("1.1.0+1.1.0"))

    world.by_hand(world.labelled("1.1.0+1.1.0"))
    # The new version has one service less: that is no drift.
    world.lab.docker("service", "rm", f"{world.stack}_side")
    world.wait(world.settled, "only the new services run")
    assert "warmd.version" not in world.specs()["app"]["Labels"], "docker's client replaces the labels"
    before = world.tasks()
    found = world.up()
    assert (found["decision"], found["last_good"], found["ran"]) == ("noop-healthy", "1.1.0+1.1.0", None)
    assert world.tasks() <= before, "no task is created"
    assert world.alerts() == []
    assert world.history()["last_good"]["how"] == "taken-over"


def test_a_stack_moved_by_hand_to_where_warmd_can_not_follow_is_left_alone(world: World) -> None:
    world.publish("1.0.0+1.0.0", compose=world.labelled("1.0.0+1.0.0"))
    world.up()

    # To a version that nobody published: a person has to say that it is meant.
    world.by_hand(world.labelled("1.0.5+1.0.5"))
    before = world.tasks()
    held = world.up()
    assert (held["decision"], held["ran"]) == ("held-unknown-current", None)
    assert "1.0.5+1.0.5" in world.alert("held-unknown-current")["detail"]
    world.warmd("adopt", "app")
    adopted = world.up()
    assert (adopted["decision"], adopted["last_good"]) == ("noop-healthy", "1.0.5+1.0.5")
    assert world.tasks() == before
    assert world.open_alerts() == set()

    # To a published one that is not well: left alone until it is.
    world.publish("1.1.0+1.1.0", compose=world.labelled("1.1.0+1.1.0"))
    world.by_hand(world.labelled("1.1.0+1.1.0", bad="never-healthy", repo="sick"))
    before = world.tasks()
    held = world.up()
    assert (held["decision"], held["last_good"], held["ran"]) == ("held-unhealthy", "1.0.5+1.0.5", None)
    assert "somebody deployed 1.1.0+1.1.0" in world.alert("held-unhealthy")["detail"]
    assert world.tasks() == before

    world.by_hand(world.labelled("1.1.0+1.1.0"))
    found = world.up()
    assert (found["decision"], found["last_good"], found["ran"]) == ("noop-healthy", "1.1.0+1.1.0", None)
    assert world.open_alerts() == set()


def test_a_label_that_says_another_version_than_the_tag_makes_no_loop(world: World) -> None:
    # The maintainer forgot to change the label.
    world.publish("1.0.0+1.0.0", compose=world.labelled("0.9.0+1.0.0"))
    assert world.up()["current"] == "1.0.0+1.0.0", "after a run of warmd, warmd's label wins"
    before = world.tasks()
    again = world.up()
    assert (again["decision"], again["current"], again["ran"]) == ("noop-healthy", "1.0.0+1.0.0", None)

    # Somebody deploys the same file: now only the wrong label is left.
    world.by_hand(world.labelled("0.9.0+1.0.0"))
    assert world.tasks() == before, "the same specs"
    held = world.up()
    assert (held["decision"], held["ran"]) == ("held-unknown-current", None)
    # A person's word stands against the label, for as long as the label says the same.
    world.warmd("adopt", "app", "--version", "1.0.0+1.0.0")
    for _ in range(2):
        adopted = world.up()
        assert (adopted["decision"], adopted["current"]) == ("noop-healthy", "1.0.0+1.0.0")
    assert world.history()["last_good"]["how"] == "adopted"
    assert world.tasks() == before
    assert world.open_alerts() == set()


def test_a_stack_of_another_installation_is_left_alone(world: World) -> None:
    theirs = world.labelled("1.0.0+1.0.0").replace("labels: [", 'labels: ["warmd.owner=someone-else", ')
    world.publish("1.0.0+1.0.0", compose=world.labelled("1.0.0+1.0.0"))
    world.publish("1.1.0+1.1.0", compose=world.labelled("1.1.0+1.1.0"))
    world.by_hand(theirs)
    before = world.tasks()
    row = world.up()
    assert (row["decision"], row["ran"]) == ("owned-elsewhere", None)
    assert world.open_alerts() == {("owned-elsewhere", None)}
    assert "someone-else" in world.alert("owned-elsewhere")["detail"]
    assert world.plan()["steps"] == []
    for words in ("deploy app", "adopt app", "snapshot app --yes", "restore app 0123 --yes"):
        assert "someone-else" in world.warmd(*words.split(), check=7).err
    assert world.tasks() == before
    assert world.specs()["app"]["Labels"]["warmd.owner"] == "someone-else"
