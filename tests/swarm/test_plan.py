"""``warmd plan`` explains, and changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import Lab
from tests.swarm.world import World


@pytest.fixture
def world(lab: Lab, tmp_path: Path, stack_name: str) -> World:
    return World(lab, tmp_path, stack_name)


def on_disk(world: World) -> dict[str, bytes]:
    """Every file that warmd keeps of its services. Its mirrors of the sources may be fetched."""
    kept = [world.state / "services", world.state / "alerts", world.state / "blobs"]
    return {str(f): f.read_bytes() for folder in kept for f in folder.rglob("*") if f.is_file()}


def test_a_plan_shows_what_would_happen_and_changes_nothing(world: World) -> None:
    world.publish("1.0.0+1.0.0")
    first = world.plan()
    assert (first["decision"], first["target"], first["current"]) == ("cold-deploy", "1.0.0+1.0.0", None)
    assert len(first["steps"]) == 4
    assert world.specs() == {}
    assert on_disk(world) == {}
    world.up()

    world.recipe.tag("no-version-at-all")
    world.publish("1.1.0+1.1.0")
    world.publish("1.2.0+1.2.0", notes="Rename the variable by hand.")
    world.publish("1.3.0+1.3.0")
    world.publish("2.0.0+2.0.0")
    before, kept = world.tasks(), on_disk(world)
    plan = world.plan()
    assert {"service", "stack", "current", "decision", "reason", "target", "health", "releases"} <= set(plan)
    assert {"ignored_tags", "changes", "steps", "outage", "held", "commands"} <= set(plan)
    assert (plan["service"], plan["stack"], plan["current"]) == ("app", world.stack, "1.0.0+1.0.0")
    assert (plan["decision"], plan["target"]) == ("upgrade", "1.1.0+1.1.0")
    assert plan["health"].startswith("healthy")
    assert plan["ignored_tags"] == 1

    verdicts = {r["version"]: (r["passes"], r["hold"]) for r in plan["releases"]}
    assert verdicts == {
        "1.1.0+1.1.0": (True, None),
        "1.2.0+1.2.0": (False, "held-manual-migration"),
        "1.3.0+1.3.0": (False, "held-manual-migration"),
        "2.0.0+2.0.0": (False, "held-manual-migration"),
    }
    crossing = plan["releases"][2]
    assert crossing["crossed"].startswith("1.2.0+1.2.0: ")
    assert [v["rule"] for v in plan["releases"][3]["verdicts"] if not v["passed"]] == [
        "recipe-major",
        "app-major",
    ]
    assert plan["releases"][1]["notes"] == ["release/1.2.0+1.2.0"]

    assert plan["changes"] == ["app: image 1.0.0 -> 1.1.0"]
    steps = "\n".join(plan["steps"])
    for word in (
        "pull",
        "check",
        f"stop {world.stack}",
        f"{world.stack}_data",
        "deploy 1.1.0",
        "healthy",
        "back",
    ):
        assert word in steps
    assert plan["outage"].startswith("about ")
    assert plan["commands"][0] == "warmd reconcile app"
    assert "warmd approve app 1.2.0+1.2.0 --why '...'" in plan["commands"]

    shown = world.warmd("plan", "app").out
    for part in (
        "1.1.0+1.1.0",
        "held-manual-migration",
        "app: image 1.0.0 -> 1.1.0",
        "Expected outage",
        "$ warmd",
    ):
        assert part in shown
    assert on_disk(world) == kept, "not a byte was written"
    assert world.tasks() == before, "not a task was made"
    assert world.alerts() == []

    # The plan is what happens.
    upgraded = world.up()
    assert (upgraded["ran"]["to_version"], upgraded["decision"]) == ("1.1.0+1.1.0", "held-manual-migration")
    held = world.plan()
    assert (held["decision"], held["target"], held["steps"]) == ("held-manual-migration", None, [])
    assert held["outage"] == "none: nothing would be done"


def test_a_plan_leaves_out_what_is_excluded_and_says_why_a_release_can_not_be_rendered(world: World) -> None:
    world.snapshot = '{ kind = "archive", exclude = ["cache"] }'
    world.write_config()
    compose = world.compose(world.lab.warm_app("1.0.0"))
    compose = compose.replace('["data:/data"]', '["data:/data", "cache:/cache"]') + "  cache: {}\n"
    world.publish("1.0.0+1.0.0", compose=compose)
    world.up()
    world.publish(
        "1.1.0+1.1.0", compose=compose.replace("    ports:", "    hostname: $NAME_OF_HOST\n    ports:")
    )
    before = world.tasks()
    plan = world.plan()
    assert plan["decision"] == "upgrade"
    steps = "\n".join(plan["steps"])
    assert f"{world.stack}_data" in steps
    assert f"{world.stack}_cache" not in steps
    assert any("can't be rendered" in change and "NAME_OF_HOST" in change for change in plan["changes"])
    assert world.up(check=7)["ran"]["state"] == "failed-unchanged"
    assert world.tasks() == before
    assert "NAME_OF_HOST" in world.alert("failed-unchanged")["detail"]
