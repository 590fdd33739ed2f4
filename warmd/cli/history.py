"""``warmd history``."""

from __future__ import annotations

from warmd.cli.options import CONFIG, AsJson, ConfigPath, ServiceName


def verb(service: ServiceName, config: ConfigPath = CONFIG, as_json: AsJson = False) -> None:
    """Show a service's runs, and how long each step took.

    Also what is known to be good, what failed and is not tried again, and which approvals wait.
    """
    from warmd.cli import asking, show

    answer = asking.ask(config, "history", service)
    if as_json:
        show.as_json(answer)
    else:
        show.history(answer)
