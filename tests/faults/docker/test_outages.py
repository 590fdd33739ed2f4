"""The swarm answers for nobody, or Docker for nothing, for some seconds in the middle of a run.

A daemon goes on by itself once it is over, wherever it was.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.docker.cases import FIRST, Case, share
from tests.faults.docker.faults import Fault
from tests.faults.docker.stage import ROLLBACK_GATE, Stages
from tests.faults.docker.stories import goes_on
from tests.lab import Lab

pytestmark = pytest.mark.crash

#: Seconds; longer than warmd is patient in the middle of a run (``hasty``), so that it comes back to it.
LASTS = 5.0
FAULTS = (Fault.NO_LEADER, Fault.NO_MANAGER, Fault.REFUSED, Fault.HANGS)
CASES = share([Case(call, fault) for call in FIRST for fault in FAULTS], "", 6)


@pytest.fixture(scope="module")
def stages(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    stages = Stages(lab, tmp_path_factory.mktemp("outages"), ROLLBACK_GATE)
    yield stages
    stages.close()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_daemon_goes_on_after_an_outage_by_itself(stages: Stages, case: Case) -> None:
    with stages.story() as stage, stage.proxy.failing(case.call, case.fault, lasts=LASTS) as rule:
        goes_on(stage, case, rule.happens)
        assert rule.hits > 0
