"""Stacks as data: bundles from what docker's client or the engine says, and what can be read off them.

Pure. Everything here works on ``Bundle`` (see its docstring for the by-name form) or on service specs
in that form.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from warmd.core import normal
from warmd.core.model import LABEL_STACK, Bundle, Json, Mount

#: On secrets that warmd makes: a slow hash of the content, which can't be read back.
LABEL_CONTENT = "warmd.sha256"

#: On networks that warmd makes with addresses of their own choice, which can't be told from assigned ones.
LABEL_ADDRESSES = "warmd.ipam"

_OURS = "warmd."

#: What only one kind of network is called: there on every node, nothing to create.
PREDEFINED_NETWORKS = frozenset({"host", "bridge", "none", "nat", "default"})


def container(spec: Json) -> Json:
    """A service's ContainerSpec; warmd looks after containers only, not after plugins."""
    found: Json = spec["TaskTemplate"]["ContainerSpec"]
    return found


def _with_container(spec: Json, **changes: Any) -> dict[str, Any]:
    return {
        **spec,
        "TaskTemplate": {**spec["TaskTemplate"], "ContainerSpec": {**container(spec), **changes}},
    }


# References by name


def by_name(spec: Json, networks: Mapping[str, str]) -> dict[str, Any]:
    """A service's spec with references by name and without the engine's and the client's noise.

    ``networks``: id -> name; a target that is none of these ids is a name already.
    """
    spec = normal.tidy(spec)
    task = {k: v for k, v in spec["TaskTemplate"].items() if k not in ("ForceUpdate", "Runtime")}
    if task_networks := task.get("Networks"):
        task["Networks"] = [{**n, "Target": networks.get(n["Target"], n["Target"])} for n in task_networks]
    inner = {k: v for k, v in container(spec).items() if (k, v) != ("Isolation", "default")}
    for kind, id_ in (("Configs", "ConfigID"), ("Secrets", "SecretID")):
        if kind in inner:
            inner[kind] = [{**reference, id_: ""} for reference in inner[kind]]
    return {**spec, "TaskTemplate": {**task, "ContainerSpec": inner}}


def without_ours(labels: Json | None, *, keep: Iterable[str] = ()) -> dict[str, str]:
    """Labels without ``warmd.*``."""
    return {k: v for k, v in (labels or {}).items() if not k.startswith(_OURS) or k in keep}


def recorded(posts: Iterable[tuple[str, Json]]) -> Bundle:
    """A bundle from the create calls of docker's client: (kind, body), kind the plural.

    Updates are careful (``careful``), secrets carry the mark of their content.
    """
    made: dict[str, list[dict[str, Any]]] = {"networks": [], "configs": [], "secrets": [], "services": []}
    for kind, body in posts:
        if kind == "services":
            made[kind].append(careful(by_name(body, {})))
        elif kind == "secrets":
            made[kind].append(marked(normal.tidy(body)))
        else:
            tidied = normal.tidy(body)
            made[kind].append(
                {k: v for k, v in tidied.items() if k != "CheckDuplicate" and v not in ("", {})}
            )
    return Bundle(**{kind: _sorted(bodies) for kind, bodies in made.items()})


def read_back(
    stack: str,
    services: Iterable[Json],
    *,
    networks: Iterable[Json],
    configs: Iterable[Json],
    secrets: Iterable[Json],
) -> Bundle:
    """The bundle of a running stack. ``services`` are specs, the others as the engine lists them, all of
    the swarm; those that carry the stack's label are its own. Secrets have no data."""
    listed = list(networks)
    names = {n["Id"]: n["Name"] for n in listed}
    return Bundle(
        networks=_sorted(_network(n) for n in listed if _of_stack(n, stack)),
        configs=_sorted(_config(c["Spec"]) for c in configs if _of_stack(c["Spec"], stack)),
        secrets=_sorted(_secret(s["Spec"]) for s in secrets if _of_stack(s["Spec"], stack)),
        services=_sorted(
            {**by_name(spec, names), "Labels": without_ours(spec.get("Labels"))} for spec in services
        ),
    )


def _sorted(bodies: Iterable[Json]) -> tuple[Json, ...]:
    return tuple(sorted(bodies, key=lambda body: str(body["Name"])))


def _of_stack(body: Json, stack: str) -> bool:
    return (body.get("Labels") or {}).get(LABEL_STACK) == stack


def _config(spec: Json) -> dict[str, Any]:
    # Whole: a config may be a template, which its data alone does not tell.
    return {**normal.tidy(spec), "Labels": without_ours(spec.get("Labels")), "Data": spec.get("Data", "")}


def _secret(spec: Json) -> dict[str, Any]:
    labels = without_ours(spec.get("Labels"), keep=[LABEL_CONTENT])
    return {**{k: v for k, v in normal.tidy(spec).items() if k != "Data"}, "Labels": labels}


def _network(seen: Json) -> dict[str, Any]:
    """The create body of a network that exists.

    A subnet that the swarm assigned looks like one that was asked for. Asked for again, it could be in
    use by then, and the engine reports that nowhere: tasks wait for ever. So it stays only where
    warmd's label says so, or where it can't come from the swarm's pool (10.0.0.0/8, /24 each).
    """
    body: dict[str, Any] = {"Name": seen["Name"], "Driver": seen["Driver"]}
    labels = seen.get("Labels") or {}
    body |= {
        k: True for k in ("Internal", "Attachable", "Ingress", "ConfigOnly", "EnableIPv6") if seen.get(k)
    }
    if (source := (seen.get("ConfigFrom") or {}).get("Network")) and not seen.get("ConfigOnly"):
        body["ConfigFrom"] = {"Network": source}
    if options := {k: v for k, v in (seen.get("Options") or {}).items() if not k.endswith(".vxlanid_list")}:
        body["Options"] = options
    ipam = normal.tidy(seen.get("IPAM") or {})
    asked = LABEL_ADDRESSES in labels or any(not _assigned(c) for c in ipam.get("Config") or ())
    if asked or ipam.get("Options") or ipam.get("Driver", "default") != "default":
        body["IPAM"] = {k: v for k, v in ipam.items() if (k, v) != ("Driver", "default")}
    return {**body, "Labels": without_ours(labels)}


def _assigned(pool: Json) -> bool:
    subnet = str(pool.get("Subnet", ""))
    return subnet.startswith("10.") and subnet.endswith("/24") and not set(pool) - {"Subnet", "Gateway"}


# What warmd asks for on top


def careful(spec: Json) -> dict[str, Any]:
    """The spec with ``failure_action: pause``: going back is warmd's, with the data. Jobs have no updates."""
    if normal.mode(spec)["kind"] not in ("Replicated", "Global"):
        return dict(spec)
    given = spec.get("UpdateConfig") or {"Parallelism": 1}
    return {**spec, "UpdateConfig": {**given, "FailureAction": "pause"}}


def marked(secret: Json) -> dict[str, Any]:
    """A secret's create body with the mark of its content in ``warmd.sha256``; unchanged without data."""
    if not secret.get("Data"):
        return dict(secret)
    return {**secret, "Labels": {**(secret.get("Labels") or {}), LABEL_CONTENT: _mark(secret)}}


def _mark(secret: Json) -> str:
    # Anybody who may list secrets reads labels: a plain hash of a weak password is as good as the password.
    data, salt = str(secret["Data"]).encode(), str(secret["Name"]).encode()
    return hashlib.scrypt(data, salt=salt, n=2**14, r=8, p=1, dklen=32).hex()


def pinned(bundle: Bundle, references: Mapping[str, str]) -> Bundle:
    """The bundle with every image replaced by ``references``' (which must have all of them; one without
    a digest stays as it is).

    The tag stays beside the digest: people read it, the engine goes by the digest.
    """
    services = []
    for spec in bundle.services:
        image = container(spec)["Image"]
        digest = references[image].partition("@")[2]
        name = image.partition("@")[0]
        services.append(_with_container(spec, Image=f"{name}@{digest}") if digest else spec)
    return replace(bundle, services=tuple(services))


def unpinned(bundle: Bundle) -> Bundle:
    """The bundle with images as people write them, to compare what was rendered with what runs."""
    services = (
        _with_container(s, Image=container(s).get("Image", "").partition("@")[0]) for s in bundle.services
    )
    return replace(bundle, services=tuple(services))


# What can be read off


def same_service(old: Json, new: Json) -> bool:
    """True where posting ``new`` over ``old`` would start or stop no task. References by name in both."""
    return _running_part(old) == _running_part(new)


def _running_part(spec: Json) -> dict[str, Any]:
    return {k: v for k, v in normal.service(spec).items() if k in ("TaskTemplate", "EndpointSpec", "Mode")}


def same_running(old: Bundle, new: Bundle) -> bool:
    """True where deploying ``new`` over a running ``old`` would start or stop no task."""
    before, after = ({s["Name"]: _running_part(s) for s in bundle.services} for bundle in (old, new))
    return before == after


def references(bundle: Bundle, kind: str) -> dict[str, list[str]]:
    """Name -> services that use it, for ``kind`` networks, configs or secrets, external ones too."""
    used: dict[str, list[str]] = {}
    for spec in bundle.services:
        if kind == "networks":
            named = [n["Target"] for n in spec["TaskTemplate"].get("Networks") or ()]
        else:
            key, name = {"configs": ("Configs", "ConfigName"), "secrets": ("Secrets", "SecretName")}[kind]
            named = [r[name] for r in container(spec).get(key) or ()]
        for name in dict.fromkeys(named):
            used.setdefault(name, []).append(spec["Name"])
    return used


def mounts(services: Sequence[Json], images: Mapping[str, Json]) -> tuple[Mount, ...]:
    """Everything that the services can write to and that outlives a task, in their order.

    ``images``: image reference -> its ``Config``; volumes that an image declares and no mount covers
    are anonymous ones.
    """
    found: list[Mount] = []
    for spec in services:
        inner, name = container(spec), spec["Name"]
        given = inner.get("Mounts") or ()
        found += [
            _mount(name, m) for m in given if m["Type"] not in ("tmpfs", "npipe") and not m.get("ReadOnly")
        ]
        covered = {m["Target"].rstrip("/") for m in given}
        declared = images[inner["Image"]].get("Volumes") or {}
        found += [
            Mount(name, "anonymous", "", target)
            for target in sorted(declared)
            if target.rstrip("/") not in covered
        ]
    return tuple(found)


def volume_labels(bundle: Bundle, name: str) -> dict[str, str]:
    """The labels that the swarm puts on volume ``name`` when it makes it for these services."""
    mounts = (m for spec in bundle.services for m in container(spec).get("Mounts") or ())
    found = (m for m in mounts if m["Type"] == "volume" and m.get("Source") == name)
    return dict(next((m.get("VolumeOptions") or {} for m in found), {}).get("Labels") or {})


def _mount(service: str, mount: Json) -> Mount:
    source, target = mount.get("Source", ""), mount["Target"]
    if mount["Type"] == "bind":
        return Mount(service, "bind", source, target)
    driver = (mount.get("VolumeOptions") or {}).get("DriverConfig") or {}
    return Mount(
        service,
        "volume" if source else "anonymous",
        source,
        target,
        driver=driver.get("Name") or "local",
        options=dict(driver.get("Options") or {}),
    )


def grace(spec: Json) -> float:
    """Seconds between SIGTERM and SIGKILL."""
    given = container(spec).get("StopGracePeriod")
    return 10.0 if given is None else float(given) / 1e9
