"""What most stories begin with. A file may have a ``world`` of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.swarm.world import World


@pytest.fixture
def world(lab: Lab, tmp_path: Path, stack_name: str) -> World:
    return World(lab, tmp_path, stack_name)


@pytest.fixture
def another(lab: Lab, stack_name: str) -> Iterator[Callable[[], str]]:
    """Names of more stacks; what is deployed under them goes afterwards."""
    names: list[str] = []

    def name() -> str:
        names.append(f"{stack_name}{chr(ord('b') + len(names))}")
        return names[-1]

    yield name
    for each in names:
        lab.remove_stack(each)
