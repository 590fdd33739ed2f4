"""What a snapshot's folder holds, and reading it back. docs/snapshots.md describes the format."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Generator
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from warmd.adapters.archive.children import Check, decompressed
from warmd.adapters.archive.durable import open_plain
from warmd.adapters.archive.tree import Entry
from warmd.core.model import SnapshotHandle, SnapshotInfo
from warmd.errors import NotFound, SnapshotError

#: The version of the format. A snapshot with a newer one is refused.
FORMAT = 1

MANIFEST = "manifest.json"
SEALED = "sealed"
BUNDLE = "bundle.json"
README = "README.txt"
SUMS = "SHA256SUMS"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", re.ASCII)


def plain(name: str, what: str) -> str:
    """``name``, which becomes part of a path. Raises SnapshotError where it is not a plain one."""
    if not _NAME.fullmatch(name):
        raise SnapshotError(
            f"{name!r} can't be {what}", hint="letters, digits, '.', '_' and '-', and a letter or digit first"
        )
    return name


@dataclass(frozen=True, slots=True)
class Part:
    """One volume of a snapshot. File names are within the snapshot's folder, sizes in bytes.

    ``files`` counts everything in the listing (folders and links too); ``data_bytes`` adds up the
    sizes of its files, holes included.
    """

    volume: str
    mountpoint: str
    archive: str
    archive_sha256: str
    archive_bytes: int
    listing: str
    listing_sha256: str
    files: int
    data_bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The header of a snapshot: ``run`` is also its id, ``tools`` what wrote it."""

    service: str
    stack: str
    version: str | None
    run: str
    at: datetime
    node: str
    bundle_sha256: str
    tools: dict[str, str]
    volumes: tuple[Part, ...]

    def to_bytes(self) -> bytes:
        data = {"format": FORMAT} | asdict(self) | {"at": self.at.isoformat()}
        return json.dumps(data, indent=2, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_bytes(cls, content: bytes, *, where: Path) -> Manifest:
        """Raises SnapshotError where it is none, or a newer warmd wrote it."""
        try:
            data: dict[str, Any] = json.loads(content)
            version = data.pop("format")
            if version > FORMAT:
                raise SnapshotError(
                    f"{where}: written in format {version}, this warmd reads up to {FORMAT}",
                    hint="use the newer warmd",
                )
            parts = tuple(_checked(Part(**part)) for part in data.pop("volumes"))
            at = datetime.fromisoformat(data.pop("at"))
            if at.tzinfo is None:
                raise ValueError("its time has no zone")
            return _checked(cls(at=at, volumes=parts, **data))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise SnapshotError(
                f"{where}: not a manifest: {error}", hint="this snapshot can't be used"
            ) from error


_TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "str | None": (str, type(None)),
    "dict[str, str]": dict,
}
_T = TypeVar("_T", Part, Manifest)


def _checked(what: _T) -> _T:
    """``what``, if its fields are of the types they say and what becomes a path is a plain name.

    Raises TypeError, ValueError.
    """
    for field in fields(what):
        value, wanted = getattr(what, field.name), _TYPES.get(str(field.type), object)
        if not isinstance(value, wanted):
            raise TypeError(f"{field.name} is {value!r}")
        if field.name in ("volume", "archive", "listing", "run") and not _NAME.fullmatch(str(value)):
            raise ValueError(f"{field.name} is {value!r}")
    return what


def snapshots_folder(folder: Path) -> Path:
    return folder / "snapshots"


def snapshot_path(folder: Path, id_: str) -> Path:
    """Where the snapshot of that id lies, or would lie. Raises SnapshotError for what can be no id."""
    return snapshots_folder(folder) / plain(id_, "the id of a snapshot")


def load(path: Path) -> tuple[Manifest, bytes]:
    """The manifest of the snapshot at ``path``, and its bytes.

    Raises NotFound where there is no such snapshot and SnapshotError where it can't be read.
    """
    if not path.is_dir():
        raise NotFound(f"there is no snapshot at {path}", hint="warmd snapshots SERVICE lists them")
    try:
        content = _content(path / MANIFEST)
    except OSError as error:
        raise SnapshotError(
            f"{path / MANIFEST}: {error.strerror}", hint="this snapshot can't be used"
        ) from error
    return Manifest.from_bytes(content, where=path / MANIFEST), content


def load_bundle(path: Path) -> dict[str, Any]:
    """The specs in the snapshot at ``path``. Raises NotFound, and SnapshotError where they aren't
    what the manifest says."""
    manifest, _ = load(path)
    where = path / BUNDLE
    try:
        content = _content(where)
        if digest(content) != manifest.bundle_sha256:
            raise SnapshotError(f"{where} was changed", hint="this snapshot's data can be restored by hand")
        bundle: dict[str, Any] = json.loads(content)
    except (OSError, ValueError) as error:
        raise SnapshotError(
            f"{where} can't be read: {error}", hint="see the snapshot's README.txt"
        ) from error
    return bundle


def _content(path: Path) -> bytes:
    with open_plain(path) as file:
        return file.read()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def seal_problem(path: Path, content: bytes) -> str | None:
    """Why the snapshot, whose manifest is ``content``, does not count as sealed; None if it does."""
    try:
        marker = json.loads(_content(path / SEALED))
        fits = marker["manifest_sha256"] == digest(content)
    except FileNotFoundError:
        return "it was never verified"
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SnapshotError) as error:
        return f"its seal can't be read: {error}"
    return None if fits else "its manifest was changed after it was sealed"


def name_problem(path: Path, manifest: Manifest) -> str | None:
    """Why the snapshot can't be the one that ``path`` names: somebody exchanged two of them."""
    return None if manifest.run == path.name else f"it is the snapshot {manifest.run} under another name"


def info_of(manifest: Manifest, *, sealed: bool) -> SnapshotInfo:
    return SnapshotInfo(
        handle=SnapshotHandle(manifest.node, manifest.run),
        at=manifest.at,
        version=manifest.version,
        run=manifest.run,
        volumes=tuple(part.volume for part in manifest.volumes),
        archive_bytes=sum(part.archive_bytes for part in manifest.volumes),
        data_bytes=sum(part.data_bytes for part in manifest.volumes),
        files=sum(part.files for part in manifest.volumes),
        sealed=sealed,
    )


def listed(listing: Path, check: Check) -> Generator[Entry]:
    """The entries of one volume's listing, streamed. Raises SnapshotError where a line is none."""
    with decompressed(listing, check) as stream:
        for number, line in enumerate(stream.lines(), start=1):
            try:
                yield Entry.from_line(line)
            except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
                raise SnapshotError(f"{listing}, line {number}: not an entry: {error}") from error
