"""``warmd up``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from warmd.cli.options import CONFIG, AsJson, ConfigPath
from warmd.cli.run import LogLevel, Offline

Strict = Annotated[bool, typer.Option("--strict", help="Exit 3 where a service is held.")]


def verb(
    config: ConfigPath = CONFIG,
    strict: Strict = False,
    as_json: AsJson = False,
    log_level: LogLevel = None,
    offline: Offline = False,
) -> int:
    """One pass over every service, then exit: for a oneshot unit or a timer.

    Exits 0 also where services are held. Exits 4 where one was rolled back, 5 where one is stuck, and
    with --strict 3 where one is held.
    """
    from warmd.cli import asking, show

    answer = asking.ask(config, "reconcile", offline=offline, log_level=log_level or "info")
    if as_json:
        show.as_json(answer["looks"])
    else:
        show.services(answer["looks"])
    return max((_code(look, strict) for look in answer["looks"]), default=0)


def _code(look: dict[str, Any], strict: bool) -> int:
    code = int(look["code"])
    if code == 0 and strict and look.get("decision") != "noop-healthy":
        return 3
    return code
