"""``warmd alerts``."""

from __future__ import annotations

from warmd.cli.options import CONFIG, AsJson, ConfigPath, MaybeService


def verb(service: MaybeService = None, config: ConfigPath = CONFIG, as_json: AsJson = False) -> None:
    """Show what is open and what to type about it.

    From the journal, so also what somebody took out of the alert folder. With SERVICE, the notes that
    have to be read are shown in full.
    """
    from warmd.cli import asking, show

    bodies = asking.ask(config, "alerts", service)["alerts"]
    if as_json:
        show.as_json(bodies)
    else:
        show.alerts(bodies, texts=service is not None)
