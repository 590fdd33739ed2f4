"""What holds for every decision of the gate: approvals that lapse, what is kept for people, and a law."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.core.test_gate import NOTED, Case, release, v
from warmd.core.gate import Action, decide, judge
from warmd.core.model import Catalog


def test_an_approval_is_void_when_the_notes_change() -> None:
    case = Case("", [NOTED], "", approved="10.8.0+26.7.0")
    view = case.look()
    changed = replace(NOTED, notes=(replace(NOTED.notes[0], sha256="cd" * 32),))
    decision = decide(replace(view, catalog=Catalog((changed,))))
    assert decision.name == "held-manual-migration"


def test_an_approval_is_void_when_the_tag_moves() -> None:
    view = Case("", [NOTED], "", approved="10.8.0+26.7.0").look()
    decision = decide(replace(view, catalog=Catalog((replace(NOTED, commit="e" * 40),))))
    assert decision.name == "held-manual-migration"


def test_an_approval_is_void_when_another_release_comes_in_between() -> None:
    view = Case("", ["11.0.0+26.6.1"], "", approved="11.0.0+26.6.1").look()
    between = replace(view.catalog, releases=(NOTED, *view.catalog.releases))
    assert decide(replace(view, catalog=between)).name == "held-manual-migration"


def test_every_verdict_is_kept_for_the_plan() -> None:
    view = Case(
        "", [release("11.0.0+27.0.0", notes="read", moved=True)], "", failures=["11.0.0+27.0.0"]
    ).look()
    (candidate,) = decide(view).candidates
    failing = [verdict.rule for verdict in (*candidate.own, *candidate.target) if not verdict.passed]
    assert failing == ["recipe-major", "app-major", "notes", "tag", "failed-before"]
    assert candidate.hold == "held-major"


def test_a_release_above_a_blocked_one_says_what_it_crosses() -> None:
    *_, above = judge(Case("", [NOTED, "10.9.0+26.7.0"], "").look(), v("10.7.0+26.6.1"))
    assert above.crossed is not None
    assert (above.hold, above.crossed[0].text) == ("held-manual-migration", "10.8.0+26.7.0")


texts = st.builds(
    "{}.{}.{}+{}".format,
    st.integers(9, 12),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from(["26.1", "27.0", "x"]),
)


@given(
    published=st.lists(texts, unique=True, max_size=8),
    running=texts,
    failures=st.sets(texts, max_size=3),
    noted=st.sets(st.integers(0, 7), max_size=2),
    policy=st.fixed_dictionaries(
        {"recipe_major": st.sampled_from(["hold", "allow"]), "app_major": st.sampled_from(["hold", "allow"])}
    ),
)
def test_law_never_down_never_failed_never_across_notes(
    published: list[str], running: str, failures: set[str], noted: set[int], policy: dict[str, Any]
) -> None:
    releases = [release(text, notes="read" if i in noted else None) for i, text in enumerate(published)]
    decision = decide(Case("", releases, "", running=running, failures=failures, policy=policy).look())
    if decision.action is not Action.UPGRADE:
        assert decision.action is Action.STAY
        return
    assert decision.target is not None
    version = decision.target.version
    assert version > v(running)
    assert version.text not in failures
    crossed = [r for r in releases if v(running) < r.version <= version]
    assert not any(r.notes for r in crossed)
    if policy["recipe_major"] == "hold":
        assert version.recipe[0] == v(running).recipe[0]
