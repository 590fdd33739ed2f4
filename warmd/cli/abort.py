"""``warmd abort``."""

from __future__ import annotations

from typing import Any

from warmd.cli.options import CONFIG, AsJson, ConfigPath, ServiceName, Yes
from warmd.errors import NotFound


def verb(service: ServiceName, config: ConfigPath = CONFIG, yes: Yes = False, as_json: AsJson = False) -> int:
    """Interrupt the run in progress; the old version comes back.

    Before the new version is deployed, on its untouched data. After that, version and data go back
    together, and what was written since the snapshot is no longer in the service: so it asks.
    """
    from warmd.cli import asking, show

    if not yes:
        runs = asking.ask(config, "history", service)["runs"]
        if not runs or runs[-1]["ended"]:
            raise NotFound(f"{service}: no run is in progress", hint=f"warmd status {service}")
        show.lines(*_what(service, runs[-1]), to=show.stderr())
        asking.confirm("Abort it?", yes=False)
    answer = asking.ask(config, "abort", service)
    if as_json:
        show.as_json(answer)
    else:
        show.ran(answer["run"], service)
    # What was asked for is that it ends without its aim: that is fine, unless it got stuck.
    return 0 if answer["code"] in (4, 7) else int(answer["code"])


def _what(service: str, run: dict[str, Any]) -> tuple[str, str]:
    before = run["from_version"] or "what ran before"
    reached = {state for state, _ in run["states"]}
    if "deploying" not in reached:
        follows = f"{before} goes on, on its untouched data."
    elif run["snapshot"]:
        follows = (
            f"The data of snapshot {run['snapshot']} and {before} go back; what was written since is lost."
        )
    else:
        follows = f"{before} goes back."
    return f"{service}: run {run['id']} ({run['kind']} {run['to_version'] or ''}) is {run['state']}.", follows
