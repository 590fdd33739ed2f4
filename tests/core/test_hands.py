# ruff: noqa: E501 - a truth table reads best with a case a line
"""What a run takes for somebody else's doing, and what for its own or the swarm's, as a truth table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.core.building import BACK, FORWARD, NEW, NOW, OLD, SNAPSHOT, STRAIGHT, Story, plan
from warmd.core import gate, hands, live, notices
from warmd.core import history as h
from warmd.core.gate import Action, Decision
from warmd.core.machine import ENDS, TABLE, UNTOUCHED, Event, State
from warmd.core.model import LABEL_RUN, LABEL_STACK, Bundle, Json, ServiceSeen, StackSeen
from warmd.core.runs import Kind, Run, RunPlan, Stands, after_failure
from warmd.core.specs import careful

FORTH, BACK_LABEL = "r1", "r1.back"
S = State


def spec(
    image: str = "old", replicas: int | None = 1, *, name: str = "app", run: str = "", **inner: Any
) -> Json:
    """A service's spec; ``replicas`` None: a global one. ``run`` is warmd's label on it."""
    labels = {LABEL_STACK: "s"} | ({LABEL_RUN: run, "warmd.version": NEW} if run else {})
    mode = {"Global": {}} if replicas is None else {"Replicated": {"Replicas": replicas}}
    container = {"Image": image, **inner}
    made = {"Name": f"s_{name}", "Labels": labels, "Mode": mode, "TaskTemplate": {"ContainerSpec": container}}
    return careful(made)


def seen(*specs: Json, previous: Mapping[str, Json] | None = None) -> StackSeen:
    """A listing; ``previous``: what stood there before the last update, by the service's full name."""
    services = (
        ServiceSeen(s["Name"], s["Name"], 7, s, previous=(previous or {}).get(s["Name"])) for s in specs
    )
    return StackSeen("s", tuple(services))


def bundle(*specs: Json) -> Bundle:
    return Bundle(services=tuple({**s, "Labels": {LABEL_STACK: "s"}} for s in specs))


STOOD = (spec(),)
WROTE = {S.DEPLOYING, S.RESTARTING, S.REDEPLOYING}
POSTED = {FORTH: bundle(spec("new")), BACK_LABEL: bundle(spec("old"))}


@dataclass(frozen=True)
class Case:
    """``states``: the run's way, the last one is where it is. ``there``: what the swarm shows. ``says``: what
    somebody else did; none where it is nobody."""

    id: str
    states: tuple[State, ...]
    there: tuple[Json, ...]
    says: tuple[str, ...] = ()
    stood: tuple[Json, ...] = STOOD
    plan: RunPlan = field(default_factory=plan)
    wrote: bool | None = None
    previous: Mapping[str, Json] | None = None
    posted: Mapping[str, Bundle] = field(default_factory=lambda: POSTED)

    @property
    def run(self) -> Run:
        wrote = bool(set(self.states[-1:]) & WROTE) if self.wrote is None else self.wrote
        stands = Stands(live.marks(seen(*self.stood)), "blob")
        passed = tuple((state, NOW) for state in self.states)
        return Run(self.plan, NOW, self.states[-1], states=passed, stands=stands, wrote=wrote)

    def told(self) -> tuple[str, ...]:
        listed = seen(*self.there, previous=self.previous)
        posted = self.posted if self.run.wrote else {}
        names = hands.suspects(self.run, listed, posted=posted)
        return hands.told(
            self.run, names, listed, stood=bundle(*self.stood), now=bundle(*self.there), posted=posted
        )


TO_STOP, TO_COPY, TO_SEAL, TO_DEPLOY, TO_GATE = (FORWARD[:n] for n in (3, 4, 5, 6, 7))
HALT, RESTORE, REDEPLOY, REGATE = ((*FORWARD, *BACK[:n]) for n in (1, 2, 3, 4))
RESTART, REVIVE = (*TO_COPY, S.RESTARTING), (*TO_COPY, S.RESTARTING, S.REVIVING)
NO_DATA = plan(copy=False)
GLOBAL = (spec("log", None, name="log"),)
NOBODY = [
    Case("not-yet-stopped", TO_STOP, STOOD),
    Case("stopped", TO_STOP, (spec(replicas=0),)),
    Case("a-global-service-is-removed-by-the-stop", TO_STOP, (), stood=GLOBAL),
    Case("a-global-service-not-yet", TO_STOP, GLOBAL, stood=GLOBAL),
    Case("was-at-zero-before", TO_COPY, (spec(replicas=0),), stood=(spec(replicas=0),)),
    Case("copying-what-is-stopped", TO_COPY, (spec(replicas=0),)),
    Case("sealing", TO_SEAL, (spec(replicas=0),)),
    Case("about-to-deploy", TO_DEPLOY, (spec(replicas=0),)),
    Case("posted-and-the-reply-was-lost", TO_DEPLOY, (spec("new", run=FORTH),), previous={"s_app": spec(replicas=0)}),
    Case("posted-twice-the-same", TO_DEPLOY, (spec("new", run=FORTH),), previous={"s_app": spec("new", run=FORTH)}),
    Case("posted-twice-and-more-careful-than-it-was-before", REDEPLOY, (spec(run=BACK_LABEL),), stood=(spec("new"),), previous={"s_app": spec(run=BACK_LABEL)}, posted={BACK_LABEL: bundle({**spec(), "UpdateConfig": {"Parallelism": 1, "FailureAction": "rollback"}})}),
    Case("half-posted", TO_DEPLOY, (spec("new", run=FORTH), spec(replicas=0, name="b")), stood=(*STOOD, spec(name="b"))),
    Case("a-service-more", TO_DEPLOY, (spec(replicas=0), spec("new", name="b", run=FORTH))),
    Case("a-service-less", TO_DEPLOY, (spec("new", run=FORTH),), stood=(*STOOD, spec(name="b"))),
    Case("a-service-in-another-mode-is-removed-first", STRAIGHT[:3], (), stood=GLOBAL, plan=NO_DATA, posted={FORTH: bundle(spec("log", 1, name="log"))}),
    Case("without-data-nothing-stops", STRAIGHT[:3], STOOD, plan=NO_DATA),
    Case("a-first-deploy-over-a-failed-one", STRAIGHT[:3], (spec(replicas=0),), plan=plan(kind=Kind.COLD_DEPLOY, copy=False)),
    Case("watching", TO_GATE, (spec("new", run=FORTH),), stood=(spec("new"),)),
    Case("watching-what-lost-our-labels-only", TO_GATE, (spec("new"),), stood=(spec("new", run=FORTH),)),
    Case("halting", HALT, (spec("new", run=FORTH),), stood=(spec("new"),)),
    Case("halted", HALT, (spec("new", 0, run=FORTH),), stood=(spec("new"),)),
    Case("halting-what-was-half-posted", HALT, (spec("new", run=FORTH), spec(replicas=0, name="b")), stood=(*STOOD, spec(name="b")), wrote=True),
    Case("halting-a-restore's-stack", (*STRAIGHT[:2], S.HALTING), STOOD, plan=plan(kind=Kind.RESTORE)),
    Case("restoring", RESTORE, (spec("new", 0, run=FORTH),), stood=(spec("new"),)),
    Case("restoring-after-half-a-post", RESTORE, (spec("new", 0, run=FORTH), spec(replicas=0, name="b")), stood=(*STOOD, spec(name="b")), wrote=True),
    Case("going-back-after-half-a-post", REDEPLOY, (spec("new", 0, run=FORTH),), wrote=True, previous={"s_app": spec("new", run=FORTH)}),
    Case("halted-after-half-a-post", HALT, (spec("new", 0, run=FORTH),), wrote=True, previous={"s_app": spec("new", run=FORTH)}),
    Case("restoring-what-was-half-posted-and-halted", RESTORE, (spec("new", 0, run=FORTH),), wrote=True, previous={"s_app": spec("new", run=FORTH)}),
    Case("going-back", REDEPLOY, (spec("new", 0, run=FORTH),), stood=(spec("new"),)),
    Case("went-back", REDEPLOY, (spec(run=BACK_LABEL),), stood=(spec("new"),)),
    Case("going-back-without-data", (*STRAIGHT, S.REDEPLOYING), (spec("new", run=FORTH),), stood=(spec("new"),), plan=NO_DATA),
    Case("watching-what-went-back", REGATE, (spec(run=BACK_LABEL),), wrote=False),
    Case("starting-again-what-was-not-stopped-yet", (*TO_STOP, S.RESTARTING), STOOD),
    Case("starting-again", RESTART, (spec(replicas=0),)),
    Case("started-again", RESTART, (spec(run=BACK_LABEL),)),
    Case("watching-what-was-started-again", REVIVE, (spec(run=BACK_LABEL),)),
    Case("an-engine-that-spells-zeros-out", TO_GATE, (spec(Init=None, Hosts=[]),), stood=STOOD),
]  # fmt: skip

SCALED, EDITED, GONE = "app: replicas 0 -> 1", "app: image old -> theirs", "service app removed: old"
SOMEBODY = [
    Case("scaled-before-the-stop", TO_STOP, (spec(replicas=3),), ("app: replicas 1 -> 3",)),
    Case("edited-before-the-stop", TO_STOP, (spec("theirs"),), (EDITED,)),
    Case("edited-after-the-stop", TO_STOP, (spec("theirs", 0),), (EDITED,)),
    Case("stack-rm-at-the-stop", TO_STOP, (), (GONE,)),
    Case("scaled-up-while-copying", TO_COPY, STOOD, (SCALED,)),
    Case("a-global-service-back-while-copying", TO_COPY, GLOBAL, ("service log added: log",), stood=GLOBAL),
    Case("edited-while-copying", TO_COPY, (spec("theirs", 0),), (EDITED,)),
    Case("env-while-copying", TO_COPY, (spec(replicas=0, Env=["A=1"]),), ("app: env A added: 1",)),
    Case("deployed-while-copying", TO_COPY, (spec("theirs"),), ("app: image old -> theirs", SCALED)),
    Case("a-service-more-while-copying", TO_COPY, (spec(replicas=0), spec(name="b")), ("service b added: old",)),
    Case("stack-rm-while-copying", TO_COPY, (), (GONE,)),
    Case("scaled-up-while-sealing", TO_SEAL, STOOD, (SCALED,)),
    Case("scaled-up-before-the-deploy", TO_DEPLOY, STOOD, (SCALED,)),
    Case("edited-before-the-deploy", TO_DEPLOY, (spec("theirs", 0),), (EDITED,)),
    Case("stack-rm-before-the-deploy", TO_DEPLOY, (), (GONE,)),
    Case("edited-over-the-deploy", TO_DEPLOY, (spec("theirs", run=FORTH),), ("app: image new -> theirs",), previous={"s_app": spec("new", run=FORTH)}),
    Case("scaled-over-the-deploy", TO_DEPLOY, (spec("new", 2, run=FORTH),), ("app: replicas 1 -> 2",), previous={"s_app": spec("new", run=FORTH)}),
    Case("scaled-to-zero-over-the-deploy", TO_DEPLOY, (spec("new", 0, run=FORTH),), ("app: replicas 1 -> 0",), previous={"s_app": spec("new", run=FORTH)}),
    Case("scaled-up-before-going-back-after-half-a-post", REDEPLOY, (spec("new", run=FORTH),), (SCALED,), wrote=True, previous={"s_app": spec("new", 0, run=FORTH)}),
    Case("another-run's-label-is-not-ours", TO_DEPLOY, (spec("theirs", run="r0"),), (EDITED, SCALED)),
    Case("scaled-to-zero-before-a-deploy-that-stops-nothing", STRAIGHT[:3], (spec(replicas=0),), ("app: replicas 1 -> 0",), plan=NO_DATA),
    Case("edited-while-watching", TO_GATE, (spec("theirs", run=FORTH),), ("app: image new -> theirs",), stood=(spec("new"),)),
    Case("deployed-while-watching", TO_GATE, (spec("theirs"),), ("app: image new -> theirs",), stood=(spec("new"),)),
    Case("scaled-to-zero-while-watching", TO_GATE, (spec("new", 0, run=FORTH),), ("app: replicas 1 -> 0",), stood=(spec("new"),)),
    Case("scaled-up-while-watching", TO_GATE, (spec("new", 2, run=FORTH),), ("app: replicas 1 -> 2",), stood=(spec("new"),)),
    Case("stack-rm-while-watching", TO_GATE, (), ("service app removed: new",), stood=(spec("new"),)),
    Case("edited-while-halting", HALT, (spec("theirs", 0, run=FORTH),), ("app: image new -> theirs",), stood=(spec("new"),)),
    Case("scaled-up-while-restoring", RESTORE, (spec("new", run=FORTH),), (SCALED,), stood=(spec("new"),)),
    Case("scaled-up-while-restoring-after-half-a-post", RESTORE, (spec("new", run=FORTH),), (SCALED,), wrote=True),
    Case("scaled-up-before-going-back", REDEPLOY, (spec("new", run="r0"),), (SCALED,), stood=(spec("new"),)),
    Case("edited-after-going-back", REGATE, (spec("theirs", run=BACK_LABEL),), (EDITED,)),
    Case("edited-over-going-back", REDEPLOY, (spec("theirs", run=BACK_LABEL),), (EDITED,), stood=(spec("new"),), previous={"s_app": spec(run=BACK_LABEL)}),
    Case("edited-while-starting-again", RESTART, (spec("theirs", 0),), (EDITED,)),
    Case("edited-after-starting-again", REVIVE, (spec("theirs"),), (EDITED,)),
    Case("a-service-of-ours-that-was-never-posted", TO_DEPLOY, (spec(replicas=0), spec(name="b", run=FORTH)), ("service b added: old",), previous={"s_b": spec(name="b", run=FORTH)}),
]  # fmt: skip


@pytest.mark.parametrize("case", NOBODY, ids=lambda case: case.id)
def test_its_own_doing_and_the_swarms_is_nobody_elses(case: Case) -> None:
    assert case.told() == ()


@pytest.mark.parametrize("case", SOMEBODY, ids=lambda case: case.id)
def test_what_somebody_else_did_is_told(case: Case) -> None:
    assert case.told() == case.says


@pytest.mark.parametrize("case", SOMEBODY, ids=lambda case: case.id)
def test_nobody_is_suspected_where_nothing_is_known(case: Case) -> None:
    """A journal of an older warmd; and after a person said retry, what stands there is meant."""
    listed = seen(*case.there, previous=case.previous)
    assert hands.suspects(replace(case.run, stands=None), listed, posted=POSTED) == ()


@pytest.mark.parametrize("state", sorted(UNTOUCHED | ENDS))
def test_the_stack_is_nobodys_before_the_stop_and_after_the_end(state: State) -> None:
    case = Case("", (state,), (spec("theirs"),))
    assert hands.suspects(case.run, seen(*case.there), posted={}) == ()


# --- what follows


@pytest.mark.parametrize("state", sorted(hands.HELD))
def test_other_hands_stop_a_run_wherever_the_stack_is_its_own(state: State) -> None:
    run = Run(plan(), NOW, state)
    assert after_failure(run, now=NOW, foreign=True) == (Event.FOREIGN, "")
    assert TABLE[state][Event.FOREIGN] is State.STUCK


@pytest.mark.parametrize("state", sorted(UNTOUCHED))
def test_before_the_stop_they_only_end_it(state: State) -> None:
    assert after_failure(Run(plan(), NOW, state), now=NOW, foreign=True) == (Event.FAILED, "")


def stopped_by_hands(*way: State, **found: Any) -> Story:
    story = Story().commits(plan("r0", from_version=None, to_version=OLD)).begins(plan())
    story.enters(*FORWARD[:3], stands={"marks": {"s_app": "x/1"}, "bundle": "blob"})
    return story.enters(*way, **found).fails(S.STUCK, foreign=True)


def test_what_stands_there_is_known_from_the_check_on_and_learned_anew_after_each_post() -> None:
    story = Story().begins(plan()).enters(*FORWARD[:2])
    assert (story.run.stands, story.run.wrote) == (None, False)
    one, two = ({"marks": {"s_app": m}, "bundle": m} for m in ("one/1", "two/1"))
    story.enters(S.STOPPING, stands=one)
    assert (story.run.stands, story.run.wrote) == (Stands(**one), False)  # type: ignore[arg-type]  # of a row
    story.enters(S.CAPTURING, S.SEALING, S.DEPLOYING)
    assert (story.run.stands, story.run.wrote) == (Stands(**one), True)  # type: ignore[arg-type]  # of a row
    story.enters(S.GATING, stands=two)
    assert (story.run.stands, story.run.wrote) == (Stands(**two), False)  # type: ignore[arg-type]  # of a row
    story.fails(S.HALTING).enters(S.RESTORING, S.REDEPLOYING)
    assert story.run.wrote
    assert not story.enters(S.REGATING, stands=one).run.wrote


@pytest.mark.parametrize("way", [FORWARD[3:n] for n in (4, 5, 6, 7)], ids=lambda way: way[-1].value)
def test_on_its_way_forth_its_version_stays_away_and_a_retry_forgets_the_run(
    way: tuple[State, ...],
) -> None:
    story = stopped_by_hands(*way)
    assert (story.run.foreign, story.run.blames, story.run.way_on) == (True, NEW, None)
    assert set(story.history.failures) == {NEW}
    story.tell(h.retry(story.now, uid=0))
    assert (story.history.run, story.history.failures) == (None, {})


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_on_its_way_back_it_goes_on_from_what_stands_there_and_its_version_stays_away(n: int) -> None:
    story = Story().begins(plan()).enters(*FORWARD[:4], snapshot=SNAPSHOT)
    story.enters(*FORWARD[4:], stands={"marks": {}, "bundle": "b"}).fails(S.HALTING)
    story = (story.enters(*BACK[1:n]) if n > 1 else story).fails(S.STUCK, foreign=True)
    assert (story.run.foreign, story.run.blames, story.run.way_on) == (True, NEW, Event.RETRY)
    story.tell(h.retry(story.now, uid=0))
    assert (story.run.state, story.run.stands, story.run.foreign) == (S.HALTING, None, False)
    # Somebody may have worked on the data that it had put back.
    assert story.run.restoring == ("r1" if n == 1 else "r1-1")


# --- what a person is told


@pytest.mark.parametrize(
    ("way", "ways_out", "says"),
    [
        ((S.STOPPING,), ["retry", "adopt"], "forgets this run"),
        (FORWARD[2:], ["retry", "adopt", "restore"], "forgets this run"),
        ((*FORWARD[2:], *BACK[:2]), ["retry", "adopt", "restore"], "puts the data of before back"),
        ((*FORWARD[2:4], S.RESTARTING), ["retry", "adopt"], "on the data as it is"),
    ],
    ids=["before-the-copy", "after-it", "on-the-way-back", "starting-again"],
)
def test_a_person_is_told_what_was_done_and_what_each_way_out_does(
    way: tuple[State, ...], ways_out: list[str], says: str
) -> None:
    story = Story().begins(plan()).enters(*FORWARD[:2])
    for state in way:
        story = story.enters(state, snapshot=SNAPSHOT) if state is S.SEALING else story.enters(state)
    story.fails(S.STUCK, "app: replicas 0 -> 1", foreign=True)
    decision = Decision(Action.STAY, gate.STUCK, "stuck")
    (notice,) = notices.wanted(decision, story.history, service="app", stack="s")
    assert notice.kind == "stuck"
    assert [c.split()[1] for c in notice.commands if c.startswith("warmd") and "history" not in c] == ways_out
    assert "app: replicas 0 -> 1" in notice.detail
    assert says in notice.detail
    explained = [line.partition(":")[0] for line in notice.detail.splitlines()[2:]]
    assert sorted(explained) == sorted(ways_out)
