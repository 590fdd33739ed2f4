"""``python -m tests.lab list | stop ID… | sweep``: labs on this machine, by id."""

from __future__ import annotations

import sys

from tests.lab.note import alone, notes, sweep_orphans


def main(argv: list[str]) -> int:
    match argv:
        case ["list"]:
            for note in notes():
                state = "leavings" if note.orphan else "kept" if note.keep else f"owner {note.pid}"
                sys.stdout.write(f"{note.id}  {note.folder}  {state}\n")
        case ["stop", *ids] if ids:
            with alone():
                for note in notes():
                    if note.id in ids:
                        note.sweep()
        case ["sweep"]:
            with alone():
                sweep_orphans()
        case _:
            sys.stderr.write(f"{__doc__}\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
