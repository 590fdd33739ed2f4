"""The verbs, one line each, and what they share.

A verb is a module of this package with one function ``verb``: its parameters are the verb's (see
``options``), its docstring's first line is the summary in the table below. It prints to stdout, raises
``WarmdError``, and returns its exit code or None for 0. It is imported when it is called, not before.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from warmd import __version__
from warmd.cli import ReaderGone
from warmd.cli.options import CONFIG, ConfigPath

#: Verb -> summary, in the order of the help. Verb ``check-config`` is the module ``check_config``.
VERBS: dict[str, str] = {
    "run": "Look after everything until told to stop: the daemon.",
    "up": "One pass over every service, then exit: for a timer.",
    "status": "Show every service as it was at its last look.",
    "plan": "Explain what a look would do now; nothing is changed.",
    "reconcile": "Look now, and do what is safe.",
    "deploy": "Deploy what is configured now, or a given version.",
    "approve": "Let one version through that waits for a person.",
    "retry": "Forget that a version failed, and let a stuck run go on.",
    "abort": "Interrupt the run in progress; the old version comes back.",
    "adopt": "Declare good what runs now.",
    "pause": "Change nothing until resumed.",
    "resume": "Go on after a pause.",
    "history": "Show a service's runs, and how long each step took.",
    "alerts": "Show what is open and what to type about it.",
    "snapshot": "Stop a service, copy its data, start it again.",
    "snapshots": "List a service's snapshots.",
    "restore": "Put a snapshot's data and version back.",
    "check-config": "Check the configuration and show what it says.",
    "schema": "Print the configuration's JSON Schema.",
}

# Plain help and messages: they end in logs and mails, and rich need not be loaded for them.
_STYLE: dict[str, Any] = {
    "add_completion": False,
    "rich_markup_mode": None,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code. Raises what the verb raises."""
    program = typer.main.get_command(_app())
    try:
        program.main(args=list(arguments), prog_name="warmd")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _app() -> typer.Typer:
    app = typer.Typer(cls=_Verbs, no_args_is_help=True, result_callback=_end, **_STYLE)
    app.callback()(_before)
    for name, summary in VERBS.items():
        app.command(name, help=summary)(_not_loaded)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"warmd {__version__}\n")
        raise typer.Exit


def _before(
    config: ConfigPath = CONFIG,
    version: Annotated[bool, typer.Option("--version", callback=_version, help="Print the version.")] = False,
) -> None:
    """Keeps Docker Swarm stacks on their latest safe version, and puts version and data back when one is bad.

    Exit codes: 0 fine, 2 configuration or command line wrong, 3 held (with --strict), 4 rolled back,
    5 stuck, 6 could not be done now, 7 a person is needed, 8 another warmd is at work.
    """


def _end(code: int | None, **_: Any) -> None:
    raise typer.Exit(code or 0)


def _not_loaded() -> None:
    raise AssertionError("the group loads a verb before it calls it")


class _Verbs(typer.core.TyperGroup):
    """Loads a verb's module when the verb is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in VERBS:
            module = importlib.import_module(f"warmd.cli.{args[0].replace('-', '_')}")
            app = typer.Typer(**_STYLE)
            app.command(args[0])(module.verb)
            self.commands[args[0]] = typer.main.get_command(app)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderGone from error
