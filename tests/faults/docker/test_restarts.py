"""dockerd is stopped or killed in the middle of any state of a run, with a request of warmd's in its hands.

A daemon ends the run as it would have ended, by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.faults.docker.cases import FIRST, Case, share
from tests.faults.docker.faults import Call, Fault, Rule
from tests.faults.docker.stage import HASTY, ROLLBACK_GATE, Stages
from tests.faults.docker.stories import goes_on
from tests.lab import Lab
from tests.swarm.world import WARMD
from warmd.core.machine import UNTOUCHED

pytestmark = [pytest.mark.crash_too, pytest.mark.swarm]

#: Requests after which the swarm is another: once taken, once done and only the answer is missing.
WRITES = (
    *(call for call in FIRST if call.writes and call.of_swarm),
    Call("deploying", "POST", "services/create"),
    Call("redeploying", "DELETE", "services/{}"),
)
EVERY = [Case(call, Fault.HELD) for call in FIRST] + [Case(call, Fault.HELD_ANSWER) for call in WRITES]
KILLED = """\
halting-POST-services-update-answered
"""
STOPPED = """\
regating-GET-tasks-asked
"""


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    with Lab() as lab:  # its own: the others' dockerd stays up
        stages = Stages(lab, tmp_path_factory.mktemp("restarts"), ROLLBACK_GATE)
        yield stages
        stages.close()


@pytest.mark.parametrize("case", share(EVERY, KILLED, 5), ids=str)
def test_a_daemon_goes_on_after_dockerd_was_killed(stages: Stages, case: Case) -> None:
    survives(stages, case, kill=True)


@pytest.mark.parametrize("case", share(EVERY, STOPPED, 5), ids=str)
def test_a_daemon_goes_on_after_dockerd_was_stopped(stages: Stages, case: Case) -> None:
    survives(stages, case, kill=False)


def survives(stages: Stages, case: Case, *, kill: bool) -> None:
    with stages.story() as stage, stage.proxy.failing(case.call, case.fault) as rule:
        # With its real patience; only a run that failed before anything was touched is not made again
        # for half a minute, which nobody needs to sit out here.
        stage.world.command = HASTY if case.call.state in UNTOUCHED else (str(WARMD),)
        goes_on(stage, case, restart(stages.lab, rule, kill=kill))


def restart(lab: Lab, rule: Rule, *, kill: bool) -> Callable[[], None]:
    def during() -> None:
        rule.happens()
        lab.stop_dockerd(kill=kill)
        rule.let_go.set()
        lab.restart_dockerd()

    return during
