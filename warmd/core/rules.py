"""The gate's rules about releases. Each is a function that says no with a reason, or nothing.

Path rules judge every release crossed on the way, against the one before it on that way. Target
rules judge only the destination. The order of ``PATH`` and ``TARGET`` is the documented order: a
hold is named after the first rule that fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from warmd.core.history import Approval, Failure
from warmd.core.model import Note, Policy, Release
from warmd.core.versions import Version

UNPARSABLE = "held-unparsable"
MAJOR = "held-major"
MANUAL_MIGRATION = "held-manual-migration"
TAG_MOVED = "held-tag-moved"
FAILED_BEFORE = "held-failed-before"
APPROVAL = "held-approval"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One rule on one release. ``hold`` is what a failing one is called; None passed."""

    rule: str
    hold: str | None
    reason: str

    @property
    def passed(self) -> bool:
        return self.hold is None


@dataclass(frozen=True, slots=True)
class Step:
    """One release on the way, and the version before it (None on a cold deploy)."""

    before: Version | None
    release: Release


Rule = Callable[[Step, Policy], str | None]


def _unparsable(step: Step, policy: Policy) -> str | None:
    before, after = step.before, step.release.version
    if policy.app_major == "allow" or before is None or before.app == after.app:
        return None
    for version in (before, after):
        if version.app_major is None:
            return f"the application half of {version} has no number to compare"
    return None


def _recipe_major(step: Step, policy: Policy) -> str | None:
    before, after = step.before, step.release.version
    if policy.recipe_major == "allow" or before is None or before.recipe[0] == after.recipe[0]:
        return None
    return f"recipe major {before.recipe[0]} -> {after.recipe[0]}"


def _app_major(step: Step, policy: Policy) -> str | None:
    before, after = step.before, step.release.version
    if policy.app_major == "allow" or before is None or None in (before.app_major, after.app_major):
        return None
    if before.app_major == after.app_major:
        return None
    return f"application major {before.app_major} -> {after.app_major}"


def _notes(step: Step, policy: Policy) -> str | None:
    if policy.notes == "ignore":
        return None
    for note in step.release.notes:
        if policy.notes == "hold-any":
            return f"{note.path} is to be read first"
        if note.text is None:
            return f"{note.path} can't be read as text"
        marker = _marker(note, policy.notes_markers)
        if marker is not None:
            return f'{note.path} says "{marker}"'
    return None


def _marker(note: Note, markers: tuple[str, ...]) -> str | None:
    text = (note.text or "").casefold()
    return next((m for m in markers if m.casefold() in text), None)


#: (name, hold, rule), in the documented order.
PATH: tuple[tuple[str, str, Rule], ...] = (
    ("comparable", UNPARSABLE, _unparsable),
    ("recipe-major", MAJOR, _recipe_major),
    ("app-major", MAJOR, _app_major),
    ("notes", MANUAL_MIGRATION, _notes),
)


def path_verdicts(step: Step, policy: Policy) -> tuple[Verdict, ...]:
    """Every path rule on one step of the way."""
    verdicts = []
    for name, hold, rule in PATH:
        reason = rule(step, policy)
        verdicts.append(Verdict(name, hold if reason else None, reason or ""))
    return tuple(verdicts)


def target_verdicts(
    release: Release,
    policy: Policy,
    *,
    failures: Mapping[str, Failure],
    approved: Approval | None,
) -> tuple[Verdict, ...]:
    """Every target rule on a destination. ``approved`` is an approval that binds what is there now."""
    moved = failed = waits = ""
    if release.moved and not approved:
        moved = (
            f"the tag {release.tag} moved from {(release.first_commit or '')[:12]} to {release.commit[:12]}"
        )
    if failure := next((f for f in failures.values() if f.covers(release.version)), None):
        failed = f"{failure.outcome} on {failure.at:%Y-%m-%d %H:%M} UTC: {failure.detail}".rstrip(": ")
        if not release.version.same_as(Version.of(failure.version)):
            failed = f"a restore from {failure.version} went back past it on {failure.at:%Y-%m-%d %H:%M} UTC"
    if policy.require_approval and not approved:
        waits = "every upgrade of this service waits for a person"
    return (
        Verdict("tag", TAG_MOVED if moved else None, moved),
        Verdict("failed-before", FAILED_BEFORE if failed else None, failed),
        Verdict("approval", APPROVAL if waits else None, waits),
    )
