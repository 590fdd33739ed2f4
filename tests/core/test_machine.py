"""The table of transitions: what it allows, what it forbids, and that nobody is left hanging in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from warmd.core.machine import (
    ENDS,
    REVIVAL,
    ROLLBACK,
    STOPPED,
    TABLE,
    UNTOUCHED,
    Effect,
    Event,
    State,
    advance,
    effect_of,
    mermaid,
)
from warmd.errors import IllegalTransition

STATES_MD = Path(__file__).parents[2] / "docs" / "states.md"

#: Where a run may still come to that has not deployed anything.
BEFORE_DEPLOY = UNTOUCHED | STOPPED | REVIVAL
UNTOUCHED_ENDS = {State.INTERRUPTED, State.FAILED_UNCHANGED}
Arrow = tuple[State, Event, State]
ARROWS: list[Arrow] = [(state, event, to) for state in TABLE for event, to in TABLE[state].items()]


def reachable(start: State, *, along: Callable[[Arrow], bool] = lambda arrow: True) -> set[State]:
    """Every state that a run in ``start`` may come to, ``start`` among them."""
    found, todo = {start}, [start]
    while todo:
        here = todo.pop()
        onward = {to for arrow in ARROWS if (to := arrow[2]) and arrow[0] is here and along(arrow)}
        todo += onward - found
        found |= onward
    return found


def test_the_table_knows_every_state() -> None:
    assert set(TABLE) == set(State)


@pytest.mark.parametrize("state", State)
def test_an_event_leads_where_the_table_says_or_is_refused(state: State) -> None:
    for event in Event:
        if event in TABLE[state]:
            assert advance(state, event) is TABLE[state][event]
        else:
            with pytest.raises(IllegalTransition, match=f"no transition from {state} on {event}"):
                advance(state, event)


def test_nothing_can_change_the_table() -> None:
    with pytest.raises(TypeError):
        TABLE[State.COMMITTED] = {Event.RETRY: State.PLANNED}  # type: ignore[index]  # what is shown


def test_every_event_is_of_use() -> None:
    assert {event for _, event, _ in ARROWS} == set(Event)


@pytest.mark.parametrize("state", State)
def test_a_state_does_something_unless_it_is_an_end(state: State) -> None:
    assert (effect_of(state) is None) == (state in ENDS)


def test_every_effect_is_some_states() -> None:
    assert {effect_of(state) for state in State} == {*Effect, None}


@pytest.mark.parametrize("state", State)
def test_every_state_can_be_reached(state: State) -> None:
    assert state in reachable(State.PLANNED)


@pytest.mark.parametrize("state", State)
def test_an_end_can_be_reached_from_everywhere(state: State) -> None:
    assert reachable(state) & ENDS


@pytest.mark.parametrize("state", sorted(set(State) - ENDS))
def test_an_end_is_reached_without_a_person(state: State) -> None:
    by_itself = reachable(state, along=lambda arrow: arrow[1] is not Event.ABORT and arrow[0] not in ENDS)
    assert by_itself & ENDS


def test_only_a_stuck_run_can_be_taken_up_again() -> None:
    assert {state for state in ENDS if TABLE[state]} == {State.STUCK}
    assert set(TABLE[State.STUCK].values()) <= ROLLBACK | REVIVAL


@pytest.mark.parametrize("state", sorted(set(State) - BEFORE_DEPLOY - UNTOUCHED_ENDS))
def test_after_a_deploy_nobody_claims_that_the_data_is_untouched(state: State) -> None:
    # A restart is only for a run that got stuck while the old version started: test_runs and the laws
    # of test_history_laws hold it to that.
    # STALE is said where nothing of it was posted yet: the attacks in tests/stateful hold it to that.
    unasked = reachable(state, along=lambda arrow: arrow[1] not in (Event.RESTART, Event.STALE))
    assert not unasked & (REVIVAL | UNTOUCHED_ENDS)


def test_a_restart_is_asked_for_by_a_person_and_never_puts_data_back() -> None:
    assert [arrow for arrow in ARROWS if arrow[1] is Event.RESTART] == [
        (State.STUCK, Event.RESTART, State.RESTARTING)
    ]
    after = reachable(State.RESTARTING, along=lambda arrow: arrow[0] not in ENDS)
    assert after == REVIVAL | {State.INTERRUPTED, State.STUCK}


@pytest.mark.parametrize("state", sorted(BEFORE_DEPLOY))
def test_before_a_deploy_data_is_put_back_only_when_a_person_asked(state: State) -> None:
    def no_deploy_and_nobody_asked(arrow: Arrow) -> bool:
        # A retry takes up a stuck rollback only: test_history holds it to that.
        return arrow[2] is not State.DEPLOYING and arrow[1] not in (Event.RESTORE, Event.RETRY)

    assert State.RESTORING not in reachable(state, along=no_deploy_and_nobody_asked)


@pytest.mark.parametrize("state", sorted(UNTOUCHED))
def test_what_fails_before_the_stop_changed_nothing(state: State) -> None:
    assert advance(state, Event.FAILED) is advance(state, Event.ABORT) is State.FAILED_UNCHANGED


@pytest.mark.parametrize("state", sorted(STOPPED))
def test_what_fails_between_stop_and_deploy_starts_the_old_version_again(state: State) -> None:
    assert advance(state, Event.FAILED) is advance(state, Event.ABORT) is State.RESTARTING


@pytest.mark.parametrize("state", [State.GATING, State.REGATING, State.REVIVING])
def test_blind_probes_decide_nothing(state: State) -> None:
    assert advance(state, Event.BLIND) is state


@pytest.mark.parametrize("state", sorted(ROLLBACK | REVIVAL))
def test_a_way_back_that_fails_is_not_left_to_itself(state: State) -> None:
    assert advance(state, Event.FAILED) is State.STUCK
    assert Event.ABORT not in TABLE[state]


def test_data_is_sealed_before_anything_is_deployed_over_it() -> None:
    without_sealing = reachable(State.STOPPING, along=lambda arrow: State.SEALING not in (arrow[0], arrow[2]))
    assert State.DEPLOYING not in without_sealing


def test_the_diagram_has_every_arrow_and_no_other() -> None:
    def name(state: State) -> str:
        return state.value.replace("-", "_")

    head, *lines = mermaid().splitlines()
    assert head == "stateDiagram-v2"
    assert sorted(line.strip() for line in lines) == sorted(
        [f"{name(s)} --> {name(to)}: {event}" for s, event, to in ARROWS]
        + ["[*] --> planned"]
        + [f"{name(state)} --> [*]" for state in ENDS if not TABLE[state]]
    )


def test_the_documentation_shows_this_table() -> None:
    """After a change: put what ``mermaid()`` gives between the fences of docs/states.md."""
    text = STATES_MD.read_text()
    assert text.count("```mermaid\n") == 1
    assert text.partition("```mermaid\n")[2].partition("```")[0] == mermaid()


@pytest.mark.parametrize("word", [*State, *Event], ids=str)
def test_the_documentation_explains_every_state_and_event(word: State | Event) -> None:
    rows = [line for line in STATES_MD.read_text().splitlines() if line.startswith("|")]
    assert any(f"`{word.value}`" in row.split("|")[1] for row in rows)
