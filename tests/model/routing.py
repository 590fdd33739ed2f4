"""Which call of the Engine API is answered by which function, and what those functions share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tests.model.faults import Answer

if TYPE_CHECKING:
    from tests.model.machine import Machine

Query = Mapping[str, str]
Handler = Callable[["Machine", re.Match[str], Query, Any], Answer]

_ROUTES: list[tuple[str, re.Pattern[str], Handler]] = []
_PLAIN: dict[tuple[str, str], Handler] = {}


def route(method: str, pattern: str) -> Callable[[Handler], Handler]:
    def add(handler: Handler) -> Handler:
        if re.fullmatch(r"[/\w]+", pattern):
            _PLAIN[method, pattern] = handler
        _ROUTES.append((method, re.compile(pattern), handler))
        return handler

    return add


_NOTHING = re.compile("")
_LEADERLESS = re.compile(r"/(services|tasks|configs|secrets|nodes|networks/create)\b")


def answer(model: Machine, method: str, path: str, query: Query, body: Any) -> Answer:
    """What the engine says; 404 for what it does not know."""
    if model.now < model.leader_at and _LEADERLESS.match(path):
        return refused(
            503,
            "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few "
            "managers are online. Make sure more than half of the managers are online.",
        )
    plain = _PLAIN.get((method, path))
    if plain is not None:
        nothing = _NOTHING.match("")
        assert nothing is not None
        return plain(model, nothing, query, body)
    for wanted, pattern, handler in _ROUTES:
        if wanted == method and (found := pattern.fullmatch(path)):
            return handler(model, found, query, body)
    return refused(404, "page not found")


def refused(status: int, message: str) -> Answer:
    return Answer(status, {"message": message})


def rpc(status: int, code: str, message: str) -> Answer:
    return refused(status, f"rpc error: code = {code} desc = {message}")


def filters_of(query: Query) -> dict[str, list[str]]:
    """Both spellings of the API: lists, and objects whose keys are the values."""
    found = json.loads(query.get("filters") or "{}")
    return {k: list(v) if isinstance(v, list) else [w for w, on in v.items() if on] for k, v in found.items()}


def labelled(labels: Mapping[str, str] | None, wanted: list[str]) -> bool:
    for want in wanted:
        key, equals, value = want.partition("=")
        if key not in (labels or {}) or (equals and (labels or {})[key] != value):
            return False
    return True


def named(name: str, id_: str, filters: dict[str, list[str]]) -> bool:
    names, ids = filters.get("name") or [], filters.get("id") or []
    return (not names or any(name.startswith(n) for n in names)) and (
        not ids or any(id_.startswith(i) for i in ids)
    )
