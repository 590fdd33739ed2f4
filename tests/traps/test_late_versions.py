"""Versions that seem well for a while: a gate that watches for longer finds them. Minutes, each of them.

The cases and their traps: tests/traps/cases.py, ``LATE``; the list of all traps: test_bad_versions.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import Lab
from tests.size import size
from tests.traps.cases import LATE
from tests.traps.stage import Stage, all_are_back


@pytest.fixture(scope="module")
def stage(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(lab, tmp_path_factory.mktemp("late"), LATE)
    stage.improves()
    yield stage
    stage.removed()


@pytest.mark.crash
@pytest.mark.parametrize("round_", range(size(1, 2, 20)))
def test_bad_versions_that_show_it_late_go_back_under_a_gate_that_watches_long_enough(
    stage: Stage, round_: int
) -> None:
    all_are_back(stage)
