"""The command line. ``main`` is the console script's entry.

It alone turns errors into text and exit codes: a verb raises, or returns its exit code. Nothing heavy
is imported here; docs/configuration.md lists the verbs and codes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from warmd import __version__
from warmd.core.text import one_line, plain
from warmd.errors import ConfigError, WarmdError

#: 128 + the signal's number, as a shell would report it.
INTERRUPTED = 130
BROKEN_PIPE = 141


class ReaderGone(Exception):
    """Whoever read our output went away. Typer would answer a BrokenPipeError itself, with exit code 1."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. ``argv`` is without the program's name."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except WarmdError as error:
        hint = f"\n  {one_line(error.hint)}" if error.hint else ""
        # Only what is wrong with the configuration has lines; in others they would pass for messages of ours.
        message = (plain if isinstance(error, ConfigError) else one_line)(error.message)
        sys.stderr.write(f"warmd: {message}{hint}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except (BrokenPipeError, ReaderGone):
        # Whoever read us has gone. Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code


def _run(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        # Asked often by scripts; typer alone would take ten times as long as the answer.
        sys.stdout.write(f"warmd {__version__}\n")
        return 0
    from warmd.cli.verbs import run

    return run(arguments)
