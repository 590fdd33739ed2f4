"""Releases that go wrong as the swarm lets them, each in a service of its own; all may go wrong at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.lab.warmapp import Bad
from tests.size import size
from tests.swarm.world import World

#: What comes up has to come up in this time, all of them at once; what does not is waited for as long.
DEADLINE = size(15, 30, 30)
#: Good for three seconds is good enough.
GATE = f'health_gate = {{ deadline = "{DEADLINE}s", interval = "200ms", successes = 3, stable = "3s" }}'


def patient(stable: int) -> str:
    """A gate that watches for so many seconds after the first good round."""
    deadline = max(DEADLINE, stable + 3)
    return (
        f'health_gate = {{ deadline = "{deadline}s", interval = "500ms", successes = 3,'
        f' stable = "{stable}s" }}'
    )


Compose = Callable[[World, str], str]


def app(deploy: str = "", **how: Any) -> Compose:
    """A compose text of the lab's application; ``deploy`` is added to what the swarm is asked for."""

    def compose(world: World, version: str) -> str:
        text = world.compose(world.lab.warm_app(version, repo=world.name, **how))
        return text.replace("      replicas: 1\n", f"      replicas: 1\n{deploy}")

    return compose


def missing(world: World, version: str) -> str:
    return world.compose(f"{world.lab.registry}/{world.name}:{version}-was-never-pushed")


def lingering(bad: Bad | None, linger: int) -> Compose:
    """Stops only ``linger`` seconds after SIGTERM, and is given two minutes for it."""
    made = app(bad=bad, linger=linger)
    return lambda world, version: made(world, version).replace(
        "stop_grace_period: 5s", "stop_grace_period: 120s"
    )


#: Besides the service with data: two that have none, in other modes.
BESIDE = """
  side:
    image: "{image}"
    networks: [internal]
    stop_grace_period: 2s
    deploy: {{ endpoint_mode: dnsrr, replicas: 2 }}
  everywhere:
    image: "{image}"
    networks: [internal]
    stop_grace_period: 2s
    deploy: {{ endpoint_mode: dnsrr, mode: global }}
"""


def in_all_modes(bad: Bad | None = None) -> Compose:
    made = app(bad=bad)

    def compose(world: World, version: str) -> str:
        beside = BESIDE.format(image=world.lab.warm_app("1.0.0", repo=f"{world.name}-beside"))
        return made(world, version).replace("\nnetworks:\n", f"{beside}\nnetworks:\n")

    return compose


def stateless(bad: Bad | None = None) -> Compose:
    made = app(bad=bad)
    return lambda world, version: (
        made(world, version)
        .replace('    volumes: ["data:/data"]\n', "")
        .replace("volumes:\n  data: {}\n", "")
    )


@dataclass(frozen=True)
class Trap:
    """One service: what runs, what is published next, and how that ends.

    ``name`` begins with the trap's number. ``adds``: what the old version writes when it is stopped.
    """

    name: str
    bad: Compose
    good: Compose = field(default_factory=app)
    ends: str = "rolled-back"
    adds: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


#: Where only the swarm's own health check is asked.
SWARM_ASKS = {"health": ""}
CHECKED = app(healthcheck=True)

CHEAP = (
    Trap("t1-missing-image", missing, ends="failed-unchanged"),
    Trap("t2-crash-after-1s", app(bad="crash-later", after=1)),
    Trap("t3-no-such-node", app("      placement: { constraints: [node.labels.warm == cold] }\n")),
    Trap(
        "t4-slow-to-stop",
        lingering("never-healthy", 8),
        lingering(None, 8),
        adds="last words of {version}\n",
    ),
    Trap("t5-modes", in_all_modes("never-healthy"), in_all_modes()),
    Trap("t9-sick-later", app(bad="sick-later", after=2)),
    Trap("t12-never-healthy", app(bad="never-healthy", healthcheck=True), CHECKED, settings=SWARM_ASKS),
    Trap("t12-flapping", app(bad="flapping", after=2)),
)
MORE = (
    Trap("t1-crash-at-once", app(bad="crash")),
    Trap("t1-never-healthy", app(bad="never-healthy")),
    Trap("t3-too-big", app("      resources: { reservations: { memory: 4000G } }\n")),
    Trap(
        "t12-flapping-by-the-swarm",
        app(bad="flapping", after=4, healthcheck=True),
        CHECKED,
        settings=SWARM_ASKS | {"gate": patient(9)},
    ),
    Trap(
        "t18-failed-tasks",
        stateless("crash"),
        stateless(),
        settings={"snapshot": '{ kind = "none" }'},
    ),
)
#: The window has to be longer than what it is to find: these take minutes.
LATE = (
    Trap("t2-crash-after-9s", app(bad="crash-later", after=9), settings={"gate": patient(12)}),
    Trap("t2-crash-after-60s", app(bad="crash-later", after=60), settings={"gate": patient(62)}),
    Trap(
        "t4-very-slow-to-stop",
        app(bad="never-healthy"),
        lingering(None, 70),
        adds="last words of {version}\n",
    ),
    Trap("t9-sick-after-20s", app(bad="sick-later", after=20), settings={"gate": patient(25)}),
)
