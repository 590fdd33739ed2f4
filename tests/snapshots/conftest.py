"""A vault for those who damage it, and a host for an application that writes without pause."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.snapshots.vault import Shelf, Vault
from tests.swarm.world import World

#: A bad version is waited for until the deadline.
GATE = 'health_gate = { deadline = "8s", interval = "100ms", successes = 2, stable = "300ms" }'


@pytest.fixture(scope="module")
def shelf() -> Iterator[Shelf]:
    shelf = Shelf()
    yield shelf
    shelf.close()


@pytest.fixture
def vault(shelf: Shelf) -> Iterator[Vault]:
    yield shelf.take()
    shelf.put_back()


@pytest.fixture
def world(lab: Lab, tmp_path: Path, stack_name: str) -> World:
    """A service ``app`` of which nothing is published yet."""
    return World(lab, tmp_path, stack_name, gate=GATE)
