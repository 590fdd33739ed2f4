"""A bad version goes back, with its data, or a person is told why not: nothing is half put back."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest

from tests.lab import Lab, LabError
from tests.lab.warmapp import Bad
from tests.swarm.observer import checksum, deployed, replicas
from tests.swarm.passing import Passing, passing, states
from tests.swarm.world import World

#: A bad version is waited for until the deadline, a good one is there within a second or two.
GATE = 'health_gate = { deadline = "6s", interval = "100ms", successes = 2, stable = "300ms" }'
OLD, BAD, NEXT = "1.0.0+1.0.0", "1.1.0+1.1.0", "1.1.1+1.1.1"
SIDE = """\
  side:
    image: "{image}"
    volumes: ["more:/data"]
    networks: [internal]
    stop_grace_period: 5s
    deploy: {{ endpoint_mode: dnsrr, restart_policy: {{ condition: any, delay: 1s }} }}
"""


@pytest.fixture
def world(lab: Lab, tmp_path: Path, stack_name: str) -> World:
    """The service, deployed, with something in it that must not be lost."""
    world = World(lab, tmp_path, stack_name, gate=GATE)
    world.publish(OLD)
    world.up()
    world.write_note("precious")
    return world


def volume(world: World, name: str) -> Path:
    shown = world.lab.docker("volume", "inspect", "--format", "{{.Mountpoint}}", f"{world.stack}_{name}")
    return Path(shown)


def in_quarantine(world: World, name: str) -> list[Path]:
    """Files of a name in what rollbacks replaced: their records say where it is."""
    records = (world.state / "services" / "app" / "quarantine").glob("*/restore.json")
    places = [p for r in records for m in json.loads(r.read_text())["moves"] for p in m["places"]]
    return sorted(found for place in places for found in Path(place).rglob(name))


def remove_volume(world: World, name: str) -> None:
    """What ``docker system prune --volumes`` does to a stack that is stopped."""

    def removed() -> bool:
        try:
            # The swarm removes ended containers as well, at its own pace.
            for container in world.lab.containers(world.stack):
                with suppress(LabError):
                    world.lab.docker("rm", container["Id"])
            world.lab.docker("volume", "rm", f"{world.stack}_{name}")
        except LabError:
            return False
        return True

    world.wait(removed, "no container keeps the volume")


def with_side(world: World, app: str, *, bad: Bad | None = None) -> str:
    """A compose text with a second service that has a volume of its own."""
    compose = world.compose(world.lab.warm_app(app, bad=bad))
    side = SIDE.format(image=world.lab.warm_app(app, repo="warm-side"))
    compose = compose.replace("\nnetworks:\n", f"\n{side}networks:\n")
    return compose.replace("volumes:\n  data: {}\n", "volumes:\n  data: {}\n  more: {}\n")


@pytest.mark.parametrize("bad", ["crash", "never-healthy"])
def test_version_and_data_of_all_volumes_go_back_together(
    lab: Lab, tmp_path: Path, stack_name: str, bad: Bad
) -> None:
    world = World(lab, tmp_path, stack_name, gate=GATE)
    world.publish(OLD, compose=with_side(world, "1.0.0"))
    world.up()
    world.write_note("precious")
    before = {name: checksum(volume(world, name)) for name in ("data", "more")}

    world.publish(BAD, compose=with_side(world, "1.1.0", bad=bad))
    row = world.up(check=4)
    assert (row["ran"]["state"], row["decision"]) == ("rolled-back", "held-failed-before")
    assert (row["current"], deployed(world)) == (OLD, OLD)
    assert {name: checksum(volume(world, name)) for name in before} == before
    assert world.serves("1.0.0")

    assert [p.read_text() for p in in_quarantine(world, "notes")] == ["damaged by 1.1.0\n"]
    assert {p.read_text() for p in in_quarantine(world, "schema")} == {"1.1.0\n"}
    kept = world.warmd("snapshots", "app", "--json").json
    assert [(s["id"], s["version"], s["sealed"]) for s in kept] == [(row["ran"]["snapshot"], OLD, True)]
    assert set(kept[0]["volumes"]) == {f"{stack_name}_data", f"{stack_name}_more"}
    assert "version and data are the old ones" in world.alert("rolled-back")["summary"]

    tasks = world.tasks()
    again = world.up()
    assert (again["decision"], again["ran"]) == ("held-failed-before", None), "it is not tried again"
    assert world.tasks() == tasks
    world.warmd("retry", "app")
    assert (world.plan()["decision"], world.plan()["target"]) == ("upgrade", BAD), "unless somebody asks"


def gated(world: World, pass_: Passing) -> dict[str, str]:
    """Wait until the bad version has migrated the data, under the health gate."""
    pass_.reaches("gating")
    world.wait(lambda: (world.volume / "schema").read_text() == "1.1.0\n", "the migration")
    return {"data": checksum(world.volume)}


def flip(archive: Path) -> None:
    """One bit on the disk is not what it was."""
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)


def test_a_damaged_archive_is_never_put_back_and_a_retry_goes_on_once_it_is_whole(world: World) -> None:
    before = checksum(world.volume)
    world.publish(BAD, bad="never-healthy")
    with passing(world) as pass_:
        migrated = gated(world, pass_)
        snapshots = world.state / "services" / "app" / "snapshots"
        (archive,) = snapshots.rglob("*.tar.zst")
        flip(archive)
        assert pass_.ends() == 5
    assert states(world)[-3:] == ["halting", "restoring", "stuck"]
    assert checksum(world.volume) == migrated["data"], "the new version's data stays, all of it"
    assert sorted(p.name for p in world.volume.parent.iterdir()) == ["_data"], "nothing half unpacked is left"
    assert in_quarantine(world, "*") == []
    alert = world.alert("stuck")
    assert alert["severity"] == "critical"
    assert archive.name in alert["detail"]
    snapshot = archive.parent.name
    assert {"warmd retry app", "warmd adopt app", f"warmd restore app {snapshot}"} <= set(alert["commands"])

    tasks = world.tasks()
    assert world.up(check=5)["decision"] == "stuck"
    refused = world.warmd("adopt", "app", check=7)
    assert "nothing to adopt" in refused.err, "scaled to zero it must not become what is good"
    assert world.tasks() == tasks

    flip(archive)  # from a backup, say
    world.warmd("retry", "app")
    row = world.up(check=4)
    assert (row["ran"]["state"], row["current"]) == ("rolled-back", OLD)
    assert checksum(world.volume) == before
    assert world.open_alerts() == {("rolled-back", BAD)}


def halt(world: World, pass_: Passing, state: str) -> None:
    """Stop all changes while something is being done: it goes no further than to the next ``state``."""
    (world.state / "PAUSE").touch()
    assert pass_.ends() == 6, "it could not be done now"
    assert states(world)[-1] == state


def test_a_volume_that_was_removed_is_made_again_for_its_data_to_go_back(world: World) -> None:
    before = checksum(world.volume)
    labels = world.lab.docker("volume", "inspect", "--format", "{{json .Labels}}", f"{world.stack}_data")
    world.publish(BAD, bad="never-healthy")
    with passing(world) as pass_:
        gated(world, pass_)
        halt(world, pass_, "halting")
    world.lab.docker("service", "scale", "--detach", f"{world.stack}_app=0")
    world.wait(lambda: not world.tasks(), "an empty task list")
    remove_volume(world, "data")
    assert world.lab.volumes(world.stack) == []

    (world.state / "PAUSE").unlink()
    row = world.up(check=4)
    assert (row["ran"]["state"], row["current"]) == ("rolled-back", OLD)
    assert checksum(world.volume) == before
    again = world.lab.docker("volume", "inspect", "--format", "{{json .Labels}}", f"{world.stack}_data")
    assert again == labels, "as the swarm would have made it"


def test_nothing_starts_on_an_empty_volume_where_there_was_data(world: World) -> None:
    """Removed after the stop and before the copy: there is nothing to copy, and nothing to go back to."""
    world.publish(NEXT)
    with passing(world) as pass_:
        pass_.reaches("stopping")
        world.wait(lambda: replicas(world) == 0, "the stop")
        halt(world, pass_, "capturing")
    remove_volume(world, "data")
    (world.state / "PAUSE").unlink()
    row = world.up(check=5)
    assert (row["decision"], row["ran"]["state"]) == ("stuck", "stuck")
    assert f"volume {world.stack}_data was removed" in world.alert("stuck")["detail"]
    assert not world.running_tasks()
    assert world.lab.volumes(world.stack) == []


def test_past_the_horizon_nothing_is_put_back_until_somebody_says_so(world: World) -> None:
    before = checksum(world.volume)
    world.policy = 'rollback_horizon = "2s"'
    world.write_config()
    world.publish(BAD, bad="never-healthy")
    row = world.up(check=5)
    assert (row["ran"]["state"], row["decision"], row["current"]) == ("stuck", "stuck", BAD)
    assert "halting" not in states(world)
    assert world.schema == "1.1.0", "the data is the new version's"
    alert = world.alert("stuck")
    assert "a restore would lose what was written since" in alert["detail"]
    restore = f"warmd restore app {row['ran']['snapshot']}"
    assert restore in alert["commands"]
    assert "warmd retry app" not in alert["commands"]

    world.warmd(*restore.split()[1:], "--yes")
    assert (deployed(world), checksum(world.volume)) == (OLD, before)
    settled = world.up()
    assert (settled["decision"], settled["current"]) == ("held-failed-before", OLD)
    assert ("stuck", BAD) not in world.open_alerts()


def test_what_falls_ill_after_the_commit_is_not_rolled_back(world: World) -> None:
    world.publish(NEXT)
    assert world.up()["ran"]["state"] == "committed"
    world.write_note("written since")
    (container,) = [c["Id"] for c in world.lab.containers(world.stack) if c["State"] == "running"]
    world.lab.docker("exec", container, "sh", "-c", "echo ill > /app/bad")

    tasks = world.tasks()
    row = world.up()
    assert (row["decision"], row["current"], row["ran"]) == ("held-unhealthy", NEXT, None)
    assert ("held-unhealthy", None) in world.open_alerts()
    assert world.tasks() == tasks
    assert "written since" in world.notes
