"""Environment files: one ``KEY=VALUE`` a line.

::

    # a comment; empty lines are fine
    DOMAIN=sso.example.org          # a comment after a space
    export TITLE="two words"        # quotes are taken off; in double ones \\n \\" \\\\ \\$ are known
    PATTERN='$ and \\ are themselves here'
    EMPTY=

There is no interpolation: a ``$`` in a value is a dollar. The last of two equal keys wins. A value ends
with its line.
"""

from __future__ import annotations

import re
from pathlib import Path

from warmd.errors import Refused

_LINE = re.compile(
    r"""(?:export\s+)?(?P<key>[A-Za-z_][A-Za-z0-9_.-]*)\s*=\s*
        (?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"'#](?:.*?\S)??)?)
        \s*(?:(?:(?<=\s)|(?<==))\#.*)?""",
    re.VERBOSE | re.ASCII,
)
_ESCAPE = re.compile(r"\\(.)")
_MEANING = {"n": "\n", "t": "\t", "r": "\r"}


def parse(text: str, where: str) -> dict[str, str]:
    """The variables of an environment file. Raises Refused, naming ``where`` and the line, never a value."""
    variables: dict[str, str] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        found = _LINE.fullmatch(stripped)
        if found is None:
            raise Refused(f"{where}:{number} is not KEY=VALUE", hint="close quotes on the same line")
        if found["double"] is not None:
            value = _ESCAPE.sub(lambda m: _MEANING.get(m[1], m[1]), found["double"])
        else:
            value = found["single"] if found["single"] is not None else found["bare"] or ""
        variables[found["key"]] = value
    return variables


def read(path: Path) -> dict[str, str]:
    """The variables of the file at ``path``. Raises Refused where it is missing or can't be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Refused(
            f"env_file {path} does not exist", hint="create it, or correct deploy.env_file"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Refused(f"env_file {path} can't be read: {reason}") from None
    return parse(text, str(path))
