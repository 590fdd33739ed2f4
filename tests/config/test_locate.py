"""The scanner finds the line of every key of a TOML document, in every way that TOML writes keys."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmd.config.locate import Key, line_of, locate


def every_key(value: Any, path: Key = ()) -> Iterator[Key]:
    """The path of every key and list element of a document."""
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for part, child in children:
        yield (*path, part)
        yield from every_key(child, (*path, part))


DOCUMENTS: dict[str, tuple[str, dict[Key, int]]] = {
    "a table's keys": ("[a]\nb = 1\nc = 2\n", {("a",): 1, ("a", "b"): 2, ("a", "c"): 3}),
    "no newline at the end": ("a = 1\nb = 2", {("a",): 1, ("b",): 2}),
    "spaces and comments": ("# x = 1\n\n  a  =  1 # b = 2\n [ c . d ] # [e]\n", {("a",): 3, ("c", "d"): 4}),
    "Windows line ends": ("a = 1\r\nb = 2\r\n", {("a",): 1, ("b",): 2}),
    "dotted keys": (
        "a.b.c = 1\na.b.d = 2\n",
        {("a",): 1, ("a", "b"): 1, ("a", "b", "c"): 1, ("a", "b", "d"): 2},
    ),
    "quoted keys": ('"a.b".\'c d\' = 1\n"\\u0041" = 2\n', {("a.b", "c d"): 1, ("A",): 2}),
    "a table above comes later": (
        "[a.b]\nc = 1\n[a]\nd = 2\n",
        {("a",): 1, ("a", "b", "c"): 2, ("a", "d"): 4},
    ),
    "inline tables": (
        "a = { b = 1, c.d = { e = 2 } }\nf = 3\n",
        {("a", "b"): 1, ("a", "c", "d", "e"): 1, ("f",): 2},
    ),
    "lists over many lines": (
        "a = [ # one\n  1,\n  [2,\n   3], { b = 4 }, # ]\n]\nc = 5\n",
        {("a",): 1, ("a", 0): 2, ("a", 1): 3, ("a", 1, 1): 4, ("a", 2, "b"): 4, ("c",): 6},
    ),
    "empty lists and tables": ("a = []\nb = {}\nc = [\n]\nd = 1\n", {("a",): 1, ("b",): 2, ("d",): 5}),
    "arrays of tables": (
        "[[a]]\nb = 1\n[[a]]\nb = 2\n[a.c]\nd = 3\n",
        {("a",): 1, ("a", 0, "b"): 2, ("a", 1): 3, ("a", 1, "b"): 4, ("a", 1, "c", "d"): 6},
    ),
    "arrays of tables in arrays of tables": (
        "[[a]]\n[[a.b]]\nc = 1\n[[a.b]]\nc = 2\n[[a]]\n[[a.b]]\nc = 3\n",
        {("a", 0, "b", 0, "c"): 3, ("a", 0, "b", 1, "c"): 5, ("a", 1, "b", 0, "c"): 8},
    ),
    "strings over many lines": (
        'a = """\nx = 1\n[y]\n\\""" z = 2 ""\n"""\nb = \'\'\'\n"""\n\'\'\'\nc = 3\n',
        {("a",): 1, ("b",): 6, ("c",): 9},
    ),
    "quotes at the ends of strings": (
        'a = """"x""""\nb = \'\'\'\'\'x\'\'\'\'\'\nc = """"""\nd = ""\ne = \'\'\nf = 1\n',
        {("b",): 2, ("c",): 3, ("d",): 4, ("e",): 5, ("f",): 6},
    ),
    "strings that look like syntax": (
        'a = "] # \\" }"\nb = [\'}\', "]"]\nc = 1\n',
        {("a",): 1, ("b", 1): 2, ("c",): 3},
    ),
    "dates and numbers": (
        "a = 1979-05-27 07:32:00Z\nb = [1e3, 0xFF,\n -inf]\nc = 1\n",
        {("a",): 1, ("b", 2): 3, ("c",): 4},
    ),
}


@pytest.mark.parametrize(("text", "expected"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_each_key_is_found_on_its_line(text: str, expected: dict[Key, int]) -> None:
    lines = locate(text)
    assert {key: lines.get(key) for key in expected} == expected
    assert set(lines) == set(every_key(tomllib.loads(text)))


def test_a_key_that_is_missing_has_the_line_of_the_table_around_it() -> None:
    lines = locate("x = 1\n[a]\nb = 1\n")
    assert line_of(lines, ("a", "z")) == 2
    assert line_of(lines, ("a", "b", 7, "z")) == 3
    assert line_of(lines, ("nowhere",)) is None


# Documents of every shape, written in a way chosen at random, with the line of each key beside them.
TEXT = st.text(st.sampled_from("ab \"'\\\n#[]{}=,.é"), max_size=6)
KEYS = st.one_of(st.sampled_from(["a", "b-c", "x_1"]), TEXT.filter(lambda text: "\n" not in text))
VALUES = st.recursive(
    st.one_of(TEXT, st.integers(-5, 5), st.booleans()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def inline(value: Any, spread: bool) -> str:
    """A value as TOML; lists go over several lines if ``spread``."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {inline(v, False)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        join = ",  # ]\n" if spread else ", "
        return f"[{join.join(inline(item, spread) for item in value)}]"
    if isinstance(value, str) and spread and "\\" not in value and '"' not in value:
        return f'"""\n{value}"""'
    return json.dumps(value, ensure_ascii=False)


def written(table: dict[str, Any], path: tuple[str, ...], spread: bool) -> Iterator[str]:
    """A table as TOML: tables in it as headers, the rest inline."""
    for key, value in table.items():
        if not isinstance(value, dict):
            yield f"{json.dumps(key)} = {inline(value, spread)}"
    for key, value in table.items():
        if isinstance(value, dict):
            yield f"[{'.'.join(json.dumps(part) for part in (*path, key))}]"
            yield from written(value, (*path, key), spread)


@given(st.dictionaries(KEYS, VALUES, max_size=4), st.booleans())
def test_no_key_of_any_document_is_missed_or_invented(document: dict[str, Any], spread: bool) -> None:
    text = "\n".join(written(document, (), spread))
    assert set(locate(text)) == set(every_key(tomllib.loads(text)))
    for key, line in locate(text).items():
        if isinstance(key[-1], str):
            assert json.dumps(key[-1]) in text.split("\n")[line - 1]
