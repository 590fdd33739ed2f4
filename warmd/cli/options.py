"""Options that several verbs have, each defined once.

``--config`` is accepted before the verb and after it. A verb takes ``config: ConfigPath = CONFIG``
and gets: its own ``--config``, else the one before the verb, else ``$WARMD_CONFIG``, else CONFIG.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

CONFIG = Path("/etc/warmd/warmd.toml")


def _config(context: typer.Context, value: Path) -> Path:
    """The nearest ``--config`` that was typed, else what the environment or the default says."""
    if _typed(context) or context.parent is None or not _typed(context.parent):
        return value
    return Path(context.parent.params["config"])


def _typed(context: Any) -> bool:
    source = context.get_parameter_source("config")
    return source is not None and source.name == "COMMANDLINE"


ConfigPath = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        envvar="WARMD_CONFIG",
        metavar="PATH",
        callback=_config,
        help="The configuration file.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
ServiceName = Annotated[str, typer.Argument(metavar="SERVICE", help="A service's name in the configuration.")]
MaybeService = Annotated[
    str | None,
    typer.Argument(metavar="[SERVICE]", help="A service's name in the configuration. Default: all of them."),
]


class Level(StrEnum):
    """What ``--log-level`` takes: the levels of the configuration."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


LogLevel = Annotated[
    Level | None,
    typer.Option(
        "--log-level", metavar="LEVEL", help="debug, info, warning or error; wins over the configuration."
    ),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline", help="Use the versions that are known; no network. A running daemon has its own."
    ),
]
Version = Annotated[str | None, typer.Option("--version", metavar="VERSION", help="Such as 10.7.1+26.6.2.")]
Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="Why; it is kept in the history.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit 3 where a service is held.")]
