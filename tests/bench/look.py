"""What a look's pure part costs beside parsing the listing: in the same run, the machine cancels out.

The swarm is made up: as many stacks as asked for, each of one healthy service with a last good and a
few releases above it, two of which are held. Nothing is asked of Docker.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from warmd.adapters.docker import listing
from warmd.core import gate, health, live, notices
from warmd.core.gate import View
from warmd.core.history import History
from warmd.core.model import LABEL_STACK, LABEL_VERSION, Catalog, LastGood, Note, Policy, Release, StackSeen
from warmd.core.versions import Version

T = TypeVar("T")

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
CURRENT = "1.2.0+5.1.0"
ABOVE = ("1.2.1+5.1.1", "1.3.0+5.2.0", "2.0.0+6.0.0")
IMAGE = f"registry.example.org/app:5.1.0@sha256:{'a' * 64}"
ROUNDS = 5


def service(number: int) -> dict[str, Any]:
    """One service as the engine lists it, with as much in it as a real one has."""
    stack = f"stack{number}"
    marks = {LABEL_STACK: stack, LABEL_VERSION: CURRENT, f"coop-cloud.{stack}.version": CURRENT}
    container = {
        "Image": IMAGE,
        "Labels": {LABEL_STACK: stack},
        "Env": [f"VARIABLE_{n}=the value of variable {n}" for n in range(12)],
        "Mounts": [{"Type": "volume", "Source": f"{stack}_data", "Target": "/data"}],
        "Isolation": "default",
    }
    spec = {
        "Name": f"{stack}_app",
        "Labels": marks,
        "TaskTemplate": {
            "ContainerSpec": container,
            "Resources": {},
            "RestartPolicy": {"Condition": "any", "Delay": 5_000_000_000, "MaxAttempts": 0},
            "Placement": {"Platforms": [{"Architecture": "amd64", "OS": "linux"}]},
            "Networks": [{"Target": f"network{number}", "Aliases": ["app"]}],
            "ForceUpdate": 0,
            "Runtime": "container",
        },
        "Mode": {"Replicated": {"Replicas": 1}},
        "UpdateConfig": {"Parallelism": 1, "FailureAction": "pause", "Order": "stop-first"},
        "EndpointSpec": {"Mode": "dnsrr"},
    }
    return {
        "ID": f"service{number}",
        "Version": {"Index": number + 100},
        "CreatedAt": "2026-05-01T10:00:00.123456789Z",
        "UpdatedAt": "2026-05-02T10:00:00.123456789Z",
        "Spec": spec,
        "PreviousSpec": spec,
        "Endpoint": {"Spec": {"Mode": "dnsrr"}},
    }


def task(number: int) -> dict[str, Any]:
    return {
        "ID": f"task{number}",
        "Version": {"Index": number + 5000},
        "CreatedAt": "2026-05-02T10:00:00.123456789Z",
        "Spec": service(number)["Spec"]["TaskTemplate"],
        "ServiceID": f"service{number}",
        "Slot": 1,
        "NodeID": "node1",
        "Status": {"State": "running", "ContainerStatus": {"ContainerID": "c" * 64, "PID": 4000 + number}},
        "DesiredState": "running",
    }


def decide(seen: Mapping[str, StackSeen], histories: Mapping[str, History], catalog: Catalog) -> int:
    """What every look does between the listing and its alerts, for every stack; how many are healthy."""
    healthy = 0
    for name, stack in seen.items():
        history = histories[name]
        text = stack.version_text
        view = View(
            catalog=catalog,
            history=history,
            policy=Policy(),
            now=NOW,
            deployed=stack.deployed,
            health=health.glance(stack),
            running=Version.parse(text) if text else None,
            running_text=text,
            down=live.down(history.live, stack),
            changed=live.suspects(history.live, stack),
        )
        decision = gate.decide(view)
        told = notices.wanted(decision, history, service=name, stack=name)
        healthy += decision.name == "held-manual-migration" and len(told) == 2
    return healthy


def releases() -> tuple[Release, ...]:
    notes = (Note("release/1.2.1+5.1.1", "b" * 64, "Run the migration by hand.\n" * 20),)
    found = []
    for text in (CURRENT, *ABOVE):
        found.append(Release(Version.of(text), text, "c" * 40, NOW, notes if text == ABOVE[0] else ()))
    return tuple(found)


def best(act: Callable[[], T]) -> tuple[float, T]:
    """The shortest of several tries, in seconds, and what came out."""
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        found = act()
        took.append(time.perf_counter() - began)
    return min(took), found


def main(count: int) -> None:
    texts = [json.dumps([make(n) for n in range(count)]) for make in (service, task)]
    parse, (services, tasks) = best(lambda: tuple(json.loads(text) for text in texts))
    read, seen = best(lambda: listing.stacks(services, tasks))
    good = LastGood(Version.of(CURRENT), "d" * 64, NOW, "committed")
    histories = {name: History(last_good=good, live=live.marks(stack)) for name, stack in seen.items()}
    catalog = Catalog(releases(), fetched_at=NOW)
    took, decided = best(lambda: decide(seen, histories, catalog))
    if decided != count:
        raise SystemExit(f"{decided} of {count} services came to the decision that they should")
    size = sum(map(len, texts)) / 1e6
    rows = (("parsing the listing's JSON", parse), ("reading stacks out of it", read), ("deciding", took))
    sys.stdout.write(f"{count} services, a listing of {size:.1f} MB, best of {ROUNDS}\n")
    for what, seconds in rows:
        sys.stdout.write(f"  {what:<28} {1000 * seconds:8.1f} ms  {seconds / parse:6.2f} x parsing\n")
    sys.stdout.write(f"  a service's decision         {1e6 * took / count:8.0f} us\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
