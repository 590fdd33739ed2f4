"""Hypothesis on a machine that is busy with other things: how long an example takes says nothing."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_BUSY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("busy", _BUSY)
# scripts/test --quick: the same laws over fewer examples, for somebody who waits.
settings.register_profile("quick", _BUSY, max_examples=20)
settings.load_profile(os.environ.get("WARMD_LAWS", "busy"))
