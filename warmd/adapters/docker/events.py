"""Docker's events as hints: names of stacks that something happened to."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from warmd.adapters.docker import faults
from warmd.adapters.docker.client import Engine, EngineAnswer, JsonLines
from warmd.adapters.docker.listing import LABEL_SERVICE, dig
from warmd.core.model import LABEL_STACK
from warmd.errors import DockerUnreachable

# Not "exec_*": each HEALTHCHECK would wake its service's worker, every few seconds, for nothing
_ACTIONS = [
    "create",
    "update",
    "remove",
    "start",
    "die",
    "oom",
    "health_status",
    "pause",
    "unpause",
    "destroy",
]
_FILTERS = {"type": ["service", "container"], "event": _ACTIONS}


#: Seconds of silence after which the engine is asked anew: a connection that died without a word is
#: silent for ever, and so is one to an engine where nothing happens.
QUIET = 600.0


async def listen(
    engine: Engine,
    now: Callable[[], float],
    stack_of: Callable[[str], str | None],
    *,
    since: float,
    quiet: float = QUIET,
) -> AsyncGenerator[str, None]:
    """Names of stacks, from ``since`` (Unix seconds, as ``now`` tells them) on, until the connection ends.

    ``stack_of`` tells the stack of a service's id, as far as it was listed. Raises
    DockerUnreachable where there is no connection to begin with. Nothing is kept for a slow
    consumer but what the socket holds; the engine drops the rest.
    """
    doing = "listening to events"
    while True:
        params = {"filters": json.dumps(_FILTERS), "since": f"{since:.6f}"}
        try:
            async with engine.stream("GET", "events", doing=doing, params=params) as lines:
                while True:
                    since = now()
                    event = await _next(lines, quiet)
                    if event is None:
                        return
                    for stack in stacks_of(event, stack_of):
                        yield stack
        except EngineAnswer as answer:
            raise faults.translate(engine.host, doing, answer.status, answer.message) from None
        except _Quiet:
            continue


class _Quiet(Exception):
    """Nothing came for so long that it may be the connection's fault."""


async def _next(lines: JsonLines, quiet: float) -> dict[str, Any] | None:
    """The next event; None where the connection is at its end, or broke. Raises _Quiet."""
    try:
        return await lines.next(within=quiet, late=_Quiet())
    except DockerUnreachable:
        return None


def stacks_of(event: Mapping[str, Any], stack_of: Callable[[str], str | None]) -> tuple[str, ...]:
    """The stack that an event is about; where only a service's name is known, all that it could be.

    ``a_b_web`` may be ``b_web`` of ``a`` or ``web`` of ``a_b``. A hint too many costs one look, one
    too few would cost the time until the next.
    """
    actor = event.get("Actor") or {}
    marks = actor.get("Attributes") or {}
    exact = marks.get(LABEL_STACK) or stack_of(actor.get("ID") or "")
    if exact:
        return (exact,)
    name = dig(marks, "name") if event.get("Type") == "service" else marks.get(LABEL_SERVICE)
    parts = (name or "").split("_")
    return tuple("_".join(parts[:n]) for n in range(1, len(parts)))
