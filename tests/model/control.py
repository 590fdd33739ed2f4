"""Outside hands over the socket: ``/_model/<verb>``, what ``Model`` offers in process."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from tests.model import apps
from tests.model.apps import App
from tests.model.faults import Fault

if TYPE_CHECKING:
    from tests.model.server import Server

#: Methods of the model that are called as they are, with the keys of the body.
_HANDS = frozenset(
    {"scale", "update_by_hand", "remove_stack", "kill_task", "restart_engine", "stop_engine", "set_node"}
)


def answer(server: Server, method: str, verb: str, body: Any) -> tuple[int, Any]:
    """Status and JSON: ``{"result": …}``, or 400 with what is wrong."""
    try:
        return 200, {"result": _do(server, verb, body or {})}
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        return 400, {"message": f"{verb}: {type(error).__name__}: {error}"}


def _do(server: Server, verb: str, body: dict[str, Any]) -> Any:
    model = server.model
    if verb in _HANDS:
        return getattr(model, verb)(**body)
    if verb == "publish":
        return model.publish(body["reference"], app(body["app"]))
    if verb == "next":
        fault = Fault(**body.pop("fault"))
        return model.next(fault=fault, **body)
    if verb == "clear_faults":
        return model.faults.clear()
    if verb == "registry":
        model.images.registry_down = bool(body["down"])
        return None
    if verb == "withdraw":
        return model.images.withdraw(body["reference"])
    if verb == "remove_image":
        return model.images.remove(body["reference"])
    if verb == "reset":
        return server.reset(body.get("seed"))
    if verb == "violations":
        return model.violations
    if verb == "calls":
        return [dataclasses.asdict(call) for call in list(model.calls)[body.get("after", 0) :]]
    if verb == "volume":
        return model.volume_facts(body["name"]) | {"mountpoint": str(folder(server, body["name"]))}
    if verb == "note":
        return apps.note(folder(server, body["volume"]), body["text"])
    if verb == "running":
        keys = ("id", "name", "service", "image", "started")
        found = model.running(body.get("service", ""))
        return [{k: getattr(c, k) for k in keys} | {"version": c.app.version} for c in found]
    if verb == "faults":
        return len(model.faults)
    raise LookupError("no such verb")


def folder(server: Server, volume: str) -> Any:
    return server.model.store.volumes[volume].folder


def app(given: dict[str, Any]) -> App:
    """An application from JSON."""
    lists = {k: tuple(v) for k, v in given.items() if isinstance(v, list)}
    return App(**{**given, **lists})
