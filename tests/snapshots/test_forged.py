"""Forged snapshots write nothing outside of the volumes, and nothing that is in a volume leads out of it.

Whoever can write the snapshots' folder (it is root's, mode 0700) can make a manifest and a seal with
the right hashes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.archive_support import go_on
from tests.size import size
from tests.snapshots.sight import names
from tests.snapshots.vault import Vault, a_vault, bomb, is_refused
from warmd.adapters.archive.seal import verify
from warmd.errors import SnapshotError


def member(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", content: bytes = b"") -> Any:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode, info.mtime = kind, link, len(content), 0o755, 1
    info.devmajor, info.devminor = 1, 3
    return info, content


def packed(*members: Any) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return compressed(plain.getvalue())


def compressed(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q", "-c"], input=data, check=True, capture_output=True).stdout


def forge(snapshot: Path, change: Callable[[dict[str, Any]], Any] = lambda m: None, **files: bytes) -> None:
    """Put other files into a snapshot, then make manifest and seal say that they are right."""
    manifest = json.loads((snapshot / "manifest.json").read_bytes())
    part = manifest["volumes"][0]
    for key, content in files.items():
        (snapshot / part[key]).write_bytes(content)
        part[f"{key}_sha256"] = hashlib.sha256(content).hexdigest()
    change(manifest)
    text = json.dumps(manifest).encode()
    (snapshot / "manifest.json").write_bytes(text)
    seal = {"manifest_sha256": hashlib.sha256(text).hexdigest()}
    (snapshot / "sealed").write_text(json.dumps(seal))


HERE = member(".", tarfile.DIRTYPE)
EVIL = b"written by an archive"


def attacks(outside: Path) -> dict[str, tuple[Any, ...]]:
    """Members that try to leave the folder they are unpacked in, or to make something of what is there."""
    link, hard, char, folder = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE
    up = "../" * 12
    away = f"{up}{str(outside)[1:]}"
    return {
        "a name with ..": (member(f"{away}/evil", content=EVIL),),
        ".. in the middle": (member("x", folder), member(f"x/{up}{away}/evil", content=EVIL)),
        "an absolute name": (member(f"{outside}/evil", content=EVIL),),
        "through an absolute link": (
            member("x", link, link=str(outside)), member("x/evil", content=EVIL)),
        "through a relative link": (member("x", link, link=away), member("x/evil", content=EVIL)),
        "through a link to a link": (
            member("x", link, link="y"), member("y", link, link=str(outside)),
            member("x/evil", content=EVIL)),
        "through a folder that became a link": (
            member("x", folder), member("x", link, link=str(outside)), member("x/evil", content=EVIL)),
        "over a linked file": (
            member("x", link, link=f"{outside}/secret"), member("x", content=EVIL)),
        "a hard link up": (member("x", hard, link=f"{away}/secret"), member("x", content=EVIL)),
        "an absolute hard link": (member("x", hard, link=f"{outside}/secret"), member("x", content=EVIL)),
        "a hard link through a link": (
            member("d", link, link=str(outside)), member("x", hard, link="d/secret"),
            member("x", content=EVIL)),
        "a folder's mode through a link": (member("x", link, link=str(outside)), member("x/", folder)),
        "twice the same": (member("x", content=b"1"), member("x", content=b"2")),
        "a device over a file": (member("text", content=b"good\n"), member("text", char)),
        "a file over a device": (member("text", char), member("text", content=b"good\n")),
        "a link where a folder was": (member("folder", link, link="/etc"),),
        "nothing": (),
        "a device called .": (member(".", char),),
    }  # fmt: skip


@pytest.mark.parametrize("attack", attacks(Path("/x")))
def test_no_member_leaves_the_volume(vault: Vault, attack: str) -> None:
    members = attacks(vault.outside)[attack]
    forge(vault.snapshot, archive=packed(HERE, *members))
    is_refused(vault)
    with pytest.raises(SnapshotError):
        verify(vault.snapshot, check=go_on)


def entry(path: str, kind: str, **more: Any) -> bytes:
    data = {
        "path": path,
        "type": kind,
        "mode": "0755",
        "uid": 0,
        "gid": 0,
        "mtime": 10**9,
        "ino": 1,
        "ctime": 1,
    }
    return json.dumps(data | more).encode() + b"\n"


@pytest.mark.parametrize("attack", attacks(Path("/x")))
def test_nor_where_the_listing_lies_too(vault: Vault, attack: str) -> None:
    """The listing names what the archive has: restored or refused, nothing outside changes."""
    members = attacks(vault.outside)[attack]
    kinds = {tarfile.REGTYPE: "file", tarfile.DIRTYPE: "folder", tarfile.SYMTYPE: "link",
             tarfile.CHRTYPE: "char", tarfile.LNKTYPE: "file"}  # fmt: skip
    last = {info.name: (info, content) for info, content in members}
    listing = entry(".", "folder")
    for name, (info, content) in sorted(last.items()):
        more: dict[str, Any] = {}
        if info.type == tarfile.REGTYPE:
            more = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        if info.type == tarfile.SYMTYPE:
            more = {"target": info.linkname}
        if info.type == tarfile.CHRTYPE:
            more = {"device": [1, 3]}
        listing += entry(name.rstrip("/"), kinds[info.type], **more)
    forge(vault.snapshot, archive=packed(HERE, *members), listing=compressed(listing))
    before = vault.around()
    try:
        vault.restores()
    except SnapshotError:
        assert names(vault.volumes[0].parent) == ["_data"]
        assert (vault.volumes[0] / "text").read_text() == "newer"
    assert vault.around() == before


MANIFESTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "an archive elsewhere": lambda m: m["volumes"][0].update(archive="../r2/1-plain.tar.zst"),
    "an absolute archive": lambda m: m["volumes"][0].update(archive="/etc/passwd"),
    "a listing elsewhere": lambda m: m["volumes"][0].update(listing="../../x"),
    "a volume that is a path": lambda m: m["volumes"][0].update(volume="../../../outside"),
    "a volume that is no name": lambda m: m["volumes"][0].update(volume=7),
    "a run that is a path": lambda m: m.update(run="../r1"),
    "another run": lambda m: m.update(run="r2"),
    "sizes that are no numbers": lambda m: m["volumes"][0].update(files="many"),
    "no time zone": lambda m: m.update(at="2026-01-01T00:00:00"),
    "no volumes at all": lambda m: m.update(volumes=None),
    "something more": lambda m: m["volumes"][0].update(run_this="touch x"),
    "a mount point that is not there": lambda m: m["volumes"][0].update(mountpoint="/nowhere/_data"),
    "a mount point that is a file": lambda m: m["volumes"][0].update(mountpoint="/etc/passwd"),
}


@pytest.mark.parametrize("lie", MANIFESTS)
def test_a_lying_manifest_is_refused(vault: Vault, lie: str) -> None:
    forge(vault.snapshot, MANIFESTS[lie])
    is_refused(vault)


LISTINGS: dict[str, bytes] = {
    "no lines": b"",
    "no JSON": b"\x00\xff{\n",
    "deeper than a parser goes": b"[" * 200_000 + b"\n",
    "a number": b"7\n",
    "types that are wrong": entry(".", "folder").replace(b'"0755"', b"[]"),
    "a line without end": b" " * (5 << 20),
}


@pytest.mark.parametrize("lie", LISTINGS)
def test_a_lying_listing_is_refused(vault: Vault, lie: str) -> None:
    forge(vault.snapshot, listing=compressed(LISTINGS[lie]))
    is_refused(vault)
    with pytest.raises(SnapshotError):
        verify(vault.snapshot, check=go_on)


@pytest.mark.slow
def test_a_bomb_with_the_right_hash_fills_no_disk(vault: Vault) -> None:
    """It is unpacked beside the volume until it is seen to be more than was listed, and is gone again."""
    bomb(vault.snapshot / "1-plain.tar.zst")
    forge(vault.snapshot, archive=(vault.snapshot / "1-plain.tar.zst").read_bytes())
    is_refused(vault)
    forge(
        vault.snapshot, archive=packed(HERE, *(member(f"{n:05}", content=b"x" * 4096) for n in range(3000)))
    )
    is_refused(vault, run="r10")


@pytest.mark.crash_too
def test_an_archive_with_any_byte_changed_and_hashes_to_match_is_refused_or_harmless() -> None:
    """Hashes that are right once more: what differs from the listing is seen all the same."""
    with a_vault() as vault:
        aside = vault.place.root / "outside" / "r1"
        shutil.copytree(vault.snapshot, aside)
        packed_ = (vault.snapshot / "1-plain.tar.zst").read_bytes()
        plain = subprocess.run(["zstd", "-dc"], input=packed_, check=True, capture_output=True).stdout
        before, harmless = vault.world(), 0
        for seed in range(size(10, 60, 300)):
            dice = random.Random(seed)
            broken = bytearray(plain)
            # Mostly in the headers: content is content.
            at = (
                dice.randrange(len(plain))
                if seed % 4 == 0
                else dice.choice([0, 512, 1024, 1536]) + dice.randrange(512)
            )
            broken[at] ^= 1 << dice.randrange(8)
            forge(vault.snapshot, archive=compressed(bytes(broken)))
            try:
                verify(vault.snapshot, check=go_on)
                harmless += 1  # a byte that means nothing, such as padding
            except SnapshotError:
                pass
            try:
                vault.restores(run=f"q{seed}")
            except SnapshotError:
                assert vault.world() == before, f"seed {seed}"
            else:
                assert [(v / "text").read_text() for v in vault.volumes] == ["good\n" * 1000] * 2
                for volume in vault.volumes:
                    (volume / "text").write_text("newer")
                before = vault.world()


# --- what is in the volume itself was written by others, too ---------------------------------------


def _others_folder(aside: Path, _outside: Path) -> None:
    aside.mkdir(mode=0o700)
    os.chown(aside, 1000, 1000)


ASIDES: dict[str, Callable[[Path, Path], Any]] = {
    "a link": lambda aside, outside: aside.symlink_to(outside),
    "a file": lambda aside, _: aside.touch(),
    "a folder for all": lambda aside, _: aside.mkdir(mode=0o755),
    "another's folder": _others_folder,
}


@pytest.mark.parametrize("what", ASIDES)
def test_a_volume_that_holds_warmds_own_name_is_refused_and_never_followed(vault: Vault, what: str) -> None:
    """An application made something where warmd keeps replaced data: it would be left out of each copy."""
    plain, mount = vault.volumes
    ASIDES[what](mount / ".warmd-quarantine", vault.outside)
    assert "what is there now is not warmd's" in is_refused(vault)
    with pytest.raises(SnapshotError, match="what is there now is not warmd's"):
        vault.place.capture("r3", "mount")
    ASIDES[what](plain / ".warmd-quarantine", vault.outside)
    with pytest.raises(SnapshotError, match="what is there now is not warmd's"):
        vault.place.capture("r3", "plain")


def test_a_link_among_replaced_data_is_not_followed(vault: Vault) -> None:
    _, mount = vault.volumes
    (mount / ".warmd-quarantine").mkdir(mode=0o700)
    (vault.outside / "new").mkdir()
    (mount / ".warmd-quarantine" / "x").symlink_to(vault.outside)
    before = vault.around()
    vault.restores()
    assert vault.around() == before
    assert (mount / "text").read_text() == "good\n" * 1000
