"""One look at a service: everything a decision is made from, and nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import anyio

from warmd.core import health, live
from warmd.core.gate import Marks, View
from warmd.core.history import History
from warmd.core.model import Bundle, Catalog, Health, Probe, StackSeen, worst
from warmd.core.specdiff import diff
from warmd.core.specs import unpinned
from warmd.engine import bundles
from warmd.engine.service import Service, Shop
from warmd.errors import Refused, WarmdError
from warmd.ports import Prober

#: Rounds of probes in one look before a service counts as unhealthy, and seconds between them.
ROUNDS, PAUSE = 3, 1.0


async def probe_once(probers: Sequence[Prober]) -> tuple[Probe, ...]:
    """All probes at once; answers in their order."""
    found: list[Probe | None] = [None] * len(probers)

    async def one(place: int, prober: Prober) -> None:
        found[place] = await prober.probe()

    async with anyio.create_task_group() as tasks:
        for place, prober in enumerate(probers):
            tasks.start_soon(one, place, prober)
    return tuple(p for p in found if p is not None)


async def probe(service: Service, shop: Shop, seen: StackSeen) -> Probe:
    """Healthy at the first good round; otherwise the last of ``ROUNDS``: a blip is no verdict.

    The first round judges the tasks by the listing that all services share.
    """
    found = worst((health.glance(seen), *await probe_once(service.probers)))
    for _ in range(ROUNDS - 1):
        if found.health is Health.HEALTHY:
            break
        await shop.clock.sleep(PAUSE)
        found = worst((health.glance(await service.deployer.seen()), *await probe_once(service.probers)))
    return found


async def catalog_of(service: Service, shop: Shop, *, not_before: float) -> Catalog:
    """What is published; an unreachable source is a fact for the decision, not an error of the look."""
    try:
        return await service.source.releases(not_before=not_before, offline=shop.offline)
    except WarmdError as error:
        return Catalog((), trouble=str(error))


async def observe(
    service: Service,
    shop: Shop,
    history: History,
    *,
    not_before: float,
    fetched: float | None = None,
    forced: bool = False,
) -> View:
    """Look at source, swarm and health. Raises Transient where Docker can't be asked."""
    catalog = await catalog_of(service, shop, not_before=not_before if fetched is None else fetched)
    seen = await service.deployer.seen(not_before=not_before)
    owner = seen.owner if seen.owner not in (None, shop.installation) else None
    volumes: tuple[str, ...] = ()
    well = Probe(Health.INCONCLUSIVE, "nothing runs" if not seen.deployed else "not probed")
    down: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    marks: Marks | None = None
    strange: str | None = None
    if not seen.deployed and history.last_good is None:
        volumes = tuple(v.name for v in await shop.swarm.volumes(service.stack))
    elif seen.deployed and owner is None:
        # What somebody moved to another version may well have other services.
        down = () if live.moved(history.last_good, seen) else live.down(history.live, seen)
        changed, marks, strange = await changes(service, shop, history, seen, catalog, apart_from=down)
        if not down:
            well = await probe(service, shop, seen)
    return View(
        catalog=catalog,
        history=history,
        policy=service.policy,
        now=shop.clock.now(),
        deployed=seen.deployed,
        health=well,
        running=live.running(history.last_good, seen),
        running_text=seen.version_text,
        owner=owner,
        ours=seen.owner == shop.installation,
        down=down,
        changed=changed,
        data=volumes,
        paused=_paused(shop, history),
        forced=forced,
        warnings=_odd(seen, catalog),
        seen=seen,
        marks=marks,
        strange=strange,
    )


def _odd(seen: StackSeen, catalog: Catalog) -> tuple[str, ...]:
    """What people should see, and what holds nothing."""
    found = [seen.mismatch] if seen.mismatch else []
    if catalog.trouble:
        since = f"as of {catalog.fetched_at:%Y-%m-%d %H:%M} UTC" if catalog.fetched_at else "never"
        found.append(f"source: {catalog.trouble}; its versions are known {since}")
    return tuple(found)


def _paused(shop: Shop, history: History) -> str | None:
    halted = shop.halted()
    if halted:
        return halted
    if history.paused:
        why = f": {history.paused.why}" if history.paused.why else ""
        return f"paused since {history.paused.at:%Y-%m-%d %H:%M} UTC{why}"
    return None


async def changes(
    service: Service,
    shop: Shop,
    history: History,
    seen: StackSeen,
    catalog: Catalog,
    *,
    apart_from: tuple[str, ...] = (),
) -> tuple[tuple[str, ...], Marks | None, str | None]:
    """Where the stack, or what would be rendered for it now, differs from last good, in words; and, where
    a mark differs and the meaning does not, the marks to compare with from now on; and an image that is not
    last good's.

    Both comparisons are cheap while nothing changed: marks of the listed specs, and a hash of what
    rendering depends on. Only where one differs are specs read back or rendered. ``apart_from`` are
    services that are known to be down.
    """
    good = history.last_good
    if good is None or live.moved(good, seen):
        return (), None, None
    found: list[str] = []
    compared, strange = False, None
    if live.suspects(history.live, seen):
        compared = True
        known = await bundles.fetch(shop, good.bundle)
        strange = live.strange(known.images, seen)
        known, now = _as_if_up(known, await service.deployer.read_back(), apart_from)
        found += [f"running: {change}" for change in diff(known, now)]
    inputs = good.inputs
    release = catalog.find(good.version)
    if release is not None and good.inputs is not None:
        try:
            inputs = await service.deployer.inputs(release)
            if inputs != good.inputs:
                compared = True
                rendered = await bundles.render(service, release)
                known = unpinned(await bundles.fetch(shop, good.rendered or good.bundle))
                changed = diff(known, rendered.bundle, hides=rendered.hides)
                found += [f"configured: {change}" for change in changed]
        except Refused as error:
            found.append(f"configured: can't be rendered: {error}")
    same = compared and not found and not apart_from
    return tuple(found), Marks(live.marks(seen), inputs) if same else None, strange


def _as_if_up(known: Bundle, now: Bundle, down: tuple[str, ...]) -> tuple[Bundle, Bundle]:
    """Both without the difference that is known: services that are missing, or scaled to zero."""
    modes = {s["Name"]: s.get("Mode") for s in known.services}
    there = {s["Name"] for s in now.services}
    up = [{**s, "Mode": modes[s["Name"]]} if s["Name"] in down else s for s in now.services]
    wanted = [s for s in known.services if s["Name"] in there or s["Name"] not in down]
    return replace(known, services=tuple(wanted)), replace(now, services=tuple(up))
