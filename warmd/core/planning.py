"""From a decision, or a person's word, to a run; and a run in words before it is made. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from warmd.core import durations
from warmd.core.history import History
from warmd.core.machine import State
from warmd.core.runs import Kind

#: What taking a snapshot and verifying it costs, in bytes a second, for the estimate only: measured
#: with tar, zstd -1 and SHA-256 on two cores. The real figure of the last run is preferred.
COPY_RATE = 200e6
#: Stopping and starting one small service, measured on a one-node swarm.
RESTART = timedelta(seconds=3)


@dataclass(frozen=True, slots=True)
class Outage:
    """How long the service is expected to be away. ``basis`` says where the figure comes from."""

    expected: timedelta | None
    basis: str

    def __str__(self) -> str:
        return f"about {durations.format(self.expected)} ({self.basis})" if self.expected else self.basis


def expected_outage(history: History, *, copy: bool, data_bytes: int | None) -> Outage:
    """From the last run like it, else from the size of the data."""
    if not copy:
        return Outage(None, "as long as the swarm's rolling update takes; nothing is stopped first")
    for run in reversed(history.runs):
        # Of those that went well: others waited for the gate's deadline, or came back half-way.
        if run.state is State.COMMITTED and run.plan.copy and run.outage is not None:
            return Outage(_rounded(run.outage), f"as in run {run.plan.id}, to {run.plan.to_version}")
    if data_bytes is None:
        return Outage(None, "not known before the first run")
    copying = timedelta(seconds=data_bytes / COPY_RATE)
    return Outage(
        _rounded(RESTART + copying), "from the size of the data; the application's own start comes on top"
    )


def _rounded(duration: timedelta) -> timedelta:
    return timedelta(seconds=max(1, round(duration.total_seconds())))


_UPGRADE = (
    "pull the images of {to} and pin them by digest",
    "check networks, secrets, configs, writable mounts and free space; stop here if anything is missing",
    "stop {stack}, proved by an empty task list",
    "copy its volumes ({volumes}), then read the copy back",
    "deploy {to}",
    "wait until it is healthy ({gate})",
    "commit; or, within {horizon}, put data and {before} back",
)
_STATELESS = (
    "pull the images of {to} and pin them by digest",
    "check networks, secrets, configs and writable mounts",
    "deploy {to} as a rolling update",
    "wait until it is healthy ({gate})",
    "commit; or put {before} back",
)
_COLD = (
    "pull the images of {to} and pin them by digest",
    "check networks, secrets, configs and writable mounts",
    "deploy {to}",
    "wait until it is healthy ({gate}); if it never is, leave it as it is and alert",
)
_SNAPSHOT = (
    "pull the images of what runs, as they are pinned",
    "check writable mounts and free space; stop here if anything is missing",
    "stop {stack}, proved by an empty task list",
    "copy its volumes ({volumes}), then read the copy back",
    "start {before} again",
    "wait until it is healthy ({gate})",
)
_RESTORE = (
    "pull the images of {to}, as the snapshot has them",
    "check networks, secrets, configs, writable mounts and free space; stop here if anything is missing",
    "stop {stack}, proved by an empty task list",
    "verify the snapshot, unpack it beside the volumes ({volumes}), swap, keep what was there",
    "deploy {to} as it was when the snapshot was taken",
    "wait until it is healthy ({gate}); if it never is, leave it as it is and alert",
)

_TEXTS = {Kind.COLD_DEPLOY: _COLD, Kind.REPAIR: _COLD, Kind.SNAPSHOT: _SNAPSHOT, Kind.RESTORE: _RESTORE}


def steps(
    kind: Kind,
    *,
    copy: bool,
    stack: str,
    before: str | None,
    to: str | None,
    volumes: tuple[str, ...],
    gate: str,
    horizon: timedelta,
) -> tuple[str, ...]:
    """What a run would do, step by step, in words."""
    texts = _TEXTS.get(kind) or (_UPGRADE if copy else _STATELESS)
    words = {
        "to": to or "what is rendered now",
        "before": before or "the old specs",
        "stack": stack,
        "volumes": ", ".join(volumes) or "it has none",
        "gate": gate,
        "horizon": durations.format(horizon),
    }
    return tuple(text.format(**words) for text in texts)
