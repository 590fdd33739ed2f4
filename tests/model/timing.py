"""How long things take in the model: measured on a real engine, scaled to what a test can afford."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds, before ``scale``; ``jitter`` is how much of each may be added or taken off (0.2: a fifth).

    ``scale`` also shrinks what specs and images say (grace, delays, intervals of health checks) and what
    applications do, so that 0.02 makes a second of the swarm last 20 ms of the clock.
    """

    orchestrate: float = 0.02
    allocate: float = 0.02
    schedule: float = 0.05
    dispatch: float = 0.15
    prepare: float = 0.3
    pull: float = 0.4
    start: float = 0.26
    #: From the container's start to the first answer through a published port.
    listen: float = 0.75
    #: From the wish to stop to SIGTERM: the task serves until then.
    stop: float = 1.1
    #: From the container's exit to the task's new state, and from there to its removal from the list.
    noticed: float = 0.2
    reap: float = 0.25
    #: From the removal of the task to the removal of its container.
    remove: float = 0.3
    #: How long a rolling update of stop-first waits for the old task, at most.
    old_task: float = 60.0
    monitor: float = 5.0
    restart_delay: float = 5.0
    #: How long a restarted engine answers that its swarm has no leader yet.
    leaderless: float = 0.5
    jitter: float = 0.2
    scale: float = 1.0
