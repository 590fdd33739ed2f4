"""What must come of an upgrade and of a rollback, whatever Docker does meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from tests.faults.docker.cases import Case
from tests.faults.docker.stage import Stage
from tests.swarm.observer import deployed
from warmd.core.machine import UNTOUCHED


def upgraded(stage: Stage, *cases: Case) -> None:
    """Calls fail in a pass: that pass and one more leave the new version, deployed once."""
    before, service, since = stage.length, stage.service, stage.now
    version = stage.publish()
    first = stage.failing(*cases)
    second = stage.up()
    row = second.json[0]
    assert (second.code, row["decision"], row["current"]) == (0, "noop-healthy", version)
    assert stage.world.open_alerts() == set()
    assert stage.created(since) == [app(version)], "one start, and of the new version only"
    assert stage.service == service
    others = one_run(stage, before, "committed", *cases)
    for case in cases:
        assert stage.tells_of(case, first, others), f"{case}: {first}"
    stage.good()


def rolled_back(stage: Stage, *cases: Case) -> None:
    """Calls fail in a pass: that pass and one more leave the old version on the old data."""
    before, service, since = stage.length, stage.service, stage.now
    data, old = stage.data, deployed(stage.world)
    version = stage.publish(bad=True)
    first = stage.failing(*cases)
    second = stage.up()
    row = second.json[0]
    assert (row["decision"], row["current"]) == ("held-failed-before", old)
    assert only_told_of(stage, version), stage.world.open_alerts()
    assert stage.data == data
    assert stage.created(since) == [app(version), app(old)], "each started once"
    assert stage.service == service
    others = one_run(stage, before, "rolled-back", *cases)
    for case in cases:
        assert stage.tells_of(case, first, others), f"{case}: {first}"
    stage.good()


def goes_on(stage: Stage, case: Case, during: Callable[[], None]) -> None:
    """A daemon is at it while ``during`` happens, and nobody lends it a hand."""
    before, data, old = stage.length, stage.data, deployed(stage.world)
    bad = case.bad
    version = stage.publish(bad=bad)
    end = "rolled-back" if bad else "committed"
    with stage.world.running() as daemon:
        during()
        stage.world.wait(lambda: stage.world.told(f"run.{end}", version=version), f"{version} is {end}", 180)
        if bad:
            stage.world.wait(lambda: only_told_of(stage, version), "its alert and no other")
        else:
            stage.world.wait(lambda: stage.world.open_alerts() == set(), "no alert is left")
        assert daemon.poll() is None
    one_run(stage, before, end, case)
    assert deployed(stage.world) == (old if bad else version)
    stage.good()
    assert not bad or stage.data == data


def one_run(stage: Stage, before: int, end: str, *cases: Case) -> list[dict[str, object]]:
    """The runs before the one that came to its end: where nothing was touched they may be made anew."""
    *others, last = stage.runs(before)
    assert last["state"] == end
    assert {o["state"] for o in others} <= {"failed-unchanged"}
    early = any(case.call.state in UNTOUCHED for case in cases)
    assert early or not others, "no second run where the first can go on"
    return others


def only_told_of(stage: Stage, version: str) -> bool:
    """Whether the alerts that are open are those of rollbacks, of this one too."""
    alerts = stage.world.open_alerts()
    return ("rolled-back", version) in alerts and {kind for kind, _ in alerts} == {"rolled-back"}


def app(version: str) -> str:
    """The application's half of a version: its image's tag."""
    return version.partition("+")[2]
