"""Put an image into a registry over HTTP: layers and settings, no builder and no daemon.

So an image is not on the node until somebody pulls it, as in real life, and layers are shared.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

Json = dict[str, Any]
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@dataclass(frozen=True)
class Layer:
    """One gzipped tar: ``diff_id`` names what is inside, ``digest`` the compressed bytes."""

    blob: bytes | Path
    digest: str
    diff_id: str
    size: int


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def file_layer(files: Mapping[str, tuple[bytes, int]], links: Mapping[str, str] | None = None) -> Layer:
    """A layer of ``path: (content, mode)`` and ``links`` (path: target); same input, same bytes."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        folders = {p.as_posix() for path in [*files, *(links or {})] for p in Path(path).parents} - {"."}
        for folder in sorted(folders):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        for path, (content, mode) in files.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), mode
            tar.addfile(member, io.BytesIO(content))
        for path, target in (links or {}).items():
            member = tarfile.TarInfo(path)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    blob = gzip.compress(plain.getvalue(), compresslevel=1, mtime=0)
    return Layer(blob, sha256(blob), sha256(plain.getvalue()), len(blob))


def push(base_url: str, repo: str, tag: str, layers: Sequence[Layer], config: Json) -> str:
    """Upload what the registry lacks and set the tag; the manifest's digest."""
    image = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": "2026-01-01T00:00:00Z"} for _ in layers],
    }
    body = json.dumps(image, sort_keys=True).encode()
    with httpx.Client(base_url=f"{base_url}/v2/{repo}", timeout=120) as http:
        for layer in layers:
            _upload(http, layer.digest, layer.blob)
        _upload(http, sha256(body), body)
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": {"mediaType": _CONFIG, "size": len(body), "digest": sha256(body)},
                "layers": [{"mediaType": _LAYER, "size": la.size, "digest": la.digest} for la in layers],
            }
        ).encode()
        reply = http.put(f"/manifests/{tag}", content=manifest, headers={"Content-Type": _MANIFEST})
        reply.raise_for_status()
    return sha256(manifest)


def _upload(http: httpx.Client, digest: str, blob: bytes | Path) -> None:
    if http.head(f"/blobs/{digest}").status_code == httpx.codes.OK:
        return
    start = http.post("/blobs/uploads/")
    start.raise_for_status()
    place = httpx.URL(start.headers["Location"]).copy_merge_params({"digest": digest})
    headers = {"Content-Type": "application/octet-stream"}
    if isinstance(blob, Path):
        headers["Content-Length"] = str(blob.stat().st_size)
        with blob.open("rb") as file:
            http.put(place, content=file, headers=headers).raise_for_status()
    else:
        http.put(place, content=blob, headers=headers).raise_for_status()
