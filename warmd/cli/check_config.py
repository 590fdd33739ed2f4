"""``warmd check-config``."""

from __future__ import annotations

import json
import sys
from typing import Any

from warmd.cli.options import CONFIG, AsJson, ConfigPath
from warmd.config import Config, ConfigProblems, Problem, Service, load
from warmd.plugins.table import kind_of


def verb(config: ConfigPath = CONFIG, as_json: AsJson = False) -> None:
    """Check the configuration and show what it says.

    Reads the file and nothing else: Docker, git and the services are not asked. Exit code 2 where
    something is wrong; warnings alone are fine.
    """
    if not as_json:
        _show(load(config))
        return
    try:
        answer = _as_json(load(config))
    except ConfigProblems as wrong:
        _write({"ok": False, "path": str(config), "errors": [_problem(p) for p in wrong.problems]})
        raise
    _write(answer)


def _show(config: Config) -> None:
    # Loaded late: errors, the common case of a check that matters, need no tables.
    from rich.console import Console
    from rich.table import Table

    from warmd.core.text import plain

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("SERVICE", "STACK", "SOURCE", "HEALTH", "SNAPSHOT"):
        table.add_column(title, overflow="fold")
    for name, service in config.services.items():
        table.add_row(*map(plain, _row(name, service)), style=None if service.enabled else "dim")
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 200  # nobody's window: an address folded into two lines can't be searched for
    if config.services:
        console.print(table)
        console.print()
    for warning in config.warnings:
        console.print(plain(f"warning: {warning}"), soft_wrap=True, style="yellow")
    count = len(config.services)
    console.print(plain(f"OK: {config.path}, {count} service{'' if count == 1 else 's'}"), soft_wrap=True)


def _row(name: str, service: Service) -> tuple[str, str, str, str, str]:
    return (
        name if service.enabled else f"{name} (not enabled)",
        service.stack,
        _with_address(service.source),
        "\n".join(["tasks", *(_with_address(probe) for probe in service.health)]),
        kind_of(service.snapshot),
    )


def _with_address(plugin: Any) -> str:
    """A plugin's kind, and its URL where it has one, without a password that may be in it."""
    url = str(getattr(plugin, "url", ""))
    if "@" in url.partition("//")[2].partition("/")[0]:
        scheme, _, rest = url.partition("//")
        url = f"{scheme}//{rest.rpartition('@')[2]}"
    return f"{kind_of(plugin)} {url}".strip()


def _as_json(config: Config) -> dict[str, Any]:
    return {
        "ok": True,
        "path": str(config.path),
        "services": [
            {
                "service": name,
                "enabled": service.enabled,
                "stack": service.stack,
                "source": kind_of(service.source),
                "deploy": kind_of(service.deploy),
                "health": ["tasks", *(kind_of(probe) for probe in service.health)],
                "snapshot": kind_of(service.snapshot),
            }
            for name, service in config.services.items()
        ],
        "warnings": [_problem(warning) for warning in config.warnings],
    }


def _problem(problem: Problem) -> dict[str, Any]:
    return {"path": str(problem.path), "line": problem.line, "key": problem.key, "text": problem.text}


def _write(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")
