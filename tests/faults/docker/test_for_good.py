"""A call that fails until warmd's patience is over: it takes the way back, or says what to type."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.docker.faults import Call, Fault
from tests.faults.docker.stage import GATE, Stage, Stages
from tests.faults.docker.stories import app, only_told_of
from tests.lab import Lab
from tests.swarm.observer import deployed

pytestmark = pytest.mark.crash

#: Seconds: far longer than warmd is patient (``hasty``).
FOR_GOOD = 3600.0


@pytest.fixture(scope="module")
def stages(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    stages = Stages(lab, tmp_path_factory.mktemp("for-good"), GATE)
    yield stages
    stages.close()


@pytest.mark.parametrize(
    ("call", "end", "starts"),
    [
        pytest.param("stopping POST services/{}/update", "interrupted", "old", id="stop"),
        pytest.param("capturing GET volumes", "interrupted", "old", id="copy"),
        pytest.param("deploying GET networks", "rolled-back", "old", id="read"),
        pytest.param("deploying POST services/create", "rolled-back", "new old", id="create"),
    ],
)
def test_the_old_version_stays_on_the_old_data(stages: Stages, call: str, end: str, starts: str) -> None:
    with stages.story() as stage:
        data, old, before, since = stage.data, deployed(stage.world), stage.length, stage.now
        version = stage.publish()
        with stage.proxy.failing(Call.parse(call), Fault.FAILS, lasts=FOR_GOOD, alike=True) as rule:
            first = stage.up()
        assert rule.hits > 2, "with patience"
        row = first.json[0]
        assert (row["current"], row["decision"]) == (old, "held-failed-before"), first
        assert [run["state"] for run in stage.runs(before)] == [end]
        names = {app(old): "old", app(version): "new"}
        assert " ".join(names[tag] for tag in stage.created(since)) == starts
        assert stage.data == data
        stage.good()
        again = stage.up()
        assert (again.json[0]["decision"], again.json[0]["ran"]) == ("held-failed-before", None)
        comes_through(stage, version)


def test_a_way_back_that_is_barred_is_told_and_goes_on_when_somebody_says_so(stages: Stages) -> None:
    with stages.story() as stage:
        data, old = stage.data, deployed(stage.world)
        version = stage.publish()
        create = Call.parse("deploying POST services/create")
        halt = Call.parse("halting POST services/{}/update")
        with (
            stage.proxy.failing(create, Fault.FAILS, lasts=FOR_GOOD, alike=True),
            stage.proxy.failing(halt, Fault.FAILS, lasts=FOR_GOOD, alike=True),
        ):
            assert stage.up().code == 5
        alert = stage.world.alert("stuck")
        assert "raft: failed to process the request" in alert["detail"]
        assert "warmd retry app" in alert["commands"]
        assert stage.up().json[0]["decision"] == "stuck", "nothing more is done by itself"
        stage.world.warmd("retry", "app")
        row = stage.up().json[0]
        assert (row["ran"]["state"], row["current"]) == ("rolled-back", old)
        assert only_told_of(stage, version)
        assert stage.data == data
        stage.good()
        comes_through(stage, version)


def comes_through(stage: Stage, version: str) -> None:
    """The same version, once Docker is well and somebody has said that it may be tried again."""
    stage.world.warmd("retry", "app")
    assert stage.up().json[0]["current"] == version
    assert stage.world.open_alerts() == set()
    stage.good()
