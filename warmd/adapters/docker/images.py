"""Images on this node: pulled, pinned by digest, looked into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio

from warmd.adapters.docker import faults
from warmd.adapters.docker.client import Engine, EngineAnswer
from warmd.adapters.docker.credentials import Credentials
from warmd.adapters.docker.references import Reference
from warmd.errors import RegistryUnreachable


class Images:
    """``idle`` is how many seconds a pull may say nothing, ``deadline`` how long all of it may take."""

    def __init__(self, engine: Engine, credentials: Credentials, *, idle: float, deadline: float) -> None:
        self._engine = engine
        self._credentials = credentials
        self._idle = idle
        self._deadline = deadline

    async def inspect(self, reference: Reference) -> Mapping[str, Any] | None:
        """What the engine says of an image on this node, None where it is not here."""
        doing = f"looking into image {reference.local}"
        path = f"images/{reference.local}/json"
        answer: Mapping[str, Any] | None = await self._engine.call("GET", path, doing=doing, missing_ok=True)
        return answer

    async def digest_of(self, image: str) -> str | None:
        """The image as ``name:tag@digest``, by what this node knows of it; None where that is not clear."""
        reference = Reference.parse(image)
        here = await self.inspect(reference)
        known = _digests(here, reference) if here else ()
        return reference.pinned(known[0]) if len(known) == 1 else None

    async def pull(self, image: str) -> str:
        """The image as ``name:tag@digest``, on this node now. Raises Refused or RegistryUnreachable.

        One that is pinned and here already costs no network: a digest can't go stale. Anything else
        is asked for anew, and a failure is an error even where an older image of that tag is here.
        """
        reference = Reference.parse(image)
        if reference.digest:
            here = await self.inspect(reference)
            if here is not None and reference.digest in _digests(here, reference):
                return image
        digest = await self._fetch(image, reference)
        if reference.digest:
            return image
        here = await self.inspect(reference)
        known = _digests(here, reference) if here else ()
        # The image may have several (pushed twice): what the pull itself named is the current one
        if digest not in known and len(known) != 1:
            raise RegistryUnreachable(
                f"image {image} was pulled, but which digest it has is not clear: {known}",
                hint=f"docker image inspect {image}",
            )
        return reference.pinned(digest if digest in known else known[0])

    async def _fetch(self, image: str, reference: Reference) -> str:
        """Run the pull to its end; the digest that it named, or "" where it named none."""
        auth = await self._credentials.header(reference.registry)
        params = {"fromImage": reference.name, "tag": reference.digest or reference.tag or "latest"}
        headers = {"X-Registry-Auth": auth} if auth else None
        quiet = RegistryUnreachable(
            f"image {image}: nothing came from {reference.registry} for {self._idle:g} s",
            hint=f"docker pull {image}",
        )
        digest = ""
        try:
            with anyio.fail_after(self._deadline):
                # The engine answers with the first progress, so the wait for that is the registry's
                async with self._engine.stream(
                    "POST",
                    "images/create",
                    doing=f"pulling {image}",
                    params=params,
                    headers=headers,
                    first=self._idle,
                    late=quiet,
                ) as lines:
                    while (line := await lines.next(within=self._idle, late=quiet)) is not None:
                        if line.get("error"):
                            raise faults.pull_failed(image, reference.registry, 0, str(line["error"]))
                        status = str(line.get("status") or "")
                        if status.startswith("Digest: "):
                            digest = status.removeprefix("Digest: ").strip()
        except EngineAnswer as answer:
            raise faults.pull_failed(image, reference.registry, answer.status, answer.message) from None
        except TimeoutError:
            raise RegistryUnreachable(
                f"image {image} could not be pulled from {reference.registry} within {self._deadline:g} s",
                hint=f"docker pull {image}",
            ) from None
        return digest


def _digests(inspected: Mapping[str, Any], reference: Reference) -> tuple[str, ...]:
    """The digests under which the image's own repository knows it; other repositories' don't count."""
    found = (Reference.parse(text) for text in inspected.get("RepoDigests") or () if "<none>" not in text)
    return tuple(known.digest for known in found if known.repository == reference.repository)
