"""``warmd status``."""

from __future__ import annotations

from warmd.cli.options import CONFIG, AsJson, ConfigPath, MaybeService, Strict


def verb(
    service: MaybeService = None, config: ConfigPath = CONFIG, strict: Strict = False, as_json: AsJson = False
) -> int:
    """Show every service as it was at its last look.

    A service that was not looked at yet is looked at now, and left as it is. With --strict, exits 3
    where one is not healthy on its latest safe version, and 5 where one is stuck.
    """
    from warmd.cli import asking, show

    rows = asking.ask(config, "status", service)["services"]
    if as_json:
        show.as_json(rows)
    else:
        show.services(rows)
    if strict and any(row["run_state"] == "stuck" for row in rows):
        return 5
    return asking.code_of(rows, strict=strict)
