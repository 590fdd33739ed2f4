"""Bundles in and out of the blob store, and the one thing that isn't kept there: secrets' data."""

from __future__ import annotations

import json
from dataclasses import replace

from warmd.core.model import Bundle, Json, Release, canonical
from warmd.core.specs import LABEL_CONTENT
from warmd.core.versions import Version
from warmd.engine.service import Service, Shop
from warmd.errors import Refused
from warmd.ports import Rendered


async def keep(shop: Shop, bundle: Bundle) -> str:
    """Store a bundle; its name."""
    return await shop.blobs.put(canonical(bundle.to_json()))


async def fetch(shop: Shop, name: str) -> Bundle:
    """A stored bundle. Raises JournalError where the blob is missing or damaged."""
    return Bundle.from_json(json.loads(await shop.blobs.get(name)))


async def render(service: Service, release: Release) -> Rendered:
    """A release as it would be deployed here."""
    async with service.source.tree(release) as tree:
        return await service.deployer.render(release, tree)


async def with_secrets(service: Service, shop: Shop, bundle: Bundle, version: str | None) -> Bundle:
    """``bundle`` with the data of those secrets that the swarm lacks, rendered once more.

    Secrets can't be read back from a swarm and are not written to disk, so after a ``stack rm``
    their data comes from where it came from the first time. Raises Refused where it can't.
    """
    bare = {s["Name"] for s in bundle.secrets if "Data" not in s}
    if not bare:
        return bundle
    present = {s["Spec"]["Name"] for s in await shop.swarm.secrets()}
    missing = bare - present
    if not missing:
        return bundle
    catalog = await service.source.releases(not_before=0.0, offline=shop.offline)
    release = catalog.find(Version.parse(version) if version else None)
    if release is None:
        raise Refused(
            f"{service.name}: the swarm lacks the secrets {', '.join(sorted(missing))}, and version"
            f" {version or 'unknown'} is not published, so they can't be rendered again",
            hint="create them with: docker secret create",
        )
    again = {s["Name"]: s for s in (await render(service, release)).bundle.secrets}
    if unknown := missing - set(again):
        raise Refused(
            f"{service.name}: the swarm lacks the secrets {', '.join(sorted(unknown))}",
            hint="create them with: docker secret create",
        )
    for secret in bundle.secrets:
        name, mark = secret["Name"], _mark(secret)
        if name in missing and mark and mark != _mark(again[name]):
            raise Refused(
                f"{service.name}: the swarm lacks the secret {name}, and its source has other content now",
                hint=f"docker secret create, or, to take the new content: warmd deploy {service.name}",
            )
    return replace(
        bundle, secrets=tuple(again[s["Name"]] if s["Name"] in missing else s for s in bundle.secrets)
    )


def _mark(secret: Json) -> str | None:
    mark: str | None = (secret.get("Labels") or {}).get(LABEL_CONTENT)
    return mark
