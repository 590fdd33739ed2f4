"""The proof of a snapshot: read back from the disk, every file compared with the listing."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tarfile
from collections.abc import Generator
from decimal import Decimal
from pathlib import Path

from warmd.adapters.archive.children import CHUNK, Check, decompressed
from warmd.adapters.archive.durable import exclusive, explained, replace, sha256_of
from warmd.adapters.archive.manifest import (
    BUNDLE,
    SEALED,
    Manifest,
    digest,
    info_of,
    listed,
    load,
    name_problem,
    seal_problem,
    snapshot_path,
)
from warmd.adapters.archive.tree import Entry, bytes_of, require_same, shown
from warmd.core.model import SnapshotInfo
from warmd.errors import SnapshotError

_KINDS = {
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "link",
    tarfile.FIFOTYPE: "fifo",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
}


def seal(folder: Path, id_: str, *, check: Check) -> SnapshotInfo:
    """Verify the snapshot and mark it as sealed. Sealing again verifies again.

    Raises SnapshotError naming the first difference, and NotFound.
    """
    path = snapshot_path(folder, id_)
    with exclusive(folder, check):
        info = verify(path, check=check)
        manifest, content = load(path)
        if problem := name_problem(path, manifest):
            raise SnapshotError(f"{path}: {problem}", hint="this snapshot can't be used")
        if not info.sealed:
            marker = {"manifest_sha256": digest(content)}
            with explained(f"sealing {path}"):
                replace(path / SEALED, json.dumps(marker).encode() + b"\n")
    return info_of(manifest, sealed=True)


def verify(path: Path, *, check: Check) -> SnapshotInfo:
    """Read everything back and compare; nothing is written. ``sealed`` of the result is as it was before.

    Raises SnapshotError naming the first difference, and NotFound.
    """
    with explained(f"verifying {path}"):
        manifest, content = load(path)
        problem = seal_problem(path, content)
        if problem is not None and (path / SEALED).exists():
            raise SnapshotError(f"{path}: {problem}", hint="this snapshot can't be used")
        require_hashes(path, manifest, check=check)
        for part in manifest.volumes:
            listing, archive = path / part.listing, path / part.archive
            wanted = (_without_xattrs_of_links(entry) for entry in listed(listing, check))
            require_same(str(archive), wanted, _members(archive, check))
    return info_of(manifest, sealed=problem is None)


def require_hashes(path: Path, manifest: Manifest, *, check: Check) -> None:
    """Raises SnapshotError where a file of the snapshot is missing or not what the manifest says."""
    wanted = {BUNDLE: manifest.bundle_sha256}
    for part in manifest.volumes:
        wanted |= {part.listing: part.listing_sha256, part.archive: part.archive_sha256}
    for name, sha256 in wanted.items():
        with explained(f"verifying {path / name}"):
            if sha256_of(path / name, check) != sha256:
                raise SnapshotError(
                    f"{path / name} was damaged: its SHA-256 is not the manifest's",
                    hint="use another snapshot",
                )


def require_sealed(path: Path) -> Manifest:
    """The manifest of a sealed snapshot. Raises SnapshotError where it isn't one, and NotFound."""
    manifest, content = load(path)
    if problem := name_problem(path, manifest) or seal_problem(path, content):
        raise SnapshotError(f"{path}: {problem}", hint="a snapshot is restored only when it is sealed")
    return manifest


def _without_xattrs_of_links(entry: Entry) -> Entry:
    """tar keeps the attributes (and content) of a hard link with its first name."""
    if entry.same is None:
        return entry
    return Entry(
        entry.path, entry.kind, entry.mode, entry.uid, entry.gid, entry.mtime, same=entry.same, target=None
    )


def _members(path: Path, check: Check) -> Generator[Entry]:
    """The members of an archive as entries, content hashed. Raises SnapshotError where it can't be read."""
    kinds: dict[bytes, str] = {}
    with decompressed(path, check) as stream:
        try:
            with tarfile.open(
                fileobj=stream, mode="r|", bufsize=CHUNK, encoding="utf-8", errors="surrogateescape"
            ) as archive:
                while (member := archive.next()) is not None:
                    archive.members.clear()  # type: ignore[attr-defined]  # public, untyped; it would keep all
                    yield _entry(archive, member, kinds, check)
        except (tarfile.TarError, ValueError, KeyError, EOFError, ArithmeticError, OSError) as error:
            raise SnapshotError(
                f"{path} is not a whole archive: {error}", hint="use another snapshot"
            ) from error


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo, links: dict[bytes, str], check: Check) -> Entry:
    # tarfile prefers the made-up name that a sparse file's header carries for tools that know no holes.
    path = _relative(member.pax_headers.get("GNU.sparse.name", member.name))
    same = None
    sha256 = None
    target = None
    if member.islnk():
        same = _relative(member.linkname)
        kind = links.get(same, "file")
    elif member.isreg():
        kind = "file"
        sha256 = _hash(archive, member, check)
    else:
        kind = _KINDS[member.type]
        if kind == "link":
            target = bytes_of(member.linkname)
            links[path] = kind
    return Entry(
        path=path,
        kind=kind,
        mode=stat.S_IMODE(member.mode),
        uid=member.uid,
        gid=member.gid,
        mtime=_nanoseconds(member),
        size=member.size if sha256 else 0,
        sha256=sha256,
        target=target,
        device=(member.devmajor, member.devminor) if kind in ("char", "block") else None,
        same=same,
        xattrs={} if same else _xattrs(member),
    )


def _relative(name: str) -> bytes:
    path = bytes_of(name)
    return path.removeprefix(b"./")


def _nanoseconds(member: tarfile.TarInfo) -> int:
    text = member.pax_headers.get("mtime")
    return int(Decimal(text) * 10**9) if text else int(member.mtime) * 10**9


_XATTR = "SCHILY.xattr."


def _xattrs(member: tarfile.TarInfo) -> dict[str, bytes]:
    found = {}
    for key, value in member.pax_headers.items():
        if key.startswith(_XATTR):
            # GNU tar writes "=" and "%" of a name in hexadecimal: "=" ends the name in the header.
            name = key.removeprefix(_XATTR).replace("%3D", "=").replace("%25", "%")
            found[os.fsdecode(bytes_of(name))] = bytes_of(value)
    return found


def _hash(archive: tarfile.TarFile, member: tarfile.TarInfo, check: Check) -> str:
    content = archive.extractfile(member)
    if content is None:
        raise SnapshotError(f"{shown(bytes_of(member.name))} has no content in the archive")
    digest_ = hashlib.sha256()
    while block := content.read(CHUNK):
        check()
        digest_.update(block)
    return digest_.hexdigest()
