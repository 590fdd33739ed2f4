"""What runs is no longer what was good: put back after a while, or shown and left to a person."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import Lab
from tests.swarm.world import World

#: A second service that only sleeps.
SIDE = """
  side:
    image: "{image}"
    networks: [internal]
    deploy: {{ endpoint_mode: dnsrr, replicas: 1 }}
"""
#: What a stack may own beside its services.
OWN = """
secrets:
  password: { file: ./password.txt }
configs:
  motd: { file: ./motd.txt }
"""


@pytest.fixture
def world(lab: Lab, tmp_path: Path, stack_name: str) -> World:
    return World(lab, tmp_path, stack_name)


def patient(world: World, repair_after: str) -> None:
    """Configure how long somebody may be working there."""
    world.policy = f'repair_after = "{repair_after}"'
    world.write_config()


def with_side(world: World, version: str) -> str:
    image = world.lab.warm_app(version.partition("+")[2])
    return world.compose(image).replace("\nnetworks:\n", f"{SIDE.format(image=image)}\nnetworks:\n")


def with_own(world: World, version: str) -> str:
    """A release whose stack owns a secret and a config, both from files of the recipe."""
    compose = world.compose(world.lab.warm_app(version.partition("+")[2]))
    return compose.replace("    ports:", "    secrets: [password]\n    configs: [motd]\n    ports:") + OWN


def scale(world: World, service: str, replicas: int) -> None:
    world.lab.docker("service", "scale", "--detach", f"{world.stack}_{service}={replicas}")
    world.wait(lambda: len(world.running_tasks(service)) == replicas, f"{replicas} tasks of {service}")


def read_in_container(world: World, path: str) -> str:
    container = next(c["Id"] for c in world.lab.containers(world.stack) if c["State"] == "running")
    return world.lab.docker("exec", container, "cat", path)


def runs(world: World) -> list[tuple[str, str]]:
    return [(run["kind"], run["state"]) for run in world.history()["runs"]]


def test_scaled_to_zero_by_hand_is_told_at_once_and_repaired_only_later(world: World) -> None:
    patient(world, "1h")
    world.publish("1.0.0+1.0.0")
    world.up()
    world.write_note("still here")
    scale(world, "app", 0)
    before = world.tasks()
    for _ in range(2):
        drifted = world.up()
        assert (drifted["decision"], drifted["ran"]) == ("drift", None)
        assert world.open_alerts() == {("drift", None)}
    assert "app" in world.alert("drift")["detail"]
    assert world.tasks() <= before, "somebody may be working there"

    patient(world, "0s")
    repaired = world.up()
    assert (repaired["ran"]["kind"], repaired["ran"]["state"]) == ("repair", "committed")
    assert (repaired["decision"], repaired["current"]) == ("noop-healthy", "1.0.0+1.0.0")
    assert repaired["ran"]["snapshot"] is None
    assert world.notes.strip() == "still here"
    assert world.open_alerts() == set()
    assert len(world.alerts()) == 2, "one opening, one end"


def test_scaled_back_by_a_person_in_time_needs_no_run(world: World) -> None:
    patient(world, "1h")
    world.publish("1.0.0+1.0.0")
    world.up()
    scale(world, "app", 0)
    assert world.up()["decision"] == "drift"
    scale(world, "app", 1)
    before = world.tasks()
    again = world.up()
    assert (again["decision"], again["ran"]) == ("noop-healthy", None)
    assert world.tasks() == before
    assert world.open_alerts() == set()
    assert runs(world) == [("cold-deploy", "committed")]

    # The next absence is another one: its patience starts anew.
    scale(world, "app", 0)
    assert world.up()["decision"] == "drift"


def test_one_service_of_two_that_was_removed_comes_back_beside_the_other(world: World) -> None:
    world.publish("1.0.0+1.0.0", compose=with_side(world, "1.0.0+1.0.0"))
    world.up()
    app = world.running_tasks("app")
    world.lab.docker("service", "rm", f"{world.stack}_side")
    first = world.up()
    assert first["decision"] == "drift"
    assert "side" in world.alert("drift")["detail"]
    world.wait(lambda: world.up()["ran"], "the repair", deadline=20)
    assert len(world.running_tasks("side")) == 1
    assert world.running_tasks("app") == app, "what was well is not restarted"
    assert runs(world) == [("cold-deploy", "committed"), ("repair", "committed")]


def test_a_removed_stack_comes_back_on_its_data_with_its_secrets_and_configs(world: World) -> None:
    patient(world, "0s")
    files = {"password.txt": "hunter2", "motd.txt": "welcome"}
    world.recipe.publish("1.0.0+1.0.0", compose=with_own(world, "1.0.0+1.0.0"), files=files)
    world.up()
    world.write_note("survives")
    world.lab.remove_stack(world.stack, volumes=False)
    assert world.lab.docker("secret", "ls", "-q", "-f", f"name={world.stack}_password") == ""

    assert world.up()["ran"]["kind"] == "repair"
    assert world.notes.strip() == "survives"
    assert read_in_container(world, "/run/secrets/password") == "hunter2"
    assert read_in_container(world, "/motd") == "welcome"
    assert world.up()["decision"] == "noop-healthy", "what was made again is no drift"

    # The same, asked for by a person: a run with a snapshot.
    world.lab.remove_stack(world.stack, volumes=False)
    patient(world, "1h")
    assert world.up()["decision"] == "drift"
    run = world.warmd("deploy", "app", "--json").json["run"]
    assert (run["kind"], run["state"]) == ("deploy", "committed")
    assert read_in_container(world, "/run/secrets/password") == "hunter2"
    assert world.notes.strip() == "survives"
    assert world.up()["decision"] == "noop-healthy"
    assert world.open_alerts() == set()

    # Nobody wrote the password to disk.
    found = [f for f in world.state.rglob("*") if f.is_file() and b"aHVudGVyMg" in f.read_bytes()]
    assert found == []


def test_a_removed_stack_whose_secret_can_not_be_rendered_again_is_an_error(world: World) -> None:
    patient(world, "0s")
    files = {"password.txt": "hunter2", "motd.txt": "welcome"}
    world.recipe.publish("1.0.0+1.0.0", compose=with_own(world, "1.0.0+1.0.0"), files=files)
    world.up()
    world.lab.remove_stack(world.stack, volumes=False)
    world.recipe.git("tag", "--delete", "1.0.0+1.0.0")

    failed = world.up(check=7)
    assert (failed["ran"]["kind"], failed["ran"]["state"]) == ("repair", "failed-unchanged")
    assert failed["decision"] == "failed-unchanged"
    assert world.open_alerts() == {("drift", None), ("failed-unchanged", "1.0.0+1.0.0")}
    detail = world.alert("failed-unchanged")["detail"]
    assert f"{world.stack}_password" in detail
    assert "1.0.0+1.0.0 is not published" in detail
    assert len(world.history()["runs"]) == 2, "one try a look"
    assert world.specs() == {}

    # The operator makes the secret, as the message says.
    mine = f"com.docker.stack.namespace={world.stack}"
    name = f"{world.stack}_password"
    world.lab.docker("secret", "create", "--label", mine, name, "-", stdin=b"hunter2")
    assert world.up()["ran"] is None, "not tried again at once by itself"
    repaired = world.warmd("reconcile", "app", "--json").json[0]
    assert (repaired["ran"]["state"], repaired["decision"]) == ("committed", "noop-healthy")
    assert world.open_alerts() == set()


def test_a_change_by_hand_is_shown_and_blocks_upgrades_until_a_person_decides(world: World) -> None:
    world.publish("1.0.0+1.0.0")
    world.up()
    world.write_note("precious")
    world.lab.docker("service", "update", "--detach", "--env-add", "DEBUG=1", f"{world.stack}_app")
    world.wait(world.settled, "the change runs")
    world.publish("1.1.0+1.1.0")
    before = world.tasks()
    held = world.up()
    assert (held["decision"], held["ran"]) == ("held-config-drift", None)
    assert "running: app: env DEBUG added: 1" in world.alert("held-config-drift")["detail"]
    plan = world.plan()
    assert plan["changes"] == ["running: app: env DEBUG added: 1"]
    assert plan["steps"] == []
    assert plan["commands"] == ["warmd deploy app", "warmd adopt app"]
    assert world.tasks() == before

    # Putting back what is configured is a run like any other, with a snapshot.
    run = world.warmd("deploy", "app", "--json").json["run"]
    assert (run["kind"], run["state"], run["to_version"]) == ("deploy", "committed", "1.0.0+1.0.0")
    assert "Env" not in world.specs()["app"]["TaskTemplate"]["ContainerSpec"]
    assert world.notes.strip() == "precious"
    snapshots = world.warmd("snapshots", "app", "--json").json
    assert [s["id"] for s in snapshots] == [run["snapshot"]]
    plan = world.plan()
    assert (plan["decision"], plan["changes"]) == ("upgrade", ["app: image 1.0.0 -> 1.1.0"])


def test_a_change_by_hand_may_be_adopted(world: World) -> None:
    world.publish("1.0.0+1.0.0", compose=with_side(world, "1.0.0+1.0.0"))
    world.up()
    scale(world, "side", 2)
    assert world.up()["decision"] == "held-config-drift"
    assert "side: replicas 1 -> 2" in world.alert("held-config-drift")["detail"]
    before = world.tasks()
    world.warmd("adopt", "app")
    adopted = world.up()
    assert (adopted["decision"], adopted["ran"]) == ("noop-healthy", None)
    assert world.open_alerts() == set()
    assert world.tasks() == before
    assert world.history()["last_good"]["how"] == "adopted"


def test_a_changed_configuration_waits_for_a_persons_deploy(world: World) -> None:
    compose = world.compose(world.lab.warm_app("1.0.0"))
    compose = compose.replace("    ports:", '    environment: ["GREETING=${GREETING}"]\n    ports:')
    world.env = '{ GREETING = "hello" }'
    world.write_config()
    world.publish("1.0.0+1.0.0", compose=compose)
    world.up()
    before = world.tasks()
    world.env = '{ GREETING = "good day" }'
    world.write_config()
    held = world.up()
    assert (held["decision"], held["ran"]) == ("held-config-drift", None)
    assert held["reason"] == "configured: app: env GREETING hello -> good day"
    assert world.tasks() == before

    world.warmd("deploy", "app", "--why", "new greeting")
    assert world.specs()["app"]["TaskTemplate"]["ContainerSpec"]["Env"] == ["GREETING=good day"]
    assert world.up()["decision"] == "noop-healthy"
    assert world.open_alerts() == set()
    assert world.history()["runs"][-1]["why"] == "new greeting"


def test_a_restart_of_docker_is_no_drift_and_no_reason_to_act(world: World) -> None:
    world.publish("1.0.0+1.0.0")
    world.up()
    world.write_note("restarted")
    old = world.running_tasks()
    world.lab.restart_dockerd()
    # Right after its start the swarm still lists the tasks of before as running.
    world.wait(lambda: world.settled() and not world.running_tasks() & old, "new tasks run", deadline=90)
    before = world.tasks()
    again = world.up()
    assert (again["decision"], again["ran"]) == ("noop-healthy", None)
    assert world.tasks() == before
    assert world.alerts() == []
    assert runs(world) == [("cold-deploy", "committed")]


def test_data_without_a_known_version_waits_for_a_persons_word(world: World) -> None:
    world.publish("1.0.0+1.0.0")
    world.publish("1.1.0+1.1.0")
    world.by_hand(world.compose(world.lab.warm_app("1.0.0")))
    world.write_note("from long ago")
    world.lab.remove_stack(world.stack, volumes=False)

    held = world.up()
    assert (held["decision"], held["ran"]) == ("held-data-without-version", None)
    alert = world.alert("held-data-without-version")
    assert f"{world.stack}_data" in alert["detail"]
    assert "warmd deploy app --version VERSION" in alert["commands"]
    assert world.specs() == {}
    assert (world.schema, world.notes.strip()) == ("1.0.0", "from long ago")

    world.warmd("deploy", "app", "--version", "1.0.0+1.0.0")
    assert world.get("/health") == {"status": "ok", "version": "1.0.0", "schema": "1.0.0"}
    assert world.notes.strip() == "from long ago"
    assert world.plan()["decision"] == "upgrade", "from here on it is like any other"
