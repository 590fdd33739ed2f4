"""Stacks for the tests of the swarm's port: bodies of services, and changing them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio

from warmd.core.model import LABEL_STACK, ServiceSeen
from warmd.errors import SwarmConflict
from warmd.ports import Swarm

#: Runs until it is told to end, and then does so at once.
FOREVER = ["sh", "-c", "trap exit TERM; while :; do sleep 0.1; done"]


def service(stack: str, name: str, image: str, **changes: Any) -> dict[str, Any]:
    """The body that creates a service; ``changes`` replace top-level keys."""
    return {
        "Name": f"{stack}_{name}",
        "Labels": {LABEL_STACK: stack},
        "TaskTemplate": {"ContainerSpec": {"Image": image, "Labels": {LABEL_STACK: stack}}},
        "Mode": {"Replicated": {"Replicas": 1}},
        "EndpointSpec": {"Mode": "dnsrr"},
        **changes,
    }


def replicas(count: int) -> dict[str, Any]:
    return {"Mode": {"Replicated": {"Replicas": count}}}


async def only(swarm: Swarm, stack: str) -> ServiceSeen:
    (found,) = (await swarm.stack(stack)).services
    return found


async def change(swarm: Swarm, stack: str, body: Mapping[str, Any]) -> ServiceSeen:
    """Update the stack's only service; what it was before.

    The index moves without anybody's edit (swarm itself notes things in the object), so a conflict
    is no surprise: read again.
    """
    with anyio.fail_after(10):
        while True:
            seen = await only(swarm, stack)
            try:
                await swarm.update("services", seen.id, seen.index, body)
            except SwarmConflict:
                continue
            return seen
