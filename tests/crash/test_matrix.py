"""The crash matrix' quick share, and that it would notice.

The rest is ``python -m tests.crash``; see there.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import matrix
from tests.crash.__main__ import Tally
from tests.crash.broken import BROKEN
from tests.crash.child import Job
from tests.crash.nursery import Nursery
from tests.crash.runs import Result

ROOT = Path(__file__).parents[2]
WAYS = {
    "upgrade": (
        "idle",
        "planned",
        "pulling",
        "checking",
        "stopping",
        "capturing",
        "sealing",
        "deploying",
        "gating",
    ),
    "rollback": ("halting", "restoring", "redeploying", "regating"),
}
_REGATE = "regating/effect regate before|1|0|0|0.0|1"
_LATE = "rollback|late|gating/effect gate before|1|0|0|0.0|1"
_LINGERS = "rollback|lingers|halting/journal run.state:restoring before|1|0|0|0.0|1"
_DEPLOY = "rollback|visited|deploying/effect deploy before|1|0|0|0.0|1"
_REDEPLOY = "rollback|visited|redeploying/effect redeploy before|1|0|0|0.0|1"
_GATE = "upgrade|kill|gating/effect gate before|1|0|0|0.0|1"
#: What is broken, where a kill shows it, and the words that the observer has for it.
SHOWS = (
    ("stop", f"restore|kill|{_REGATE}", "was replaced under"),
    ("restore", f"rollback|kill|{_REGATE}", "1.1.0 was started on data of 1.2.0"),
    ("alerts", f"rollback|kill|{_REGATE}", "is in the journal and has no file"),
    ("horizon", _LATE, "was deployed two days ago"),
    ("horizon", _LINGERS, "two days of work by hand, and it is not stuck"),
    ("moved", _REDEPLOY, "was started on data of 1.2.0"),
    ("moved", _DEPLOY, "right is 1.1.0+1.1.0 on schema 1.1.0, notes ['precious', 'written while"),
    ("seal", _GATE, "is sealed and not whole"),
)


def crash(*options: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "tests.crash", *options]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)


def test_killed_anywhere_in_an_upgrade_or_a_rollback_it_comes_to_a_right_end() -> None:
    only = [word for scenario in WAYS for word in ("--scenario", scenario)]
    # Half of it is waiting for a bad version's deadline: more at a time than there are cores.
    done = crash("--size", "quick", "--jobs", "4", *only)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "violations 0" in done.stdout.splitlines()[-1]


#: Somebody starts the stopped service, whose data a run relies on, and stops it again.
VISITS = (
    "upgrade|visited|sealing/effect seal before|1|0|0|0.0|1",
    "rollback|visited|sealing/effect seal before|1|0|0|0.0|1",
    _DEPLOY,
    "rollback|visited|restoring/effect restore after|1|0|0|0.0|1",
    _REDEPLOY,
    "restore|visited|redeploying/effect redeploy before|1|0|0|0.0|1",
)
#: The same, but its volume has no folder: nothing starts.
IN_VAIN = (
    "rollback|visited|restoring/rename STACK_data after|1|0|0|0.0|1",
    "restore|scaled|restoring/rename _data before|1|0|0|0.0|1",
    "rollback|lingers|restoring/rename _data before|1|0|0|0.0|1",
)
#: It is left on for two days.
LINGERS = (
    _LINGERS,
    "rollback|lingers|restoring/effect restore before|1|0|0|0.0|1",
    "rollback|lingers|restoring/effect restore after|1|0|0|0.0|1",
    "rollback|lingers|redeploying/effect redeploy before|1|0|0|0.0|1",
)


def replayed(*units: str) -> str:
    """The last line, once all of them were reached and are right."""
    done = crash(*(word for unit in units for word in ("--replay", unit)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(units)} runs, violations 0" in done.stdout
    return done.stdout.splitlines()[-1]


def test_a_copy_that_somebody_worked_on_since_is_not_relied_on() -> None:
    replayed(*VISITS)


def test_a_service_that_can_not_be_started_by_hand_meanwhile_comes_to_a_right_end() -> None:
    replayed(*IN_VAIN)


def test_two_days_of_work_in_the_middle_of_a_rollback_are_not_thrown_away() -> None:
    replayed(*LINGERS)


def test_where_nothing_of_its_kind_happened_a_unit_is_counted_apart() -> None:
    tally = Tally(None)
    unit = "upgrade|visited|pulling/effect pull before|1|0|0|0.0|1"
    tally.add(Result(unit, reached=False))
    assert (dict(tally.runs), tally.missed) == ({}, 1)
    assert str(tally).startswith("0 runs")


POINTS: matrix.Points = {
    "upgrade": [{"pulling/effect pull before": 1, "gating/docker GET tasks after": 3}],
    "repair": [{f"deploying/docker POST services/create {when}": 1 for when in ("before", "after")}],
}


@pytest.mark.parametrize("seed", range(5))
def test_at_every_point_it_is_told_to_stop_or_aborted(seed: int) -> None:
    plan = matrix.plan(POINTS, "crash", seed)
    told = [(u.scenario, u.point) for u in plan.must if u.how in ("term", "abort")]
    assert sorted(told) == sorted((s, point) for s, acts in POINTS.items() for point in acts[0])


def test_and_the_other_of_both_as_time_allows() -> None:
    plan = matrix.plan(POINTS, "crash", 1)
    told = {(u.scenario, u.point, u.how) for u in (*plan.must, *plan.may) if u.how in ("term", "abort")}
    assert len(told) == 2 * matrix.number(POINTS)


@pytest.mark.parametrize(("name", "unit", "words"), SHOWS)
def test_a_warmd_that_is_broken_on_purpose_is_found_out(name: str, unit: str, words: str) -> None:
    done = crash("--broken", name, "--replay", unit, "--jobs", "1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert words in done.stdout


def test_each_of_the_broken_ones_is_tried() -> None:
    assert {name for name, _, _ in SHOWS} == set(BROKEN)


@pytest.fixture(scope="module")
def points() -> dict[str, set[str]]:
    done = crash("--list", *(word for scenario in WAYS for word in ("--scenario", scenario)))
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return {scenario: {name for found, _, _, name in rows if found == scenario} for scenario in WAYS}


@pytest.mark.parametrize(
    ("scenario", "state"), [(s, state) for s, states in WAYS.items() for state in states]
)
def test_every_state_has_its_points(points: dict[str, set[str]], scenario: str, state: str) -> None:
    kinds = {
        name.partition("/")[2].partition(" ")[0] for name in points[scenario] if name.startswith(f"{state}/")
    }
    assert {"journal", "docker"} <= kinds or state == "planned"
    assert "effect" in kinds or state == "idle"


@pytest.mark.parametrize("point", [
    "stopping/docker POST services/*/update after",
    "deploying/docker POST services/*/update before",
    "stopping/journal run.state:capturing before",
    "gating/journal run.state torn",
    "capturing/spawn tar after",
    "sealing/rename sealed before",
    "pulling/blob put after",
])  # fmt: skip
def test_points_are_named_after_what_happens_there(points: dict[str, set[str]], point: str) -> None:
    assert point in points["upgrade"]


def test_a_rollback_is_told_in_a_file(points: dict[str, set[str]]) -> None:
    assert "idle/alert rolled-back open before" in points["rollback"]


# The children, for other tests that inject faults


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


def test_a_child_runs_a_verb_and_says_what_came_of_it(nursery: Nursery, tmp_path: Path) -> None:
    config = tmp_path / "warmd.toml"
    config.write_text(f'[daemon]\nstate_dir = "{tmp_path}/state"\ndocker_host = "unix://{tmp_path}/none"\n')
    ended = nursery.start(Job(config, "status", tmp_path / "run")).wait(60)
    assert (ended.code, ended.answer["services"], ended.late) == (0, [], False)
