"""What the demo and the Keycloak run share: acts with headings, the real ``warmd``, and outcomes seen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.lab import Lab

Json = dict[str, Any]


class NotSeen(Exception):
    """An outcome did not show."""


class Stage:
    """Prints what happens. Colours only on a terminal."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.seen = 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    def _print(self, text: str = "", style: str = "") -> None:
        sys.stdout.write(f"\x1b[{style}m{text}\x1b[0m\n" if style and self._colour else f"{text}\n")
        sys.stdout.flush()

    def act(self, title: str) -> None:
        self._print(f"\n=== {title}  [{self.seconds:.0f} s]", "1")

    def say(self, text: str) -> None:
        self._print(f"  {text}")

    def typed(self, command: str) -> None:
        self._print(f"  $ {command}", "36")

    def output(self, text: str) -> None:
        for line in text.rstrip("\n").splitlines():
            self._print(f"  | {line}")

    def saw(self, what: str, true: object, instead: object = "") -> None:
        """Tick an outcome. Raises NotSeen where it is not true."""
        if not true:
            self._print(f"  ✗ {what}", "1;31")
            raise NotSeen(f"{what}: not so ({instead})" if instead != "" else f"{what}: not so")
        self.seen += 1
        self._print(f"  ✓ {what}", "32")

    def same(self, what: str, found: object, wanted: object) -> None:
        """Tick an outcome that is an equality, and show what was found otherwise."""
        self.saw(what, found == wanted, f"{found!r} instead of {wanted!r}")


class Warmd:
    """The installed command, run as an operator runs it, with one configuration file."""

    def __init__(self, stage: Stage, lab: Lab, config: Path, *, alerts: Path) -> None:
        self._stage = stage
        self._lab = lab
        self.config = config
        self._alerts = alerts
        self.program = Path(sys.executable).with_name("warmd")
        # It must find its engine in the configuration alone.
        self._env = {k: v for k, v in lab.docker_env.items() if k not in ("DOCKER_HOST", "WARMD_CONFIG")}
        self._env |= {"COLUMNS": "118", "NO_COLOR": "1"}

    def run(self, *args: str, codes: tuple[int, ...] = (0,), show: bool = True, deadline: float = 600) -> str:
        """Run a verb, show what it says, return its stdout. Raises NotSeen for another exit code."""
        if show:
            self._stage.typed(f"warmd {' '.join(_quoted(a) for a in args)}")
        log = self.config.parent / "warmd.log"
        with log.open("ab") as errors:
            where = errors.tell()
            done = subprocess.run(
                [self.program, "--config", self.config, *args],
                env=self._env,
                stdout=subprocess.PIPE,
                stderr=errors,
                timeout=deadline,
                check=False,
            )
        text = done.stdout.decode(errors="replace")
        if show:
            self._stage.output(text)
        if done.returncode not in codes:
            said = log.read_bytes()[where:].decode(errors="replace")
            self._stage.output(said)
            raise NotSeen(f"warmd {' '.join(args)} ended with {done.returncode}, not {codes}")
        return text

    def json(self, *args: str) -> Any:
        return json.loads(self.run(*args, "--json", show=False))

    def status(self, service: str) -> Json:
        """The service's row of ``warmd status``."""
        answer = self.json("status")
        rows = answer["services"] if isinstance(answer, dict) else answer
        found: Json = next(row for row in rows if row["service"] == service)
        return found

    def runs(self, service: str) -> list[Json]:
        """Its runs, oldest first, as ``warmd history`` has them."""
        found: list[Json] = self.json("history", service)["runs"]
        return found

    def alerts(self, *, state: str = "open") -> list[Json]:
        """Alert files as another program reads them: those still open, or the resolved ones."""
        found = [json.loads(path.read_text()) for path in sorted(self._alerts.glob("*.json"))]
        over = {alert["id"] for alert in found if alert["state"] == "resolved"}
        return [a for a in found if a["state"] == state and (state == "resolved" or a["id"] not in over)]

    def alert(self, kind: str, candidate: str | None = None) -> Json | None:
        """The open alert of that kind, about that version where one is given."""
        for alert in self.alerts():
            if alert["kind"] == kind and candidate in (None, alert["candidate"]):
                return alert
        return None

    def show_alert(self, kind: str, candidate: str | None = None) -> Json:
        """Show the open alert's file as a person would read it; the alert."""
        alert = self.alert(kind, candidate)
        opened = [(a["kind"], a["candidate"]) for a in self.alerts()]
        self._stage.saw(f"an alert file says {kind} {candidate or ''}".rstrip(), alert, f"open: {opened}")
        assert alert is not None
        shown = {k: alert[k] for k in ("kind", "severity", "summary", "detail", "candidate", "commands")}
        if alert["notes"]:
            shown["notes"] = [note["text"] or f"(binary: {note['path']})" for note in alert["notes"]]
        self._stage.output(json.dumps(shown, indent=2, ensure_ascii=False))
        return alert


def _quoted(arg: str) -> str:
    return f"'{arg}'" if " " in arg else arg


def task_ids(lab: Lab, stack: str) -> set[str]:
    """Every task the swarm knows of: the same set later means that not one was created."""
    return {task["ID"] for task in lab.tasks(stack)}


def wait_until(condition: Callable[[], object], what: str, *, deadline: float) -> None:
    until = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > until:
            raise NotSeen(f"waited {deadline:.0f} s in vain for {what}")
        time.sleep(0.2)


def end_on_sigterm() -> None:
    """Let a SIGTERM unwind the stack, so that the lab is taken away."""

    def end(number: int, _: object) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)


def diagnose(stage: Stage, lab: Lab, warmd: Warmd | None, stack: str) -> None:
    """After a failure: what the swarm and warmd say."""

    def attempts() -> Iterator[tuple[str, Callable[[], str]]]:
        yield f"docker stack ps {stack}", lambda: lab.docker("stack", "ps", "--no-trunc", stack)
        for container in lab.containers(stack)[:3]:
            ident = container["Id"][:12]
            yield f"docker logs {ident}", partial(lab.docker, "logs", "--tail", "15", ident)
        if warmd is not None:
            log = warmd.config.parent / "warmd.log"
            yield "warmd's log", lambda: "\n".join(log.read_text(errors="replace").splitlines()[-40:])

    stage.act("What was there when it failed")
    for what, ask in attempts():
        stage.say(what)
        try:
            stage.output(ask())
        except Exception as error:  # a failure here must not hide the first one
            stage.output(f"({error})")
