"""A warm service behind the proxy, through one upgrade after another; what is left of each is looked at."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.docker.cases import Case
from tests.faults.docker.faults import OF_SWARM, Fault
from tests.faults.docker.proxy import Proxy, proxied
from tests.lab import Lab
from tests.said import Said
from tests.swarm.observer import checksum, deployed
from tests.swarm.passing import journal, records
from tests.swarm.world import World

GATE = 'health_gate = { deadline = "20s", interval = "100ms", successes = 2, stable = "300ms" }'
#: A bad version is waited for until the deadline.
ROLLBACK_GATE = GATE.replace("20s", "6s")
HASTY = (sys.executable, "-m", "tests.faults.docker.hasty")

#: Beside the application: what makes an upgrade create and remove something of every kind, at no cost.
_MORE = """\
  {side}:
    image: "{image}"
    configs: [{{ source: settings, target: /settings }}]
    secrets: [token]
    networks: [inner]
    deploy: {{ replicas: 0, endpoint_mode: dnsrr }}
"""
_PARTS = """\
configs:
  settings: {{ file: ./settings, name: "{stack}_settings_{number}" }}
secrets:
  token: {{ file: ./token, name: "{stack}_token_{number}" }}
"""


def state_of(world: World) -> str:
    """Where the run is that the journal tells of; ``idle`` between runs."""
    try:
        lines = journal(world).read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return "idle"
    for line in reversed(lines):
        record = json.loads(line)
        if record["type"] == "run.planned":
            return "planned"
        if record["type"] == "run.state":
            state = str(record["data"]["state"])
            return "idle" if state in _ENDS else state
    return "idle"


#: What no second try of the same call makes up for.
_LOUD = (Fault.HANGS, Fault.FAILS, Fault.UNAVAILABLE, Fault.NO_LEADER, Fault.NO_MANAGER)
_ENDS = ("committed", "rolled-back", "failed-unchanged", "interrupted")


@dataclass
class Stage:
    """One service; each story leaves it healthy, on a higher version or the same."""

    world: World
    proxy: Proxy
    number: int = 0
    said: list[str] = field(default_factory=list)
    spoilt: bool = False

    # --- acts -------------------------------------------------------------------------------------

    def publish(self, *, bad: bool = False) -> str:
        """The next release. Each has a config, a secret, a network and a second service of its own."""
        self.number += 1
        app = f"1.{self.number}.0"
        image = self.world.lab.warm_app(app, bad="never-healthy" if bad else None)
        side = _MORE.format(side=f"side{self.number}", image=image)
        compose = self.world.compose(image).replace("\nnetworks:\n", f"\n{side}networks:\n")
        compose = compose.replace(
            "\nvolumes:\n", f'\n  inner: {{ name: "{self.world.stack}_inner_{self.number}" }}\nvolumes:\n'
        )
        compose += _PARTS.format(stack=self.world.stack, number=self.number)
        files = {"settings": f"of {app}\n", "token": f"secret of {app}\n"}
        self.world.recipe.publish(f"{app}+{app}", compose=compose, files=files)
        return f"{app}+{app}"

    def up(self) -> Said:
        """One pass, however it ends."""
        result = self.world.warmd("up", "--json", check=None)
        self.said.append(result.err)
        return result

    def failing(self, *cases: Case) -> Said:
        """A pass in which calls fail, each once. Without a leader networks are missing, which nobody could
        tell from the truth, were it not that other answers are missing as well: so that lasts a moment."""
        with ExitStack() as stack:
            rules = []
            for case in cases:
                lasts = 1.0 if case.fault in OF_SWARM and case.call.of_networks else 0.0
                rules.append(stack.enter_context(self.proxy.failing(case.call, case.fault, lasts=lasts)))
            said = self.up()
            self.world.wait(lambda: all(rule.over for rule in rules), "the end of what lasts")
        for case, rule in zip(cases, rules, strict=True):
            assert rule.hits == 1 or (rule.lasts and rule.hits), f"{case}: it came {rule.hits} times"
        return said

    # --- what is seen -----------------------------------------------------------------------------

    def good(self) -> None:
        """One task a service, of the version that the label says, on data of just that version."""
        version = deployed(self.world)
        app = version.partition("+")[2]
        assert self.world.serves(app), f"{app} does not answer"
        assert self.world.schema == app
        assert "damaged" not in self.world.notes
        assert "precious" in self.world.notes
        migrations = (self.world.volume / "history").read_text().splitlines()
        assert len(migrations) == len(set(migrations)), "each was made once"
        specs = self.world.specs()
        assert set(specs) == {"app", f"side{app.split('.')[1]}"}
        assert {s["Labels"]["warmd.version"] for s in specs.values()} == {version}
        self.world.wait(self.world.settled, f"exactly the tasks of {version}", 20)

    @property
    def now(self) -> float:
        return time.time()

    @property
    def service(self) -> str:
        return str(self.world.specs()["app"]["id"])

    def created(self, since: float) -> list[str]:
        """The versions (image tags) of the application's containers that were made since then."""
        filters = {
            "type": ["container"],
            "event": ["create"],
            "label": [f"com.docker.swarm.service.name={self.world.stack}_app"],
        }
        params = {"since": f"{since:.6f}", "until": f"{time.time():.6f}", "filters": json.dumps(filters)}
        lines = self.world.lab.api.get("/events", params=params).raise_for_status().text.splitlines()
        images = [json.loads(line)["Actor"]["Attributes"]["image"] for line in lines]
        return [image.partition("@")[0].rpartition(":")[2] for image in images]

    def runs(self, after: int) -> list[dict[str, Any]]:
        """The last record of each run that began after record ``after``, oldest first."""
        last: dict[str, dict[str, Any]] = {}
        for record in records(self.world):
            if record["seq"] > after and record["run"] and record["type"] in ("run.planned", "run.state"):
                last[record["run"]] = record["data"]
        return list(last.values())

    def tells_of(self, case: Case, first: Said, others: list[dict[str, Any]]) -> bool:
        """Whether somebody who reads what warmd left behind knows that Docker was in trouble, and where.

        What is over at the second try of the same call need not be told: that is so for broken
        connections, for stale indexes, and for all that docker's client asks only to be polite.
        """
        call = case.call
        if case.fault not in _LOUD or call.path == "_ping":
            return True
        if call.state == "idle":
            return _names_docker(first)
        if call.state in ("planned", "pulling", "checking"):
            return call.state in {o["detail"].partition(":")[0] for o in others}
        logged = [json.loads(line) for line in first.err.splitlines() if line.startswith("{")]
        if call.state not in ("gating", "regating"):
            return call.state in {line["state"] for line in logged if line["event"] == "run.waits"}
        blind = [line for line in logged if line["event"] == "gate.saw" and line["health"] == "inconclusive"]
        return bool(blind) or _names_docker(first)

    @property
    def length(self) -> int:
        return len(records(self.world))

    @property
    def data(self) -> str:
        return checksum(self.world.volume)


def _names_docker(said: Said) -> bool:
    error = said.json[0].get("error") or ""
    return "Docker" in error or "swarm" in error


@contextmanager
def staged(lab: Lab, folder: Path, *, gate: str = GATE) -> Iterator[Stage]:
    """A service that runs its first version, with something in it that must not be lost."""
    stack = f"t{secrets.token_hex(4)}"
    world = World(lab, folder, stack, gate=gate, command=HASTY)
    with proxied(lab.docker_host, lambda: state_of(world)) as proxy:
        world.docker_host = proxy.host
        world.write_config()
        stage = Stage(world, proxy)
        try:
            stage.publish()
            world.up()
            world.write_note("precious")
            stage.good()
            yield stage
        finally:
            lab.remove_stack(stack)


@dataclass
class Stages:
    """One stage for many stories; after one that went wrong the next gets a new one."""

    lab: Lab
    folder: Path
    gate: str
    _stack: ExitStack = field(default_factory=ExitStack)
    _stage: Stage | None = None
    _made: int = 0

    @contextmanager
    def story(self) -> Iterator[Stage]:
        if self._stage is None or self._stage.spoilt:
            self._stack.close()
            self._made += 1
            folder = self.folder / str(self._made)
            folder.mkdir()
            self._stage = self._stack.enter_context(staged(self.lab, folder, gate=self.gate))
        self._stage.spoilt = True
        yield self._stage
        self._stage.spoilt = False

    def close(self) -> None:
        self._stack.close()
