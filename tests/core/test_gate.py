# ruff: noqa: E501 - a truth table reads best with a case a line
"""The gate as a truth table: every line is a situation, its id says which, and what is decided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from warmd.core import gate
from warmd.core.gate import Action, View, binding, decide, way
from warmd.core.history import Approval, Failure, History, Trouble
from warmd.core.machine import State
from warmd.core.model import Catalog, Health, LastGood, Note, Policy, Probe, Release
from warmd.core.runs import Kind, Run, RunPlan
from warmd.core.versions import Version

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
HEALTHY = Probe(Health.HEALTHY, "GET /health answered 200")
SICK = Probe(Health.UNHEALTHY, "GET /health answered 503")
BLIND = Probe(Health.INCONCLUSIVE, "no route to host")


def v(text: str) -> Version:
    return Version.of(text)


def release(text: str, *, notes: str | None = None, binary: bool = False, moved: bool = False) -> Release:
    note = (
        (Note(f"release/{text}", "ab" * 32, None if binary else notes),)
        if notes is not None or binary
        else ()
    )
    return Release(v(text), text, "c" * 40, NOW, note, first_commit="d" * 40 if moved else "c" * 40)


def failed(text: str, outcome: State = State.ROLLED_BACK) -> Failure:
    return Failure(text, outcome, "gate: not healthy", "run1", NOW)


#: A person had a restore go back from 10.7.2 to 10.7.0.
WENT_BACK = replace(failed("10.7.2+26.6.1"), above="10.7.0+26.6.1")


def good(text: str | None = "10.7.0+26.6.1") -> LastGood:
    return LastGood(v(text) if text else None, "blob", NOW, "committed")


@dataclass(frozen=True)
class Case:
    """One situation. ``published`` are releases, or their texts; ``does`` and ``name`` are the decision."""

    id: str
    published: Iterable[str | Release]
    name: str
    target: str | None = None
    does: Action = Action.STAY
    running: str | None = "10.7.0+26.6.1"
    policy: Mapping[str, Any] = field(default_factory=dict)
    failures: Iterable[str] = ()
    approved: str | None = None
    held: tuple[tuple[str, str | None], ...] | None = None
    view: Mapping[str, Any] = field(default_factory=dict)
    history: Mapping[str, Any] = field(default_factory=dict)

    @property
    def catalog(self) -> Catalog:
        releases = [release(r) if isinstance(r, str) else r for r in self.published]
        return Catalog(tuple(sorted(releases, key=lambda r: r.version)), fetched_at=NOW)

    def look(self) -> View:
        history = History(last_good=good(self.running), live={"s_app": "x/1"})
        history = replace(history, failures={f: failed(f) for f in self.failures})
        if self.approved:
            target = self.catalog.find(v(self.approved))
            assert target is not None
            path = way(self.catalog, v(self.running), target) if self.running else (target,)
            approval = Approval("a1", self.approved, binding(path), 0, "read", NOW)
            history = replace(history, approvals={self.approved: approval})
        history = replace(history, **self.history)
        view = View(self.catalog, history, Policy(**self.policy), NOW, deployed=True, health=HEALTHY)
        running = v(self.running) if self.running else None
        return replace(view, **{"running": running, "running_text": self.running, **self.view})


NOTED = release("10.8.0+26.7.0", notes="contains a couple of breaking changes")
UP, STAY = Action.UPGRADE, Action.STAY

RELEASES = [
    Case("nothing-published", [], "noop-healthy"),
    Case("only-what-runs", ["10.7.0+26.6.1"], "noop-healthy"),
    Case("only-lower", ["10.6.9+26.6.1", "9.0.0+26.0.0"], "noop-healthy"),
    Case("leading-v-is-the-same-version", ["v10.7.0+26.6.1"], "noop-healthy"),
    Case("patch", ["10.7.1+26.6.1"], "upgrade", "10.7.1+26.6.1", UP),
    Case("minor", ["10.8.0+26.7.0"], "upgrade", "10.8.0+26.7.0", UP),
    Case("app-half-alone", ["10.7.0+26.6.2"], "upgrade", "10.7.0+26.6.2", UP),
    Case("highest-of-several", ["10.7.1+26.6.1", "10.9.0+26.7.0", "10.8.0+26.6.2"], "upgrade", "10.9.0+26.7.0", UP),
    Case("recipe-major", ["11.0.0+26.6.2"], "held-major", held=(("held-major", "11.0.0+26.6.2"),)),
    Case("recipe-major-allowed", ["11.0.0+26.6.2"], "upgrade", "11.0.0+26.6.2", UP, policy={"recipe_major": "allow"}),
    Case("app-major", ["10.8.0+27.0.0"], "held-major", held=(("held-major", "10.8.0+27.0.0"),)),
    Case("app-major-allowed", ["10.8.0+27.0.0"], "upgrade", "10.8.0+27.0.0", UP, policy={"app_major": "allow"}),
    Case("app-major-allowed-recipe-not", ["11.0.0+27.0.0"], "held-major", policy={"app_major": "allow"}),
    Case("app-major-down-is-a-change-too", ["10.8.0+25.0.0"], "held-major"),
    Case(
        "later-releases-of-a-new-major-do-not-alert-again",
        ["11.0.0+26.6.2", "11.0.1+26.6.2", "11.1.0+26.6.2"],
        "held-major",
        held=(("held-major", "11.0.0+26.6.2"),),
    ),
    Case("lower-goes-while-major-alerts", ["10.7.1+26.6.2", "11.0.0+26.6.2"], "upgrade", "10.7.1+26.6.2", UP,
         held=(("held-major", "11.0.0+26.6.2"),)),
    Case("unparsable-app-half", ["10.8.0+latest"], "held-unparsable", held=(("held-unparsable", "10.8.0+latest"),)),
    Case("unparsable-running", ["10.8.0+26.1"], "held-unparsable", running="10.7.0+stable"),
    Case("unparsable-but-equal", ["10.8.0+stable"], "upgrade", "10.8.0+stable", UP, running="10.7.0+stable"),
    Case("unparsable-but-allowed", ["10.8.0+latest"], "upgrade", "10.8.0+latest", UP, policy={"app_major": "allow"}),
    Case("no-app-half-anywhere", ["1.1.0"], "upgrade", "1.1.0", UP, running="1.0.0"),
    Case("app-half-appears", ["1.1.0+5.0"], "held-unparsable", running="1.0.0"),
    Case("notes-hold-any", [NOTED], "held-manual-migration", held=(("held-manual-migration", "10.8.0+26.7.0"),)),
    Case("notes-ignored", [NOTED], "upgrade", "10.8.0+26.7.0", UP, policy={"notes": "ignore"}),
    Case("notes-without-marker", [NOTED], "upgrade", "10.8.0+26.7.0", UP,
         policy={"notes": "hold-marked", "notes_markers": ("manual",)}),
    Case("notes-with-marker-in-other-case", [NOTED], "held-manual-migration",
         policy={"notes": "hold-marked", "notes_markers": ("BREAKING",)}),
    Case("notes-unreadable-need-reading", [release("10.8.0+26.7.0", binary=True)], "held-manual-migration",
         policy={"notes": "hold-marked", "notes_markers": ("never",)}),
    Case("notes-on-the-way-hold-what-is-above", [NOTED, "10.9.0+26.7.0"], "held-manual-migration",
         held=(("held-manual-migration", "10.8.0+26.7.0"),)),
    Case("notes-of-what-runs-do-not-hold", [release("10.7.0+26.6.1", notes="read"), "10.7.1+26.6.1"], "upgrade",
         "10.7.1+26.6.1", UP),
    Case("failed-before", ["10.7.1+26.6.1"], "held-failed-before", failures=["10.7.1+26.6.1"]),
    Case("failed-before-but-newer-goes", ["10.7.1+26.6.1", "10.7.2+26.6.1"], "upgrade", "10.7.2+26.6.1", UP,
         failures=["10.7.1+26.6.1"], held=()),
    Case("went-back-past-it", ["10.7.1+26.6.1", "10.7.2+26.6.1"], "held-failed-before",
         history={"failures": {"10.7.2+26.6.1": WENT_BACK}},
         held=(("held-failed-before", "10.7.1+26.6.1"), ("held-failed-before", "10.7.2+26.6.1"))),
    Case("went-back-past-it-but-newer-goes", ["10.7.1+26.6.1", "10.7.3+26.6.1"], "upgrade", "10.7.3+26.6.1", UP,
         history={"failures": {"10.7.2+26.6.1": WENT_BACK}}, held=()),
    Case("failed-before-newer-lower-goes", ["10.7.1+26.6.1", "10.7.2+26.6.1"], "upgrade", "10.7.1+26.6.1", UP,
         failures=["10.7.2+26.6.1"], held=(("held-failed-before", "10.7.2+26.6.1"),)),
    Case("tag-moved", [release("10.7.1+26.6.1", moved=True)], "held-tag-moved"),
    Case("tag-moved-below-does-not-hold", [release("10.7.1+26.6.1", moved=True), "10.7.2+26.6.1"], "upgrade",
         "10.7.2+26.6.1", UP, held=()),
    Case("approval-required", ["10.7.1+26.6.1"], "held-approval", policy={"require_approval": True}),
    Case("first-failing-rule-names-it", [release("11.0.0+27.0.0", notes="read me", moved=True)], "held-major"),
    Case(
        "10.7.1-failed-10.7.2-fine-10.8.0-notes-11.0.0-major",
        ["10.7.1+26.6.2", "10.7.2+26.6.2", NOTED, "11.0.0+26.7.0"],
        "upgrade",
        "10.7.2+26.6.2",
        UP,
        failures=["10.7.1+26.6.2"],
        held=(("held-manual-migration", "10.8.0+26.7.0"), ("held-major", "11.0.0+26.7.0")),
    ),
]  # fmt: skip

APPROVALS = [
    Case("approved-notes", [NOTED], "upgrade", "10.8.0+26.7.0", UP, approved="10.8.0+26.7.0"),
    Case("approved-major", ["11.0.0+26.6.2"], "upgrade", "11.0.0+26.6.2", UP, approved="11.0.0+26.6.2"),
    Case("approved-across-notes", [NOTED, "11.0.0+26.7.0"], "upgrade", "11.0.0+26.7.0", UP, approved="11.0.0+26.7.0"),
    Case("approved-lets-only-that-version-through", [NOTED, "10.8.1+26.7.0"], "upgrade", "10.8.0+26.7.0", UP,
         approved="10.8.0+26.7.0"),
    Case("approved-does-not-excuse-a-failure", ["10.7.1+26.6.1"], "held-failed-before", approved="10.7.1+26.6.1",
         failures=["10.7.1+26.6.1"]),
    Case("approved-moved-tag", [release("10.7.1+26.6.1", moved=True)], "upgrade", "10.7.1+26.6.1", UP,
         approved="10.7.1+26.6.1"),
    Case("approved-where-required", ["10.7.1+26.6.1"], "upgrade", "10.7.1+26.6.1", UP, approved="10.7.1+26.6.1",
         policy={"require_approval": True}),
]  # fmt: skip

#: A first deploy of ours, of which a person said that it be tried again.
FIRST = Run(RunPlan("r0", Kind.COLD_DEPLOY, copy=False, horizon=timedelta(hours=1)), NOW, State.STUCK)
RUN = Run(RunPlan("r1", Kind.UPGRADE, copy=True, horizon=timedelta(hours=1)), NOW, detail="stopped there")
TROUBLE = Trouble("10.7.1+26.6.1", 1, "no such image", transient=False, at=NOW, run="r1")
NEXT = ["10.7.1+26.6.1"]

MOMENTS = [
    Case("unfinished-run-first", NEXT, "resume", does=Action.RESUME, history={"run": replace(RUN, state=State.GATING)}),
    Case("stuck-stays", NEXT, "stuck", history={"run": replace(RUN, state=State.STUCK)}),
    Case("owned-elsewhere", NEXT, "owned-elsewhere", view={"owner": "other"}),
    Case("paused", NEXT, "held-paused", view={"paused": "paused by uid 0"}),
    Case("paused-with-nothing-to-do", [], "noop-healthy", view={"paused": "paused by uid 0"}),
    Case("unhealthy", NEXT, "held-unhealthy", view={"health": SICK}),
    Case("unhealthy-with-nothing-to-do", [], "held-unhealthy", view={"health": SICK}),
    Case("unprobeable-is-not-healthy", NEXT, "held-unhealthy", view={"health": BLIND}),
    Case("unhealthy-and-the-upgrade-is-the-cure", NEXT, "upgrade", "10.7.1+26.6.1", UP, view={"health": SICK},
         policy={"upgrade_unhealthy": True}),
    Case("unhealthy-keeps-the-alerts-of-held-releases", ["11.0.0+26.6.1"], "held-unhealthy", view={"health": SICK},
         held=(("held-unhealthy", None), ("held-major", "11.0.0+26.6.1"))),
    Case("config-drift", NEXT, "held-config-drift", view={"changed": ("app: env FOO added",)}),
    Case("config-drift-with-nothing-to-do", [], "held-config-drift", view={"changed": ("app: env FOO added",)}),
    Case("failed-unchanged-waits", NEXT, "failed-unchanged", history={"trouble": TROUBLE}),
    Case("failed-unchanged-waits-no-longer-when-asked", NEXT, "upgrade", "10.7.1+26.6.1", UP,
         history={"trouble": TROUBLE}, view={"forced": True}),
    Case("failed-unchanged-long-ago", NEXT, "upgrade", "10.7.1+26.6.1", UP,
         history={"trouble": replace(TROUBLE, at=NOW - timedelta(minutes=1))}),
    Case("failed-unchanged-in-the-future-does-not-wait", NEXT, "upgrade", "10.7.1+26.6.1", UP,
         history={"trouble": replace(TROUBLE, at=NOW + timedelta(seconds=1))}),
    Case("failed-unchanged-newer-does-not-wait", [*NEXT, "10.7.2+26.6.1"], "upgrade", "10.7.2+26.6.1", UP,
         history={"trouble": TROUBLE}),
]  # fmt: skip

NOTHING_KNOWN: dict[str, Any] = {"history": {"last_good": None}, "running": None}
GONE: dict[str, Any] = {"deployed": False, "running": None, "running_text": None}
DOWN: dict[str, Any] = {"down": ("s_app",)}
CHANGED: dict[str, Any] = {**DOWN, "changed": ("running: db: env FOO added",)}
LONG_DOWN = {"drift_since": NOW - timedelta(hours=1)}
OURS: dict[str, Any] = {"ours": True, "health": SICK}
TRIED: dict[str, Any] = {"last_good": None, "runs": (FIRST,)}

FOUND = [
    Case("cold-deploy-the-highest", ["1.0.0+1.0", "2.0.0+3.0"], "cold-deploy", "2.0.0+3.0", Action.COLD_DEPLOY,
         view=GONE, **NOTHING_KNOWN),
    Case("cold-deploy-skips-what-failed", ["1.0.0+1.0", "2.0.0+3.0"], "cold-deploy", "1.0.0+1.0", Action.COLD_DEPLOY,
         failures=["2.0.0+3.0"], view=GONE, **NOTHING_KNOWN),
    Case("cold-deploy-ignores-notes", [release("1.0.0+1.0", notes="read")], "cold-deploy", "1.0.0+1.0",
         Action.COLD_DEPLOY, view=GONE, **NOTHING_KNOWN),
    Case("cold-deploy-waits-for-approval", ["1.0.0+1.0"], "held-approval", policy={"require_approval": True},
         view=GONE, held=(("held-approval", "1.0.0+1.0"),), **NOTHING_KNOWN),
    Case("cold-deploy-approved", ["1.0.0+1.0"], "cold-deploy", "1.0.0+1.0", Action.COLD_DEPLOY, approved="1.0.0+1.0",
         policy={"require_approval": True}, view=GONE, **NOTHING_KNOWN),
    Case("cold-deploy-paused", ["1.0.0+1.0"], "held-paused", view={**GONE, "paused": "paused"}, **NOTHING_KNOWN),
    Case("cold-deploy-nothing-published", [], "held-nothing-published", view=GONE, **NOTHING_KNOWN),
    Case("data-without-version", ["1.0.0+1.0"], "held-data-without-version", view={**GONE, "data": ("s_data",)},
         **NOTHING_KNOWN),
    Case("take-over-what-runs", NEXT, "take-over", does=Action.TAKE_OVER, history={"last_good": None}),
    Case("take-over-not-while-unhealthy", NEXT, "held-unhealthy", history={"last_good": None}, view={"health": SICK}),
    Case("take-over-not-without-a-version", NEXT, "held-unknown-current", history={"last_good": None}, running=None),
    Case("take-over-not-with-a-strange-label", NEXT, "held-unknown-current", history={"last_good": None},
         view={"running": None, "running_text": "latest"}),
    Case("own-first-deploy-tried-again", ["10.7.0+26.6.1"], "cold-deploy", "10.7.0+26.6.1", Action.COLD_DEPLOY,
         view=OURS, history=TRIED),
    Case("own-first-deploy-tried-again-with-what-is-newer", NEXT, "cold-deploy", "10.7.1+26.6.1", Action.COLD_DEPLOY,
         view=OURS, history=TRIED),
    Case("own-first-deploy-that-nobody-said-to-try-again", ["10.7.0+26.6.1"], "held-failed-before",
         failures=["10.7.0+26.6.1"], view=OURS, history=TRIED, held=(("held-failed-before", "10.7.0+26.6.1"),)),
    Case("own-first-deploy-while-paused", NEXT, "held-paused", view={**OURS, "paused": "paused"}, history=TRIED),
    Case("own-first-deploy-that-got-well-in-the-end", NEXT, "take-over", does=Action.TAKE_OVER,
         view={**OURS, "health": HEALTHY}, history=TRIED),
    Case("own-label-behind-a-lost-journal-is-no-first-deploy", NEXT, "take-over", does=Action.TAKE_OVER,
         view={**OURS, "health": HEALTHY}, history={"last_good": None}),
    Case("own-label-behind-a-lost-journal-and-unhealthy", NEXT, "held-unhealthy", view=OURS,
         history={"last_good": None}),
    Case("first-deploy-that-somebody-else-replaced", NEXT, "held-unhealthy", view={**OURS, "ours": False},
         history=TRIED),
    Case("neither-label-nor-last-good-says-a-version", NEXT, "held-unknown-current", running=None,
         held=(("held-unknown-current", None),)),
    Case("moved-by-hand", ["10.7.0+26.6.1", "10.8.0+26.7.0"], "take-over", does=Action.TAKE_OVER,
         view={"running": v("10.8.0+26.7.0")}),
    Case("moved-by-hand-down", ["10.6.0+26.6.1"], "take-over", does=Action.TAKE_OVER,
         view={"running": v("10.6.0+26.6.1")}),
    Case("moved-by-hand-to-something-unpublished", [], "held-unknown-current", view={"running": v("10.8.0+26.7.0")}),
    Case("moved-by-hand-and-unhealthy", ["10.8.0+26.7.0"], "held-unhealthy",
         view={"running": v("10.8.0+26.7.0"), "health": SICK}),
    Case("label-gone-last-good-known", NEXT, "upgrade", "10.7.1+26.6.1", UP, view={"running": None}),
    Case("scaled-to-zero-is-drift", NEXT, "drift", view=DOWN, held=(("drift", None),)),
    Case("drift-waits", NEXT, "drift", view=DOWN, history={"drift_since": NOW - timedelta(minutes=14)}),
    Case("drift-repaired-after-a-while", ["10.7.0+26.6.1"], "repair", "10.7.0+26.6.1", Action.REPAIR, view=DOWN,
         history={"drift_since": NOW - timedelta(minutes=15)}),
    Case("drift-repaired-though-unpublished", [], "repair", None, Action.REPAIR, view=DOWN,
         history={"drift_since": NOW - timedelta(minutes=15)}),
    Case("drift-repair-that-failed-unchanged-waits", [], "failed-unchanged", view=DOWN, held=(("drift", None),),
         history={"drift_since": NOW - timedelta(hours=1), "trouble": replace(TROUBLE, version="10.7.0+26.6.1")}),
    Case("drift-repair-waits-not-for-another-version", [], "repair", None, Action.REPAIR, view=DOWN,
         history={"drift_since": NOW - timedelta(hours=1), "trouble": TROUBLE}),
    Case("drift-not-repaired-while-paused", NEXT, "held-paused", view={**DOWN, "paused": "paused"},
         history={"drift_since": NOW - timedelta(hours=1)}, held=(("drift", None),)),
    Case("drift-and-changed-is-both", NEXT, "drift", view=CHANGED,
         held=(("drift", None), ("held-config-drift", None))),
    Case("drift-and-changed-is-not-repaired", NEXT, "drift", view=CHANGED, history=LONG_DOWN,
         held=(("drift", None), ("held-config-drift", None))),
    Case("drift-and-changed-while-paused", NEXT, "held-paused", view={**CHANGED, "paused": "paused"},
         history=LONG_DOWN, held=(("drift", None),)),
    Case("drift-on-data-of-a-newer-version-is-not-repaired", NEXT, "held-data-without-version", view=DOWN,
         history={**LONG_DOWN, "data_of": "10.8.0+26.7.0"}, held=(("drift", None), ("held-data-without-version", None))),
    Case("drift-on-data-of-another-version-is-drift-first", NEXT, "drift", view=DOWN,
         history={"data_of": "10.8.0+26.7.0"}, held=(("drift", None),)),
    Case("drift-on-data-of-a-known-version-where-last-good-is-of-none", NEXT, "held-data-without-version", running=None,
         view=DOWN, history={**LONG_DOWN, "data_of": "10.7.0+26.6.1"}),
    Case("drift-on-data-that-an-unknown-image-worked-on", NEXT, "held-data-without-version", view=DOWN,
         history={**LONG_DOWN, "data_of": "registry/app:2"}),
    Case("drift-where-somebody-put-another-image", NEXT, "held-data-without-version", history=LONG_DOWN,
         view={**CHANGED, "strange": "registry/app:2"}, held=(("drift", None), ("held-data-without-version", None))),
    Case("drift-on-its-own-data-however-spelled", [], "repair", None, Action.REPAIR, view=DOWN,
         history={**LONG_DOWN, "data_of": "v10.7.0+26.6.1"}),
    Case("whole-stack-gone-from-data-of-a-newer-version", NEXT, "held-data-without-version", view=GONE,
         history={**LONG_DOWN, "data_of": "10.8.0+26.7.0"}),
    Case("whole-stack-gone-is-drift", NEXT, "drift", view=GONE),
    Case("whole-stack-gone-is-repaired", NEXT, "repair", None, Action.REPAIR, view=GONE,
         history={"drift_since": NOW - timedelta(hours=1)}),
]  # fmt: skip

ALL = [*RELEASES, *APPROVALS, *MOMENTS, *FOUND]


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.id)
def test_decision(case: Case) -> None:
    decision = decide(case.look())
    target = decision.target.version.text if decision.target else None
    assert (decision.name, decision.action, target) == (case.name, case.does, case.target)
    if case.held is not None:
        held = tuple((h.name, h.release.version.text if h.release else None) for h in decision.held)
        assert held == case.held
    assert decision.reason or decision.name == "stuck"


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.id)
def test_a_decision_to_stay_names_no_target(case: Case) -> None:
    decision = decide(case.look())
    assert (decision.action in (Action.STAY, Action.RESUME, Action.TAKE_OVER)) <= (decision.target is None)


def test_a_drift_that_is_not_repaired_says_why() -> None:
    view = Case("", NEXT, "", view=CHANGED, history=LONG_DOWN).look()
    assert decide(view).reason == (
        "s_app missing or scaled to zero; not repaired, because running: db: env FOO added"
    )
    view = replace(view, changed=(), history=replace(view.history, data_of="10.8.0+26.7.0"))
    assert "last worked on by 10.8.0+26.7.0, and last good is 10.7.0+26.6.1" in decide(view).reason


#: What comes before the releases are looked at.
FIRST_THINGS = (
    "resume",
    "stuck",
    "owned-elsewhere",
    "take-over",
    "repair",
    "drift",
    "held-data-without-version",
)


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.id)
def test_a_decision_says_whether_releases_were_judged(case: Case) -> None:
    decision = decide(case.look())
    if case.name in FIRST_THINGS:
        assert not decision.judged
    if decision.candidates or decision.target not in (None, case.look().catalog.find(v("10.7.0+26.6.1"))):
        assert decision.judged
    if not decision.judged:  # nothing that it names is about a release
        assert all(held.release is None for held in decision.held)


@pytest.mark.parametrize(
    ("published", "trouble", "judged"),
    [([], None, True), ([], "no route", False), (["10.7.0+26.6.1"], "no route", True)],
    ids=["answers-and-has-nothing", "never-answered", "what-it-said-last-counts"],
)
@pytest.mark.parametrize("view", [{}, GONE], ids=["running", "first-deploy"])
def test_a_source_that_never_answered_is_not_one_without_releases(
    published: list[str], trouble: str | None, judged: bool, view: dict[str, Any]
) -> None:
    case = Case("", published, "", view=view, history={"last_good": None} if view else {})
    decision = decide(replace(case.look(), catalog=replace(case.catalog, trouble=trouble)))
    assert decision.judged == judged
    assert (f"{trouble}" in decision.reason) == (not judged)
    assert ("latest safe" in decision.reason) == (judged and not view)


def test_a_hold_has_a_name_that_people_may_grep_for() -> None:
    names = {name for name in vars(gate).values() if isinstance(name, str) and name.startswith("held-")}
    assert {"held-paused", "held-unhealthy", "held-unknown-current", "held-config-drift"} <= names
