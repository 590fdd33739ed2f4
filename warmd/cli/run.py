"""``warmd run``."""

from __future__ import annotations

from typing import Any

from warmd.cli.options import CONFIG, ConfigPath, LogLevel, Offline


def verb(config: ConfigPath = CONFIG, log_level: LogLevel = None, offline: Offline = False) -> None:
    """Look after everything until told to stop: the daemon.

    SIGHUP looks at everything now. SIGTERM stops within 30 seconds, in the middle of an upgrade too:
    before the new version is deployed the old one is put back, after that the next start goes on.
    """
    import anyio

    from warmd import log
    from warmd.config import load

    settings = load(config)
    log.setup(log_level or settings.daemon.log_level)
    anyio.run(_run, settings, offline)


async def _run(settings: Any, offline: bool) -> None:
    import anyio

    from warmd.app import build
    from warmd.engine import control

    async with build(settings, offline=offline) as app:
        with app.state.lock():
            supervisor = app.supervisor()
            desk = app.desk(supervisor)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_listen, supervisor)
                await tasks.start(control.serve, desk, settings.daemon.control_socket)
                await supervisor.run()
                tasks.cancel_scope.cancel()


async def _listen(supervisor: Any) -> None:
    """Signals, while the daemon runs. A second one, meant to hurry it up, must not kill it at the exit."""
    import signal

    try:
        await supervisor.signals()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
