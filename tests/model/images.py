"""A registry and the node's own images."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tests.model.apps import App
from warmd.adapters.docker.references import Reference
from warmd.errors import Refused

_parse = lru_cache(maxsize=1024)(Reference.parse)


@dataclass(slots=True)
class Image:
    """An image on the node, with the names under which it is known."""

    digest: str
    app: App
    tags: set[str] = field(default_factory=set)
    repositories: set[str] = field(default_factory=set)

    @property
    def id(self) -> str:
        return f"sha256:{self.digest[7:][::-1]}"

    def inspect(self) -> dict[str, Any]:
        return {
            "Id": self.id,
            "RepoTags": sorted(self.tags),
            "RepoDigests": [f"{name}@{self.digest}" for name in sorted(self.repositories)],
            "Created": "2026-01-01T00:00:00Z",
            "Config": self.app.config,
            "Architecture": "amd64",
            "Os": "linux",
            "Size": 2_000_000,
            "RootFS": {"Type": "layers", "Layers": [self.digest]},
        }


class Images:
    """``published`` is what the registry has, ``here`` what the node has."""

    def __init__(self) -> None:
        self._tags: dict[tuple[str, str], str] = {}
        self._blobs: dict[tuple[str, str], App] = {}
        self._here: dict[str, Image] = {}
        #: While true, the registry refuses connections.
        self.registry_down = False

    def publish(self, reference: str, app: App) -> str:
        """Push; the digest. A tag that exists moves, the old digest stays."""
        ref = _parse(reference)
        self._tags[ref.name, ref.tag or "latest"] = app.digest
        self._blobs[ref.name, app.digest] = app
        return app.digest

    def withdraw(self, reference: str) -> None:
        """The registry loses a tag, with what it pointed at."""
        ref = _parse(reference)
        digest = self._tags.pop((ref.name, ref.tag or "latest"), None)
        if digest is not None:
            self._blobs.pop((ref.name, digest), None)

    def remove(self, reference: str) -> None:
        """The node loses an image, as ``docker image rm`` does it."""
        if (image := self.local(reference)) is not None:
            del self._here[image.digest]

    def local(self, reference: str) -> Image | None:
        """An image on the node, by tag, by digest, or by its id."""
        if reference.startswith("sha256:"):
            return next((i for i in self._here.values() if i.id == reference), None)
        try:
            ref = _parse(reference)
        except Refused:
            return None
        if ref.digest:
            image = self._here.get(ref.digest)
            return image if image is not None and ref.name in image.repositories else None
        return next((i for i in self._here.values() if ref.tagged in i.tags), None)

    def all(self) -> list[Image]:
        return list(self._here.values())

    def available(self, reference: str) -> str | None:
        """The digest that the registry has for a reference, None where it has none or is down."""
        if self.registry_down:
            return None
        ref = _parse(reference)
        digest = ref.digest or self._tags.get((ref.name, ref.tag or "latest"))
        return digest if digest is not None and (ref.name, digest) in self._blobs else None

    def pull(self, reference: str) -> str | None:
        """Bring an image to the node; its digest, None where the registry does not have it."""
        digest = self.available(reference)
        if digest is None:
            return None
        ref = _parse(reference)
        image = self._here.setdefault(digest, Image(digest, self._blobs[ref.name, digest]))
        image.repositories.add(ref.name)
        if not ref.digest:
            for other in self._here.values():
                other.tags.discard(ref.tagged)
            image.tags.add(ref.tagged)
        return digest
