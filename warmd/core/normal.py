"""One form for specs that mean the same.

The same service looks different as a client posts it and as the engine shows it: the engine fills in
defaults, clients of different ages write out different zeros. The normal form leaves out whatever says
no more than its absence. It is for comparing and never for posting: swarmkit restarts a task when its
spec differs at all, also in ways that mean nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import Any

from warmd.core.model import Json

_SECOND = 1_000_000_000  # durations of the Engine API are in nanoseconds

#: Maps whose keys are the user's own: nothing in them is noise, an empty string neither.
_USERS = frozenset({"Labels", "Options", "Sysctls", "DriverOpts"})

#: Where a zero says something other than absence, by parent and key.
_MEANT = frozenset(
    {("ContainerSpec", "Init"), ("ContainerSpec", "StopGracePeriod"), ("RestartPolicy", "Delay")}
)

#: What the engine does where nothing is said, by parent and key.
_DEFAULTS: Mapping[tuple[str, str], object] = {
    ("TaskTemplate", "Runtime"): "container",
    ("ContainerSpec", "Isolation"): "default",
    ("ContainerSpec", "StopGracePeriod"): 10 * _SECOND,
    ("RestartPolicy", "Condition"): "any",
    ("RestartPolicy", "Delay"): 5 * _SECOND,
    ("UpdateConfig", "FailureAction"): "pause",
    ("UpdateConfig", "Order"): "stop-first",
    ("RollbackConfig", "FailureAction"): "pause",
    ("RollbackConfig", "Order"): "stop-first",
    ("EndpointSpec", "Mode"): "vip",
    ("Ports", "Protocol"): "tcp",
    ("Ports", "PublishMode"): "ingress",
    ("IPAM", "Driver"): "default",
}

#: Lists whose order is no more than habit, by parent, and what to sort them by.
_SETS: Mapping[tuple[str, str], Callable[[Any], Any]] = {
    ("TaskTemplate", "Networks"): lambda n: n.get("Target", ""),
    ("Networks", "Aliases"): str,
    ("ContainerSpec", "Configs"): lambda c: (c.get("ConfigName", ""), (c.get("File") or {}).get("Name", "")),
    ("ContainerSpec", "Secrets"): lambda s: (s.get("SecretName", ""), (s.get("File") or {}).get("Name", "")),
    ("ContainerSpec", "Env"): str,
    ("EndpointSpec", "Ports"): lambda p: (
        p.get("TargetPort", 0),
        p.get("Protocol", ""),
        p.get("PublishedPort", 0),
    ),
    ("Placement", "Constraints"): str,
}

#: Never part of the comparison: counters, what clients look up on the side, and ids that names stand for.
_IGNORED = frozenset(
    {
        ("TaskTemplate", "ForceUpdate"),
        ("Placement", "Platforms"),
        ("Configs", "ConfigID"),
        ("Secrets", "SecretID"),
        ("", "CheckDuplicate"),
    }
)


def tidy(value: Any, key: str = "") -> Any:
    """``value`` without nulls and falses: what every Go client and engine reads as left out.

    Empty objects stay, they may mean something; so does ``Init: false``, unlike its absence.
    """
    if isinstance(value, Mapping):
        if key in _USERS:
            return dict(value)
        return {k: tidy(v, k) for k, v in value.items() if v is not None and (v is not False or k == "Init")}
    if isinstance(value, list | tuple):
        return [tidy(item, key) for item in value]
    return value


def service(spec: Json) -> dict[str, Any]:
    """A service's spec in normal form; ``Mode`` as {kind, Replicas}. References must be by name."""
    counts = {k: _counted(spec[k]) for k in ("UpdateConfig", "RollbackConfig") if spec.get(k)}
    return dict(_pruned({**spec, **counts, "Mode": mode(spec)}, ""))


def network(body: Json) -> dict[str, Any]:
    """A network's create body in normal form."""
    plain = dict(_pruned({**body, "Driver": body.get("Driver") or "overlay"}, ""))
    if pools := plain.get("IPAM", {}).get("Config"):
        plain["IPAM"]["Config"] = [_pool(pool) for pool in pools]
    return plain


def _pool(pool: Json) -> dict[str, Any]:
    """Addresses without the gateway that the engine would choose: the first of the subnet."""
    first = str(ip_network(pool["Subnet"], strict=False)[1]) if "Subnet" in pool else None
    return {k: v for k, v in pool.items() if (k, v) != ("Gateway", first)}


def mode(spec: Json) -> dict[str, Any]:
    """``{"kind": "Replicated", "Replicas": 1}``, ``{"kind": "Global"}``, or a job's."""
    given: Json = {k: v for k, v in (spec.get("Mode") or {}).items() if v is not None}
    kind = next(iter(given), "Replicated")
    detail: Json = given.get(kind, {})
    if kind == "Replicated":
        replicas = detail.get("Replicas")
        return {"kind": kind, "Replicas": 1 if replicas is None else replicas}
    return {"kind": kind, **detail}


def _counted(config: Json) -> dict[str, Any]:
    """Parallelism: none at all means 1 at a time, 0 means all at once. Written so that pruning keeps that."""
    parallelism = config.get("Parallelism") or 0
    rest = {k: v for k, v in config.items() if k != "Parallelism"}
    return rest if parallelism == 1 else {**rest, "Parallelism": str(parallelism)}


def _pruned(value: Any, key: str) -> Any:
    if isinstance(value, Mapping):
        if key in _USERS:
            return dict(value)
        kept = {}
        for k, v in value.items():
            if (key, k) in _IGNORED or (v == _DEFAULTS.get((key, k), ...)):
                continue
            cleaned = _pruned(v, k)
            zero = cleaned is None or cleaned == "" or cleaned == [] or cleaned == {} or cleaned == 0
            if (key, k) in _SETS and isinstance(cleaned, list):
                cleaned = sorted(cleaned, key=_SETS[key, k])
            if not zero or (cleaned is not None and ((key, k) in _MEANT or key == "Mode")):
                kept[k] = cleaned
        return kept
    if isinstance(value, list | tuple):
        return [_pruned(item, key) for item in value]
    return value
