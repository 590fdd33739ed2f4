"""What somebody sees who is not warmd: files on the disk, and what the swarm says."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.swarm.world import World


def checksum(folder: Path) -> str:
    """SHA-256 over the names and contents of all files below ``folder``."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder)} {digest}\n".encode())
    return total.hexdigest()


def deployed(world: World) -> str:
    """The version that the label of the service says."""
    return str(world.specs()["app"]["Labels"]["warmd.version"])


def replicas(world: World) -> int:
    """How many tasks the swarm was told to run."""
    return int(world.specs()["app"]["Mode"]["Replicated"]["Replicas"])
