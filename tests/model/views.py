"""Objects as the Engine API shows them (version 1.41)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.store import Container, Service, Spec, Task, Thing, Volume

if TYPE_CHECKING:
    from tests.model.machine import Machine

VERSION = "20.10.24"
API = "1.41"
_NEVER = "0001-01-01T00:00:00Z"
_PREDEFINED = "com.docker.swarm.predefined"


def service(s: Service) -> Spec:
    endpoint = s.spec.get("EndpointSpec") or {}
    shown: Spec = {
        "ID": s.id,
        "Version": {"Index": s.version},
        "CreatedAt": s.created,
        "UpdatedAt": s.updated,
        "Spec": s.spec,
        "Endpoint": {"Spec": endpoint, **({"Ports": endpoint["Ports"]} if endpoint.get("Ports") else {})},
    }
    if s.previous is not None:
        shown["PreviousSpec"] = s.previous
    if s.update_status is not None:
        shown["UpdateStatus"] = s.update_status
    return shown


def service_status(model: Machine, s: Service) -> Spec:
    tasks = [t for t in model.store.of(s) if t.live]
    wanted = len(tasks) if s.replicas is None else s.replicas
    up = sum(t.state == "running" for t in tasks)
    return {"RunningTasks": up, "DesiredTasks": wanted, "CompletedTasks": 0}


def task(t: Task) -> Spec:
    status: Spec = {"Timestamp": t.status_at, "State": t.state, "Message": t.message, "PortStatus": {}}
    if t.err:
        status["Err"] = t.err
    if t.touched_container:
        ended = t.container is None or not t.container.running
        status["ContainerStatus"] = {
            "ContainerID": t.container.id if t.container is not None else "",
            "PID": 0 if ended else t.pid,
            "ExitCode": t.exit_code,
        }
        ports = t.container.ports if t.container is not None and not ended else None
        if ports:
            status["PortStatus"] = {"Ports": ports}
    shown: Spec = {
        "ID": t.id,
        "Version": {"Index": t.version},
        "CreatedAt": t.created,
        "UpdatedAt": t.updated,
        "Labels": {},
        "Spec": t.spec,
        "ServiceID": t.service.id,
        "Status": status,
        "DesiredState": t.desired,
    }
    if t.slot:
        shown["Slot"] = t.slot
    if t.node:
        shown["NodeID"] = t.node
    return shown


def thing(t: Thing, kind: str) -> Spec:
    """A config or a secret, whose data stays secret."""
    spec = {k: v for k, v in t.spec.items() if k != "Data"} if kind == "secrets" else t.spec
    return {
        "ID": t.id,
        "Version": {"Index": t.version},
        "CreatedAt": t.created,
        "UpdatedAt": t.updated,
        "Spec": spec,
    }


def predefined(t: Thing) -> bool:
    return _PREDEFINED in (t.spec.get("Labels") or {})


def network(t: Thing) -> Spec:
    spec = t.spec
    return {
        "Name": spec["Name"],
        "Id": t.id,
        "Created": t.created,
        "Scope": spec.get("Scope", "swarm"),
        "Driver": spec.get("Driver") or "overlay",
        "EnableIPv6": bool(spec.get("EnableIPv6")),
        "IPAM": spec["IPAM"],
        "Internal": bool(spec.get("Internal")),
        "Attachable": bool(spec.get("Attachable")),
        "Ingress": bool(spec.get("Ingress")),
        "ConfigFrom": spec.get("ConfigFrom") or {"Network": ""},
        "ConfigOnly": bool(spec.get("ConfigOnly")),
        "Containers": None,
        "Options": spec.get("Options"),
        "Labels": spec.get("Labels") or None,
    }


def volume(v: Volume) -> Spec:
    return {
        "CreatedAt": v.created,
        "Driver": v.driver,
        "Labels": v.labels,
        "Mountpoint": str(v.folder),
        "Name": v.name,
        "Options": v.options,
        "Scope": "local",
    }


def _mounts(c: Container) -> list[Spec]:
    return [
        {
            "Type": "volume",
            "Name": name,
            "Source": str(folder),
            "Destination": target,
            "Driver": "local",
            "Mode": "z",
            "RW": writable,
            "Propagation": "",
        }
        for name, folder, target, writable in c.mounts
    ]


def _status(c: Container) -> str:
    if c.state == "running":
        health = f" ({'health: ' if c.health == 'starting' else ''}{c.health})" if c.health else ""
        return f"Up 1 second{health}"
    return "Created" if c.state == "created" else f"Exited ({c.exit_code}) 1 second ago"


def listed(c: Container) -> Spec:
    return {
        "Id": c.id,
        "Names": [f"/{c.name}"],
        "Image": c.image,
        "ImageID": c.image_id,
        "Command": " ".join(c.app.config["Cmd"]),
        "Created": 0,
        "Ports": [
            {"IP": "0.0.0.0", "PrivatePort": p["TargetPort"], "PublicPort": p["PublishedPort"], "Type": "tcp"}
            for p in (c.ports if c.running else ())
        ],
        "Labels": c.labels,
        "State": c.state,
        "Status": _status(c),
        "HostConfig": {"NetworkMode": "default"},
        "NetworkSettings": {"Networks": {}},
        "Mounts": _mounts(c),
    }


def container(c: Container) -> Spec:
    state: Spec = {
        "Status": c.state,
        "Running": c.running,
        "Paused": False,
        "Restarting": False,
        "OOMKilled": False,
        "Dead": False,
        "Pid": 4711 if c.running else 0,
        "ExitCode": c.exit_code,
        "Error": "",
        "StartedAt": c.started or _NEVER,
        "FinishedAt": c.finished or _NEVER,
    }
    if c.health:
        state["Health"] = {"Status": c.health, "FailingStreak": c.streak, "Log": []}
    return {
        "Id": c.id,
        "Created": c.created,
        "Path": c.app.config["Cmd"][0],
        "Args": c.app.config["Cmd"][1:],
        "State": state,
        "Image": c.image_id,
        "Name": f"/{c.name}",
        "RestartCount": 0,
        "Driver": "overlay2",
        "Platform": "linux",
        "HostConfig": {"NetworkMode": "default", "Privileged": False},
        "Mounts": _mounts(c),
        "Config": {**c.app.config, "Image": c.image, "Labels": c.labels},
        "NetworkSettings": {"Networks": {}, "Ports": {}},
    }


def node(model: Machine) -> Spec:
    return {
        "ID": model.node_id,
        "Version": {"Index": 9},
        "CreatedAt": "2026-01-01T00:00:00Z",
        "UpdatedAt": "2026-01-01T00:00:00Z",
        "Spec": {"Labels": model.node_labels, "Role": "manager", "Availability": "active"},
        "Description": {
            "Hostname": "model",
            "Platform": {"Architecture": "x86_64", "OS": "linux"},
            "Resources": {"NanoCPUs": 2_000_000_000, "MemoryBytes": 8_000_000_000},
            "Engine": {"EngineVersion": VERSION},
        },
        "Status": {"State": "ready", "Addr": "127.0.0.1"},
        "ManagerStatus": {"Leader": True, "Reachability": "reachable", "Addr": "127.0.0.1:2377"},
    }


def info(model: Machine) -> Spec:
    return {
        "ID": "MODEL",
        "Name": "model",
        "ServerVersion": VERSION,
        "OSType": "linux",
        "Architecture": "x86_64",
        "OperatingSystem": "a model",
        "NCPU": 2,
        "MemTotal": 8_000_000_000,
        "Driver": "overlay2",
        "DockerRootDir": str(model.root),
        "Plugins": {"Volume": ["local"], "Network": ["bridge", "host", "overlay"], "Log": ["json-file"]},
        "Swarm": {
            "NodeID": model.node_id,
            "NodeAddr": "127.0.0.1",
            "LocalNodeState": "active",
            "ControlAvailable": True,
            "Error": "",
            "RemoteManagers": [{"NodeID": model.node_id, "Addr": "127.0.0.1:2377"}],
            "Nodes": 1,
            "Managers": 1,
            "Cluster": {"ID": model.cluster_id, "Spec": {"Name": "default", "Labels": {}}},
        },
    }


def version() -> Spec:
    details = {"ApiVersion": API, "MinAPIVersion": "1.12", "Os": "linux", "Arch": "amd64"}
    return {
        "Platform": {"Name": ""},
        "Components": [{"Name": "Engine", "Version": VERSION, "Details": details}],
        "Version": VERSION,
        "ApiVersion": API,
        "MinAPIVersion": "1.12",
        "GitCommit": "model",
        "GoVersion": "go1.19",
        "Os": "linux",
        "Arch": "amd64",
        "KernelVersion": "6.1.0",
    }
