"""The Engine API: the engine itself, services and tasks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.model import specs, views
from tests.model.faults import Answer
from tests.model.routing import Query, filters_of, labelled, named, refused, route, rpc
from tests.model.store import Service

if TYPE_CHECKING:
    from tests.model.machine import Machine

# The engine itself


@route("GET", "/_ping")
@route("HEAD", "/_ping")
def _ping(model: Machine, _m: re.Match[str], _q: Query, _b: Any) -> Answer:
    return Answer(200, "OK")


@route("GET", "/version")
def _version(model: Machine, _m: re.Match[str], _q: Query, _b: Any) -> Answer:
    return Answer(200, views.version())


@route("GET", "/info")
def _info(model: Machine, _m: re.Match[str], _q: Query, _b: Any) -> Answer:
    return Answer(200, views.info(model))


@route("GET", "/nodes")
def _nodes(model: Machine, _m: re.Match[str], _q: Query, _b: Any) -> Answer:
    return Answer(200, [views.node(model)])


@route("GET", "/nodes/([^/]+)")
def _node(model: Machine, m: re.Match[str], _q: Query, _b: Any) -> Answer:
    known = m[1] in (model.node_id, "self", "model")
    return Answer(200, views.node(model)) if known else refused(404, f"node {m[1]} not found")


# Services and tasks


@route("GET", "/services")
def _services(model: Machine, _m: re.Match[str], query: Query, _b: Any) -> Answer:
    filters = filters_of(query)
    labels, status = filters.get("label") or [], query.get("status") in ("1", "true")
    shown = []
    for s in model.store.services.values():
        if labelled(s.spec.get("Labels"), labels) and named(s.name, s.id, filters):
            one = views.service(s)
            if status:
                one["ServiceStatus"] = views.service_status(model, s)
            shown.append(one)
    return Answer(200, shown)


@route("GET", "/services/([^/]+)")
def _service(model: Machine, m: re.Match[str], _q: Query, _b: Any) -> Answer:
    found: Service | None = model.store.named(model.store.services, m[1])
    return refused(404, f"service {m[1]} not found") if found is None else Answer(200, views.service(found))


@route("POST", "/services/create")
def _create_service(model: Machine, _m: re.Match[str], _q: Query, body: Any) -> Answer:
    spec = specs.service(model, body)
    if isinstance(spec, Answer):
        return spec
    if any(s.name == spec["Name"] for s in model.store.services.values()):
        text = f"name conflicts with an existing object: service {spec['Name']} already exists"
        return rpc(409, "AlreadyExists", text)
    service = Service(model.new_id(), spec=spec)
    model.store.services[service.id] = service
    model.store.touch(service)
    service.spec_version = service.version
    model.service_event(service, "create")
    model.orchestrator.changed(service)
    return Answer(201, {"ID": service.id})


@route("POST", "/services/([^/]+)/update")
def _update_service(model: Machine, m: re.Match[str], query: Query, body: Any) -> Answer:
    found: Service | None = model.store.named(model.store.services, m[1])
    if found is None:
        return refused(404, f"service {m[1]} not found")
    if query.get("rollback") == "previous":
        if found.previous is None:
            return rpc(400, "FailedPrecondition", "service does not have a previous spec")
        model.roll_back(found, "manually requested rollback")
        return Answer(200, {"Warnings": None})
    spec = specs.service(model, body)
    if isinstance(spec, Answer):
        return spec
    if spec["Name"] != found.name:
        return rpc(501, "Unimplemented", "renaming services is not supported")
    if int(query.get("version") or 0) != found.version:
        return rpc(500, "Unknown", "update out of sequence")
    if spec["Mode"].keys() != found.spec["Mode"].keys():
        return rpc(501, "Unimplemented", "service mode change is not allowed")
    model.set_spec(found, spec)
    return Answer(200, {"Warnings": None})


@route("DELETE", "/services/([^/]+)")
def _remove_service(model: Machine, m: re.Match[str], _q: Query, _b: Any) -> Answer:
    found: Service | None = model.store.named(model.store.services, m[1])
    if found is None:
        return refused(404, f"service {m[1]} not found")
    model.remove_service(found)
    return Answer(200)


@route("GET", "/tasks")
def _tasks(model: Machine, _m: re.Match[str], query: Query, _b: Any) -> Answer:
    filters = filters_of(query)
    labels, states = filters.get("label") or [], filters.get("desired-state") or []
    services = {
        s.id for r in filters.get("service") or () if (s := model.store.named(model.store.services, r))
    }
    shown = []
    for t in model.store.tasks.values():
        if labels and not labelled(t.labels, labels):
            continue
        if filters.get("service") and t.service.id not in services:
            continue
        # The API's "running" and "shutdown" also mean what is on the way there
        if states and not {t.desired, "running" if t.live else "shutdown"} & set(states):
            continue
        if named(t.id, t.id, filters):
            shown.append(views.task(t))
    return Answer(200, shown)


@route("GET", "/tasks/([^/]+)")
def _task(model: Machine, m: re.Match[str], _q: Query, _b: Any) -> Answer:
    found = model.store.tasks.get(m[1])
    return refused(404, f"task {m[1]} not found") if found is None else Answer(200, views.task(found))
