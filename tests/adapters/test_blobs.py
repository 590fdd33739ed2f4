"""Blobs: what is read is what was put, or an error."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from warmd.adapters.blobs import BlobFiles
from warmd.errors import JournalError, Transient
from warmd.ports import Blobs


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


async def test_what_was_put_is_read_back_also_by_another_process(tmp_path: Path) -> None:
    blobs: Blobs = BlobFiles(tmp_path)
    for data in (b"", b"specs", os.urandom(300_000)):
        name = await blobs.put(data)
        assert name == hashlib.sha256(data).hexdigest()
        assert await blobs.get(name) == data
        assert await BlobFiles(tmp_path).get(name) == data
        assert (tmp_path / name).stat().st_mode & 0o7777 == 0o600


async def test_putting_the_same_twice_writes_once(tmp_path: Path) -> None:
    name = await BlobFiles(tmp_path).put(b"x")
    first = (tmp_path / name).stat()
    blobs = BlobFiles(tmp_path)
    assert [await blobs.put(b"x"), await blobs.put(b"x")] == [name, name]
    assert (tmp_path / name).stat().st_ino == first.st_ino


async def test_a_changed_blob_is_an_error_and_putting_it_again_mends_it(tmp_path: Path) -> None:
    blobs = BlobFiles(tmp_path)
    name = await blobs.put(b"specs")
    (tmp_path / name).write_bytes(b"spect")
    with pytest.raises(JournalError, match=f"{name}: its content is not what its name says"):
        await blobs.get(name)
    assert await blobs.put(b"specs") == name
    assert await blobs.get(name) == b"specs"


async def test_a_removed_blob_is_an_error_and_putting_it_again_mends_it(tmp_path: Path) -> None:
    blobs = BlobFiles(tmp_path)
    name = await blobs.put(b"specs")
    (tmp_path / name).unlink()
    with pytest.raises(JournalError, match="missing, though the journal names it"):
        await blobs.get(name)
    await blobs.put(b"specs")
    assert await blobs.get(name) == b"specs"


@pytest.mark.parametrize("name", ["", "../journal", "A" * 64, "0" * 63])
async def test_only_names_of_blobs_are_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(JournalError, match="is not the name of a blob"):
        await BlobFiles(tmp_path).get(name)


async def test_a_full_disk_may_have_room_later(small_disk: Path) -> None:
    blobs = BlobFiles(small_disk)
    with pytest.raises(Transient, match="No space left"):
        await blobs.put(os.urandom(2_000_000))
    assert names(small_disk) == []
    assert await blobs.get(await blobs.put(b"small")) == b"small"
