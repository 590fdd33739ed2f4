"""``warmd restore``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from warmd.cli.options import CONFIG, AsJson, ConfigPath, ServiceName, Why, Yes

_Snapshot = Annotated[
    str, typer.Argument(metavar="SNAPSHOT", help="Its id, or the beginning of it: warmd snapshots SERVICE.")
]


def verb(
    service: ServiceName,
    snapshot: _Snapshot,
    config: ConfigPath = CONFIG,
    why: Why = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Put a snapshot's data and version back.

    What was written since the snapshot is no longer in the service afterwards; it is moved aside, not
    deleted. Says what will be replaced, and asks.
    """
    from warmd.cli import asking, show

    if not yes:
        preview = asking.ask(config, "preview", service, of="restore", snapshot=snapshot)
        show.preview(preview, quarantine=str(_quarantine(config, service)), to=show.stderr())
        asking.confirm(f"Replace the data of {service}?", yes=False)
        snapshot = preview["snapshot"]["id"]
    answer = asking.ask(config, "restore", service, snapshot=snapshot, why=why)
    if as_json:
        show.as_json(answer)
    else:
        show.ran(answer["run"], service)
    return int(answer["code"])


def _quarantine(config: Path, service: str) -> Path:
    from warmd.config import load

    return load(config).daemon.state_dir / "services" / service / "quarantine"
