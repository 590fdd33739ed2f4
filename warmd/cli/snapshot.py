"""``warmd snapshot``."""

from __future__ import annotations

from warmd.cli.options import CONFIG, AsJson, ConfigPath, ServiceName, Why, Yes


def verb(
    service: ServiceName,
    config: ConfigPath = CONFIG,
    why: Why = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Stop a service, copy its data, start it again.

    The service is down for the copy: says how long that may take, and asks.
    """
    from warmd.cli import asking, show

    if not yes:
        show.preview(asking.ask(config, "preview", service, of="snapshot"), to=show.stderr())
        asking.confirm(f"Stop {service} and copy its data?", yes=False)
    answer = asking.ask(config, "snapshot", service, why=why)
    if as_json:
        show.as_json(answer)
    else:
        show.ran(answer["run"], service)
    return int(answer["code"])
