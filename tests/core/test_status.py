"""What is shown of a service, a run, a plan: whole, the same after a trip through JSON, and in one line."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from tests.core.building import FORWARD, HOUR, MINUTE, NEW, NOW, OLD, SNAPSHOT, S, Story, good, plan
from tests.core.test_gate import ALL, NOTED, RUN, SICK, Case, v
from warmd.core import gate, status
from warmd.core import history as h
from warmd.core.gate import Action, Decision, View, decide
from warmd.core.history import History
from warmd.core.model import (
    Catalog,
    GateRule,
    Health,
    Policy,
    Probe,
    ServiceSeen,
    SnapshotHandle,
    SnapshotInfo,
    StackSeen,
    TaskSeen,
)
from warmd.core.planning import Outage
from warmd.core.runs import Cause, Kind
from warmd.core.status import PlanStatus, RunStatus, ServiceStatus, SnapshotStatus


def through_json(shown: BaseModel) -> None:
    assert type(shown).model_validate_json(shown.model_dump_json()) == shown


def row(
    history: History, look: Decision | None = None, view: View | None = None, **more: Any
) -> ServiceStatus:
    shown = status.of_service("app", "web", history, decision=look, view=view, **more)
    through_json(shown)
    return shown


def planned(view: View, look: Decision, **more: Any) -> PlanStatus:
    rest: dict[str, Any] = {"changes": (), "steps": (), "outage": None}
    shown = status.of_plan("app", "web", view, look, **(rest | more))
    through_json(shown)
    return shown


# --- a service in one row


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.id)
def test_whatever_was_decided_can_be_shown(case: Case) -> None:
    view = case.look()
    look = decide(view)
    shown, plan_shown = row(view.history, look, view), planned(view, look)
    if view.history.unfinished is None:
        assert shown.decision == look.name
    assert plan_shown.decision == look.name
    assert plan_shown.target == shown.target == (look.target.version.text if look.target else None)
    assert all(release.passes == (release.hold is None) for release in plan_shown.releases)


def test_a_service_after_a_look() -> None:
    view = Case("", ["10.7.1+26.6.2"], "").look()
    shown = row(replace(view.history, alerts={}), decide(view), view)
    assert (shown.current, shown.target, shown.decision) == ("10.7.0+26.6.1", "10.7.1+26.6.2", "upgrade")
    assert (shown.health, shown.detail) == (Health.HEALTHY, "GET /health answered 200")
    assert (shown.last_good, shown.last_good_at, shown.looked_at) == ("10.7.0+26.6.1", view.now, view.now)
    assert (shown.run, shown.run_state, shown.paused, shown.trouble) == (None, None, False, None)


def test_nothing_is_known_before_the_first_look() -> None:
    shown = row(History(), trouble="Docker does not answer")
    assert (shown.decision, shown.reason, shown.current, shown.health) == ("not-looked-yet", "", None, None)
    assert shown.trouble == "Docker does not answer"


def test_without_a_look_the_journal_says_what_it_knows() -> None:
    history = Story().tell(h.last_good(good(OLD), {})).tell(h.paused(NOW, uid=0, why="audit")).history
    shown = row(history)
    assert (shown.current, shown.last_good, shown.paused) == (OLD, OLD, True)


def test_a_stuck_service_says_so_without_a_look() -> None:
    shown = row(Story().gets_stuck(plan(), *FORWARD).history)
    assert (shown.decision, shown.reason) == ("stuck", "it broke")
    assert (shown.run, shown.run_state) == ("r1", "stuck")


@pytest.mark.parametrize(
    ("kind", "to_version", "says"),
    [(Kind.UPGRADE, NEW, f"upgrade {NEW}, run r1"), (Kind.RESTORE, None, "restore, run r1")],
)
def test_a_run_in_progress_is_more_than_the_last_look(kind: Kind, to_version: str | None, says: str) -> None:
    view = Case("", [], "").look()
    history = Story().begins(plan(kind=kind, to_version=to_version)).enters(*FORWARD).history
    shown = row(history, decide(view), view)
    assert (shown.decision, shown.reason) == ("gating", says)


def test_a_run_that_waits_for_its_probes_says_why() -> None:
    view = Case("", [], "", history={"run": replace(RUN, state=S.GATING)}).look()
    waits = Decision(Action.RESUME, "resume", "run r1 waits in gating: no route to host")
    shown = row(view.history, waits, view)
    assert (shown.decision, shown.reason) == ("resume", waits.reason)


def test_health_is_shown_only_of_what_runs() -> None:
    view = replace(Case("", [], "").look(), deployed=False)
    assert row(view.history, decide(view), view).health is None


@pytest.mark.parametrize(
    ("candidate", "line"), [(NEW, f"held-major {NEW}"), (None, "held-major"), ("", "held-major")]
)
def test_open_alerts_are_named(candidate: str | None, line: str) -> None:
    body = {"kind": "held-major", "candidate": candidate}
    assert row(Story().tell(h.alert_opened(NOW, "f", "a.json", body)).history).alerts == (line,)


# --- runs and snapshots


def test_a_run_that_committed() -> None:
    story = Story().begins(plan(asked_by="uid 0", why="in a hurry")).enters(*FORWARD[:5], snapshot=SNAPSHOT)
    story.enters(*FORWARD[5:])
    story.enters(S.COMMITTED, healthy_at=(NOW + 13 * MINUTE).isoformat(), detail="2 tasks run")
    shown = status.of_run(story.run)
    through_json(shown)
    assert shown == RunStatus(
        id="r1",
        kind="upgrade",
        from_version=OLD,
        to_version=NEW,
        state="committed",
        started=NOW,
        ended=NOW + 8 * MINUTE,
        outage_seconds=600.0,
        snapshot="r1",
        detail="2 tasks run",
        asked_by="uid 0",
        why="in a hurry",
        states=tuple((state, NOW + n * MINUTE) for n, state in enumerate(("planned", *FORWARD, "committed"))),
    )


def test_a_run_in_progress_has_no_end() -> None:
    shown = status.of_run(Story().begins(plan()).enters(*FORWARD[:2]).run)
    through_json(shown)
    assert (shown.state, shown.ended, shown.outage_seconds, shown.snapshot) == ("checking", None, None, None)


def test_a_snapshot() -> None:
    info = SnapshotInfo(SnapshotHandle("n1", "s1"), NOW, OLD, "r1", ("web_data",), 10, 20, 3, sealed=True)
    shown = status.of_snapshot(info)
    through_json(shown)
    assert shown == SnapshotStatus(
        id="s1", node="n1", at=NOW, version=OLD, run="r1", volumes=("web_data",), archive_bytes=10,
        data_bytes=20, files=3, sealed=True,
    )  # fmt: skip


# --- plans


def test_a_plan_shows_every_release_with_its_verdicts() -> None:
    case = Case("", ["10.7.1+26.6.2", NOTED, "10.9.0+26.7.0"], "", approved="10.8.0+26.7.0")
    view = case.look()
    shown = planned(view, decide(view))
    low, noted, high = shown.releases
    assert [r.version for r in shown.releases] == ["10.7.1+26.6.2", "10.8.0+26.7.0", "10.9.0+26.7.0"]
    assert (low.passes, low.hold, low.approved, low.crossed) == (True, None, False, None)
    assert (noted.passes, noted.approved, noted.notes) == (True, True, ("release/10.8.0+26.7.0",))
    assert (high.passes, high.hold) == (False, "held-manual-migration")
    assert high.crossed == "10.8.0+26.7.0: release/10.8.0+26.7.0 is to be read first"
    rules = [(verdict.rule, verdict.passed) for verdict in noted.verdicts]
    assert rules == [
        ("comparable", True),
        ("recipe-major", True),
        ("app-major", True),
        ("notes", False),
        ("tag", True),
        ("failed-before", True),
        ("approval", True),
    ]


def test_a_plan_shows_what_would_be_done() -> None:
    view = Case("", ["10.7.1+26.6.2"], "").look()
    outage = Outage(timedelta(seconds=8), "as in run r0")
    shown = planned(view, decide(view), changes=("app: image 1 -> 2",), steps=("pull",), outage=outage)
    assert (shown.changes, shown.steps, shown.outage) == (
        ("app: image 1 -> 2",),
        ("pull",),
        "about 8s (as in run r0)",
    )
    assert shown.health == "healthy: GET /health answered 200"
    assert shown.commands == ("warmd reconcile app",)


def test_a_plan_with_nothing_to_do() -> None:
    view = replace(Case("", [], "").look(), health=Probe(Health.HEALTHY, ""))
    view = replace(view, catalog=replace(view.catalog, ignored=7))
    shown = planned(view, decide(view))
    assert (shown.decision, shown.releases, shown.ignored_tags) == ("noop-healthy", (), 7)
    assert (shown.outage, shown.health, shown.commands) == ("none: nothing would be done", "healthy", ())


def test_a_plan_says_what_holds_and_what_to_type_about_it() -> None:
    view = replace(Case("", ["11.0.0+26.6.1"], "").look(), health=SICK)
    shown = planned(view, decide(view))
    assert shown.held == (
        "held-unhealthy: GET /health answered 503",
        "held-major 11.0.0+26.6.1: recipe major 10 -> 11",
    )
    assert shown.commands == ("warmd approve app 11.0.0+26.6.1 --why '...'",)


def test_releases_are_judged_for_a_plan_even_where_the_service_itself_holds() -> None:
    view = replace(Case("", ["10.7.1+26.6.2"], "").look(), owner="somebody")
    look = decide(view)
    assert look.candidates == ()
    assert [release.version for release in planned(view, look).releases] == ["10.7.1+26.6.2"]


def test_a_paused_plan_says_how_to_resume() -> None:
    view = Case("", ["10.7.1+26.6.2"], "", history={"paused": h.Paused(NOW, 0, "")}).look()
    view = replace(view, paused="paused since 12:00")
    assert planned(view, decide(view)).commands == ("warmd resume app",)
    # A PAUSE file is not resumed by a command.
    elsewhere = replace(view, history=replace(view.history, paused=None))
    assert planned(elsewhere, decide(elsewhere)).commands == ()


def test_a_plan_shows_the_services_that_run_and_what_is_odd() -> None:
    spec = {"TaskTemplate": {"ContainerSpec": {"Image": "app:1"}}, "Mode": {"Replicated": {"Replicas": 2}}}
    tasks = (TaskSeen("t", "web_app", "running", "running", "app:1", "n1", "c"),)
    seen = StackSeen("web", (ServiceSeen("s", "web_app", 1, spec, tasks),))
    view = replace(Case("", [], "").look(), seen=seen, warnings=("two labels differ",))
    shown = planned(view, decide(view))
    (service,) = shown.services
    assert (service.name, service.image, service.running, service.wanted, service.converged) == (
        "web_app", "app:1", 1, 2, False,
    )  # fmt: skip
    assert shown.warnings == ("two labels differ",)


def test_a_plan_of_a_service_of_which_nothing_is_known() -> None:
    view = View(
        Catalog(()), History(), Policy(), NOW, deployed=False, health=Probe(Health.INCONCLUSIVE, "none")
    )
    assert planned(view, decide(view)).current is None
    assert planned(replace(view, history=History(last_good=good(OLD))), decide(view)).current == OLD
    assert planned(replace(view, running=v(NEW)), decide(view)).current == NEW


# --- in one line


def _health(decision: str) -> Health:
    return Health.HEALTHY if decision in (gate.NOOP, "held-major") else Health.UNHEALTHY


def rows(*decisions: str) -> tuple[ServiceStatus, ...]:
    blank = row(History())
    return tuple(
        blank.model_copy(update={"service": f"s{n}", "decision": d, "health": _health(d)})
        for n, d in enumerate(decisions)
    )


@pytest.mark.parametrize(
    ("decisions", "line"),
    [
        ([], "0 services: 0 healthy"),
        ([gate.NOOP], "1 service: 1 healthy"),
        ([gate.NOOP, "stuck", gate.NOOP], "3 services: 2 healthy, s1 stuck"),
        (["held-major", gate.NOOP], "2 services: 2 healthy, s0 held-major"),
        (["drift"] * 5, "5 services: 0 healthy, s0 drift, s1 drift, s2 drift, s3 drift, s4 drift"),
        (
            ["drift"] * 8,
            "8 services: 0 healthy, s0 drift, s1 drift, s2 drift, s3 drift, s4 drift, and 3 more",
        ),
    ],
    ids=["none", "one", "some", "a-held-one-is-healthy", "five-others", "eight-others"],
)
def test_summary(decisions: list[str], line: str) -> None:
    assert status.summary(rows(*decisions)) == line


@given(st.lists(st.sampled_from([gate.NOOP, "stuck", "held-major"]), max_size=2000))
def test_law_a_summary_is_short_however_many_there_are(decisions: list[str]) -> None:
    line = status.summary(rows(*decisions))
    assert len(line) < 200
    assert "\n" not in line


def test_the_gate_in_words() -> None:
    rule = GateRule(deadline=HOUR, successes=3, stable=timedelta(seconds=90))
    said = "3 good rounds in a row and 1m30s without a restart, within 1h"
    assert status.gate_line(rule) == said


def test_a_failed_run_keeps_its_reason() -> None:
    story = Story().begins(plan()).enters(S.PULLING)
    shown = status.of_run(story.enters(S.FAILED_UNCHANGED, cause=Cause.FAILURE, detail="no such image").run)
    assert (shown.state, shown.detail, shown.ended) == ("failed-unchanged", "no such image", NOW + 2 * MINUTE)
