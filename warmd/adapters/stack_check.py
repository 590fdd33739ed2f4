"""What would go wrong when a bundle is deployed, found while everything still runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from warmd.core import specs
from warmd.core.model import LABEL_STACK, Bundle, Json
from warmd.errors import Refused


@dataclass(frozen=True, slots=True)
class Found:
    """What the swarm has, as the engine lists it."""

    networks: Sequence[Json]
    configs: Sequence[Json]
    secrets: Sequence[Json]


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason not to begin, and what to do about it."""

    what: str
    hint: str


def refusal(stack: str, problems: Sequence[Problem]) -> Refused:
    """All problems in one error."""
    hints = dict.fromkeys(p.hint for p in problems)
    return Refused(f"stack {stack}: {'; '.join(p.what for p in problems)}", hint="; ".join(hints))


def problems(stack: str, bundle: Bundle, found: Found) -> list[Problem]:
    """Everything that the engine would refuse, or would never say and never do."""
    return [
        *_networks(stack, bundle, found.networks),
        *_subnets(bundle, found.networks),
        *_configs(bundle, found.configs),
        *_secrets(stack, bundle, found.secrets),
    ]


def _users(services: Sequence[str]) -> str:
    return f" (used by {', '.join(services)})"


def _networks(stack: str, bundle: Bundle, listed: Sequence[Json]) -> Iterator[Problem]:
    there = {n["Name"]: n for n in listed if n.get("Scope") == "swarm"}
    own = {n["Name"] for n in bundle.networks}
    for name, users in specs.references(bundle, "networks").items():
        if name not in own and name not in there and name not in specs.PREDEFINED_NETWORKS:
            yield Problem(
                f"network {name} does not exist{_users(users)}",
                f"docker network create --driver overlay {name}",
            )
    for name in sorted(own & there.keys()):
        owner = (there[name].get("Labels") or {}).get(LABEL_STACK)
        if owner != stack:
            whose = f"stack {owner}" if owner else "no stack"
            yield Problem(
                f"network {name} exists and belongs to {whose}",
                f"declare {name} as external, or give it another name",
            )


def _subnets(bundle: Bundle, listed: Sequence[Json]) -> Iterator[Problem]:
    """The engine takes a subnet that is in use without a word; the tasks then wait for ever."""
    exist = {n["Name"] for n in listed}
    taken = [(n["Name"], s) for n in listed if n.get("Scope") == "swarm" for s in _pools(n)]
    for body in bundle.networks:
        for subnet in _pools(body) if body["Name"] not in exist else ():
            for name, other in taken:
                if subnet.version == other.version and subnet.overlaps(other):
                    yield Problem(
                        f"network {body['Name']} asks for {subnet}, but network {name} has {other}",
                        "give one of them another subnet",
                    )


def _pools(network: Json) -> list[IPv4Network | IPv6Network]:
    pools = (network.get("IPAM") or {}).get("Config") or ()
    return [ip_network(p["Subnet"], strict=False) for p in pools if p.get("Subnet")]


def _configs(bundle: Bundle, listed: Sequence[Json]) -> Iterator[Problem]:
    there = {c["Spec"]["Name"]: c["Spec"] for c in listed}
    own = {c["Name"]: c for c in bundle.configs}
    for name, users in specs.references(bundle, "configs").items():
        if name not in own and name not in there:
            yield Problem(f"config {name} does not exist{_users(users)}", f"docker config create {name} FILE")
    for name in sorted(own.keys() & there.keys()):
        if (own[name].get("Data") or "") != (there[name].get("Data") or ""):
            yield Problem(
                f"config {name} has other content than the one in the swarm, and configs can't change",
                "give it a name with its version or hash in it",
            )


def _secrets(stack: str, bundle: Bundle, listed: Sequence[Json]) -> Iterator[Problem]:
    there = {s["Spec"]["Name"]: s["Spec"] for s in listed}
    own = {s["Name"]: s for s in bundle.secrets}
    for name, users in specs.references(bundle, "secrets").items():
        if name not in own and name not in there:
            yield Problem(f"secret {name} does not exist{_users(users)}", f"docker secret create {name} FILE")
    for name, body in own.items():
        if name not in there:
            if not body.get("Data") and not body.get("Driver"):
                yield Problem(
                    f"secret {name} is gone, and its content can't be read back",
                    f"docker secret create --label {LABEL_STACK}={stack} {name} FILE",
                )
            continue
        old, new = (
            (s.get("Labels") or {}).get(specs.LABEL_CONTENT) for s in (there[name], specs.marked(body))
        )
        if old and new and old != new:
            yield Problem(
                f"secret {name} has other content than the one in the swarm, and secrets can't change",
                "give it a name with its version in it",
            )
