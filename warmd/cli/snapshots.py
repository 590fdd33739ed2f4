"""``warmd snapshots``."""

from __future__ import annotations

from warmd.cli.options import CONFIG, AsJson, ConfigPath, ServiceName


def verb(service: ServiceName, config: ConfigPath = CONFIG, as_json: AsJson = False) -> None:
    """List a service's snapshots."""
    from warmd.cli import asking, show

    known = asking.ask(config, "snapshots", service)["snapshots"]
    if as_json:
        show.as_json(known)
    else:
        show.snapshots(known, service)
