"""Two volumes, two snapshots of them, and newer data: what a damaged or forged snapshot must not get at."""

from __future__ import annotations

import random
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.adapters.archive_support import Place, mounted
from tests.snapshots.sight import Sight, names, sight
from warmd.adapters.archive.retention import list_snapshots
from warmd.errors import SnapshotError


@dataclass
class Vault:
    """Two volumes (one can be renamed, one is a mount point), two snapshots of them, and newer data."""

    place: Place
    volumes: tuple[Path, Path]
    outside: Path

    def restores(self, id_: str = "r1", run: str = "r9") -> None:
        self.place.restore(id_, run)

    @property
    def snapshot(self) -> Path:
        return self.place.snapshot("r1")

    def world(self) -> tuple[Any, ...]:
        """Everything that a refused restore must leave as it is."""
        return (
            [(sight(v), v.stat().st_ino, names(v.parent)) for v in self.volumes],
            self.around(),
            [path for path in self.place.folder.glob("quarantine/**/*") if not path.is_dir()],
        )

    def around(self) -> tuple[Sight, list[int], list[str]]:
        """What lies outside of the volumes."""
        links = [path.stat().st_nlink for path in sorted(self.outside.iterdir())]
        return sight(self.outside), links, names(self.place.root)


@contextmanager
def a_vault() -> Iterator[Vault]:
    with TemporaryDirectory() as folder:
        place = Place(Path(folder))
        plain, mount, outside = place.data("plain"), place.data("mount"), place.root / "outside"
        outside.mkdir()
        (outside / "secret").write_text("root's own")
        with mounted(mount, "--bind", str(mount)):
            for number, volume in enumerate((plain, mount)):
                (volume / "folder").mkdir()
                (volume / "folder" / "file").write_bytes(random.Random(number).randbytes(20_000))
                (volume / "text").write_text("good\n" * 1000)
                (volume / "link").symlink_to("text")
            place.sealed("r1", "plain", "mount")
            (plain / "text").write_text("other\n" * 1000)
            place.sealed("r2", "plain", "mount")
            for volume in (plain, mount):
                (volume / "text").write_text("newer")
            yield Vault(place, (plain, mount), outside)
            subprocess.run(["rm", "-rf", *place.folder.glob("*")], check=True)


class Shelf:
    """Keeps a vault for the next test, if this one left it as it was: making one takes a while."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._vault: Vault | None = None

    def take(self) -> Vault:
        if self._vault is None:
            self._vault = self._stack.enter_context(a_vault())
            self._before = self._vault.world()
            shutil.copytree(self._snapshots, self._aside, copy_function=shutil.copy2)
        return self._vault

    def put_back(self) -> None:
        assert self._vault is not None
        if self._vault.world() != self._before:
            self.close()
            return
        subprocess.run(["rm", "-rf", self._snapshots], check=True)
        shutil.copytree(self._aside, self._snapshots)

    def close(self) -> None:
        self._stack.close()
        self._vault = None

    @property
    def _snapshots(self) -> Path:
        assert self._vault is not None
        return self._vault.place.folder / "snapshots"

    @property
    def _aside(self) -> Path:
        return self._snapshots.with_name("snapshots as they were")


def is_refused(vault: Vault, run: str = "r9") -> str:
    """The restore refuses, and nothing has moved; why it did. Listing and verifying say so too."""
    before = vault.world()
    with pytest.raises(SnapshotError) as caught:
        vault.restores(run=run)
    assert vault.world() == before
    (listed,) = [s for s in list_snapshots(vault.place.folder) if s.path.name == "r1"]
    assert listed.info.sealed == (listed.problem is None)
    return caught.value.message


def bomb(path: Path) -> None:
    """A file of 256 MiB in some 10 kB."""
    head = tarfile.TarInfo("zeros")
    head.size = 256 << 20
    line = "cat - <(head -c 256M /dev/zero) | zstd -q -1 -c"
    made = subprocess.run(["bash", "-c", line], input=head.tobuf(), check=True, capture_output=True)
    assert len(made.stdout) < 100_000
    path.write_bytes(made.stdout)
