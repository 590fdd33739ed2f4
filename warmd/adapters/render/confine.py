"""Runs a program that can read the files it is given and no others: Linux's Landlock, no privilege needed.

Docker's client runs as warmd's user, mostly root, and reads whatever files a compose file names:
``env_file: /etc/shadow`` or a config with ``file: ../../id_rsa`` would end in the swarm. The kernel
says no instead, however the file is written and whatever symlinks there are.

Run as a script: ``confine.py READABLE... -- PROGRAM ARGUMENT...``. It is started by path with
``python -I -S`` and must not import anything of ours.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Sequence

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH, _NO_NEW_PRIVS = 1, 1, 38
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
#: Everything that the first version of Landlock knows: reading, writing, making and removing.
_ALL = (1 << 13) - 1

#: Where programs and their libraries are: nothing there is a secret.
PROGRAMS = ("/usr", "/lib", "/lib64", "/bin", "/nix/store", "/etc/ld.so.cache", "/etc/localtime")


def available() -> bool:
    """Whether this kernel can confine a process."""
    return _syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION)) > 0


def _syscall(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(ctypes.c_long(number), *arguments))


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def restrict(readable: Sequence[str]) -> None:
    """This process, and all that it starts, read and run only what lies at or below ``readable`` and write
    nothing. Paths that are not there are passed over. Raises OSError."""
    wanted = struct.pack("Q", _ALL)
    rules = _checked(
        _syscall(_CREATE_RULESET, wanted, ctypes.c_size_t(len(wanted)), ctypes.c_uint32(0)), "a ruleset"
    )
    for path in readable:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        folder = os.path.isdir(path)  # noqa: PTH112 - pathlib takes as long to import as the rest takes
        rights = _EXECUTE | _READ_FILE | (_READ_DIR if folder else 0)
        rule = struct.pack("=Qi", rights, place)
        _checked(
            _syscall(_ADD_RULE, ctypes.c_int(rules), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint32(0)),
            path,
        )
        os.close(place)
    libc = ctypes.CDLL(None, use_errno=True)
    _checked(libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    _checked(_syscall(_RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint32(0)), "confining")
    os.close(rules)


def command(argv: Sequence[str], readable: Sequence[str]) -> list[str]:
    """The command line that runs ``argv`` (its program by path) confined to ``readable`` and PROGRAMS."""
    program = os.path.realpath(argv[0])
    return [sys.executable, "-I", "-S", __file__, program, *PROGRAMS, *readable, "--", *argv]


def main(arguments: Sequence[str]) -> None:
    """Confine this process and become the program."""
    end = arguments.index("--")
    try:
        restrict(arguments[:end])
        program = list(arguments[end + 1 :])
        os.execv(program[0], program)  # noqa: S606 - that is what this is for
    except OSError as error:
        sys.stderr.write(f"docker's client can't be run confined: {error}\n")
        sys.exit(126)


if __name__ == "__main__":
    main(sys.argv[1:])
