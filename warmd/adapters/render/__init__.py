"""Rendering by docker's own client against a socket of ours: docs/decisions/0040."""

from warmd.adapters.render.client import Recorded, record

__all__ = ["Recorded", "record"]
