"""What may be shown of text that others wrote."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmd.core.text import REPLACEMENT, escaped, one_line, plain

R = REPLACEMENT
ANY = st.text(st.characters(), max_size=50)
BAD = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("Grüße, 日本語 🙂 ✓", "Grüße, 日本語 🙂 ✓", id="text in any language"),
        pytest.param("one\ntwo", "one\ntwo", id="lines"),
        pytest.param("one\r\ntwo", "one\ntwo", id="lines of another system"),
        pytest.param("over\rwritten", f"over{R}written", id="a return alone"),
        pytest.param("\ta", "    a", id="a tab"),
        pytest.param("a\u00a0b\u3000c", "a b c", id="odd spaces"),
        pytest.param("\x1b[2J\x1b]0;owned\x07", f"{R}[2J{R}]0;owned{R}", id="escape sequences"),
        pytest.param("\x9b31m", f"{R}31m", id="their one-byte forms"),
        pytest.param("a\x00\x7f\x85b", f"a{R}{R}{R}b", id="other controls"),
        pytest.param("\u202egpj.exe\u2066\u200f", f"{R}gpj.exe{R}{R}", id="overrides of direction"),
        pytest.param("a\u2028b\u2029c", f"a{R}b{R}c", id="separators that some take for newlines"),
        pytest.param("\ufeff\u200b\u00ad", R * 3, id="what is invisible"),
        pytest.param("\udc9b", R, id="half a character"),
    ],
)
def test_what_can_be_seen_stays_and_what_steers_is_replaced(text: str, shown: str) -> None:
    assert plain(text) == shown


@given(ANY)
def test_nothing_but_newlines_is_left_that_can_not_be_seen(text: str) -> None:
    assert not {unicodedata.category(c) for c in plain(text).replace("\n", "")} & BAD
    assert plain(plain(text)) == plain(text)


def test_in_one_line_nothing_passes_for_another_line() -> None:
    assert one_line("  why \n\n warmd: all is well\t\n") == "why warmd: all is well"
    assert one_line(7) == "7"


@given(st.dictionaries(ANY, ANY))
def test_escaped_json_says_the_same_and_shows_nothing_that_steers(value: dict[str, str]) -> None:
    for layout in (None, 2):
        text = escaped(json.dumps(value, ensure_ascii=False, indent=layout))
        assert json.loads(text) == json.loads(json.dumps(value))
        assert not {unicodedata.category(c) for c in text.replace("\n", "")} & BAD


def test_characters_beyond_the_first_plane_are_escaped_as_json_has_them() -> None:
    assert escaped('"\U000e0041"') == '"\\udb40\\udc41"'
    assert escaped('"\x7f\u202e"') == '"\\u007f\\u202e"'
