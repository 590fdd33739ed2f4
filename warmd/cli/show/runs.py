"""How a run ended, and what a run that a person asks for would do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console

from warmd.cli.show.base import Answer, console, moment, since, size, tell, took, word

_OUTCOMES = {
    "rolled-back": "version and data are the old ones again",
    "interrupted": "it did not get to the deploy; the old version runs on its untouched data",
    "failed-unchanged": "it failed before anything was touched",
    "stuck": "it can't go on by itself, and what is there was left as it is",
}
#: What people call the same thing.
_KINDS = {"cold-deploy": "first deploy"}


def ran(run: Answer, service: str, *, to: Console | None = None) -> None:
    """One run in a few lines, as the last word of a verb that made it."""
    to = to or console()
    tell(to, f"{service}: ", word(_title(run), "bold"), ": ", word(run["state"]))
    if run["ended"] is None:
        tell(to, f"it is not over; the daemon goes on with it, or: warmd reconcile {service}", indent=2)
    elif (
        text := "the snapshot's data and version are back" if _restored(run) else _OUTCOMES.get(run["state"])
    ):
        tell(to, text, indent=2)
    if run["detail"]:
        tell(to, run["detail"], indent=2)
    begun, ended = moment(run["started"]), moment(run["ended"])
    facts = [f"run {run['id']}"]
    if begun and ended:
        facts.append(f"took {took((ended - begun).total_seconds())}")
    if run["outage_seconds"] is not None:
        facts.append(f"outage {took(run['outage_seconds'])}")
    if run["snapshot"]:
        facts.append(f"snapshot {run['snapshot']}")
    tell(to, word(", ".join(facts), "dim"), indent=2)
    if run["state"] == "stuck":
        tell(to, f"next: warmd alerts {service}", indent=2)


def _restored(run: Answer) -> bool:
    """A restore ends where a rollback ends, and that was its aim."""
    return bool(run["kind"] == "restore" and run["state"] == "rolled-back")


def _title(run: Answer) -> str:
    kind, before, after = _KINDS.get(run["kind"], run["kind"]), run["from_version"], run["to_version"]
    if before and after and before != after:
        return f"{kind} {before} -> {after}"
    return f"{kind} {after or before or ''}".strip()


def runs_of(looks: Sequence[Answer], *, to: Console | None = None) -> None:
    """The runs that looks made, after the table of services."""
    to = to or console()
    for look in looks:
        if look.get("ran"):
            to.print()
            ran(look["ran"], look["service"], to=to)


def preview(
    answer: Answer, *, quarantine: str = "", to: Console | None = None, now: datetime | None = None
) -> None:
    """What a snapshot or a restore would do, before anybody says yes.

    ``answer`` is the one to ``preview``; ``quarantine`` the folder that replaced data goes to.
    """
    to, now = to or console(), now or datetime.now(UTC)
    snapshot = answer["snapshot"]
    what = f"snapshot {snapshot['id']}" if snapshot else answer["current"] or "what runs"
    tell(to, word(answer["service"], "bold"), f" (stack {answer['stack']}): {answer['kind']} of {what}")
    if snapshot:
        _replaced(to, answer, quarantine, now)
    to.print()
    for number, step in enumerate(answer["steps"], 1):
        tell(to, f"{number}. {step}", indent=2, hang=3)
    to.print()
    tell(to, f"The service is down meanwhile. Expected outage: {answer['outage']}")


def _replaced(to: Console, answer: Answer, quarantine: str, now: datetime) -> None:
    snapshot = answer["snapshot"]
    volumes = ", ".join(snapshot["volumes"]) or "none"
    tell(to, f"The snapshot was taken {since(snapshot['at'], now)}.", indent=2)
    tell(to, f"replaced:  the data in {volumes}", indent=2, hang=11)
    tell(to, f"by:        {size(snapshot['data_bytes'])} in {snapshot['files']} files", indent=2)
    tell(
        to,
        f"version:   {answer['current'] or 'unknown'} -> {snapshot['version'] or 'unknown'}",
        indent=2,
        hang=11,
    )
    tell(
        to,
        word("lost:      ", "bold red"),
        f"everything written since {since(snapshot['at'], now)} is no longer in the service",
        indent=2,
        hang=11,
    )
    tell(
        to,
        f"kept:      the replaced data is moved, not deleted, to {quarantine} (or, where that is"
        " another disk, to where its restore.json says), for 7 days at least",
        indent=2,
        hang=11,
    )
