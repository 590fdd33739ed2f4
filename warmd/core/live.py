"""What runs against what was good, from a listing alone: cheap enough for every look. Pure.

Last good keeps a mark for each service: a digest of its spec and its replicas. A mark that differs
is only a hint that something changed (an engine's upgrade may spell a spec anew); whoever sees one
compares the real specs before saying so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from warmd.core.model import LastGood, ServiceSeen, StackSeen, canonical
from warmd.core.versions import Version

_OURS = "warmd."
GLOBAL = "global"


def mark(service: ServiceSeen) -> str:
    """``<digest>/<replicas>``: the spec without warmd's labels, and the desired count."""
    spec: dict[str, Any] = dict(service.spec)
    spec["Labels"] = {k: v for k, v in service.labels.items() if not k.startswith(_OURS)}
    mode = spec.pop("Mode", None)
    if service.replicas is None:
        spec["Mode"] = mode
    digest = hashlib.sha256(canonical(spec)).hexdigest()[:24]
    return f"{digest}/{GLOBAL if service.replicas is None else service.replicas}"


def marks(seen: StackSeen) -> dict[str, str]:
    """Service name -> mark."""
    return {service.name: mark(service) for service in seen.services}


def running(good: LastGood | None, seen: StackSeen) -> Version | None:
    """The version that runs: last good's while the labels say what they said then, else what they say."""
    said = seen.version_text
    if good is not None and seen.deployed and said == good.said:
        return good.version
    return Version.parse(said) if said else None


def moved(good: LastGood | None, seen: StackSeen | None) -> bool:
    """Whether the labels name another version than last good's: somebody else deployed it."""
    if seen is None:
        return False
    version = running(good, seen)
    return good is not None and version is not None and not version.same_as(good.version)


def down(good: Mapping[str, str], seen: StackSeen) -> tuple[str, ...]:
    """Services that ran when last good was recorded, and now are missing or scaled to zero."""
    present = {service.name: service for service in seen.services}
    wanted = [name for name, m in good.items() if not m.endswith("/0")]
    return tuple(n for n in sorted(wanted) if n not in present or present[n].replicas == 0)


def suspects(good: Mapping[str, str], seen: StackSeen) -> tuple[str, ...]:
    """Services whose mark differs, or that last good doesn't know. Of those that are down the count says
    nothing, but their spec does: somebody may have had another image there before."""
    now = marks(seen)
    gone = set(down(good, seen))
    known = {name: _spec(m) if name in gone else m for name, m in good.items()}
    there = {name: _spec(m) if name in gone else m for name, m in now.items()}
    return tuple(
        name
        for name in sorted({*known, *there})
        if known.get(name) != there.get(name) and (name in there or name not in gone)
    )


def _spec(mark_: str) -> str:
    return mark_.partition("/")[0]


def strange(images: Mapping[str, str], seen: StackSeen) -> str | None:
    """The first image that is not the one in ``images`` (service -> image): what somebody else lets work on
    the data. None where there is none."""
    return next((s.image for s in seen.services if images.get(s.name, s.image) != s.image), None)
