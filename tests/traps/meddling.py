"""warmd, and somebody who steps in: ``python -m tests.traps.meddling STATE COMMAND warmd's arguments``.

COMMAND is run by a shell once, at the moment between the journal's record that the run enters STATE and
the work of that state. STATE ``none`` is warmd alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import warmd.app
from warmd.cli import main


def steps_in(state: str, command: str) -> Any:
    """In place of ``warmd.app.pause_file``: asked before each step, it is where somebody else acts."""
    pause_file = warmd.app.pause_file

    def patched(path: Path) -> Callable[[], str | None]:
        halted, done = pause_file(path), False

        def asked() -> str | None:
            nonlocal done
            if not done and entered(path.parent / "services" / "app" / "journal") == state:
                done = True
                said = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
                if said.returncode:
                    raise SystemExit(f"{command}: {said.stderr}")
            return halted()

        return asked

    return patched


def entered(journal: Path) -> str:
    """The state that the journal's last record enters, or ""."""
    if not journal.exists():
        return ""
    last = journal.read_bytes().strip().split(b"\n")[-1]
    return str((json.loads(last) if last else {}).get("data", {}).get("state", ""))


if __name__ == "__main__":
    state, command, *arguments = sys.argv[1:]
    warmd.app.pause_file = steps_in(state, command)
    sys.exit(main(arguments))
