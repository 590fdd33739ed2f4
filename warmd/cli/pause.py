"""``warmd pause``."""

from __future__ import annotations

from warmd.cli.options import CONFIG, AsJson, ConfigPath, MaybeService, Why


def verb(
    service: MaybeService = None, config: ConfigPath = CONFIG, why: Why = "", as_json: AsJson = False
) -> None:
    """Change nothing until resumed.

    Looks, health and alerts go on; no run begins. A run in progress goes on to its end: warmd abort
    ends it.
    """
    from warmd.cli import asking, show

    answer = asking.ask(config, "pause", service, why=why)
    if as_json:
        show.as_json(answer)
    else:
        show.lines(f"Paused: {', '.join(answer['paused'])}. To go on: warmd resume {service or ''}".strip())
