"""Docker fails once, at any call of an upgrade: the upgrade is made all the same, once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.docker.cases import SOMETIMES, UPGRADE, Case, calls, cases, named, share
from tests.faults.docker.stage import GATE, Stages
from tests.faults.docker.stories import upgraded
from tests.lab import Lab

pytestmark = pytest.mark.crash_too

EVERY = cases(UPGRADE)
QUICK = """\
planned-GET-info-hangs
pulling-POST-images-create-cut
"""
#: All in one upgrade, a state's patience being longer than that.
MANY = """\
stopping-POST-services-update-lost
capturing-GET-volumes-cut
deploying-GET-networks-500
deploying-POST-secrets-create-lost
deploying-POST-services-update-stale-done
deploying-POST-services-create-lost
gating-GET-containers-json-hangs
"""


@pytest.fixture(scope="module")
def stages(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    stages = Stages(lab, tmp_path_factory.mktemp("upgrades"), GATE)
    yield stages
    stages.close()


def test_every_call_is_in_the_list(stages: Stages) -> None:
    with stages.story() as stage:
        stage.publish()
        with stage.proxy.noting() as seen:
            assert stage.up().code == 0
        assert set(seen) - SOMETIMES == set(calls(UPGRADE))


@pytest.mark.parametrize("case", share(EVERY, QUICK, 20), ids=str)
def test_an_upgrade_is_made_once_whatever_fails_once(stages: Stages, case: Case) -> None:
    with stages.story() as stage:
        upgraded(stage, case)


def test_an_upgrade_is_made_once_though_many_things_fail(stages: Stages) -> None:
    with stages.story() as stage:
        upgraded(stage, *named(EVERY, MANY))
