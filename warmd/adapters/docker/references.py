"""Image references, read the way docker's own client reads them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from warmd.errors import Refused

_DEFAULT_REGISTRY = "docker.io"
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9+._-]*:[0-9a-fA-F]{32,}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:\[\]-]*")


@dataclass(frozen=True, slots=True)
class Reference:
    """``name[:tag][@digest]``, with the name as written. ``tag`` and ``digest`` may be empty."""

    name: str
    tag: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Raises Refused where ``text`` is no image reference."""
        rest, _, digest = text.partition("@")
        name, colon, tag = rest.rpartition(":")
        if not colon or "/" in tag:  # no tag: the colon, if any, is a registry's port
            name, colon, tag = rest, "", ""
        good = (
            _NAME.fullmatch(name)
            and (_TAG.fullmatch(tag) if colon else True)
            and (_DIGEST.fullmatch(digest) if "@" in text else True)
        )
        if not good:
            raise Refused(f"not an image reference: {text!r}", hint="expected name[:tag][@sha256:...]")
        return cls(name, tag, digest)

    @property
    def registry(self) -> str:
        """The registry's host, with its port where one is written."""
        return self._split()[0]

    @property
    def repository(self) -> str:
        """The full name, so that ``nginx`` and ``docker.io/library/nginx`` are the same."""
        registry, path = self._split()
        if registry == _DEFAULT_REGISTRY and "/" not in path:
            path = f"library/{path}"
        return f"{registry}/{path}"

    def _split(self) -> tuple[str, str]:
        first, slash, path = self.name.partition("/")
        # docker's rule: the first part is a host if it could not be a user's name
        if slash and (first == "localhost" or any(c in first for c in ".:") or first.lower() != first):
            return (_DEFAULT_REGISTRY if first == "index.docker.io" else first), path
        return _DEFAULT_REGISTRY, self.name

    @property
    def tagged(self) -> str:
        """``name:tag``; without a tag docker means ``latest``."""
        return f"{self.name}:{self.tag or 'latest'}"

    @property
    def local(self) -> str:
        """What to ask the engine's own image store for. A digest alone decides where there is one."""
        return f"{self.name}@{self.digest}" if self.digest else self.tagged

    def pinned(self, digest: str) -> str:
        """``name:tag@digest``: what docker's client writes, so that people still see the tag."""
        if self.digest and not self.tag:
            return f"{self.name}@{digest}"
        return f"{self.tagged}@{digest}"
