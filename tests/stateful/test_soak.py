"""Many services, everything at once, for a while: nothing may grow that does not have to."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.size import size
from tests.stateful.soak import INTERVAL, slope, soaking

#: Seconds of trouble.
TROUBLE = size(10, 180, 1800)
SERVICES = size(6, 20, 20)
#: Seconds that a machine which is busy with other things may take to come to rest.
PATIENCE = 900
#: By how much the memory at rest may have grown, in kB, however long the trouble was: fifty runs a service
#: are remembered, and the allocator and the worker threads keep what they once had.
GROWTH = 48_000


@pytest.mark.slow
@pytest.mark.crash_too
def test_a_daemon_in_trouble_holds_no_more_at_its_end(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = int(os.environ.get("WARMD_SEED", "0"))
    with soaking(tmp_path, SERVICES, seed) as soak:
        soak.wait("everything is deployed", lambda: soak.ended().get("committed", 0) >= SERVICES, PATIENCE)
        soak.quiet(2 * INTERVAL, PATIENCE)
        before, begun = soak.samples[-6:], time.monotonic()
        while time.monotonic() - begun < TROUBLE:
            soak.something()
            time.sleep(0.3)
        during = [s for s in soak.samples if s["at"] > begun]
        soak.model.ask("clear_faults")
        soak.quiet(3 * INTERVAL, PATIENCE)
        written, quiet_since = soak.written, time.monotonic()
        time.sleep(4 * INTERVAL)
        after = [s for s in soak.samples if s["at"] > quiet_since]
        assert soak.written == written, "a journal grew while nothing happened"
        violations = soak.model.violations
    later = during[len(during) // 2 :]
    told = {
        "seed": seed,
        "done": soak.done,
        "runs": soak.ended(),
        "violations": len(violations),
        "RSS at rest, before and after, kB": (_least(before, "rss"), _least(after, "rss")),
        "RSS slope in trouble, kB/min": round(slope(later, "rss"), 1),
        "open files at rest": (_least(before, "files"), _least(after, "files")),
        "most open files": max(s["files"] for s in during),
        "tasks at rest": (_least(before, "tasks"), _least(after, "tasks")),
        "threads": max(s["threads"] for s in during),
        "journal bytes in four quiet looks": sum(soak.written.values()) - sum(written.values()),
    }
    record_property("soak", told)
    print(f"soak: {told}")  # noqa: T201 - the figures for the documentation
    assert not violations
    assert _least(after, "rss") <= _least(before, "rss") + GROWTH
    assert _least(after, "tasks") <= _least(before, "tasks")
    assert _least(after, "files") <= _least(before, "files") + 2


def _least(samples: list[dict[str, float]], what: str) -> int:
    return int(min(s[what] for s in samples if s[what]))
