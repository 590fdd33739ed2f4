"""The swarm's traps, by their numbers, and where each is shown not to catch warmd.

Each case below is a service that gets a bad version; all of them in one pass, so that they also do not
disturb each other. The cases' names begin with the trap's number.

 1  started from zero, a missing image loops and no rollback fires: ``t1-*``. The image is pulled before
    anything stops; what never comes up is put back by the health gate
 2  the swarm's monitor ends after 5 s: ``t2-*``, crashes 1, 9 and 60 s after the start, under a gate
    that watches for longer (9 s and 60 s: test_late_versions.py). A crash after the window is told and left
    to a person: tests/swarm/test_rollback.py,
    ``test_what_falls_ill_after_the_commit_is_not_rolled_back``
 3  an unschedulable task stays "updating" for ever, and "completed" after a restart of dockerd:
    ``t3-*`` and ``test_a_pending_task_is_no_success_after_a_restart_of_docker``
 4  with a long stop-grace the swarm starts the new task beside the old one: ``t4-*``; containers are
    counted all the time
 5  a rollback of the swarm's restores replicas=0: ``t5-modes`` (one with data, two replicas, global)
 6  a restart of dockerd replaces the task: tests/swarm/test_drift.py and test_docker_trouble.py
 7  a stale version index is an HTTP 500: tests/contracts/test_swarm.py, ``..._stale_index_...``
 8  a task list that is empty before the container has gone: ``t4-*``; tests/contracts/test_deployer.py,
    ``TestStopping``
 9  N of N replicas may be the old task: ``t9-*`` (healthy first, then not);
    tests/plugins/test_tasks_prober.py, ``test_tasks_of_the_old_image_do_not_count``
10  a failed pull hides behind a local image, tags move: ``test_a_moved_tag_...`` here;
    tests/adapters/test_docker_engine.py, ``test_a_failed_pull_...``
11  credentials are kept in the spec: tests/adapters/test_docker_engine.py,
    ``test_a_service_is_given_the_login_and_later_keeps_the_one_it_has``
12  with a HEALTHCHECK a task is "starting" until healthy, without one "running" means started: ``t12-*``
13  events are lost: they are hints only, each look lists anew; tests/adapters/test_docker_engine.py,
    ``test_hints_...``, tests/swarm/test_daemon.py
14  ``docker stack deploy`` says nothing of convergence: it is never asked; jobs, which would hang it, are
    left out of health: tests/plugins/test_tasks_prober.py, ``test_a_job_that_failed_does_not_count``
15  the data of configs and secrets can't change: tests/contracts/test_deployer.py (their names and
    content), tests/contracts/test_swarm.py, ``test_labels_of_configs_and_secrets_...``
16  a local volume on another node looks empty: needs a second node, not reproducible here
17  a client that sets only the image: warmd posts whole specs; tests/contracts/test_swarm.py,
    ``test_an_update_replaces_the_whole_spec``
18  failed tasks of before: ``t18-failed-tasks``, and ``test_failures_of_before_...``
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.size import size, tier
from tests.swarm.observer import checksum
from tests.swarm.passing import passing
from tests.swarm.world import World
from tests.traps.cases import CHEAP, GATE, MORE, app
from tests.traps.stage import Stage, all_are_back

#: Each bad version so many times.
ROUNDS = size(1, 2, 20)


@pytest.fixture(scope="module")
def stage(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    traps = CHEAP if tier() == "quick" else CHEAP + MORE
    stage = Stage(lab, tmp_path_factory.mktemp("traps"), traps)
    stage.improves()
    yield stage
    stage.removed()


@pytest.mark.crash_too
@pytest.mark.parametrize("round_", range(ROUNDS))
def test_bad_versions_go_back_and_all_is_as_it_was(stage: Stage, round_: int) -> None:
    all_are_back(stage)


@pytest.mark.crash
def test_failures_of_before_are_not_held_against_a_good_version(stage: Stage) -> None:
    all_are_back(stage)
    listed = [t for a in stage.actors for t in stage.lab.tasks(a.world.stack)]
    assert "failed" in {t["Status"]["State"] for t in listed}, "the swarm still lists what failed"
    stage.improves()


@pytest.fixture
def world(lab: Lab, tmp_path: Path, stack_name: str) -> World:
    return World(lab, tmp_path, stack_name, gate=GATE)


@pytest.mark.crash
def test_a_moved_tag_does_not_come_back_as_the_old_version(world: World) -> None:
    """Somebody pushes something else under the tag that runs; what went well is known by its digest."""
    world.recipe.publish("1.0.0+1.0.0", compose=app()(world, "1.0.0"))
    world.up()
    world.write_note("precious")
    before = checksum(world.volume)
    world.lab.warm_app("1.0.0", repo=world.name, bad="crash")
    world.recipe.publish("1.1.0+1.1.0", compose=app(bad="never-healthy")(world, "1.1.0"))
    row = world.up(check=4)
    assert (row["ran"]["state"], checksum(world.volume)) == ("rolled-back", before)
    assert world.serves("1.0.0")


@pytest.mark.crash
def test_a_pending_task_is_no_success_after_a_restart_of_docker(world: World) -> None:
    """The swarm then calls the update completed, with the task still pending."""
    nowhere = "      placement: { constraints: [node.labels.warm == cold] }\n"
    world.recipe.publish("1.0.0+1.0.0", compose=app()(world, "1.0.0"))
    world.up()
    before = checksum(world.volume)
    world.recipe.publish("1.1.0+1.1.0", compose=app(nowhere)(world, "1.1.0"))
    with passing(world) as pass_:
        pass_.reaches("gating")
        world.wait(
            lambda: {t["Status"]["State"] for t in world.lab.tasks(world.stack)} == {"pending"},
            "the task waits for a node",
        )
        world.lab.restart_dockerd()
        assert pass_.ends() == 4
    assert checksum(world.volume) == before
    world.wait(lambda: world.serves("1.0.0"), "the old version")
