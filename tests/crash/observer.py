"""Whether the promise was kept, by somebody who is not warmd.

Nothing here imports warmd: the journal's checksums are reckoned anew, archives are unpacked with tar and
zstd, the swarm is asked over the Engine API. Every function gives what is wrong, a sentence each.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.crash.world import Data, World

#: Files that say how often a writer wrote: their content differs from run to run, equal they must be.
COUNTERS = ("a", "b")


@dataclass(frozen=True, slots=True)
class End:
    """One right end: this version runs on this data, and the look says one of ``says``.

    ``greeting`` is what the spec's environment has, where that is part of it.
    """

    version: str
    data: Data
    says: frozenset[str]
    greeting: str | None = None


def journal(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The records of a service's journal, and what is wrong with them."""
    wrong: list[str] = []
    records: list[dict[str, Any]] = []
    path = folder / "journal"
    if not path.exists():
        return [], []
    content = path.read_bytes()  # a torn last line is none, and is cut off before the next one is written
    before = 0
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            body = json.loads(line)
        except ValueError:
            wrong.append(f"journal line {number} is not JSON")
            continue
        crc = body.pop("crc")
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        if zlib.crc32(text.encode()) != crc:
            wrong.append(f"journal line {number} has a wrong checksum")
        if (body["seq"], body["prev_crc"]) != (number, before):
            wrong.append(f"journal line {number} does not follow the one before")
        before = crc
        records.append(body)
    return records, wrong


def states(records: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(run, state) in the order of the journal."""
    return [
        (r["run"], "planned" if r["type"] == "run.planned" else r["data"]["state"])
        for r in records
        if r["type"] in ("run.planned", "run.state")
    ]


def alerts(world: World, records: list[dict[str, Any]]) -> list[str]:
    """Every alert that the journal tells of has its file, says the same, and has one name."""
    wrong: list[str] = []
    spool = world.state / "alerts"
    files = (
        {p.name: json.loads(p.read_bytes()) for p in sorted(spool.glob("*.json"))} if spool.is_dir() else {}
    )
    told: dict[str, Any] = {}
    household, wrong_there = journal(world.state / "services" / "warmd.daemon")
    wrong += wrong_there
    for record in (*household, *records):
        if record["type"] in ("alert.opened", "alert.resolved"):
            told[record["data"]["name"]] = record["data"]["body"]
    wrong += [f"alert {name} is in the journal and has no file" for name in told if name not in files]
    wrong += [f"alert {name} has a file and is not in the journal" for name in files if name not in told]
    wrong += [
        f"alert {n} says something else than the journal" for n in told if files.get(n, told[n]) != told[n]
    ]
    seen: dict[tuple[str, str], str] = {}
    still: dict[str, set[str]] = {}
    for name, body in files.items():
        key = (body["id"], body["state"])
        if key in seen:
            wrong.append(f"alert {body['id']} is {body['state']} under two names: {seen[key]} and {name}")
        seen[key] = name
        still.setdefault(body["fingerprint"], set())
        (still[body["fingerprint"]].add if body["state"] == "open" else still[body["fingerprint"]].discard)(
            body["id"]
        )
        resolved = (body["id"], "resolved") in {(b["id"], b["state"]) for b in files.values()}
        if resolved:
            still[body["fingerprint"]].discard(body["id"])
    wrong += [
        f"condition {f} is open more than once: {sorted(ids)}" for f, ids in still.items() if len(ids) > 1
    ]
    delivered = {r["data"]["name"] for r in (*household, *records) if r["type"] == "alert.delivered"}
    wrong += [f"alert {name} is not known to be delivered" for name in told if name not in delivered]
    return wrong


def open_alerts(world: World) -> dict[str, dict[str, Any]]:
    """Open alerts of the spool by kind."""
    files = [json.loads(p.read_bytes()) for p in sorted((world.state / "alerts").glob("*.json"))]
    closed = {f["id"] for f in files if f["state"] == "resolved"}
    return {f["kind"]: f for f in files if f["id"] not in closed}


def snapshots(world: World, known: Mapping[str, tuple[Data, ...]]) -> list[str]:
    """Every sealed snapshot is whole and is of one moment. ``known``: version -> the data that it may hold;
    the newest of that version holds the last."""
    wrong: list[str] = []
    newest: dict[str, tuple[str, str, Data]] = {}
    home = world.folder / "snapshots"
    for path in sorted(home.iterdir()) if home.is_dir() else ():
        if path.name.startswith(".") or not (path / "sealed").exists():
            continue
        sums = subprocess.run(
            ["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=path, capture_output=True, check=False
        )
        if sums.returncode:
            wrong.append(f"snapshot {path.name} is sealed and not whole: {sums.stdout.decode().strip()}")
            continue
        says = manifest(path)
        for part in says["volumes"]:
            with tempfile.TemporaryDirectory(dir=world.home) as name:
                unpack = f"zstd -q -dc {path / part['archive']} | tar -x -C {name}"
                done = subprocess.run(["sh", "-c", unpack], capture_output=True, check=False)
                if done.returncode:
                    wrong.append(f"snapshot {path.name} can't be unpacked: {done.stderr.decode().strip()}")
                    continue
                data = Data.of(Path(name))
            wrong += [f"snapshot {path.name} is of a running application: {w}" for w in _of_two_moments(data)]
            version = says["version"] or ""
            if version not in newest or says["at"] > newest[version][0]:
                newest[version] = (says["at"], path.name, data)
            if version in known and not any(data.same(d) for d in known[version]):
                right = " or ".join(d.told for d in known[version])
                wrong.append(f"snapshot {path.name} of {version} holds {data.told}, not {right}")
    wrong += [
        f"the newest snapshot of {version}, {name}, holds {data.told}, not {known[version][-1].told}"
        for version, (_, name, data) in newest.items()
        if version in known and not data.same(known[version][-1])
    ]
    return wrong


def manifest(path: Path) -> dict[str, Any]:
    """What the snapshot in this folder says it is."""
    found: dict[str, Any] = json.loads((path / "manifest.json").read_bytes())
    return found


def _of_two_moments(data: Data) -> list[str]:
    first, second = (data.files.get(name) for name in COUNTERS)
    return [f"its counters are {first!r} and {second!r}"] if first != second else []


def swarm(world: World) -> list[str]:
    """Exactly one task and one container, of what the service's spec says."""
    wrong: list[str] = []
    services = world.services()
    if len(services) != 1:
        return [f"{len(services)} services in the stack"]
    spec = services[0]["Spec"]
    replicas = spec["Mode"]["Replicated"]["Replicas"]
    if replicas != 1:
        wrong.append(f"the service is scaled to {replicas}")
    running = [t for t in world.tasks() if t["Status"]["State"] == "running"]
    if len(running) != 1:
        wrong.append(f"{len(running)} tasks run")
    if len(found := world.running()) != 1:
        wrong.append(f"{len(found)} containers run")
    image = spec["TaskTemplate"]["ContainerSpec"]["Image"]
    wrong += [f"a task runs {i}, the spec says {image}" for t in running if (i := _image(t["Spec"])) != image]
    return wrong


def _image(spec: Mapping[str, Any]) -> str:
    return str(spec["ContainerSpec"]["Image"])


def version(world: World) -> str | None:
    """What the label says that runs; None where nothing is deployed."""
    services = world.services()
    return services[0]["Spec"].get("Labels", {}).get("warmd.version") if services else None


def application(world: World) -> str | None:
    """The version of the application that runs, by its image's tag."""
    services = world.services()
    if not services:
        return None
    image = _image(services[0]["Spec"]["TaskTemplate"])
    return image.partition("@")[0].rpartition(":")[2]


def greeting(world: World) -> str | None:
    services = world.services()
    env = services[0]["Spec"]["TaskTemplate"]["ContainerSpec"].get("Env") or [] if services else []
    return next((e.partition("=")[2] for e in env if e.startswith("GREETING=")), None)


def leftovers(world: World) -> list[str]:
    """What a killed warmd left and nobody has cleared away. In the spool it may lie for an hour: somebody
    else might be writing it."""
    found = [p for p in world.state.rglob(".*") if p.name.endswith((".tmp", ".partial", ".doomed"))]
    found = [p for p in found if p.parent.name != "alerts"]
    with_volume = list(world.volume.parent.glob("*warmd-*")) if world.has_volume else []
    return [f"left behind: {p.relative_to(world.home)}" for p in found] + [
        f"left behind beside the volume: {p.name}" for p in with_volume if "warmd-old" not in p.name
    ]


def ways_out(world: World) -> list[str]:
    """A stuck service has a critical alert that says what to type."""
    alert = open_alerts(world).get("stuck")
    if alert is None:
        return ["it is stuck, and no alert says so"]
    ways = [c for c in alert["commands"] if c.split()[1] in ("retry", "adopt", "restore")]
    return [] if ways else [f"the alert names no way out: {alert['commands']}"]


def way(world: World, verb: str) -> str | None:
    """The last word of the command of that verb that the stuck service's alert names."""
    commands = open_alerts(world).get("stuck", {"commands": []})["commands"]
    return next((c.split()[-1] for c in commands if c.split()[1] == verb), None)


def untouched(world: World, data: Data) -> list[str]:
    """Nothing was restored over what people made of the data."""
    return [] if world.data.same(data) else [f"the data is {world.data.told}, and not {data.told} any more"]


def stuck_past_the_horizon(world: World, deployed: str, data: Data) -> list[str]:
    """Nothing was restored (``data`` is what the deployed version made of it), and the alert says what a
    restore would lose."""
    wrong = ways_out(world)
    if (runs := version(world)) != deployed:
        wrong.append(f"{runs} runs, though {deployed} was deployed two days ago")
    if not world.data.same(data):
        wrong.append(f"the data is {world.data.told}, two days of writes to {data.told} are thrown away")
    alert = open_alerts(world).get("stuck", {"detail": ""})
    if "a restore would lose what was written since" not in alert["detail"]:
        wrong.append(f"the alert does not say what a restore would lose: {alert['detail']}")
    if not any(c.startswith("warmd restore") for c in alert.get("commands", ())):
        wrong.append(f"the alert does not name the restore: {alert.get('commands')}")
    return wrong


def check(
    world: World, ends: tuple[End, ...], row: Mapping[str, Any] | None, known: Mapping[str, tuple[Data, ...]]
) -> list[str]:
    """Everything that is wrong after a restart and one reconcile. ``row``: what that said of the service."""
    records, wrong = journal(world.folder)
    wrong += leftovers(world)
    wrong += [f"the swarm saw: {v}" for v in world.site.violations()]
    wrong += alerts(world, records)
    wrong += snapshots(world, known)
    says = row.get("decision") if row else None
    runs = version(world)
    if says == "stuck":  # of a bad version no task need run, but never two
        wrong += [f"{n} containers run" for n in [len(world.running())] if n > 1]
    elif not any(e.version == "" for e in ends) or runs is not None:
        wrong += swarm(world)
    if runs is not None and (app := application(world)) != runs.partition("+")[2]:
        wrong.append(f"the label says {runs}, the image is of {app}")
    data = world.data if runs is not None else Data({})
    right = [e for e in ends if e.version == (runs or "") and data.same(e.data) and says in e.says]
    if says == "stuck":
        wrong += ways_out(world)
    right = [e for e in right if e.greeting in (None, greeting(world))]
    if not right:
        wanted = " or ".join(f"{e.version} on {e.data.told} ({'/'.join(sorted(e.says))})" for e in ends)
        wrong.append(
            f"{runs} runs on {data.told}, greeting {greeting(world)}, and it says {says}; right is {wanted}"
        )
    last = states(records)
    if last and last[-1][1] not in ("committed", "rolled-back", "interrupted", "failed-unchanged", "stuck"):
        wrong.append(f"the last run is still {last[-1][1]}")
    return wrong
