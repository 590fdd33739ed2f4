"""How much of a big test is run: a quick share, more in ``scripts/crash``, all with ``--long``."""

from __future__ import annotations

import os
from typing import Literal, TypeAlias

Tier: TypeAlias = Literal["quick", "crash", "long"]

_GIVEN = os.environ.get("WARMD_SIZE", "quick")


def tier() -> Tier:
    """Which share this process runs, from ``WARMD_SIZE``."""
    if _GIVEN == "crash":
        return "crash"
    return "long" if _GIVEN == "long" else "quick"


def size(quick: int, crash: int, long: int) -> int:
    """The number for this process's share."""
    return {"quick": quick, "crash": crash, "long": long}[tier()]
