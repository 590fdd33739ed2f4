"""From a TOML file to frozen settings, or to everything that is wrong with it at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from warmd.config.locate import Key, line_of, locate
from warmd.config.models import Daemon, File, Service
from warmd.config.problems import ConfigProblems, Loc, Problem, dotted, explain
from warmd.core import durations
from warmd.plugins.table import kind_of

_TOML_AT = re.compile(r" \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration that is right. ``services`` is by name, in the file's order; ``warnings`` are
    things worth telling that stop nothing."""

    path: Path
    daemon: Daemon
    services: Mapping[str, Service]
    warnings: tuple[Problem, ...] = ()

    @property
    def folder(self) -> Path:
        """What relative paths are relative to."""
        return self.path.absolute().parent


def load(path: Path) -> Config:
    """Read and check one file. Raises ConfigProblems (a ConfigError) with all that is wrong."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        hint = "start from config.example.toml, or name another file with --config or $WARMD_CONFIG"
        raise ConfigProblems([Problem(path, None, "", "there is no such file")], hint=hint) from None
    except OSError as error:
        text = f"can't be read: {(error.strerror or str(error)).lower()}"
        raise ConfigProblems([Problem(path, None, "", text)]) from None
    try:
        return parse(data.decode(), path)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigProblems([Problem(path, line, "", "not valid UTF-8")]) from None


def parse(text: str, path: Path) -> Config:
    """Like ``load``, for text that was read already; ``path`` is for messages and relative paths."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigProblems([_syntax(str(error), text, path)]) from None
    lines = locate(text)
    found = _twice(raw)
    file = None
    try:
        file = File.model_validate(raw, context={"folder": path.absolute().parent})
    except ValidationError as error:
        found += explain(error.errors(), raw)
    if file is None or found:
        raise ConfigProblems(_placed(found, lines, path))
    return Config(
        path, file.daemon, MappingProxyType(dict(file.services)), _placed(_worth_telling(file), lines, path)
    )


def _syntax(message: str, text: str, path: Path) -> Problem:
    at = _TOML_AT.search(message)
    line = int(at["line"]) if at and at["line"] else text.count("\n") + 1
    column = f" (column {at['column']})" if at and at["column"] else ""
    what = _TOML_AT.sub("", message)
    return Problem(path, line, "", f"not valid TOML: {what[0].lower()}{what[1:]}{column}")


def _placed(found: list[tuple[Loc, str]], lines: dict[Key, int], path: Path) -> tuple[Problem, ...]:
    problems = [Problem(path, line_of(lines, loc), dotted(loc), text) for loc, text in found]
    return tuple(sorted(problems, key=lambda p: p.line or 0))


def _twice(raw: Mapping[str, Any]) -> list[tuple[Loc, str]]:
    """Services that want one stack. Looked for here, so that other errors don't hide it."""
    services = raw.get("services")
    owners: dict[str, str] = {}
    found: list[tuple[Loc, str]] = []
    for name, service in services.items() if isinstance(services, dict) else ():
        stack = service.get("stack", name) if isinstance(service, dict) else None
        if not isinstance(stack, str):
            continue
        first = owners.setdefault(stack, name)
        if first != name:
            text = f'the services "{first}" and "{name}" have the same stack "{stack}"'
            found.append((("services", name, "stack"), text))
    return found


def _worth_telling(file: File) -> list[tuple[Loc, str]]:
    if not file.services:
        return [(("services",), "no service is configured, warmd has nothing to do")]
    return [
        (("services", name, *loc), text)
        for name, service in file.services.items()
        for loc, text in (_of(service) if service.enabled else [((), "not enabled, warmd leaves it alone")])
    ]


def _of(service: Service) -> Iterator[tuple[Loc, str]]:
    policy, gate = service.policy, service.health_gate
    if not service.health:
        yield ("health",), "no health check, only the swarm's tasks are looked at"
    if kind_of(service.snapshot) == "none":
        yield ("snapshot", "kind"), "no snapshot, a rollback puts the version back and no data"
    if policy.notes == "ignore":
        yield ("policy", "notes"), "release notes are not looked at, manual migrations go unnoticed"
    if policy.rollback_horizon == timedelta(0):
        yield ("policy", "rollback_horizon"), "a failed upgrade is never rolled back by itself"
    elif policy.rollback_horizon < gate.deadline:
        text = (
            f"shorter than health_gate.deadline ({durations.format(gate.deadline)}): "
            "an upgrade that fails late is not rolled back by itself"
        )
        yield ("policy", "rollback_horizon"), text
