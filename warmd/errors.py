"""Everything warmd raises on purpose, and the exit code each class owns.

::

    WarmdError                  1
    ├── ConfigError             2   the configuration is wrong; nothing was started
    ├── Transient               6   could not be done now; the same call may work later
    │   ├── DockerUnreachable       no answer from the Docker daemon
    │   ├── SwarmConflict           the swarm's object changed under us; read again
    │   ├── SourceUnreachable       the place where versions are published did not answer
    │   └── RegistryUnreachable     an image could not be asked for or pulled
    ├── Permanent               7   will not work until something else is changed
    │   ├── Refused                 found before anything was stopped; nothing was touched
    │   ├── SnapshotError           a copy could not be made, proved or put back
    │   ├── JournalError            the journal can't be used: written by a newer warmd, changed meanwhile
    │   │   └── JournalDamaged      it is not what was written
    │   ├── IllegalTransition       a bug: the state machine has no such arrow
    │   ├── NotFound                a service, version or snapshot of that name does not exist
    │   └── Foreign                 somebody else changed the stack while a run was at work on it
    └── Locked                  8   another warmd holds this state directory

Library errors are translated at the boundary (adapters and plugins) and nowhere else. A message
says what happened, where, and, in ``hint``, what to type next.
"""

from __future__ import annotations

from typing import ClassVar


class WarmdError(Exception):
    """Base of all. ``hint`` says what to do next, in one line; empty where there is nothing to say."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(WarmdError):
    """The configuration is wrong; all problems are in the message, one a line."""

    exit_code = 2


class Transient(WarmdError):
    """Could not be done now. Callers back off and try again."""

    exit_code = 6


class DockerUnreachable(Transient):
    """No answer, or no usable answer, from the Docker daemon."""


class SwarmConflict(Transient):
    """The object's version index moved ("update out of sequence"): read again, look again, then retry."""


class SourceUnreachable(Transient):
    """The place where versions are published did not answer in time."""


class RegistryUnreachable(Transient):
    """An image could not be pulled, though it may exist."""


class Permanent(WarmdError):
    """Will not work until something else is changed by a person or a newer release."""

    exit_code = 7


class Refused(Permanent):
    """A check made before anything was stopped said no; nothing was touched."""


class SnapshotError(Permanent):
    """A copy could not be made, proved or put back. The volume was left as it was unless said otherwise."""


class JournalError(Permanent):
    """The journal can't be used: written by a newer warmd, changed by somebody else, or damaged."""


class JournalDamaged(JournalError):
    """The journal is not what was written. ``aside``: the command that moves it out of the way, if known."""

    def __init__(self, message: str, *, hint: str = "", aside: str = "") -> None:
        super().__init__(message, hint=hint)
        self.aside = aside


class IllegalTransition(Permanent):
    """The state machine has no arrow for this event; a bug, and nothing was changed."""


class NotFound(Permanent):
    """A service, version or snapshot of that name does not exist."""


class Foreign(Permanent):
    """Somebody else changed the stack while a run was at work on it. Nothing is done against them."""


class Locked(WarmdError):
    """Another warmd holds the lock of this state directory."""

    exit_code = 8
