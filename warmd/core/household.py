"""Conditions of warmd as a whole: what keeps it from looking after its services at all. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from warmd.core.notices import CRITICAL, WARNING, Notice
from warmd.errors import DockerUnreachable, JournalDamaged, JournalError, Permanent, WarmdError

DOCKER = "docker-unreachable"
JOURNAL = "journal-damaged"
LOOK = "look-failed"

#: (kind, candidate); the candidate is a service's name, or "" for what concerns all of them.
Condition: TypeAlias = tuple[str, str]

#: What becomes of the alerts that a damaged journal knew of. It stands in the alert that tells of it.
LEFT = (
    "Alerts about {what} that were open then stay open in the spool: nothing resolves them. What still holds "
    "is told anew, under a new id and the same fingerprint. What was not delivered by then is only in the "
    "damaged journal."
)

#: Failures in a row before somebody is told of what may pass by itself.
TRIES = 3


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a service's last look failed, and how many did in a row. ``alone``: nobody looks again soon,
    as a daemon does, so what concerns the whole machine is told at once."""

    error: WarmdError
    failures: int = 1
    alone: bool = False

    @property
    def lasts(self) -> bool:
        """Whether somebody is to be told."""
        told_at_once = isinstance(self.error, DockerUnreachable | Permanent)
        return self.failures >= TRIES or (self.alone and told_at_once)


def wanted(
    troubles: Mapping[str, Trouble], *, services: int, open_now: Collection[Condition] = ()
) -> tuple[Notice, ...]:
    """Every condition that holds now. ``troubles`` are of the services whose last look failed, by name,
    ``services`` counts all; a condition that is open stays until it is over."""
    out = [t for t in troubles.values() if isinstance(t.error, DockerUnreachable)]
    found: list[Notice] = []
    if any(t.lasts for t in out) or (out and (DOCKER, "") in open_now):
        found.append(
            Notice(
                DOCKER,
                "",
                CRITICAL,
                f"Docker can't be used; {len(out)} of {services} services are not looked after",
                str(out[0].error),
                commands=("systemctl status docker", "docker info"),
            )
        )
    for name, trouble in troubles.items():
        if isinstance(trouble.error, DockerUnreachable):
            continue
        if isinstance(trouble.error, JournalError):
            # What is only said to have changed meanwhile is read anew by the next look.
            now = isinstance(trouble.error, JournalDamaged) or (JOURNAL, name) in open_now
            notice = _journal(name, trouble.error)
        else:
            now, notice = (LOOK, name) in open_now, _look(name, trouble)
        if now or trouble.lasts:
            found.append(notice)
    return tuple(found)


def _journal(name: str, error: JournalError) -> Notice:
    commands, detail = [f"warmd history {name}"], str(error)
    if isinstance(error, JournalDamaged) and error.aside:
        commands = [error.aside, f"warmd adopt {name}"]
        detail = f"{detail}\n{LEFT.format(what=name)}"
    return Notice(
        JOURNAL,
        name,
        CRITICAL,
        f"{name}: its journal can't be trusted; nothing is done for it",
        detail,
        commands=tuple(commands),
    )


def _look(name: str, trouble: Trouble) -> Notice:
    tries = f", {trouble.failures} tries failed" if trouble.failures > 1 else ""
    return Notice(
        LOOK,
        name,
        CRITICAL,
        f"{name}: it can't be looked after{tries}",
        str(trouble.error),
        commands=(f"warmd status {name}", f"warmd reconcile {name}"),
    )


def lost(name: str, error: JournalDamaged) -> Notice:
    """The journal of these very alerts was damaged, and a new one was begun."""
    return Notice(
        JOURNAL,
        name,
        WARNING,
        "the journal of warmd's own alerts was damaged; a new one was begun",
        f"{error.message}\n{LEFT.format(what='warmd as a whole')}",
        commands=("warmd alerts",),
    )
