"""``warmd resume``."""

from __future__ import annotations

from warmd.cli.options import CONFIG, AsJson, ConfigPath, MaybeService


def verb(service: MaybeService = None, config: ConfigPath = CONFIG, as_json: AsJson = False) -> None:
    """Go on after a pause.

    The next look does what is due. A PAUSE file in the state directory is another thing: remove it.
    """
    from warmd.cli import asking, show

    answer = asking.ask(config, "resume", service)
    if as_json:
        show.as_json(answer)
    else:
        show.lines(f"Resumed: {', '.join(answer['resumed'])}.")
