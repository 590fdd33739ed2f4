"""Which stacks an event is a hint for."""

from __future__ import annotations

from typing import Any

import pytest

from warmd.adapters.docker.events import stacks_of

STACK, SERVICE = "com.docker.stack.namespace", "com.docker.swarm.service.name"


def event(kind: str, id_: str = "id", **attributes: str) -> dict[str, Any]:
    return {"Type": kind, "Action": "x", "Actor": {"ID": id_, "Attributes": attributes}}


@pytest.mark.parametrize(
    ("found", "stacks"),
    [
        pytest.param(event("container", **{STACK: "sso"}), ("sso",), id="container-by-label"),
        pytest.param(event("container", **{SERVICE: "sso_app"}), ("sso",), id="container-by-service"),
        pytest.param(event("container", name="web"), (), id="container-of-no-service"),
        pytest.param(event("service", "known", name="x_y_z"), ("x_y",), id="service-listed-before"),
        pytest.param(event("service", name="sso_app"), ("sso",), id="service-new"),
        pytest.param(event("service", name="a_b_web"), ("a", "a_b"), id="service-that-may-be-of-either"),
        pytest.param(event("service", name="alone"), (), id="service-of-no-stack"),
        pytest.param({"Type": "service"}, (), id="nothing-told"),
    ],
)
def test_hints(found: dict[str, Any], stacks: tuple[str, ...]) -> None:
    assert stacks_of(found, {"known": "x_y"}.get) == stacks
