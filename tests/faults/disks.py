"""File systems that are full in no time. Needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_FILLER = ".filler"


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system of its own, kept in memory."""

    path: Path

    def fill(self) -> None:
        """Not one more byte, nor file. What is written already can still be written over."""
        filler = self.path / _FILLER
        filler.mkdir(exist_ok=True)
        with (filler / "bytes").open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(1 << 20))
        with (filler / "bytes").open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(1 << 12))
        self.use_up_files()

    def use_up_files(self) -> None:
        """Not one more file."""
        filler = self.path / _FILLER
        filler.mkdir(exist_ok=True)
        with suppress(OSError):
            for number in range(10_000):
                (filler / f"{number}").symlink_to("x")

    def empty(self) -> None:
        """What filled it is gone."""
        subprocess.run(["rm", "-rf", str(self.path / _FILLER)], check=True)

    @property
    def free(self) -> int:
        """Bytes."""
        seen = os.statvfs(self.path)
        return seen.f_bavail * seen.f_frsize


@contextmanager
def disk(path: Path, *, size: str = "8m", files: int = 400) -> Iterator[Disk]:
    """One mounted at ``path``, which is made if it is missing, as long as the block lasts."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    options = f"size={size},nr_inodes={files},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=True)
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
