"""A run in words before it is made: its steps, and how long the service is expected to be away."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.core.building import FORWARD, HOUR, MINUTE, NEW, OLD, S, Story, plan
from warmd.core.history import History
from warmd.core.machine import State
from warmd.core.planning import Outage, expected_outage, steps
from warmd.core.runs import Kind


def ran(story: Story, id_: str, away: timedelta, *, kind: Kind = Kind.UPGRADE, copy: bool = True) -> Story:
    """A run that commits and was away for so long."""
    story.begins(plan(id_, kind, copy=copy)).enters(*FORWARD)
    stopped = story.run.stopped_at
    assert stopped is not None
    return story.enters(S.COMMITTED, healthy_at=(stopped + away).isoformat())


def test_as_long_as_the_last_one_took() -> None:
    story = ran(ran(Story(), "r1", 90 * MINUTE), "r2", timedelta(seconds=40.4))
    assert (
        str(expected_outage(story.history, copy=True, data_bytes=10**12))
        == f"about 40s (as in run r2, to {NEW})"
    )


def test_a_blink_counts_as_a_second() -> None:
    outage = expected_outage(
        ran(Story(), "r1", timedelta(milliseconds=3)).history, copy=True, data_bytes=None
    )
    assert outage.expected == timedelta(seconds=1)


@pytest.mark.parametrize("end", [S.ROLLED_BACK, S.STUCK, S.INTERRUPTED])
def test_runs_that_went_wrong_say_nothing_about_the_next(end: State) -> None:
    story = Story().begins(plan()).enters(*FORWARD)
    story.enters(end, healthy_at=(story.now + HOUR).isoformat())
    assert expected_outage(story.history, copy=True, data_bytes=None).expected is None


def test_runs_without_a_copy_say_nothing_about_one_with() -> None:
    history = ran(Story(), "r1", MINUTE, copy=False).history
    assert expected_outage(history, copy=True, data_bytes=None).basis == "not known before the first run"


def test_before_the_first_run_the_size_of_the_data_says_it() -> None:
    outage = expected_outage(History(), copy=True, data_bytes=2 * 10**9)
    assert outage.expected == timedelta(seconds=13)
    assert str(outage).startswith("about 13s (from the size of the data")
    assert str(expected_outage(History(), copy=True, data_bytes=0)).startswith("about 3s")


def test_without_a_copy_nothing_is_stopped_first() -> None:
    outage = expected_outage(ran(Story(), "r1", MINUTE).history, copy=False, data_bytes=10**9)
    assert outage == Outage(None, "as long as the swarm's rolling update takes; nothing is stopped first")
    assert str(outage) == outage.basis


def said(kind: Kind, *, copy: bool = True, to: str | None = NEW, before: str | None = OLD) -> str:
    lines = steps(
        kind,
        copy=copy,
        stack="web",
        before=before,
        to=to,
        volumes=("web_data", "web_db"),
        gate="3 good rounds",
        horizon=HOUR,
    )
    assert not any("{" in line for line in lines)
    return "\n".join(lines)


@pytest.mark.parametrize("kind", [Kind.UPGRADE, Kind.DEPLOY])
def test_an_upgrade_stops_copies_deploys_and_can_go_back(kind: Kind) -> None:
    text = said(kind)
    order = [
        "pull",
        "check",
        "stop web",
        "copy its volumes (web_data, web_db)",
        f"deploy {NEW}",
        "3 good rounds",
    ]
    places = [text.index(word) for word in order]
    assert places == sorted(places)
    assert f"within 1h, put data and {OLD} back" in text


@pytest.mark.parametrize("kind", [Kind.UPGRADE, Kind.DEPLOY])
def test_without_data_nothing_is_stopped_or_copied(kind: Kind) -> None:
    text = said(kind, copy=False)
    assert "stop web" not in text
    assert "volumes" not in text
    assert f"deploy {NEW} as a rolling update" in text


@pytest.mark.parametrize("kind", [Kind.COLD_DEPLOY, Kind.REPAIR])
@pytest.mark.parametrize("copy", [True, False])
def test_where_nothing_ran_there_is_no_way_back(kind: Kind, copy: bool) -> None:
    text = said(kind, copy=copy)
    assert "leave it as it is and alert" in text
    assert "back" not in text


def test_a_snapshot_starts_what_ran() -> None:
    text = said(Kind.SNAPSHOT, to=OLD)
    assert "copy its volumes (web_data, web_db)" in text
    assert f"start {OLD} again" in text


def test_a_restore_keeps_what_it_replaces() -> None:
    text = said(Kind.RESTORE, to=OLD, before=NEW)
    assert "swap, keep what was there" in text
    assert f"deploy {OLD} as it was when the snapshot was taken" in text


def test_what_has_no_name_is_said_all_the_same() -> None:
    text = said(Kind.UPGRADE, to=None, before=None)
    assert "deploy what is rendered now" in text
    assert "put data and the old specs back" in text
    (copying,) = [
        line
        for line in steps(
            Kind.UPGRADE, copy=True, stack="web", before=None, to=None, volumes=(), gate="", horizon=HOUR
        )
        if "copy" in line
    ]
    assert "(it has none)" in copying
