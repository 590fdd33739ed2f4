"""The crash matrix' quick share, and that it would notice.

The rest is ``python -m tests.crash``; see there.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.broken import BROKEN
from tests.crash.child import Job
from tests.crash.nursery import Nursery

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
#: What is broken -> where a kill shows it, and the words that the observer has for it.
SHOWS = {
    "stop": ("restore|kill|regating/effect regate before|1|0|0|0.0|1", "was replaced under"),
    "restore": (
        "rollback|kill|regating/effect regate before|1|0|0|0.0|1",
        "1.1.0 was started on data of 1.2.0",
    ),
    "alerts": (
        "rollback|kill|regating/effect regate before|1|0|0|0.0|1",
        "is in the journal and has no file",
    ),
    "horizon": ("rollback|late|gating/effect gate before|1|0|0|0.0|1", "was deployed two days ago"),
    "moved": (
        "rollback|visited|redeploying/effect redeploy before|1|0|0|0.0|1",
        "was started on data of 1.2.0",
    ),
    "seal": ("upgrade|kill|gating/effect gate before|1|0|0|0.0|1", "is sealed and not whole"),
}


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
    "rollback|visited|deploying/effect deploy before|1|0|0|0.0|1",
    "rollback|visited|restoring/effect restore after|1|0|0|0.0|1",
    "rollback|visited|redeploying/effect redeploy before|1|0|0|0.0|1",
    "restore|visited|redeploying/effect redeploy before|1|0|0|0.0|1",
)


def test_a_copy_that_somebody_worked_on_since_is_not_relied_on() -> None:
    done = crash(*(word for unit in VISITS for word in ("--replay", unit)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(VISITS)} runs, violations 0" in done.stdout


@pytest.mark.parametrize("name", BROKEN)
def test_a_warmd_that_is_broken_on_purpose_is_found_out(name: str) -> None:
    unit, words = SHOWS[name]
    done = crash("--broken", name, "--replay", unit, "--jobs", "1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert words in done.stdout


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
