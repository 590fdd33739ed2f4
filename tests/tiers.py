"""Which tests a session runs: the quick share, or those of ``scripts/crash``, whole or one shard of them.

``WARMD_SIZE`` is the share (tests/size.py). ``WARMD_SHARD=3/8`` keeps the third of eight shards, dealt
by the tests' names, so that the shards of one commit together are everything. ``WARMD_PROGRESS`` names
a file that passed tests are noted in and that a later session leaves out: a shard that was broken off
goes on where it was.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest

from tests.size import tier


def choose(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what is not of this session's share."""
    wanted = [item for item in items if _of_tier(item) and _of_shard(item.nodeid)]
    done = _done()
    wanted = [item for item in wanted if item.nodeid not in done]
    left_out = [item for item in items if item not in set(wanted)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = wanted


def note(report: pytest.TestReport) -> None:
    """Keep that a test passed; under xdist only the session that hears of all of them does."""
    path = os.environ.get("WARMD_PROGRESS")
    if path and report.when == "call" and report.passed and "PYTEST_XDIST_WORKER" not in os.environ:
        with Path(path).open("a") as file:
            file.write(f"{report.nodeid}\n")


def _of_tier(item: pytest.Item) -> bool:
    only, too = item.get_closest_marker("crash"), item.get_closest_marker("crash_too")
    return only is None if tier() == "quick" else bool(only or too)


def _of_shard(name: str) -> bool:
    given = os.environ.get("WARMD_SHARD")
    if not given:
        return True
    number, of = (int(part) for part in given.split("/"))
    return zlib.crc32(name.encode()) % of == number - 1


def _done() -> frozenset[str]:
    path = os.environ.get("WARMD_PROGRESS")
    if not path or not Path(path).exists():
        return frozenset()
    return frozenset(Path(path).read_text().splitlines())
