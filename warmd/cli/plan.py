"""``warmd plan``."""

from __future__ import annotations

from warmd.cli.options import CONFIG, AsJson, ConfigPath, MaybeService, Offline


def verb(
    service: MaybeService = None,
    config: ConfigPath = CONFIG,
    as_json: AsJson = False,
    offline: Offline = False,
) -> int:
    """Explain what a look would do now; nothing is changed.

    Shows what runs, every release above it with each rule's verdict, the notes to read, what would
    differ, the steps, the outage to expect, and what you may type next.
    """
    from warmd.cli import asking, show

    plans = asking.ask(config, "plan", service, offline=offline)["plans"]
    if as_json:
        show.as_json(plans)
    else:
        show.plans(plans)
    return asking.code_of(plans)
