"""The gate: from what was seen to one decision. Pure; runs before anything is touched.

``judge`` gives every release above the running one its verdicts; ``decide`` looks at the service
itself first (unfinished work, owner, drift, health) and then at the best release. A hold is a
decision to stay; holds of higher releases are kept beside an upgrade to a lower one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from warmd.core import live, pacing, rules
from warmd.core.history import Approval, History
from warmd.core.model import Catalog, Health, Policy, Probe, Release, StackSeen
from warmd.core.rules import Step, Verdict
from warmd.core.runs import Kind
from warmd.core.versions import Version

NOOP = "noop-healthy"
PAUSED = "held-paused"
UNHEALTHY = "held-unhealthy"
UNKNOWN_CURRENT = "held-unknown-current"
CONFIG_DRIFT = "held-config-drift"
DATA_WITHOUT_VERSION = "held-data-without-version"
NOTHING_PUBLISHED = "held-nothing-published"
OWNED_ELSEWHERE = "owned-elsewhere"
FAILED_UNCHANGED = "failed-unchanged"
DRIFT = "drift"
STUCK = "stuck"


class Action(StrEnum):
    """What a look ends in."""

    STAY = "stay"
    RESUME = "resume"
    TAKE_OVER = "take-over"
    COLD_DEPLOY = "cold-deploy"
    UPGRADE = "upgrade"
    REPAIR = "repair"


@dataclass(frozen=True, slots=True)
class Marks:
    """What last good is compared with cheaply: a mark a service, and the hash of rendering's inputs."""

    live: Mapping[str, str]
    inputs: str | None


@dataclass(frozen=True, slots=True)
class View:
    """All that a decision is made from.

    ``running`` is the version that the stack's labels name (``running_text`` as they have it),
    ``down`` the services that last good has and that are missing or scaled to zero, ``changed``
    readable differences between what runs (or would be rendered now) and last good, ``data`` the
    stack's volumes, ``owner`` another installation's id where its label stands on the stack, ``ours``
    whether our own does. ``marks`` are new ones for the journal, ``strange`` an image that last good does
    not have. ``warnings`` and ``seen`` are for
    people: what is odd but holds nothing, and the stack as listed.
    """

    catalog: Catalog
    history: History
    policy: Policy
    now: datetime
    deployed: bool
    health: Probe
    running: Version | None = None
    running_text: str | None = None
    owner: str | None = None
    ours: bool = False
    down: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    paused: str | None = None
    forced: bool = False
    warnings: tuple[str, ...] = ()
    seen: StackSeen | None = None
    marks: Marks | None = None
    strange: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One release above the running one. ``own`` verdicts are its own, ``crossed`` the first failing
    one inherited from a release below it."""

    release: Release
    own: tuple[Verdict, ...]
    target: tuple[Verdict, ...]
    crossed: tuple[Version, Verdict] | None = None
    approved: Approval | None = None

    @property
    def own_failure(self) -> Verdict | None:
        path = () if self.approved else self.own
        return next((v for v in (*path, *self.target) if not v.passed), None)

    @property
    def passes(self) -> bool:
        return self.own_failure is None and (self.approved is not None or self.crossed is None)

    @property
    def hold(self) -> str | None:
        """The name of what holds it: the first rule of the lowest blocked release on its way."""
        if self.passes:
            return None
        if self.crossed and not self.approved:
            return self.crossed[1].hold
        failure = self.own_failure
        return failure.hold if failure else None


@dataclass(frozen=True, slots=True)
class Held:
    """One reason to stay, for one release (or none, where it is about the service itself)."""

    name: str
    reason: str
    release: Release | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, what it is called, why, and everything that was weighed.

    ``judged``: the releases were; where they were not, nothing is known of what was held before.
    """

    action: Action
    name: str
    reason: str
    target: Release | None = None
    approval: Approval | None = None
    candidates: tuple[Candidate, ...] = ()
    held: tuple[Held, ...] = ()
    judged: bool = False


def binding(path: tuple[Release, ...]) -> str:
    """What an approval binds: every release crossed up to the approved one, with commits and notes."""
    return hashlib.sha256("\n".join(r.fingerprint for r in path).encode()).hexdigest()


def way(catalog: Catalog, current: Version | None, to: Release) -> tuple[Release, ...]:
    """The releases above ``current`` up to and including ``to``, lowest first."""
    return tuple(
        r
        for r in catalog.releases
        if (current is None or (r.version > current and not r.version.same_as(current)))
        and r.version <= to.version
    )


def judge(view: View, current: Version | None) -> tuple[Candidate, ...]:
    """Every release above ``current``, lowest first, with all its verdicts.

    With ``current`` None (a cold deploy) there is no way to cross, only destinations.
    """
    candidates: list[Candidate] = []
    before, crossed = current, None
    path: list[Release] = []
    for release in view.catalog.releases:
        if current is not None and (release.version <= current or release.version.same_as(current)):
            continue
        path.append(release)
        approved = view.history.approvals.get(release.version.text)
        if approved and approved.binding != binding(tuple(path) if current else (release,)):
            approved = None
        own = rules.path_verdicts(Step(before, release), view.policy) if current is not None else ()
        target = rules.target_verdicts(
            release, view.policy, failures=view.history.failures, approved=approved
        )
        candidates.append(Candidate(release, own, target, crossed, approved))
        failing = next((v for v in own if not v.passed), None)
        crossed = crossed or ((release.version, failing) if failing else None)
        before = release.version
    return tuple(candidates)


def decide(view: View) -> Decision:
    """The one decision of a look."""
    decision = _unfinished(view) or _not_ours(view)
    if decision:
        return decision
    if not view.deployed:
        return _not_deployed(view)
    decision = _found_running(view)
    if decision:
        return decision
    good = view.history.last_good
    current = view.running or (good.version if good else None)
    if current is None:
        return _stay(UNKNOWN_CURRENT, "which version runs is not known")
    return replace(_at_moment(view, _choose(view, judge(view, current))), judged=_answered(view))


def _answered(view: View) -> bool:
    """Whether the source has ever said what is published: an empty catalogue in trouble says nothing."""
    return bool(view.catalog.releases) or view.catalog.trouble is None


def _stay(name: str, reason: str, *, release: Release | None = None) -> Decision:
    return Decision(Action.STAY, name, reason, held=(Held(name, reason, release),))


def _unfinished(view: View) -> Decision | None:
    run = view.history.run
    if run is None:
        return None
    if run.ended:
        return Decision(Action.STAY, STUCK, run.detail)
    return Decision(Action.RESUME, "resume", f"run {run.plan.id} is in {run.state}")


def _not_ours(view: View) -> Decision | None:
    if view.owner is None:
        return None
    return _stay(OWNED_ELSEWHERE, f"the stack carries the label of installation {view.owner}")


def _not_deployed(view: View) -> Decision:
    if view.history.last_good is not None:
        return _drifted(view, ("the whole stack",))
    if view.data:
        names = ", ".join(view.data)
        return _stay(DATA_WITHOUT_VERSION, f"no version is known for the data in {names}")
    return _cold_deploy(view)


def _cold_deploy(view: View) -> Decision:
    return replace(_first(view, judge(view, None)), judged=_answered(view))


def _first(view: View, candidates: tuple[Candidate, ...]) -> Decision:
    if not candidates:
        return _stay(NOTHING_PUBLISHED, view.catalog.trouble or "the source has no release")
    best = next((c for c in reversed(candidates) if c.passes), None)
    if best is None:
        top = candidates[-1]
        verdict = top.own_failure
        name, reason = (verdict.hold or "", verdict.reason) if verdict else ("", "")
        return replace(_stay(name, reason, release=top.release), candidates=candidates)
    wait = _wait(view, best.release)
    if wait:
        return replace(wait, candidates=candidates)
    reason = f"{best.release.version} is the highest that may be deployed first"
    return Decision(Action.COLD_DEPLOY, "cold-deploy", reason, best.release, best.approved, candidates)


def data_of(view: View) -> str | None:
    """What worked on the data last, as far as is known: the version that somebody moved to, an image that
    somebody put there, or what the journal tells."""
    if live.moved(view.history.last_good, view.seen):
        return view.running_text
    return view.strange or view.history.data_of


def others_data(view: View) -> str | None:
    """The same, where it was not last good: another version, or an image of which no version is known.
    Started on such data, last good would look well and be wrong."""
    good, whose = view.history.last_good, data_of(view)
    last = Version.parse(whose or "")
    own = last is not None and last.same_as(good.version if good else None)
    return None if own else whose


def _drifted(view: View, down: tuple[str, ...]) -> Decision:
    """Something of last good is missing or at zero: alert now, repair later."""
    what = f"{', '.join(down)} missing or scaled to zero"
    drift = (Held(DRIFT, what),)
    if view.paused:
        return replace(_stay(PAUSED, view.paused), held=drift)
    since = view.history.drift_since or view.now
    good = view.history.last_good
    version = good.version if good else None
    whose = others_data(view)
    if view.changed and not whose:
        changed = Held(CONFIG_DRIFT, "; ".join(view.changed))
        return replace(
            _stay(DRIFT, f"{what}; not repaired, because {changed.reason}"), held=(*drift, changed)
        )
    if view.now - since < view.policy.repair_after:
        return _stay(DRIFT, what)
    if whose:
        reason = f"{what}; the data was last worked on by {whose}, and last good is {version}"
        return replace(_stay(DATA_WITHOUT_VERSION, reason), held=(*drift, Held(DATA_WITHOUT_VERSION, reason)))
    if too_soon := _too_soon(view, version):
        return Decision(Action.STAY, FAILED_UNCHANGED, too_soon, held=drift)
    target = view.catalog.find(version)
    return Decision(Action.REPAIR, "repair", f"{what} since {since:%H:%M} UTC", target, held=drift)


def _found_running(view: View) -> Decision | None:
    """What runs against what is known: take it over, or say why not. None where they agree."""
    good = view.history.last_good
    well = view.health.health is Health.HEALTHY
    if good is None and view.ours and _first_deploy_failed(view.history) and not well:
        return _cold_deploy(view)
    if good is None:
        if view.running is None:
            label = f'its label says "{view.running_text}"' if view.running_text else "no label says it"
            return _stay(UNKNOWN_CURRENT, f"which version runs is not known: {label}")
        if not well:
            return _stay(UNHEALTHY, f"not taken over while it is not healthy: {view.health.detail}")
        return Decision(Action.TAKE_OVER, "take-over", f"{view.running} was found running")
    if view.down:
        return _drifted(view, view.down)
    moved = view.running is not None and not view.running.same_as(good.version)
    if not moved or view.running is None:
        return None
    if view.catalog.find(view.running) is None:
        return _stay(UNKNOWN_CURRENT, f"somebody deployed {view.running}, which is not published")
    if not well:
        return _stay(
            UNHEALTHY, f"somebody deployed {view.running}, and it is not healthy: {view.health.detail}"
        )
    return Decision(Action.TAKE_OVER, "take-over", f"somebody moved it from {good.version} to {view.running}")


def _first_deploy_failed(history: History) -> bool:
    """Whether what stands there is a first deploy of ours that a person said to try again. The label alone
    does not say so: behind a journal that was moved away there may be years of data."""
    return any(run.plan.kind is Kind.COLD_DEPLOY for run in history.runs)


def _choose(view: View, candidates: tuple[Candidate, ...]) -> Decision:
    """The best release, or the hold of the lowest blocked one; holds above are kept either way."""
    best = next((c for c in reversed(candidates) if c.passes), None)
    above = [c for c in candidates if best is None or c.release.version > best.release.version]
    held = tuple(
        Held(failure.hold, failure.reason, c.release)
        for c in above
        if (failure := c.own_failure) is not None and failure.hold is not None
    )
    if best is not None:
        reason = f"{view.running} -> {best.release.version}"
        return Decision(Action.UPGRADE, "upgrade", reason, best.release, best.approved, candidates, held)
    if held:
        lowest = held[0]
        version = lowest.release.version if lowest.release else ""
        return Decision(Action.STAY, lowest.name, f"{version}: {lowest.reason}", None, None, candidates, held)
    good = view.history.last_good
    current = view.running or (good.version if good else None)
    known = f"{current} is the latest safe version"
    if not _answered(view):
        known = f"{current} runs; what is published is not known: {view.catalog.trouble}"
    return Decision(Action.STAY, NOOP, known, candidates=candidates)


def _at_moment(view: View, decision: Decision) -> Decision:
    """The service rules: is this the moment? They override, and keep the releases' holds."""
    wants = decision.action is Action.UPGRADE
    if view.changed:
        return _instead(decision, CONFIG_DRIFT, "; ".join(view.changed))
    sick = view.health.health is not Health.HEALTHY
    if sick and not (wants and view.policy.upgrade_unhealthy):
        return _instead(decision, UNHEALTHY, view.health.detail)
    if not wants or decision.target is None:
        return decision
    wait = _wait(view, decision.target)
    return _instead(decision, wait.name, wait.reason, wait.held) if wait else decision


def _wait(view: View, target: Release) -> Decision | None:
    """Rules about the moment that hold any move to ``target``."""
    if view.paused:
        return Decision(Action.STAY, PAUSED, view.paused)
    too_soon = _too_soon(view, target.version)
    return Decision(Action.STAY, FAILED_UNCHANGED, too_soon, target) if too_soon else None


def _too_soon(view: View, version: Version | None) -> str | None:
    """Why a run to ``version`` that failed before anything was touched is not made again yet."""
    trouble = view.history.trouble
    if trouble is not None and trouble.at > view.now:
        return None  # the clock was set back: no wait can be told from it
    if trouble is None or trouble.version != (version.text if version else None) or view.forced:
        return None
    again = trouble.at + pacing.retry_delay(trouble.count)
    if view.now >= again:
        return None
    return f"{trouble.detail}; tried {trouble.count} times, next try at {again:%H:%M:%S} UTC"


def _instead(decision: Decision, name: str, reason: str, held: tuple[Held, ...] | None = None) -> Decision:
    own = (Held(name, reason),) if held is None else held
    return replace(
        decision, action=Action.STAY, name=name, reason=reason, target=None, held=(*own, *decision.held)
    )
