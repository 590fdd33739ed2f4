"""What changes between two bundles, for people: names as they write them, and no secrets.

``diff`` compares normal forms, so what the engine fills in is no change.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from warmd.core import normal, specs
from warmd.core.model import LABEL_STACK, Bundle, Json

_SECRET_NAME = re.compile(
    r"pass|secret|token|credential|private|salt|dsn|htpasswd|auth|(^|[_.-])(api)?key|key$|pw$", re.IGNORECASE
)
_SECRET_FLAG = re.compile(r"(?i)(-\S*(?:pass|secret|token|key)[^\s=]*[= ])\S+")
_SECRET_URL = re.compile(r"(://[^\s/:@]*:)[^\s@]+(@)")
_MASK = "***"
_LONG = 200
#: Characters of a hidden value in a row that are hidden too.
_PART = 8

#: Where docker's client notes the image as it was written: said once is enough.
_LABEL_IMAGE = "com.docker.stack.image"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. ``path`` is what changed (``app: env FOO``); None is "not there". Safe to show."""

    path: str
    old: str | None
    new: str | None

    def __str__(self) -> str:
        if self.old is None:
            return f"{self.path} added" + (f": {self.new}" if self.new not in ("", None, _MASK) else "")
        if self.new is None:
            return f"{self.path} removed" + (f": {self.old}" if self.old not in ("", _MASK) else "")
        if self.old == self.new:
            return f"{self.path} changed" + (f" ({self.new})" if self.new != _MASK else "")
        return f"{self.path} {self.old} -> {self.new}"


def diff(old: Bundle, new: Bundle, *, hides: Iterable[str] = ()) -> tuple[Change, ...]:
    """Changes from ``old`` to ``new``: services first, then networks, configs, secrets; by name. ``hides``
    are values that are not shown, wherever they stand, nor what stood there before."""
    hidden = tuple(text for text in hides if text)
    return tuple(_fit(change, hidden) for change in _changes(old, new))


def mask(text: str, hides: Iterable[str]) -> str:
    """``text`` without the values in ``hides``, and without any part of one that says something: programs
    that complain of a value quote what they stumbled over."""
    values = sorted(hides, key=len, reverse=True)
    for value in values:
        text = text.replace(value, _MASK)
    parts = {value[at : at + _PART] for value in values for at in range(len(value) - _PART + 1)}
    hidden = {at + n for at in range(len(text)) if text[at : at + _PART] in parts for n in range(_PART)}

    def shown(at: int, char: str) -> str:
        return char if at not in hidden else "" if at - 1 in hidden else _MASK

    return "".join(shown(at, char) for at, char in enumerate(text)) if hidden else text


def _fit(change: Change, hides: tuple[str, ...]) -> Change:
    """The change without what is hidden, and cut where it is long: in this order, or a part would show."""
    old, new = (None if text is None else mask(text, hides) for text in (change.old, change.new))
    if new != change.new and old is not None:
        old = _MASK  # what stood in a secret's place was one as well
    return Change(mask(change.path, hides), _cut(old), _cut(new))


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= _LONG else f"{text[:_LONG]}…"


def _changes(old: Bundle, new: Bundle) -> list[Change]:
    changes: list[Change] = []
    for kind, facts in _FACTS.items():
        before, after = ({_short(b): b for b in getattr(bundle, kind)} for bundle in (old, new))
        prefix = "" if kind == "services" else f"{kind[:-1]} "
        for name in sorted({*before, *after}):
            if name not in before or name not in after:
                there = _head(kind, (before.get(name) or after[name]))
                changes.append(
                    Change(
                        f"{prefix or 'service '}{name}",
                        *(there if name in s else None for s in (before, after)),
                    )
                )
                continue
            changes += _compare(f"{prefix}{name}", dict(facts(before[name])), dict(facts(after[name])))
    return changes


def _compare(where: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for what in sorted({*old, *new}, key=lambda w: (w not in ("image", "replicas", "mode"), w)):
        before, after = old.get(what), new.get(what)
        if what == "content" and None in (before, after):
            continue  # a secret without a mark: nothing is known of what it holds
        if before != after:
            yield Change(f"{where}: {what}", *_shown(what, before, after))


def _short(body: Json) -> str:
    """The name within the stack, as the compose file has it."""
    name, stack = str(body["Name"]), (body.get("Labels") or {}).get(LABEL_STACK)
    return name.removeprefix(f"{stack}_") if stack else name


def _head(kind: str, body: Json) -> str:
    return str(specs.container(body).get("Image", "")) if kind == "services" else ""


def _shown(what: str, old: Any, new: Any) -> tuple[str | None, str | None]:
    if what == "content":
        return _MASK, _MASK
    if what == "image" and old and new:
        return _images(str(old), str(new))
    if what.startswith("env ") and new is None:
        return _MASK, None  # it may have been from an env file, and nobody knows any more
    return _text(what, old), _text(what, new)


def _images(old: str, new: str) -> tuple[str, str]:
    """``1.0`` and ``1.1`` where the repository is the same; a short digest where only that differs."""
    (old_name, _, old_digest), (new_name, _, new_digest) = old.partition("@"), new.partition("@")
    if old_name == new_name:
        return tuple(f"{old_name}@{d[:19] or 'any digest'}" for d in (old_digest, new_digest))  # type: ignore[return-value]  # of two
    (old_repo, _, old_tag), (new_repo, _, new_tag) = old_name.rpartition(":"), new_name.rpartition(":")
    if old_repo == new_repo and old_repo and "/" not in old_tag + new_tag:
        return old_tag, new_tag
    return old_name, new_name


def _text(what: str, value: Any) -> str | None:
    if value is None:
        return None
    if what.partition(" ")[0] in ("env", "label", "container-label") and _SECRET_NAME.search(
        what.partition(" ")[2]
    ):
        return _MASK
    text = value if isinstance(value, str) else _plain(value)
    return _SECRET_URL.sub(rf"\1{_MASK}\2", _SECRET_FLAG.sub(rf"\1{_MASK}", text))


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{k}={_plain(v)}" for k, v in sorted(value.items()))
    if isinstance(value, list | tuple):
        return " ".join(_plain(v) for v in value)
    return str(value)


# The facts of each kind: (what, value) pairs


def _service_facts(spec: Json) -> Iterator[tuple[str, Any]]:
    plain = normal.service(spec)
    mode = plain.pop("Mode")
    yield "mode", mode.pop("kind").lower()
    for key, value in mode.items():
        yield key.lower(), value
    for key, value in plain.pop("Labels", {}).items():
        if key != _LABEL_IMAGE:
            yield f"label {key}", value
    task = plain.pop("TaskTemplate", {})
    inner = task.pop("ContainerSpec", {})
    yield "image", inner.pop("Image", None)
    for key, value in inner.pop("Labels", {}).items():
        yield f"container-label {key}", value
    for line in inner.pop("Env", []):
        name, given, value = line.partition("=")
        yield f"env {name}", value if given else "(unset)"
    for mount in inner.pop("Mounts", []):
        yield f"mount {mount['Target']}", {k: v for k, v in mount.items() if k != "Target"}
    for config in inner.pop("Configs", []):
        yield f"config {config.pop('ConfigName', '')}", config.get("File", config)
    for secret in inner.pop("Secrets", []):
        yield f"secret {secret.pop('SecretName', '')}", secret.get("File", secret)
    yield "command", " ".join([*inner.pop("Command", []), *inner.pop("Args", [])]) or None
    for network in task.pop("Networks", []):
        yield f"network {network['Target']}", " ".join(network.get("Aliases", [])) or "joined"
    endpoint = plain.pop("EndpointSpec", {})
    for port in endpoint.pop("Ports", []):
        yield f"port {port.get('TargetPort')}/{port.get('Protocol', 'tcp')}", port
    plain.pop("Name", None)
    for part, rest in (("", plain), ("", task), ("", inner), ("Endpoint", endpoint)):
        yield from _leaves(part, rest)


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(f"{path}.{key}" if path else key, inner)
    else:
        yield path, value


def _network_facts(body: Json) -> Iterator[tuple[str, Any]]:
    yield from _leaves("", {k: v for k, v in normal.network(body).items() if k not in ("Name", "Labels")})


def _config_facts(body: Json) -> Iterator[tuple[str, Any]]:
    yield "content", hashlib.sha256(str(body.get("Data", "")).encode()).hexdigest()


def _secret_facts(body: Json) -> Iterator[tuple[str, Any]]:
    yield "content", (body.get("Labels") or {}).get(specs.LABEL_CONTENT)


_FACTS: Mapping[str, Callable[[Json], Iterator[tuple[str, Any]]]] = {
    "services": _service_facts,
    "networks": _network_facts,
    "configs": _config_facts,
    "secrets": _secret_facts,
}
