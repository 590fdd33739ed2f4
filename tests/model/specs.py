"""Specs on their way in: completed and checked as the managers do it."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

from tests.model.faults import Answer
from tests.model.store import Spec, Thing

if TYPE_CHECKING:
    from tests.model.machine import Machine

_DNS = re.compile(r"[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*")


def _invalid(message: str, status: int = 400) -> Answer:
    return Answer(status, {"message": f"rpc error: code = InvalidArgument desc = {message}"})


def service(model: Machine, body: Any) -> Spec | Answer:
    """A service's spec as the swarm keeps it, or the refusal."""
    spec: Spec = copy.deepcopy(body)
    if not _DNS.fullmatch(spec.get("Name") or ""):
        return _invalid("name must be valid as a DNS name component")
    spec.setdefault("Labels", {})
    spec["Labels"] = spec["Labels"] or {}
    template = spec.setdefault("TaskTemplate", {})
    inner = template.setdefault("ContainerSpec", {})
    if not inner.get("Image"):
        return _invalid("ContainerSpec: image reference must be provided")
    inner.setdefault("Isolation", "default")
    template.setdefault("ForceUpdate", 0)
    template.setdefault("Runtime", "container")
    if spec.get("Mode") in (None, {}):
        spec["Mode"] = {"Replicated": {"Replicas": 1}}
    if "Replicated" in spec["Mode"]:
        spec["Mode"] = {"Replicated": {"Replicas": (spec["Mode"]["Replicated"] or {}).get("Replicas", 1)}}
    for key in ("UpdateConfig", "RollbackConfig"):
        if spec.get(key):
            defaults = {
                "Parallelism": 0,
                "FailureAction": "pause",
                "MaxFailureRatio": 0,
                "Order": "stop-first",
            }
            spec[key] = {**defaults, **{k: v for k, v in spec[key].items() if v not in (None, "")}}
    if template.get("RestartPolicy"):
        template["RestartPolicy"].setdefault("MaxAttempts", 0)
    if networks := [*(template.get("Networks") or ()), *(spec.pop("Networks", None) or ())]:
        found = [_network_id(model, n["Target"]) for n in networks]
        for network, id_ in zip(networks, found, strict=True):
            if id_ is None:
                return Answer(500, {"message": f"network {network['Target']} not found"})
            network["Target"] = id_
        template["Networks"] = networks
    for kind in ("Config", "Secret"):
        kept: dict[str, Thing] = getattr(model.store, f"{kind.lower()}s")
        for reference in inner.get(f"{kind}s") or ():
            thing = kept.get(reference.get(f"{kind}ID") or "")
            if thing is None or thing.name != reference.get(f"{kind}Name"):
                return _invalid(f"{kind.lower()} not found: {reference.get(f'{kind}Name')}")
    return spec


def _network_id(model: Machine, target: str) -> str | None:
    swarm = [t for t in model.store.networks.values() if t.spec.get("Scope", "swarm") == "swarm"]
    return next((t.id for t in swarm if target in (t.id, t.name)), None)


def network(model: Machine, body: Any) -> Spec:
    """A network's spec, with addresses of its own."""
    spec: Spec = {k: v for k, v in copy.deepcopy(body).items() if k != "CheckDuplicate"}
    spec["Scope"] = "swarm"
    spec["Driver"] = spec.get("Driver") or "overlay"
    taken = len([t for t in model.store.networks.values() if t.spec.get("Scope") == "swarm"])
    number = model.store.index % 200 + taken
    ipam = spec.get("IPAM") or {}
    pools = [
        {**p, "Gateway": p.get("Gateway") or re.sub(r"\.\d+/\d+$", ".1", p["Subnet"])}
        for p in ipam.get("Config") or ()
        if p.get("Subnet")
    ]
    if not pools:
        second, third = divmod(number, 256)
        pools = [{"Subnet": f"10.{second}.{third}.0/24", "Gateway": f"10.{second}.{third}.1"}]
    spec["IPAM"] = {
        "Driver": ipam.get("Driver") or "default",
        "Options": ipam.get("Options") or None,
        "Config": pools,
    }
    vxlan = {"com.docker.network.driver.overlay.vxlanid_list": str(4096 + number)}
    spec["Options"] = {**(spec.get("Options") or {}), **vxlan}
    return spec


def users(model: Machine, kind: str, id_: str) -> list[str]:
    """Names of the services that use a config or a secret."""
    key, field = kind.capitalize(), f"{kind[:-1].capitalize()}ID"
    return sorted(
        s.name
        for s in model.store.services.values()
        if any(r.get(field) == id_ for r in s.spec["TaskTemplate"]["ContainerSpec"].get(key) or ())
    )
