"""What is wrong with a configuration, in words for the person who wrote it.

pydantic finds the problems; this module says them without its jargon, and without the values of keys
(they may be passwords) except where only a few words are allowed anyway.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from warmd.config.models import KIND_ERROR, PLUGIN_ERROR, PORTS, File, Service, known_kinds
from warmd.core import durations
from warmd.errors import ConfigError

Loc = tuple[str | int, ...]

_MISMATCH = re.compile(r"expected ([a-z ]+), not ([a-z ]+)")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or worth telling. ``line`` is from 1, None where it can't be known."""

    path: Path
    line: int | None
    key: str
    text: str

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line else str(self.path)
        return f"{where}: {self.key}: {self.text}" if self.key else f"{where}: {self.text}"


class ConfigProblems(ConfigError):
    """Everything that is wrong with one configuration file, one problem a line of the message."""

    def __init__(self, problems: Sequence[Problem], *, hint: str = "") -> None:
        self.problems = tuple(problems)
        count = "1 error" if len(problems) == 1 else f"{len(problems)} errors"
        head = f"{count} in the configuration, nothing was started:"
        super().__init__("\n".join([head, *map(str, problems)]), hint=hint)


def dotted(loc: Loc) -> str:
    """A key path as TOML writes it, with the index of list elements in brackets, from 1."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            shown = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else '"' + part.replace('"', '\\"') + '"'
            text += f".{shown}" if text else shown
    return text


def explain(errors: Sequence[Mapping[str, Any]], raw: Mapping[str, Any]) -> list[tuple[Loc, str]]:
    """pydantic's errors as (key path, plain words), one a key, in the order of the file's keys."""
    found: dict[Loc, list[str]] = {}
    for loc, error, model in _flat(errors, (), File):
        if error["type"] == "default_factory_not_called":
            continue  # follows from another error
        missing = error.get("missing", error["type"] == "missing")
        place, text = _real(loc, raw, missing=missing), _words(error, loc, model)
        texts = found.setdefault(place, [])
        if text not in texts:
            texts.append(text)
    return [(loc, _one_of(texts)) for loc, texts in found.items()]


def _one_of(texts: Sequence[str]) -> str:
    """A choice between types gives an error for each: say it once, and leave out the types that it isn't."""
    others = [text for text in texts if not _MISMATCH.fullmatch(text)]
    if others or len(texts) == 1:
        return "; ".join(others or texts)
    expected = " or ".join(_MISMATCH.sub(r"\1", text) for text in texts)
    given = _MISMATCH.sub(r"\2", texts[0])
    return f"expected {expected}, not {given}"


def type_name(value: object) -> str:
    """What a TOML value is, in words."""
    names: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "true or false"),
        (str, "text"),
        (int, "a whole number"),
        (float, "a number"),
        ((list, tuple), "a list"),
        (dict, "a table"),
        ((date, time), "a date or time"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "something else")


def _flat(
    errors: Sequence[Mapping[str, Any]], prefix: Loc, model: type[BaseModel] | None
) -> Iterator[tuple[Loc, Mapping[str, Any], type[BaseModel] | None]]:
    """Errors with those of plugins unpacked: (key path, error, the model whose key the last part is)."""
    for error in errors:
        loc = (*prefix, *error["loc"])
        if error["type"] == PLUGIN_ERROR:
            yield from _flat(error["ctx"]["errors"], loc, error["ctx"]["model"])
        else:
            yield loc, error, _owner(model, error["loc"])


def _owner(model: type[BaseModel] | None, loc: Loc) -> type[BaseModel] | None:
    """The model that the last part of ``loc`` is, or would be, a key of."""
    for part in loc[:-1]:
        if model is not None and isinstance(part, str) and part in model.model_fields:
            inner = list(_models(model.model_fields[part].annotation))
            # In a list or a table of models the next part is an index or a name: stay.
            model = inner[0] if len(inner) == 1 else None
    return model


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for arg in get_args(annotation):
        yield from _models(arg)


def _real(loc: Loc, raw: Mapping[str, Any], *, missing: bool) -> Loc:
    """The part of ``loc`` that the file has: pydantic appends names of its own for unions and keys."""
    here: Any = raw
    for end, part in enumerate(loc):
        inside = (
            part in here if isinstance(here, dict) else isinstance(here, list) and part in range(len(here))
        )
        if not inside:
            return loc if missing and end == len(loc) - 1 else loc[:end]
        here = here[part]
    return loc


def _words(error: Mapping[str, Any], loc: Loc, model: type[BaseModel] | None) -> str:
    kind, ctx, value = error["type"], error.get("ctx") or {}, error.get("input")
    if kind == "extra_forbidden":
        return _unknown(str(loc[-1]), model)
    if kind == "missing":
        return _missing(str(loc[-1]), model)
    if kind == KIND_ERROR:
        return str(error["msg"])
    if kind == "literal_error":
        return _choice(str(ctx["expected"]), value)
    if kind in ("value_error", "assertion_error"):
        return str(ctx["error"])
    for pattern, say in _SAYINGS:
        if re.fullmatch(pattern, kind):
            return say(ctx, value)
    text = re.sub(r"^Input should (?:be|have) ", "expected ", error["msg"])
    return re.sub(r"\binput\b", "value", text, flags=re.IGNORECASE)


def _unknown(key: str, model: type[BaseModel] | None) -> str:
    known = [field.alias or name for name, field in model.model_fields.items()] if model else []
    near = get_close_matches(key, known, n=1)
    if near:
        return f'unknown key, did you mean "{near[0]}"?'
    return f"unknown key, known here: {', '.join(known)}" if known else "unknown key"


def _missing(key: str, model: type[BaseModel] | None) -> str:
    if model is Service and key in PORTS:
        return f"missing, expected a table with kind = {known_kinds(PORTS[key])}"
    field = model.model_fields.get(key) if model else None
    if field is None or not field.description:
        return "missing"
    first = re.split(r"(?<=\w)[.:](?:\s|$)", field.description.replace("\n", " "), maxsplit=1)[0]
    return f"missing ({first[0].lower()}{first[1:]})"


def _choice(expected: str, value: object) -> str:
    # pydantic writes them as 'a', 'b' or 'c'; everything in the file is written with double quotes.
    options = re.findall(r"'([^']*)'", expected)
    if not options or not isinstance(value, str):
        return f"expected {_quoted(expected)}, not {type_name(value)}"
    near = get_close_matches(value, options, n=1)
    hint = f', did you mean "{near[0]}"?' if near else ""
    return f'expected {_quoted(expected)}, not "{value}"{hint}'


def _quoted(expected: str) -> str:
    return expected.replace("'", '"')


def _amount(value: object) -> str:
    return f'"{durations.format(value)}"' if isinstance(value, timedelta) else str(value)


def _type(expected: str) -> Callable[[Mapping[str, Any], object], str]:
    return lambda ctx, value: f"expected {expected}, not {type_name(value)}"


def _bound(words: str, name: str) -> Callable[[Mapping[str, Any], object], str]:
    return lambda ctx, value: f"must be {words} {_amount(ctx[name])}"


def _length(words: str, name: str) -> Callable[[Mapping[str, Any], object], str]:
    def say(ctx: Mapping[str, Any], value: object) -> str:
        if name == "min_length" and ctx[name] == 1:
            return "must not be empty"
        return f"must have at {words} {ctx[name]} {'characters' if isinstance(value, str) else 'entries'}"

    return say


#: Patterns of pydantic's error types, and what to say.
_SAYINGS: tuple[tuple[str, Callable[[Mapping[str, Any], object], str]], ...] = (
    ("string_(?:type|sub_type|unicode)|path_type|bytes_type", _type("text")),
    ("int_(?:type|parsing|parsing_size|from_float)", _type("a whole number")),
    ("float_(?:type|parsing)|decimal_.*|finite_number", _type("a number")),
    ("bool_(?:type|parsing)", _type("true or false")),
    ("(?:tuple|list|set|frozen_set|iterable)_type", _type("a list")),
    ("(?:dict|mapping|model|model_attributes|dataclass|typed_dict)_type", _type("a table")),
    ("time_delta_.*", _type('a duration such as "5m"')),
    ("greater_than_equal", _bound("at least", "ge")),
    ("greater_than", _bound("more than", "gt")),
    ("less_than_equal", _bound("at most", "le")),
    ("less_than", _bound("less than", "lt")),
    ("(?:string_)?too_short", _length("least", "min_length")),
    ("(?:string_)?too_long", _length("most", "max_length")),
    ("string_pattern_mismatch", lambda ctx, value: f"expected text of the form {ctx['pattern']}"),
    ("enum", lambda ctx, value: _choice(str(ctx["expected"]), value)),
    ("union_tag_not_found", lambda ctx, value: f"missing {_quoted(str(ctx['discriminator']))}"),
    ("union_tag_invalid", lambda ctx, value: _choice(str(ctx["expected_tags"]), ctx["tag"])),
    ("url_.*", lambda ctx, value: f"expected a URL{': ' + str(ctx['error']) if 'error' in ctx else ''}"),
)
