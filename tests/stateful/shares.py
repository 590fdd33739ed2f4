"""How the examples of the model test are dealt out: by seed, so that they can run side by side.

``WARMD_SEED=3`` runs other examples than those of seed 0; an item's number is part of its seed.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.size import size, tier
from tests.stateful.machine import WarmService

STEPS = 50
#: Examples of one item: some seconds.
EACH = 50
#: Files that run side by side.
FILES = 4

_SETTINGS = settings(
    max_examples=EACH,
    stateful_step_count=STEPS,
    deadline=None,
    database=None,
    print_blob=True,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


def of_file(number: int) -> pytest.MarkDecorator:
    """The items of one of the files: ``share`` is the number that each has among all."""
    items = size(500, 200, 10_000) // EACH
    return pytest.mark.parametrize("share", range(number, items, FILES))


def run(share: int) -> None:
    """Try ``EACH`` examples of ``STEPS`` steps. A failing one is made smaller, and printed."""
    # scripts/crash tries others than scripts/test does.
    first = {"quick": 0, "crash": 500, "long": 1_000}[tier()]
    number = 1_000_000 * int(os.environ.get("WARMD_SEED", "0")) + first + share

    @seed(number)
    class Seeded(WarmService):
        pass

    print(f"seed {number}")  # noqa: T201 - shown with a failure
    run_state_machine_as_test(Seeded, settings=_SETTINGS)
