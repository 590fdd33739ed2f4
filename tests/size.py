"""How much of a big test is run: a quick share, more in ``scripts/crash``, all with ``--long``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, TypeAlias, TypeVar

Tier: TypeAlias = Literal["quick", "crash", "long"]

_GIVEN = os.environ.get("WARMD_SIZE", "quick")


def tier() -> Tier:
    """Which share this process runs, from ``WARMD_SIZE``."""
    if _GIVEN == "crash":
        return "crash"
    return "long" if _GIVEN == "long" else "quick"


_T = TypeVar("_T")


def spread(cases: Sequence[_T], crash: int) -> list[_T]:
    """So many of them, evenly, in the crash tier; all of them in any other."""
    if tier() != "crash":
        return list(cases)
    return [case for n, case in enumerate(cases) if n * crash // len(cases) != (n - 1) * crash // len(cases)]


def size(quick: int, crash: int, long: int) -> int:
    """The number for this process's share."""
    return {"quick": quick, "crash": crash, "long": long}[tier()]
