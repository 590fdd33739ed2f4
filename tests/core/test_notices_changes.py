"""When a source's silence is told, and when a condition's alert opens and resolves."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.core.building import MINUTE, NEW, NOW
from tests.core.test_gate import ALL, Case
from tests.core.test_notices import is_an_alert, wanted
from warmd.core import gate, notices
from warmd.core.model import Catalog
from warmd.core.notices import Notice

# --- the source


DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("trouble", "fetched", "says"),
    [
        (None, NOW - 9 * DAY, None),
        ("no route", NOW, None),
        ("no route", NOW - DAY + MINUTE, None),
        ("no route", NOW - DAY, "since 2026-05-03 12:00 UTC"),
        ("no route", None, "and never did"),
        (None, None, None),
    ],
    ids=[
        "answers",
        "just-silent",
        "silent-not-yet-a-day",
        "silent-a-day",
        "never-answered",
        "offline-and-new",
    ],
)
def test_a_source_that_is_silent_for_a_day(
    trouble: str | None, fetched: datetime | None, says: str | None
) -> None:
    notice = notices.of_source(Catalog((), fetched_at=fetched, trouble=trouble), NOW, "app")
    if says is None:
        assert notice is None
        return
    assert notice is not None
    assert (notice.kind, notice.candidate, notice.detail) == ("source-unreachable", "", trouble)
    assert notice.summary == f"app: its source does not answer, {says}"
    is_an_alert(notice)


# --- opening and resolving


def test_conditions_open_once_and_resolve_when_they_are_gone() -> None:
    drift, major = (
        Notice("drift", "", "warning", "app: drift"),
        Notice("held-major", NEW, "info", "app: major"),
    )
    opened = notices.changes((drift, major), {})
    assert (opened.opens, opened.resolves) == ((drift, major), ())
    known = {("drift", ""): "f1", ("held-major", NEW): "f2"}
    lasts = notices.changes((replace(drift, summary="app: in other words"), major), known)
    assert (lasts.opens, lasts.resolves) == ((), ())
    newer = replace(major, candidate="2.0.0+6.0")
    moved = notices.changes((newer,), known)
    assert (moved.opens, moved.resolves) == ((newer,), ("f1", "f2"))
    assert notices.changes((), known).resolves == ("f1", "f2")


STUCK = Notice("stuck", NEW, "critical", "app: stuck", "why", run="r1", commands=("warmd retry app",))
JOURNAL = Notice("journal-damaged", "", "critical", "app", "fsync", commands=("warmd history app",))


@pytest.mark.parametrize(
    ("was", "change", "renewed"),
    [
        (STUCK, {}, False),
        (STUCK, {"summary": "app: in other words"}, False),
        (STUCK, {"detail": "another reason"}, True),
        (STUCK, {"run": "r2"}, True),
        (STUCK, {"commands": ("warmd adopt app",)}, True),
        (JOURNAL, {"detail": "in other words"}, False),
        (JOURNAL, {"commands": ("mv journal damaged/",)}, True),
        (Notice("drift", "", "warning", "app: drift"), {"commands": ("warmd deploy app",)}, False),
    ],
    ids=lambda value: (
        value.kind if isinstance(value, Notice) else ",".join(value) if isinstance(value, dict) else None
    ),
)
def test_an_alert_that_says_what_to_type_is_renewed_where_that_changes(
    was: Notice, change: dict[str, Any], renewed: bool
) -> None:
    now = replace(was, **change)
    body = {"run": was.run, "detail": was.detail, "commands": list(was.commands)}
    found = notices.changes((now,), {(was.kind, was.candidate): "f1"}, said={"f1": body})
    assert (found.opens, found.resolves) == (((now,), ("f1",)) if renewed else ((), ()))


@pytest.mark.parametrize("judged", [True, False])
@pytest.mark.parametrize("case", ALL, ids=lambda case: case.id)
def test_a_look_that_did_not_judge_the_releases_resolves_nothing_about_them(case: Case, judged: bool) -> None:
    view = case.look()
    found = gate.decide(view).held
    told = wanted(gate.decide(view), view.history)
    open_now = {(n.kind, n.candidate): f"{n.kind} {n.candidate}" for n in told}
    of_releases = {(x.name, x.release.version.text) for x in found if x.release} & set(open_now)
    resolved = set(notices.changes((), open_now, judged=judged).resolves)
    kept = set() if judged else {f"{kind} {candidate}" for kind, candidate in of_releases}
    assert resolved == set(open_now.values()) - kept


def test_a_look_that_did_not_judge_the_releases_says_nothing_of_the_source() -> None:
    open_now = {("source-unreachable", ""): "f1", ("drift", ""): "f2", ("rolled-back", NEW): "f3"}
    assert notices.changes((), open_now, judged=False).resolves == ("f2", "f3")
    assert notices.changes((), open_now).resolves == ("f1", "f2", "f3")
