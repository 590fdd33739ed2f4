"""Docker fails once, at any call of a rollback: version and data go back all the same, once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.docker.cases import COMMITS, ROLLBACK, SOMETIMES, UPGRADE, Case, calls, cases, named, share
from tests.faults.docker.stage import ROLLBACK_GATE, Stages
from tests.faults.docker.stories import rolled_back
from tests.lab import Lab

EVERY = cases(ROLLBACK)
MANY = """\
halting-POST-services-update-lost
halting-GET-tasks-no-leader
restoring-GET-containers-json-hangs
redeploying-POST-services-update-stale-done
redeploying-POST-services-create-lost
regating-GET-services-cut
"""


@pytest.fixture(scope="module")
def stages(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    stages = Stages(lab, tmp_path_factory.mktemp("rollbacks"), ROLLBACK_GATE)
    yield stages
    stages.close()


@pytest.mark.crash
def test_every_call_is_in_the_list(stages: Stages) -> None:
    with stages.story() as stage:
        stage.publish(bad=True)
        with stage.proxy.noting() as seen:
            assert stage.up().code == 4
        assert set(seen) - SOMETIMES == {*calls(UPGRADE), *calls(ROLLBACK)} - COMMITS


@pytest.mark.crash
@pytest.mark.parametrize("case", share(EVERY, "", 10), ids=str)
def test_version_and_data_go_back_once_whatever_fails_once(stages: Stages, case: Case) -> None:
    with stages.story() as stage:
        rolled_back(stage, case)


@pytest.mark.crash_too
def test_version_and_data_go_back_once_though_many_things_fail(stages: Stages) -> None:
    with stages.story() as stage:
        rolled_back(stage, *named(EVERY, MANY))
