"""``warmd adopt``."""

from __future__ import annotations

from warmd.cli.options import CONFIG, AsJson, ConfigPath, ServiceName, Version


def verb(
    service: ServiceName, config: ConfigPath = CONFIG, version: Version = None, as_json: AsJson = False
) -> None:
    """Declare good what runs now.

    It becomes last good, as it is, and a stuck run is over; no task is created. --version says which
    version it is, where no label does.
    """
    from warmd.cli import asking, show

    answer = asking.ask(config, "adopt", service, version=version)
    if as_json:
        show.as_json(answer)
    else:
        show.lines(f"{service}: what runs now is good, as {answer['adopted']}.")
