"""What runs, read back and kept as what is good."""

from __future__ import annotations

from dataclasses import dataclass

from warmd.core import live, specs
from warmd.core.model import Bundle, LastGood
from warmd.core.versions import Version
from warmd.engine import bundles
from warmd.engine.service import Service, Shop


@dataclass(frozen=True, slots=True)
class Origin:
    """Where specs came from: what is known of the release that they were rendered from."""

    version: Version | None
    commit: str | None = None
    rendered: str | None = None
    inputs: str | None = None


async def record_good(
    service: Service, shop: Shop, origin: Origin, *, how: str, run: str | None = None
) -> tuple[LastGood, dict[str, str]]:
    """Read the running stack back and keep it: the last good and the marks of its services."""
    running = await service.deployer.read_back()
    bundle, pinned = await bundles.keep(shop, running), await _pinned(shop, running)
    seen = await service.deployer.seen()
    now = shop.clock.now()
    said = seen.version_text
    good = LastGood(
        origin.version, bundle, now, how, origin.commit, origin.rendered, origin.inputs, run, said, pinned
    )
    return good, live.marks(seen)


async def _pinned(shop: Shop, running: Bundle) -> str | None:
    """The bundle with the digests that its images have now, where it names them by tag alone; a later
    pull moves the tag, and going back by tag would start the new image on the old data."""
    loose = {image for image in running.images.values() if "@" not in image}
    found = {image: await shop.swarm.digest_of(image) for image in loose}
    known = {image: digest for image, digest in found.items() if digest is not None}
    if not known:
        return None
    all_images = {image: known.get(image, image) for image in running.images.values()}
    return await bundles.keep(shop, specs.pinned(running, all_images))
