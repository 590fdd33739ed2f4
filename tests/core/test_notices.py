"""Which conditions are told, in which words and with which commands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from tests.core.building import BACK, FORWARD, NEW, NOW, OLD, SNAPSHOT, STRAIGHT, S, Story, good, plan
from tests.core.test_gate import ALL, NOTED, Case, release
from warmd.core import alerts, gate, notices, rules
from warmd.core import history as h
from warmd.core.gate import Action, Decision, Held
from warmd.core.history import Failure, History
from warmd.core.machine import State
from warmd.core.model import Note
from warmd.core.notices import Notice
from warmd.core.runs import Cause, Kind, RunPlan

QUIET = Decision(Action.STAY, gate.NOOP, "latest")
WAITS = Decision(Action.STAY, gate.FAILED_UNCHANGED, "next try at 12:00")


def wanted(decision: Decision = QUIET, history: History | None = None) -> tuple[Notice, ...]:
    return notices.wanted(decision, history or History(), service="app", stack="web")


def only(found: Iterable[Notice]) -> Notice:
    (notice,) = found
    return notice


def conditions(found: Iterable[Notice]) -> list[tuple[str, str]]:
    return [(n.kind, n.candidate) for n in found]


def held(*names: str) -> Decision:
    return replace(QUIET, held=tuple(Held(name, "so it is") for name in names))


#: Every name that a hold may have, from the rules and the gate.
HOLDS = sorted(
    {value for module in (rules, gate) for value in vars(module).values() if isinstance(value, str)}
    & {kind.value for kind in alerts.Kind}
)


def is_an_alert(notice: Notice) -> None:
    alert = alerts.open_alert(
        installation="i",
        host="h",
        seq=1,
        kind=notice.kind,
        severity=notice.severity,
        service="app",
        stack="web",
        summary=notice.summary,
        at=NOW,
        detail=notice.detail,
        candidate=notice.candidate,
        notes=notice.notes,
        run=notice.run,
        commands=notice.commands,
    )
    assert alert.summary == notice.summary  # one line already
    assert notice.summary.startswith("app: ")
    assert notice.commands
    assert all(command.startswith(("warmd ", "docker ")) for command in notice.commands)


# --- holds


@pytest.mark.parametrize("name", HOLDS)
def test_a_hold_is_told_unless_something_else_tells_it(name: str) -> None:
    told = conditions(wanted(held(name)))
    silent = name in ("held-failed-before", "held-paused", "failed-unchanged", "stuck")
    if name != gate.STUCK:  # never a hold: its run tells it
        assert told == ([] if silent else [(name, "")])


def test_the_holds_are_all_there() -> None:
    assert {"held-major", "held-manual-migration", "held-unhealthy", "drift", "owned-elsewhere"} <= set(HOLDS)


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.id)
def test_whatever_the_gate_decides_can_be_told(case: Case) -> None:
    view = case.look()
    found = wanted(gate.decide(view), view.history)
    assert len(set(conditions(found))) == len(found)
    for notice in found:
        is_an_alert(notice)


def test_a_held_release_is_told_with_its_notes_and_every_reason() -> None:
    noted = release("11.0.0+27.0.0", notes="read me")
    notice = only(wanted(gate.decide(Case("", [noted], "").look())))
    assert (notice.kind, notice.candidate, notice.severity) == ("held-major", "11.0.0+27.0.0", "info")
    assert notice.notes == (Note("release/11.0.0+27.0.0", "ab" * 32, "read me"),)
    assert notice.summary == "app: 11.0.0+27.0.0 held-major: recipe major 10 -> 11"
    assert notice.detail.splitlines() == [
        "recipe-major: recipe major 10 -> 11",
        "app-major: application major 26 -> 27",
        "notes: release/11.0.0+27.0.0 is to be read first",
    ]
    assert notice.commands == ("warmd plan app", "warmd approve app 11.0.0+27.0.0 --why '...'")


def test_every_held_release_is_told_beside_the_upgrade_below_them() -> None:
    found = wanted(gate.decide(Case("", ["10.7.1+26.6.1", NOTED, "11.0.0+26.7.0"], "").look()))
    assert conditions(found) == [("held-manual-migration", "10.8.0+26.7.0"), ("held-major", "11.0.0+26.7.0")]


def test_one_condition_is_told_once_in_its_first_words() -> None:
    decision = replace(
        QUIET, held=(Held("drift", "first"), Held("held-unhealthy", ""), Held("drift", "then"))
    )
    found = wanted(decision)
    assert sorted(conditions(found)) == [("drift", ""), ("held-unhealthy", "")]
    assert "first" in next(n.summary for n in found if n.kind == "drift")


@pytest.mark.parametrize(
    ("name", "severity", "commands"),
    [
        (
            "held-config-drift",
            "warning",
            ["warmd plan app", "warmd deploy app", "warmd adopt app"],
        ),
        ("held-unknown-current", "warning", ["warmd plan app", "warmd adopt app --version VERSION"]),
        ("held-data-without-version", "warning", ["warmd plan app", "warmd deploy app --version VERSION"]),
        ("drift", "warning", ["warmd plan app", "warmd deploy app", "warmd pause app --why '...'"]),
        ("held-unhealthy", "critical", ["warmd plan app"]),
        ("owned-elsewhere", "warning", ["warmd plan app"]),
    ],
)
def test_holds_of_the_service_itself(name: str, severity: str, commands: list[str]) -> None:
    notice = only(wanted(held(name)))
    assert (notice.severity, notice.detail) == (severity, "so it is")
    assert list(notice.commands) == commands


def test_a_pause_is_told_where_it_keeps_a_run_half_way() -> None:
    halted = replace(held(gate.PAUSED), action=Action.RESUME, name="resume")
    notice = only(wanted(halted))
    assert (notice.kind, notice.candidate, notice.severity) == ("held-paused", "", "critical")
    is_an_alert(notice)
    assert wanted(held(gate.PAUSED)) == ()  # nothing is half done, and a person has just asked for it


# --- runs that did not go well


@pytest.mark.parametrize(
    ("outcome", "kind", "severity", "says"),
    [
        (S.ROLLED_BACK, "rolled-back", "warning", "was rolled back; version and data are the old ones"),
        (S.INTERRUPTED, "interrupted", "warning", "was interrupted; the old version runs on untouched data"),
        (S.FAILED_UNCHANGED, "failed-unchanged", "warning", "was aborted before anything was touched"),
        (S.STUCK, "held-failed-before", "warning", "got stuck, and was ended by hand"),
    ],
)
def test_a_failure_is_told_until_it_is_forgiven(outcome: State, kind: str, severity: str, says: str) -> None:
    failure = Failure(NEW, outcome, "gating: it is sick", "r1", NOW)
    notice = only(wanted(history=History(failures={NEW: failure})))
    assert (notice.kind, notice.candidate, notice.severity, notice.run) == (kind, NEW, severity, "r1")
    assert notice.summary == f"app: {NEW} {says}"
    assert notice.detail == "gating: it is sick\nIt is not tried again by itself; newer versions are."
    assert notice.commands == ("warmd history app", "warmd retry app")
    is_an_alert(notice)


def test_failures_are_told_each_in_the_order_they_happened() -> None:
    story = Story().rolls_back(plan("r1", to_version="1.2.0+5.2")).rolls_back(plan("r2"))
    assert conditions(wanted(history=story.history)) == [("rolled-back", "1.2.0+5.2"), ("rolled-back", NEW)]


THE_SAME = {"kind": Kind.DEPLOY, "to_version": OLD}
SNAPSHOT_RUN = {"kind": Kind.SNAPSHOT, "to_version": OLD}
REVIVED = (*FORWARD[:4], S.RESTARTING, S.REVIVING, S.INTERRUPTED)


@pytest.mark.parametrize(
    ("changes", "way", "cause", "kind"),
    [
        (THE_SAME, (*FORWARD, *BACK, S.ROLLED_BACK), Cause.FAILURE, "rolled-back"),
        (THE_SAME, REVIVED, Cause.FAILURE, "interrupted"),
        (SNAPSHOT_RUN, (*FORWARD, *BACK[2:], S.ROLLED_BACK), Cause.FAILURE, "rolled-back"),
        (SNAPSHOT_RUN, REVIVED, Cause.FAILURE, "interrupted"),
        (SNAPSHOT_RUN, REVIVED, Cause.ABORT, None),
        (SNAPSHOT_RUN, REVIVED, Cause.SIGNAL, None),
        (SNAPSHOT_RUN, (*FORWARD, S.COMMITTED), None, None),
        (
            {"kind": Kind.RESTORE, "to_version": OLD},
            (*FORWARD[:2], *BACK, S.ROLLED_BACK),
            Cause.FAILURE,
            None,
        ),
    ],
    ids=[
        "deploy-rolled-back",
        "deploy-interrupted",
        "snapshot-rolled-back",
        "snapshot-interrupted",
        "aborted-by-who-knows-it",
        "told-to-stop-is-made-again",
        "went-well",
        "restore-that-went-through-at-its-second-try",
    ],
)
def test_a_run_that_failed_and_speaks_against_no_version_is_told_until_the_next(
    changes: dict[str, Any], way: tuple[State, ...], cause: Cause | None, kind: str | None
) -> None:
    planned = plan("r1", **changes)
    story = Story().begins(planned).enters(*way, cause=cause, detail="gating: it is sick")
    found = wanted(history=story.history)
    assert conditions(found) == ([(kind, "")] if kind else [])
    for notice in found:
        assert notice.summary == f"app: the {planned.kind} failed; what ran before runs again"
        assert (notice.detail, notice.run, notice.severity) == ("gating: it is sick", "r1", "warning")
        assert notice.commands == ("warmd history app", "warmd plan app")
        is_an_alert(notice)
    assert wanted(history=story.commits(plan("r2", **changes)).history) == ()


def test_a_run_that_speaks_against_a_version_is_told_once() -> None:
    assert conditions(wanted(history=Story().rolls_back(plan()).history)) == [("rolled-back", NEW)]


RETRY, ADOPT, RESTORE = "warmd retry app", "warmd adopt app", "warmd restore app r1"
STOPPED = FORWARD[:5]


@pytest.mark.parametrize(
    ("planned", "way", "ways_out"),
    [
        (plan(), FORWARD, [ADOPT, RESTORE]),
        (plan(), (*FORWARD, *BACK[:2]), [RETRY, ADOPT, RESTORE]),
        (plan(), (*STOPPED, S.RESTARTING), [RETRY, ADOPT, RESTORE]),
        (plan(copy=False), (*STRAIGHT, *BACK[2:]), [RETRY, ADOPT]),
        (plan(kind=Kind.COLD_DEPLOY, copy=False, from_version=None), STRAIGHT, [RETRY, ADOPT]),
        (plan(kind=Kind.REPAIR, copy=False, to_version=OLD), STRAIGHT, [RETRY, ADOPT]),
    ],
    ids=[
        "past-the-horizon",
        "on-the-way-back",
        "while-the-old-one-starts",
        "on-the-way-back-without-data",
        "first-deploy",
        "repair",
    ],
)
def test_a_stuck_run_is_told_with_the_commands_that_lead_out(
    planned: RunPlan, way: tuple[State, ...], ways_out: list[str]
) -> None:
    story = Story().begins(planned)
    found: dict[str, Any] = {"snapshot": SNAPSHOT} if planned.copy else {}
    story.enters(*way, **found).fails(S.STUCK, "it is sick")
    notice = only(wanted(history=story.history))
    assert (notice.kind, notice.candidate, notice.severity) == ("stuck", planned.to_version, "critical")
    assert notice.summary == f"app: {planned.kind} to {planned.to_version} is stuck in {way[-1]}"
    assert notice.detail == "it is sick"
    assert list(notice.commands) == ["warmd history app", "docker stack ps --no-trunc web", *ways_out]
    is_an_alert(notice)


def test_a_stuck_run_to_no_known_version() -> None:
    notice = only(wanted(history=Story().gets_stuck(plan(to_version=None), *FORWARD).history))
    assert notice.summary == "app: upgrade to what ran is stuck in gating"
    assert notice.candidate == ""


def test_being_stuck_is_over_when_a_person_adopts_what_runs() -> None:
    story = Story().gets_stuck(plan(), *FORWARD)
    assert conditions(wanted(history=story.history)) == [("stuck", NEW)]
    adopted = good(OLD, how=h.ADOPTED, at=story.now)
    story.tell(h.last_good(adopted, {}, uid=0))
    assert conditions(wanted(history=story.history)) == [("held-failed-before", NEW)]


def test_a_run_whose_probes_are_blind_is_told_as_stuck_for_now() -> None:
    story = Story().begins(plan()).enters(*FORWARD)
    assert wanted(history=story.history) == ()
    story.enters(S.GATING, blind=True, detail="no route to host")
    notice = only(wanted(history=story.history))
    assert (notice.kind, notice.severity) == ("stuck", "critical")
    assert notice.summary == f"app: upgrade to {NEW} is stuck in gating"
    assert notice.detail.splitlines()[0] == "no route to host"
    assert "nothing is decided" in notice.detail
    # There is nothing to retry or adopt: it goes on by itself.
    assert notice.commands == ("warmd history app", "docker stack ps --no-trunc web")
    is_an_alert(notice)
    assert wanted(history=story.enters(S.COMMITTED).history) == ()


# --- trouble before anything was touched


@pytest.mark.parametrize(("transient", "told_at"), [(False, 1), (True, 3)])
def test_trouble_is_told_at_once_unless_it_may_pass(transient: bool, told_at: int) -> None:
    story = Story()
    for count in range(1, 5):
        story.begins(plan(f"r{count}"))
        draft = h.run_state(
            story.run,
            S.FAILED_UNCHANGED,
            story.now,
            detail="no image",
            cause=Cause.FAILURE,
            transient=transient,
        )
        found = wanted(WAITS, story.tell(draft).history)
        assert conditions(found) == ([("failed-unchanged", NEW)] if count >= told_at else [])
    notice = only(found)
    assert notice.summary == f"app: {NEW} failed before anything was touched: no image"
    assert (notice.detail, notice.run, notice.severity) == ("no image", "r4", "warning")
    assert notice.commands == ("warmd plan app", "warmd reconcile app")
    is_an_alert(notice)


@pytest.mark.parametrize(
    ("decision", "told"),
    [
        (WAITS, True),
        (Decision(Action.UPGRADE, "upgrade", "once more"), True),
        (Decision(Action.RESUME, "resume", "once more, and half-way"), True),
        (QUIET, False),
        (Decision(Action.STAY, gate.PAUSED, "paused"), False),
        (Decision(Action.STAY, rules.MAJOR, "another release now"), False),
    ],
    ids=["waits-for-it", "tries-again", "trying-again", "withdrawn-and-all-is-well", "paused", "held"],
)
def test_trouble_is_told_while_it_is_what_is_waited_for(decision: Decision, told: bool) -> None:
    history = Story().begins(plan()).fails(S.FAILED_UNCHANGED).history
    assert conditions(wanted(decision, history)) == ([("failed-unchanged", NEW)] if told else [])


def test_trouble_with_no_known_version() -> None:
    story = Story().begins(plan(to_version=None)).fails(S.FAILED_UNCHANGED, "")
    notice = only(wanted(WAITS, story.history))
    assert (notice.candidate, notice.summary) == ("", "app: the run failed before anything was touched")
