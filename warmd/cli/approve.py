"""``warmd approve``."""

from __future__ import annotations

from typing import Annotated

import typer

from warmd.cli.options import CONFIG, AsJson, ConfigPath, Offline, ServiceName


def verb(
    service: ServiceName,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Such as 10.8.0+26.6.2.")],
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="Why; it is kept in the history.")],
    config: ConfigPath = CONFIG,
    as_json: AsJson = False,
    offline: Offline = False,
) -> None:
    """Let one version through that waits for a person.

    Counts once, and only for what is published now: if a tag moves or notes change on the way to it,
    it has to be approved again. Nothing is deployed before the next look.
    """
    from warmd.cli import asking, show

    answer = asking.ask(config, "approve", service, offline=offline, version=version, why=why)
    if as_json:
        show.as_json(answer)
    else:
        show.lines(
            f"{service}: {answer['approved']} (commit {answer['commit'][:12]}) may be deployed once.",
            f"The next look does it. Now: warmd reconcile {service}",
        )
