"""Everything the stack can write to is copied, excluded by name, or the run is refused. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from warmd.core.model import Mount


@dataclass(frozen=True, slots=True)
class Cover:
    """``volumes`` are to be copied, ``excluded`` a person left out; ``refusals`` say what is neither."""

    volumes: tuple[str, ...]
    excluded: tuple[str, ...]
    refusals: tuple[str, ...]


def names(mount: Mount, stack: str) -> tuple[str, ...]:
    """What a person may write in ``snapshot.exclude`` to leave this mount out."""
    place = f"{mount.service.removeprefix(stack + '_')}:{mount.target}"
    if mount.kind == "anonymous":
        return (place,)
    short = mount.source.removeprefix(f"{stack}_") if mount.kind == "volume" else mount.source
    return tuple(dict.fromkeys((short, mount.source, place)))


def cover(mounts: Iterable[Mount], *, stack: str, exclude: Iterable[str]) -> Cover:
    """Sort every writable mount into copied, excluded and refused."""
    left_out = frozenset(exclude)
    volumes: dict[str, None] = {}
    excluded: dict[str, None] = {}
    refusals: dict[str, None] = {}
    for mount in mounts:
        known = names(mount, stack)
        if left_out.intersection(known):
            excluded[known[0]] = None
        elif problem := _problem(mount):
            refusals[
                f"{mount.service} writes to {problem}: add {known[0]!r} to snapshot.exclude to go without it"
            ] = None
        else:
            volumes[mount.source] = None
    return Cover(tuple(volumes), tuple(excluded), tuple(refusals))


def _problem(mount: Mount) -> str | None:
    if mount.kind == "bind":
        return f"the bind mount {mount.source}, which a snapshot doesn't cover"
    if mount.kind == "anonymous":
        return f"{mount.target}, a volume without a name, which is new with every container"
    if mount.driver != "local":
        return f"volume {mount.source} of driver {mount.driver}, which can't be copied"
    if mount.options:
        options = ", ".join(f"{k}={v}" for k, v in sorted(mount.options.items()))
        return f"volume {mount.source} with driver options ({options}), which is empty while nobody uses it"
    return None
