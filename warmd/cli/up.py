"""``warmd up``."""

from __future__ import annotations

from warmd.cli.options import CONFIG, AsJson, ConfigPath, LogLevel, Offline, Strict


def verb(
    config: ConfigPath = CONFIG,
    strict: Strict = False,
    as_json: AsJson = False,
    log_level: LogLevel = None,
    offline: Offline = False,
) -> int:
    """One pass over every service, then exit: for a timer.

    Exits 0 also where services are held. Exits 4 where one was rolled back, 5 where one is stuck, and
    with --strict 3 where one is held.
    """
    from warmd.cli import asking, show

    # A timer comes round: what failed a moment ago is left to its back-off.
    answer = asking.ask(config, "reconcile", offline=offline, log_level=log_level or "info", patient=True)
    if as_json:
        show.as_json(answer["looks"])
    else:
        show.services(answer["looks"])
    return asking.code_of(answer["looks"], strict=strict)
