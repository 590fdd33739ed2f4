"""The Engine API: what is on the node: volumes, containers, images, events."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tests.model import views
from tests.model.faults import Answer
from tests.model.routing import Query, filters_of, labelled, refused, route
from tests.model.store import Spec
from warmd.adapters.docker.references import Reference
from warmd.errors import Refused

if TYPE_CHECKING:
    from tests.model.machine import Machine

# Volumes


@route("GET", "/volumes")
def _volumes(model: Machine, _m: re.Match[str], query: Query, _b: Any) -> Answer:
    labels = filters_of(query).get("label") or []
    shown = [views.volume(v) for v in model.store.volumes.values() if labelled(v.labels, labels)]
    return Answer(200, {"Volumes": shown, "Warnings": None})


@route("POST", "/volumes/create")
def _create_volume(model: Machine, _m: re.Match[str], _q: Query, body: Any) -> Answer:
    name = body.get("Name") or model.new_hex(64)
    made = model.make_volume(name, body.get("Labels") or {}, body.get("DriverOpts") or None)
    return Answer(201, views.volume(made))


@route("GET", "/volumes/([^/]+)")
def _volume(model: Machine, m: re.Match[str], _q: Query, _b: Any) -> Answer:
    found = model.store.volumes.get(m[1])
    return refused(404, f"get {m[1]}: no such volume") if found is None else Answer(200, views.volume(found))


@route("DELETE", "/volumes/([^/]+)")
def _remove_volume(model: Machine, m: re.Match[str], _q: Query, _b: Any) -> Answer:
    if m[1] not in model.store.volumes:
        return refused(404, f"get {m[1]}: no such volume")
    users = [c.id for c in model.store.containers.values() if any(v == m[1] for v, *_ in c.mounts)]
    if users:
        return refused(409, f"remove {m[1]}: volume is in use - [{', '.join(users)}]")
    model.drop_volume(m[1])
    return Answer(204)


# Containers


@route("GET", "/containers/json")
def _containers(model: Machine, _m: re.Match[str], query: Query, _b: Any) -> Answer:
    filters = filters_of(query)
    everything = query.get("all") in ("1", "true")
    names = [re.compile(n) for n in filters.get("name") or ()]
    shown = []
    for c in model.store.containers.values():
        if not (everything or c.running) or not labelled(c.labels, filters.get("label") or []):
            continue
        if names and not any(n.search(f"/{c.name}") or n.search(c.name) for n in names):
            continue
        volumes = filters.get("volume") or []
        if volumes and not any(v in volumes or target in volumes for v, _, target, _ in c.mounts):
            continue
        if (ids := filters.get("id")) and not any(c.id.startswith(i) for i in ids):
            continue
        shown.append(views.listed(c))
    return Answer(200, shown[::-1])


@route("GET", "/containers/([^/]+)/json")
def _container(model: Machine, m: re.Match[str], _q: Query, _b: Any) -> Answer:
    found = model.store.named(model.store.containers, m[1])
    return (
        refused(404, f"No such container: {m[1]}") if found is None else Answer(200, views.container(found))
    )


@route("POST", "/containers/([^/]+)/(kill|stop)")
def _kill_container(model: Machine, m: re.Match[str], _q: Query, _b: Any) -> Answer:
    found = model.store.named(model.store.containers, m[1])
    if found is None:
        return refused(404, f"No such container: {m[1]}")
    model.agent.exit(found, 137 if m[2] == "kill" or found.app.deaf else 0)
    return Answer(204)


@route("DELETE", "/containers/([^/]+)")
def _remove_container(model: Machine, m: re.Match[str], query: Query, _b: Any) -> Answer:
    found = model.store.named(model.store.containers, m[1])
    if found is None:
        return refused(404, f"No such container: {m[1]}")
    if found.running and query.get("force") not in ("1", "true"):
        return refused(409, f"You cannot remove a running container {found.id}. Stop the container first")
    model.agent.exit(found, 137)
    model.agent.remove(found)
    return Answer(204)


# Images


@route("GET", "/images/json")
def _images(model: Machine, _m: re.Match[str], _q: Query, _b: Any) -> Answer:
    return Answer(200, [i.inspect() for i in model.images.all()])


@route("GET", "/images/(.+)/json")
def _image(model: Machine, m: re.Match[str], _q: Query, _b: Any) -> Answer:
    found = model.images.local(m[1])
    if found is None:
        return refused(404, f"no such image: {m[1]}: No such image: {m[1]}")
    return Answer(200, found.inspect())


@route("GET", "/distribution/(.+)/json")
def _distribution(model: Machine, m: re.Match[str], _q: Query, _b: Any) -> Answer:
    digest = model.images.available(m[1])
    if digest is None:
        return refused(404, f"manifest for {m[1]} not found: manifest unknown: manifest unknown")
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    platforms = [{"architecture": "amd64", "os": "linux"}]
    described = {"mediaType": kind, "digest": digest, "size": 611}
    return Answer(200, {"Descriptor": described, "Platforms": platforms})


@route("POST", "/images/create")
def _pull(model: Machine, _m: re.Match[str], query: Query, _b: Any) -> Answer:
    name, tag = query.get("fromImage", ""), query.get("tag") or ""
    reference = f"{name}@{tag}" if tag.startswith("sha256:") else f"{name}:{tag or 'latest'}"
    try:
        parsed = Reference.parse(reference)
    except Refused:
        return refused(400, f"invalid reference format: {reference}")
    if model.images.registry_down:
        text = f'Get "http://{parsed.registry}/v2/": dial tcp: connect: connection refused'
        return refused(500, text)
    known = model.images.local(reference)
    digest = model.images.pull(reference)
    if digest is None:
        return refused(404, f"manifest for {reference} not found: manifest unknown: manifest unknown")
    model.event("image", "pull", reference, "local", {"name": name})
    new = known is None or known.digest != digest
    said = "Downloaded newer image for" if new else "Image is up to date for"
    lines: list[Spec] = [{"status": f"Pulling from {name.rpartition('/')[2]}", "id": tag}]
    if new:
        lines.append({"status": "Pull complete", "progressDetail": {}, "id": digest[7:19]})
    lines += [{"status": f"Digest: {digest}"}, {"status": f"Status: {said} {reference}"}]
    delay = model.timing.pull * model.timing.scale if new else 0.0
    return Answer(200, delay=delay, lines=lines)


@route("GET", "/events")
def _events(model: Machine, _m: re.Match[str], query: Query, _b: Any) -> Answer:
    """The filter of the stream: whoever serves it asks ``events_after`` for what there is."""
    return Answer(200, {"since": float(query.get("since") or model.wall()), "filters": filters_of(query)})


def events_after(
    model: Machine, number: int, since: float, filters: Mapping[str, list[str]]
) -> tuple[int, list[Spec]]:
    """Events later than the ``number``-th that pass the filters, and the newest number."""
    found = []
    for n, at, event in model.events:
        if n <= number or at < since:
            continue
        number = n
        kinds, actions = filters.get("type"), filters.get("event")
        action = event["Action"].split(":")[0]
        if (not kinds or event["Type"] in kinds) and (not actions or action in actions):
            found.append(event)
    return number, found
