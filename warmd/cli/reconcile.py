"""``warmd reconcile``."""

from __future__ import annotations

from warmd.cli.options import CONFIG, AsJson, ConfigPath, MaybeService, Offline, Strict


def verb(
    service: MaybeService = None,
    config: ConfigPath = CONFIG,
    strict: Strict = False,
    as_json: AsJson = False,
    offline: Offline = False,
) -> int:
    """Look now, and do what is safe.

    The same look that the daemon makes, without the wait that follows a failure. Exits 4 where a run
    was rolled back or interrupted, 5 where a service is stuck, and with --strict 3 where one is held.
    """
    from warmd.cli import asking, show

    looks = asking.ask(config, "reconcile", service, offline=offline)["looks"]
    if as_json:
        show.as_json(looks)
    else:
        show.services(looks)
        show.runs_of(looks)
    return asking.code_of(looks, strict=strict)
