"""``warmd retry``."""

from __future__ import annotations

from typing import Annotated

import typer

from warmd.cli.options import CONFIG, AsJson, ConfigPath, ServiceName

_Version = Annotated[
    str | None, typer.Argument(metavar="[VERSION]", help="Only this one. Default: all that failed.")
]


def verb(
    service: ServiceName, version: _Version = None, config: ConfigPath = CONFIG, as_json: AsJson = False
) -> None:
    """Forget that a version failed, and let a stuck run go on.

    A rollback that got stuck goes on from its first step, at the next look. Any other stuck run is
    forgotten, and the service is looked at anew.
    """
    from warmd.cli import asking, show

    answer = asking.ask(config, "retry", service, version=version)
    if as_json:
        show.as_json(answer)
    else:
        show.lines(
            f"{service}: {version or 'what failed'} may be tried again.",
            f"The next look does it. Now: warmd reconcile {service}",
        )
