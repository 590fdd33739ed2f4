"""``warmd schema``."""

from __future__ import annotations

import json
import sys


def verb() -> None:
    """Print the configuration's JSON Schema.

    Editors complete and check the file with it (JSON Schema 2020-12).
    """
    from warmd.config.schema import document

    sys.stdout.write(json.dumps(document(), indent=2) + "\n")
