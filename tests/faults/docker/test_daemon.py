"""A daemon in front of which Docker fails: its events, and an answer that never comes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.docker.cases import Case
from tests.faults.docker.faults import Call, Fault
from tests.faults.docker.stage import GATE, Stages
from tests.faults.docker.stories import upgraded
from tests.lab import Lab
from tests.swarm.observer import deployed
from tests.swarm.world import WARMD, World

EVENTS = Call("idle", "GET", "events")


def replicas(world: World) -> int:
    return int(world.specs()["app"]["Mode"]["Replicated"]["Replicas"])


@pytest.fixture(scope="module")
def stages(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    stages = Stages(lab, tmp_path_factory.mktemp("daemons"), GATE)
    yield stages
    stages.close()


@pytest.mark.crash_too
@pytest.mark.parametrize(
    "fault",
    [
        Fault.FAILS,
        *(
            pytest.param(fault, marks=pytest.mark.crash)
            for fault in (Fault.UNAVAILABLE, Fault.REFUSED, Fault.HANGS, Fault.CUT)
        ),
    ],
)
def test_a_daemon_whose_events_fail_stays_and_listens_again(stages: Stages, fault: Fault) -> None:
    with stages.story() as stage:
        world = stage.world
        world.interval = "1h"  # so that nothing but an event makes it look
        world.write_config()
        with (
            stage.proxy.failing(EVENTS, fault) as rule,
            stage.proxy.noting() as seen,
            world.running() as daemon,
        ):
            world.wait(lambda: seen.count(EVENTS) == 2, "it listens again")
            assert rule.hits == 1
            world.wait(lambda: world.told("look.decided", decision="noop-healthy"), "its first look")
            world.lab.docker("service", "scale", "--detach", f"{world.stack}_app=0")
            world.wait(lambda: world.told("look.decided")[-1]["decision"] != "noop-healthy", "an event tells")
            assert daemon.poll() is None
        app = deployed(world).partition("+")[2]
        # While its container still stops it serves on: what counts is that it is wanted again.
        world.wait(lambda: stage.up() and replicas(world), "it is wanted", 120)
        world.wait(lambda: world.serves(app), "the service is back")
        stage.good()


@pytest.mark.crash
def test_an_answer_that_never_comes_is_given_up_after_half_a_minute(stages: Stages) -> None:
    with stages.story() as stage:
        stage.world.command = (str(WARMD),)
        upgraded(stage, Case(Call("stopping", "POST", "services/{}/update"), Fault.HANGS))
        assert "did not answer" in stage.said[-2]
        assert "within 30 s (updating service" in stage.said[-2]
