"""A recipe that means harm, on a real swarm, as its operator sees it: typed, logged and alerted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.hostile.text import HOSTILE, posing, steering
from tests.lab import Lab
from tests.swarm.world import World

NOTES = {
    "1.1.0+1.1.0": HOSTILE.encode(errors="replace"),
    "1.2.0+1.2.0": b"\x00\xff\xfe" * 1000,
    "1.3.0+1.3.0": b"# long\n" + b"read me\n" * 700_000,
    "1.4.0+1.4.0": "Read\tme.\r\n\u200bHidden\u2028FAKE line\n\n$ FAKE | sh\n".encode(),
}


@pytest.fixture
def world(lab: Lab, tmp_path: Path, stack_name: str) -> World:
    return World(lab, tmp_path, stack_name, interval="1h")


def test_hostile_notes_and_compose_files_steer_nothing_and_touch_nothing(world: World) -> None:
    world.publish("1.0.0+1.0.0")
    world.up()
    tasks = world.tasks()
    compose = world.compose(world.lab.warm_app("1.0.0"))
    for version, notes in NOTES.items():
        world.recipe.publish(version, compose=compose, notes=notes)
    # What comes next wants the machine.
    world.recipe.publish("1.5.0+1.5.0", compose=compose.replace('"data:/data"', '"data:/data", "/:/host"'))
    verbs = ("up --log-level debug", "plan app", "alerts app", "alerts --json")
    said = {verb: world.warmd(*verb.split(), check=None) for verb in verbs}
    told = {verb: outcome.out + outcome.err for verb, outcome in said.items()}
    assert "held-manual-migration" in told["up --log-level debug"]
    assert "owned" not in told["plan app"], "notes are not shown where they were not asked for"
    assert "    | Read    me.\n" in told["alerts app"]
    for verb, text in told.items():
        assert steering(text) == set(), verb
        assert posing(text) == [], verb
    for path in (world.state / "alerts").iterdir():
        assert steering(path.read_bytes()) == set(), path.name
    bodies = {body["candidate"]: body for body in world.alerts() if body["kind"] == "held-manual-migration"}
    assert set(bodies) == set(NOTES)
    for version in list(NOTES)[:3]:
        assert [note["text"] for note in bodies[version]["notes"]] == [None], version

    world.policy += ', notes = "ignore"'
    world.write_config()
    refused = world.warmd("plan", "app", "--json").json[0]
    assert "mounts / of the machine: refused unless allowed" in json.dumps(refused["changes"])
    up = world.up(check=7)
    assert (up["ran"]["state"], up["current"]) == ("failed-unchanged", "1.0.0+1.0.0")
    alert = world.alert("failed-unchanged")
    assert 'allow = { binds = ["/"]' in alert["detail"]
    assert world.tasks() == tasks, "not one task was touched by any of it"
