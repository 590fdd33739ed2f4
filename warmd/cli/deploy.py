"""``warmd deploy``."""

from __future__ import annotations

from warmd.cli.options import CONFIG, AsJson, ConfigPath, Offline, ServiceName, Version, Why


def verb(
    service: ServiceName,
    config: ConfigPath = CONFIG,
    version: Version = None,
    why: Why = "",
    as_json: AsJson = False,
    offline: Offline = False,
) -> int:
    """Deploy what is configured now, or a given version.

    A run like any other, with snapshot, health gate and way back. --version names a higher one that
    the rules let through, or that was approved.
    """
    from warmd.cli import asking, show

    answer = asking.ask(config, "deploy", service, offline=offline, version=version, why=why)
    if as_json:
        show.as_json(answer)
    else:
        show.ran(answer["run"], service)
    return int(answer["code"])
