"""The Engine API: configs, secrets and networks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.model import specs, views
from tests.model.faults import Answer
from tests.model.routing import Query, filters_of, labelled, named, refused, route, rpc
from tests.model.store import Spec, Task, Thing

if TYPE_CHECKING:
    from tests.model.machine import Machine

_MAX_SECRET = 512_000

# Configs, secrets, networks


@route("GET", "/(configs|secrets)")
def _things(model: Machine, m: re.Match[str], query: Query, _b: Any) -> Answer:
    kept: dict[str, Thing] = getattr(model.store, m[1])
    filters = filters_of(query)
    return Answer(
        200,
        [
            views.thing(t, m[1])
            for t in kept.values()
            if labelled(t.spec.get("Labels"), filters.get("label") or []) and named(t.name, t.id, filters)
        ],
    )


@route("GET", "/(configs|secrets)/([^/]+)")
def _thing(model: Machine, m: re.Match[str], _q: Query, _b: Any) -> Answer:
    found = model.store.named(getattr(model.store, m[1]), m[2])
    if found is None:
        return refused(404, f"{m[1][:-1]} {m[2]} not found")
    return Answer(200, views.thing(found, m[1]))


@route("POST", "/(configs|secrets)/create")
def _create_thing(model: Machine, m: re.Match[str], _q: Query, body: Any) -> Answer:
    kept: dict[str, Thing] = getattr(model.store, m[1])
    noun = m[1][:-1]
    spec = {**body, "Labels": body.get("Labels") or {}}
    if not spec.get("Data") and not spec.get("Driver"):
        limit = f"{noun} data must be larger than 0 and less than {_MAX_SECRET} bytes"
        return rpc(400, "InvalidArgument", limit)
    if any(t.name == spec["Name"] for t in kept.values()):
        return rpc(409, "AlreadyExists", f"{noun} {spec['Name']} already exists")
    thing = Thing(model.new_id(), spec=spec)
    kept[thing.id] = thing
    model.store.touch(thing)
    model.event(noun, "create", thing.id, "swarm", {"name": thing.name})
    return Answer(201, {"ID": thing.id})


@route("POST", "/(configs|secrets)/([^/]+)/update")
def _update_thing(model: Machine, m: re.Match[str], query: Query, body: Any) -> Answer:
    found: Thing | None = model.store.named(getattr(model.store, m[1]), m[2])
    if found is None:
        return refused(404, f"{m[1][:-1]} {m[2]} not found")
    if body.get("Data") and body["Data"] != found.spec.get("Data"):
        return rpc(400, "InvalidArgument", "only updates to Labels are allowed")
    if int(query.get("version") or 0) != found.version:
        return rpc(500, "Unknown", "update out of sequence")
    found.spec = {**found.spec, "Labels": body.get("Labels") or {}}
    model.store.touch(found)
    return Answer(200)


@route("DELETE", "/(configs|secrets)/([^/]+)")
def _remove_thing(model: Machine, m: re.Match[str], _q: Query, _b: Any) -> Answer:
    kept: dict[str, Thing] = getattr(model.store, m[1])
    found: Thing | None = model.store.named(kept, m[2])
    noun = m[1][:-1]
    if found is None:
        return refused(404, f"{noun} {m[2]} not found")
    if users := specs.users(model, m[1], found.id):
        text = f"{noun} '{found.name}' is in use by the following service"
        return rpc(400, "InvalidArgument", f"{text}{'s' if users[1:] else ''}: {', '.join(users)}")
    del kept[found.id]
    return Answer(204)


@route("GET", "/networks")
def _networks(model: Machine, _m: re.Match[str], query: Query, _b: Any) -> Answer:
    filters = filters_of(query)
    shown = [
        views.network(t)
        for t in model.store.networks.values()
        if not views.predefined(t)
        and labelled(t.spec.get("Labels"), filters.get("label") or [])
        and named(t.name, t.id, filters)
    ]
    return Answer(200, shown)


@route("GET", "/networks/([^/]+)")
def _network(model: Machine, m: re.Match[str], query: Query, _b: Any) -> Answer:
    found = _find_network(model, m[1], query.get("scope"))
    return refused(404, f"network {m[1]} not found") if found is None else Answer(200, views.network(found))


def _find_network(model: Machine, reference: str, scope: str | None = None) -> Thing | None:
    all_ = model.store.networks
    found = [
        t
        for t in all_.values()
        if reference in (t.id, t.name) and scope in (None, t.spec.get("Scope", "swarm"))
    ]
    # A local one of that name is meant before the swarm's own of the same name
    return min(found, key=lambda t: views.predefined(t), default=None)


@route("POST", "/networks/create")
def _create_network(model: Machine, _m: re.Match[str], _q: Query, body: Any) -> Answer:
    if any(t.name == body["Name"] for t in model.store.networks.values()):
        return refused(409, f"network with name {body['Name']} already exists")
    thing = Thing(model.new_id(), spec=specs.network(model, body))
    model.store.networks[thing.id] = thing
    model.store.touch(thing)
    model.event("network", "create", thing.id, "swarm", {"name": thing.name})
    return Answer(201, {"Id": thing.id, "Warning": ""})


@route("DELETE", "/networks/([^/]+)")
def _remove_network(model: Machine, m: re.Match[str], _q: Query, _b: Any) -> Answer:
    found = _find_network(model, m[1])
    if found is None:
        return refused(404, f"network {m[1]} not found")
    if found.spec.get("Scope", "swarm") != "swarm" or views.predefined(found):
        return refused(403, f"{found.name} is a pre-defined network and cannot be removed")
    for kept, what in ((model.store.services, "service"), (model.store.tasks, "task")):
        for id_, user in kept.items():
            if isinstance(user, Task) and (user.over or not user.live):
                continue
            spec = user.spec.get("TaskTemplate", user.spec)
            if any(n.get("Target") == found.id for n in spec.get("Networks") or ()):
                text = f"network {found.id} is in use by {what} {id_}"
                return rpc(400, "FailedPrecondition", text)
    del model.store.networks[found.id]
    return Answer(204)


def predefined(model: Machine) -> None:
    """Networks that are there from the start: the node's own, and the swarm's names of them."""
    none: Spec = {"Driver": "default", "Options": None, "Config": []}
    for name, driver in (("none", "null"), ("host", "host"), ("bridge", "bridge")):
        spec = {"Name": name, "Driver": driver, "Scope": "local", "IPAM": none, "Options": {}}
        thing = Thing(model.new_hex(64), spec=spec)
        model.store.networks[thing.id] = thing
        model.store.touch(thing)
    for name in ("host", "bridge"):
        spec = {"Name": name, "Driver": name, "Scope": "swarm", "IPAM": {**none, "Driver": ""}}
        spec["Labels"] = {"com.docker.swarm.predefined": "true"}
        thing = Thing(model.new_id(), spec=spec)
        model.store.networks[thing.id] = thing
        model.store.touch(thing)
    ingress = specs.network(model, {"Name": "ingress", "Driver": "overlay", "Ingress": True})
    thing = Thing(model.new_id(), spec=ingress)
    model.store.networks[thing.id] = thing
    model.store.touch(thing)
