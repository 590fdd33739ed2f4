"""What a stack reaches outside of itself on its machine, and whether it may. Pure.

A compose file is written by whoever publishes the recipe, and a bind of ``/`` is as good as root's
password. So what every recipe does goes through; what gives a container the machine, or another
stack's secrets, is refused unless it runs like that already; and with an ``Allow`` only what it lists.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from warmd.core import specs
from warmd.core.model import Bundle, Json

Kind: TypeAlias = Literal[
    "bind", "capability", "host-network", "privileged", "ignored", "network", "volume", "config", "secret"
]


@dataclass(frozen=True, slots=True)
class Reach:
    """One thing outside of the stack that a service gets at. ``value`` is a path, a capability, the name of
    an object, or what is asked for; ``writable`` says whether a bind can be written to."""

    service: str
    kind: Kind
    value: str
    writable: bool = True


@dataclass(frozen=True, slots=True)
class Allow:
    """The only things that a stack may reach. ``binds`` with all that lies below them; ``external`` are
    names of networks, volumes, configs and secrets of others."""

    binds: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    host_network: bool = False
    privileged: bool = False
    external: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Here:
    """What a judgement depends on beside the specs.

    ``protected``: paths of warmd's own that no container gets. ``leads_to``: where bind sources lead
    on this machine, symlinks followed. ``runs``: what the stack reaches as it runs now. ``foreign``:
    (kind, name) of objects that are of other stacks.
    """

    protected: tuple[str, ...] = ()
    leads_to: Mapping[str, str] | None = None
    runs: tuple[Reach, ...] = ()
    foreign: frozenset[tuple[str, str]] = frozenset()


#: Whoever reads these is root soon.
_THE_MACHINE = (
    *("/etc", "/proc", "/sys", "/dev", "/boot", "/root", "/run/docker.sock", "/run/docker", "/run/podman"),
    *("/run/containerd", "/run/systemd", "/run/user", "/run/credentials", "/run/secrets", "/run/dbus"),
    *("/var/lib/docker", "/var/lib/containerd", "/var/lib/containers", "/var/lib/systemd"),
)
#: Whoever writes these is root soon.
_PROGRAMS = ("/bin", "/sbin", "/lib", "/lib64", "/usr", "/nix", "/var/spool/cron")
#: What many recipes mount from there, and nobody is hurt by.
_HARMLESS = ("/etc/localtime", "/etc/timezone", "/etc/hostname", "/etc/ssl/certs", "/etc/ca-certificates")
#: With one of these a process leaves its container.
_CAPABILITIES = frozenset(
    (
        *("ALL", "BPF", "DAC_READ_SEARCH", "MAC_ADMIN", "MAC_OVERRIDE", "PERFMON", "SYS_ADMIN"),
        *("SYS_BOOT", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO"),
    )
)
#: Options of compose files that a swarm passes over and the client warns of, and which ask for the machine.
_IGNORED = frozenset(
    (
        *("privileged", "devices", "device_cgroup_rules", "pid", "ipc", "userns_mode", "security_opt"),
        *("cgroup", "cgroup_parent", "network_mode", "runtime", "uts", "volumes_from", "external_links"),
    )
)
_WARNING = re.compile(r"Ignoring (?:unsupported|deprecated) options: (?P<options>.+)")


def reaches(bundle: Bundle, *, stack: str, warnings: Iterable[str] = ()) -> tuple[Reach, ...]:
    """Everything that the stack's services get at outside of it; ``warnings`` are the renderer's."""
    # A config or secret under a name of its own choice may be somebody else's that exists already; of
    # networks the engine is asked whose they are.
    own_nets = {str(n["Name"]) for n in bundle.networks}
    passed_over = {"networks": own_nets | specs.PREDEFINED_NETWORKS, "configs": set(), "secrets": set()}
    host_nets = {str(n["Name"]) for n in bundle.networks if n.get("Driver") == "host"} | {"host"}
    found: list[Reach] = []
    for spec in bundle.services:
        found += _of_container(spec["Name"], specs.container(spec), stack)
    for plural in ("networks", "configs", "secrets"):
        for name, users in specs.references(bundle, plural).items():
            if plural == "networks" and name in host_nets:
                found += [Reach(user, "host-network", name) for user in users]
            elif not _is_of(name, stack) and name not in passed_over[plural]:
                kind: Kind = {"networks": "network", "configs": "config", "secrets": "secret"}[plural]  # type: ignore[assignment]  # a dict's values lose their literals
                found += [Reach(user, kind, name) for user in users]
    asked = (m["options"] for w in warnings if (m := _WARNING.fullmatch(w)))
    options = {option.strip() for line in asked for option in line.split(",")} & _IGNORED
    found += [Reach("", "ignored", option) for option in sorted(options)]
    return tuple(found)


def _is_of(name: str, stack: str) -> bool:
    return name.startswith(f"{stack}_")


def _of_container(service: str, inner: Json, stack: str) -> Iterator[Reach]:
    for mount in inner.get("Mounts") or ():
        writable = not mount.get("ReadOnly")
        source = str(mount.get("Source") or "")
        driver = (mount.get("VolumeOptions") or {}).get("DriverConfig") or {}
        device = str((driver.get("Options") or {}).get("device") or "")
        if mount["Type"] in ("bind", "npipe"):
            yield Reach(service, "bind", source, writable)
        elif mount["Type"] == "volume" and _is_path(device):  # a bind by another name
            yield Reach(service, "bind", device, writable)
        elif mount["Type"] == "volume" and source and not _is_of(source, stack):
            yield Reach(service, "volume", source, writable)
        elif mount["Type"] not in ("volume", "tmpfs"):  # what a later engine has
            yield Reach(service, "bind", source or mount["Type"], writable)
    for capability in inner.get("CapabilityAdd") or ():
        yield Reach(service, "capability", capability_name(capability))
    for what, value in (inner.get("Privileges") or {}).items():
        if value and what != "NoNewPrivileges":
            yield Reach(service, "privileged", what)


def _is_path(device: str) -> bool:
    return device.startswith("/") or "{{" in device


def capability_name(text: str) -> str:
    """As people write it: without ``CAP_``, in capitals."""
    return text.upper().removeprefix("CAP_")


def refusals(found: Iterable[Reach], allow: Allow | None, here: Here) -> tuple[Reach, ...]:
    """What of ``found`` the stack may not have."""
    if allow is not None:
        return tuple(r for r in found if not _listed(r, allow, here))
    runs = {(r.kind, r.value, r.writable) for r in here.runs}
    known = runs | {(kind, value, False) for kind, value, _ in runs}
    return tuple(r for r in found if _dangerous(r, here) and not (_runs(r, known) and _plain(r, here)))


def _runs(reach: Reach, known: set[tuple[Kind, str, bool]]) -> bool:
    return (reach.kind, reach.value, reach.writable) in known


def _plain(reach: Reach, here: Here) -> bool:
    """Whether it is what it says. A symlink may lead elsewhere than it did when the stack was started."""
    return reach.kind != "bind" or _bad_place(_normal(reach.value), reach, here)


def _listed(reach: Reach, allow: Allow, here: Here) -> bool:
    match reach.kind:
        case "bind":
            return all(any(_below(p, _normal(a)) for a in allow.binds) for p in _places(reach, here)) and (
                "{{" not in reach.value or reach.value in allow.binds
            )
        case "capability":
            return reach.value in {capability_name(c) for c in allow.capabilities}
        case "host-network":
            return allow.host_network
        case "privileged" | "ignored":
            return allow.privileged
        case _:
            return reach.value in allow.external


def _dangerous(reach: Reach, here: Here) -> bool:
    match reach.kind:
        case "bind":
            return "{{" in reach.value or any(_bad_place(p, reach, here) for p in _places(reach, here))
        case "capability":
            return reach.value in _CAPABILITIES
        case "host-network" | "privileged":
            return True
        case "ignored" | "network":
            return False  # the swarm does not do it; and networks are made to be shared
        case _:
            return (reach.kind, reach.value) in here.foreign


def _places(reach: Reach, here: Here) -> set[str]:
    """The path as it is written, and where it leads."""
    return {_normal(reach.value), _normal((here.leads_to or {}).get(reach.value, reach.value))}


def _bad_place(path: str, reach: Reach, here: Here) -> bool:
    if any(_below(path, harmless) for harmless in _HARMLESS) and not reach.writable:
        return False
    protected = (*_THE_MACHINE, *map(_normal, here.protected), *(_PROGRAMS if reach.writable else ()))
    return any(_below(path, place) or _below(place, path) for place in protected)


def _normal(path: str) -> str:
    """Without ``..`` and doubled slashes; /var/run is /run."""
    made = "/" + posixpath.normpath(path).lstrip("/") if path.startswith("/") else path
    return re.sub(r"^/var/run(?=/|$)", "/run", made)


def _below(path: str, place: str) -> bool:
    """Whether ``path`` is ``place`` or in it."""
    return path == place or path.startswith(place.rstrip("/") + "/")


def said(reach: Reach) -> str:
    """A refusal in words."""
    what = {
        "bind": f"mounts {reach.value} of the machine" + ("" if reach.writable else " (read-only)"),
        "capability": f"asks for the capability {reach.value}",
        "host-network": "uses the machine's network",
        "privileged": f"asks for privileges ({reach.value})",
        "ignored": f"a service asks for {reach.value}, which a swarm does not do",
    }.get(reach.kind, f"uses the {reach.kind} {reach.value} of somebody else")
    return f"service {reach.service} {what}" if reach.service else what


def line_to_allow(found: Iterable[Reach]) -> str:
    """The configuration line that would let exactly these through."""
    values: dict[str, list[str]] = {}
    flags: dict[str, None] = {}
    for reach in found:
        match reach.kind:
            case "bind":
                values.setdefault("binds", []).append(reach.value)
            case "capability":
                values.setdefault("capabilities", []).append(reach.value)
            case "host-network":
                flags["host_network = true"] = None
            case "privileged" | "ignored":
                flags["privileged = true"] = None
            case _:
                values.setdefault("external", []).append(reach.value)
    lists = [f"{key} = [{', '.join(map(_quoted, dict.fromkeys(v)))}]" for key, v in values.items()]
    return f"allow = {{ {', '.join([*lists, *flags])} }}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
