"""What is not whole is refused, before any volume is touched: bit flips, exchanges, cuts, and bombs."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.archive_support import Place, go_on
from tests.size import size
from tests.snapshots.test_trees import comes_back
from tests.snapshots.vault import Vault, a_vault, bomb, is_refused
from warmd.adapters.archive.seal import verify
from warmd.errors import SnapshotError

FILES = ("1-plain.tar.zst", "1-plain.files.jsonl.zst", "2-mount.tar.zst", "2-mount.files.jsonl.zst",
         "manifest.json", "bundle.json", "sealed")  # fmt: skip


@pytest.mark.crash_too
def test_one_flipped_bit_is_always_found() -> None:
    """In archives, listings, manifest, specs and seal, at seeded places; no restore, no check takes it."""
    count = size(15, 100, 300)
    with a_vault() as vault:
        for seed in range(count):
            dice = random.Random(seed)
            path = vault.snapshot / FILES[seed % len(FILES)]
            whole = path.read_bytes()
            broken = bytearray(whole)
            broken[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
            path.write_bytes(broken)
            why = is_refused(vault)
            assert why, f"seed {seed}"
            with pytest.raises(SnapshotError):
                verify(vault.snapshot, check=go_on)
            path.write_bytes(whole)
        vault.restores()
        assert [(v / "text").read_text() for v in vault.volumes] == ["good\n" * 1000] * 2


def exchange(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _device(path: Path) -> None:
    path.unlink()
    os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5))  # /dev/zero itself


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda p: p.write_bytes(b""),
    "cut in half": lambda p: os.truncate(p, p.stat().st_size // 2),
    "last byte gone": lambda p: os.truncate(p, p.stat().st_size - 1),
    "a byte more": lambda p: p.write_bytes(p.read_bytes() + b"\0"),
    "zeros in the middle": lambda p: p.write_bytes(p.read_bytes()[:10] + b"\0" * 99 + p.read_bytes()[109:]),
    "gone": lambda p: p.unlink(),
    "of another volume": lambda p: exchange(p, p.with_name(p.name.replace("1-plain", "2-mount"))),
    "of another snapshot": lambda p: exchange(p, p.parents[1] / "r2" / p.name),
    "a FIFO": _fifo,
    "an endless link": _endless,
    "a device": _device,
    "a folder": _folder,
}  # fmt: skip


VICTIMS = ("1-plain.tar.zst", "1-plain.files.jsonl.zst", "manifest.json", "sealed")
#: A manifest and a seal belong to no one volume, and a seal ends in a newline that says nothing.
POINTLESS = {
    ("of another volume", "manifest.json"),
    ("of another volume", "sealed"),
    ("last byte gone", "sealed"),
}


@pytest.mark.parametrize(
    ("damage", "name"), [(d, n) for d in DAMAGES for n in VICTIMS if (d, n) not in POINTLESS]
)
def test_other_damage_is_found(vault: Vault, damage: str, name: str) -> None:
    DAMAGES[damage](vault.snapshot / name)
    is_refused(vault)


def test_a_whole_snapshot_under_anothers_name_is_not_that_other_one(vault: Vault) -> None:
    exchange(vault.place.snapshot("r1"), vault.place.snapshot("r2"))
    assert "it is the snapshot r2 under another name" in is_refused(vault)


def test_a_bomb_is_refused_unopened(vault: Vault) -> None:
    bomb(vault.snapshot / "1-plain.tar.zst")
    assert "was damaged" in is_refused(vault)


def test_this_vault_restores(vault: Vault) -> None:
    """Or the tests above would prove little."""
    vault.restores()
    assert [(v / "text").read_text() for v in vault.volumes] == ["good\n" * 1000] * 2
    comes_back(Place(vault.outside), Place(vault.outside).data("plain"))
