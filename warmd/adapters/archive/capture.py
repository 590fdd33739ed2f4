"""The copy: every file listed with its hash, packed by tar and zstd, and published as a whole.

Nothing may be written meanwhile. That is proved, not hoped for: the volume is walked and hashed
first, packed, and walked once more at the very end, when any file that was touched in between shows.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from warmd.adapters.archive.children import TAR_KEEP, Check, Children, run, tool_versions
from warmd.adapters.archive.durable import (
    exclusive,
    explained,
    make_private,
    remove_tree,
    replace_tree,
    sha256_of,
    sync_folder,
    write_new,
)
from warmd.adapters.archive.manifest import (
    BUNDLE,
    MANIFEST,
    README,
    SUMS,
    Manifest,
    Part,
    digest,
    listed,
    load,
    plain,
    seal_problem,
    snapshot_path,
)
from warmd.adapters.archive.readme import readme
from warmd.adapters.archive.room import require_copyable
from warmd.adapters.archive.tree import QUARANTINE, entries, require_unmoved
from warmd.core.model import canonical
from warmd.errors import NotFound, SnapshotError
from warmd.ports import CaptureRequest, Volume


def capture(folder: Path, request: CaptureRequest, *, node: str, level: int, check: Check) -> Path:
    """Copy ``request.volumes`` to ``<folder>/snapshots/<id>``; that path. Durable, not yet verified.

    Nothing may use the volumes meanwhile. What earlier attempts left under the same id is removed at
    the start; a sealed snapshot of that id stays until the new one takes its place. ``level`` is
    zstd's. Raises SnapshotError (also Stopped, from ``check``), with nothing left behind.
    """
    final = snapshot_path(folder, request.id)
    partial = final.with_name(f".{request.id}.partial")
    require_copyable(request.volumes, SnapshotError)
    tools = tool_versions()
    with explained(f"capturing to {final}"), exclusive(folder, check):
        make_private(final.parent)
        remove_tree(partial, check)
        if not _sealed(final):
            remove_tree(final, check)
        partial.mkdir(mode=0o700)
        try:
            parts = tuple(_pack_all(request.volumes, partial, level, check))
            bundle = canonical(request.bundle)
            manifest = Manifest(
                service=request.service,
                stack=request.stack,
                version=request.version,
                run=request.id,
                at=request.at,
                node=node,
                bundle_sha256=digest(bundle),
                tools=tools,
                volumes=parts,
            )
            _complete(partial, manifest, bundle)
            _publish(partial, final, check)
        except BaseException:
            # A copy that failed must not fill the disk; if even this fails, the next attempt clears it.
            with suppress(SnapshotError, OSError):
                remove_tree(partial, lambda: None)
            with suppress(SnapshotError):  # where it could not be renamed; nobody takes it for a whole one
                run("rm", "-rf", "--", str(partial), doing=f"removing {partial}", check=lambda: None)
            raise
    return final


def _sealed(path: Path) -> bool:
    try:
        return seal_problem(path, load(path)[1]) is None
    except (SnapshotError, NotFound):
        return False


def _complete(partial: Path, manifest: Manifest, bundle: bytes) -> None:
    write_new(partial / BUNDLE, bundle)
    sums = [
        f"{sha}  {name}\n"
        for p in manifest.volumes
        for name, sha in ((p.archive, p.archive_sha256), (p.listing, p.listing_sha256))
    ]
    sums.append(f"{manifest.bundle_sha256}  {BUNDLE}\n")
    write_new(partial / SUMS, "".join(sums).encode())
    write_new(partial / README, readme(manifest, bundle).encode())
    write_new(partial / MANIFEST, manifest.to_bytes())
    sync_folder(partial)


def _publish(partial: Path, final: Path, check: Check) -> None:
    if final.exists():  # a sealed one, which a journal may name: there is never none of that name
        replace_tree(final, partial, check)
        return
    check()
    partial.rename(final)
    sync_folder(final.parent)


def _pack_all(volumes: Sequence[Volume], partial: Path, level: int, check: Check) -> Iterator[Part]:
    parts = []
    for number, volume in enumerate(volumes, start=1):
        part = _pack(volume, partial, f"{number}-{plain(volume.name, 'the name of a volume')}", level, check)
        parts.append(part)
        yield part
    # At the very end for all of them, so that they belong to one moment.
    for part in parts:
        require_unmoved(Path(part.mountpoint), listed(partial / part.listing, check), check)


def _pack(volume: Volume, partial: Path, stem: str, level: int, check: Check) -> Part:
    root = Path(volume.mountpoint)
    files = data = 0
    with _new_file(partial / f"{stem}.files.jsonl.zst") as file, Children(check) as children:
        zstd = children.start("zstd", "-q", "-3", "-c", stdin=subprocess.PIPE, stdout=file)
        for entry in entries(root, check):
            files += 1
            data += entry.size if entry.same is None else 0
            if not children.feed(_in(zstd), entry.to_line()):
                break
        _in(zstd).close()
        children.finish(f"listing {root}")
    # Only where it is there: tar looks for it in each part of each path, which takes long in deep trees.
    there = (root / QUARANTINE).exists()
    exclude = ("--anchored", "--no-wildcards", f"--exclude=./{QUARANTINE}") if there else ()
    with Children(check) as children, _new_file(partial / f"{stem}.tar.zst") as file:
        tar = children.start(
            "tar", "--create", "--format=posix", *TAR_KEEP, "--sparse", "--sort=name",
            # Access times only make the archive bigger; sockets are in the listing, as ignored.
            "--pax-option=delete=atime,delete=ctime", "--warning=no-file-ignored",
            *exclude,
            f"--directory={root}", "--file=-", ".",
            stdout=subprocess.PIPE,
        )  # fmt: skip
        zstd = children.start("zstd", "-q", f"-{level}", "-T0", "-c", stdin=_out(tar), stdout=subprocess.PIPE)
        _out(tar).close()  # zstd has it: should zstd fall, tar has to notice
        copied = _Tally(file)
        while block := children.read(_out(zstd)):
            copied.write(block)
        children.finish(f"copying {root}")
    return Part(
        volume=volume.name,
        mountpoint=volume.mountpoint,
        archive=f"{stem}.tar.zst",
        archive_sha256=copied.sha256,
        archive_bytes=copied.bytes,
        listing=f"{stem}.files.jsonl.zst",
        listing_sha256=sha256_of(partial / f"{stem}.files.jsonl.zst", check),
        files=files,
        data_bytes=data,
    )


def _in(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin


def _out(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout


@dataclass
class _Tally:
    """Counts and hashes what is written to a file."""

    file: IO[bytes]

    def __post_init__(self) -> None:
        self._digest = hashlib.sha256()
        self.bytes = 0

    def write(self, block: bytes) -> None:
        self._digest.update(block)
        self.bytes += self.file.write(block)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """A new file, mode 0600, on the disk when the ``with`` is left without an exception."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
