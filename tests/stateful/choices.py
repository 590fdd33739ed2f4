"""What the rules choose from."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st

from tests.model import App
from tests.stateful.process import Settings
from warmd.core.machine import State
from warmd.core.model import Policy

BEHAVIOURS = (
    "good",
    "good",
    "good",
    "slow",
    "never-healthy",
    "crash-at-once",
    "crash-soon",
    "sick-in-the-window",
    "sick-after-it",
    "missing",
)
STEPS = ("patch", "patch", "minor", "app-major", "major", "pre-release", "below")
SHORT, LONG = (5.0, 40.0, 300.0), (1200.0, 4000.0, 30_000.0, 100_000.0)
HORIZONS = (timedelta(hours=1), timedelta(minutes=10), timedelta())

#: Moments at which a process may be killed: points, by how their names begin.
DEATHS = (
    *(f"journal.{when} run.state {state}" for state in State for when in ("append", "appended")),
    "journal.append alert",
    "journal.appended alert",
    "alert.deliver",
    "snapshot",
    "docker.done POST services",
)

SETTINGS = st.builds(
    Settings,
    policy=st.builds(
        Policy,
        recipe_major=st.sampled_from(["hold", "hold", "allow"]),
        app_major=st.sampled_from(["hold", "hold", "allow"]),
        notes=st.sampled_from(["hold-any", "ignore"]),
        require_approval=st.sampled_from([False, False, False, True]),
        upgrade_unhealthy=st.booleans(),
        rollback_horizon=st.sampled_from(HORIZONS),
    ),
    keep=st.sampled_from([1, 2]),
    env=st.sampled_from([(), (), (("A", "1"),)]),
)


def app_of(version: str, behaviour: str) -> App:
    """The application that behaves so. Times in seconds; the gate's window is 30 s, its deadline 180 s."""
    return {
        "good": App(version),
        "slow": App(version, delay=60.0),
        "never-healthy": App(version, "never-healthy"),
        "crash-at-once": App(version, "crash", after=0.0),
        "crash-soon": App(version, "crash", after=9.0),
        "sick-in-the-window": App(version, "sick-later", after=20.0),
        "sick-after-it": App(version, "sick-later", after=600.0),
        "missing": App(version),
    }[behaviour]
