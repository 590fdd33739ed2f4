"""Environment files: what each line means, and what a wrong one says."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmd.errors import Refused
from warmd.plugins import envfile

LINES = {
    "plain": ("A=b", "b"),
    "spaces around": ("  A = b c  ", "b c"),
    "empty": ("A=", ""),
    "empty with a comment": ("A= # why", ""),
    "comment": ("A=b # why", "b"),
    "hash within": ("A=b#c", "b#c"),
    "equals within": ("A=b=c", "b=c"),
    "export": ("export A=b", "b"),
    "double quotes": ('A="b c # d"', "b c # d"),
    "double quotes and a comment": ('A="b" # why', "b"),
    "escapes": (r'A="a\nb\t\"\\\$x"', 'a\nb\t"\\$x'),
    "single quotes": (r"A='b \n $c # d'", r"b \n $c # d"),
    "no interpolation": ("A=$HOME/${X}", "$HOME/${X}"),
    "quotes within": ('A=it\'s "so"', 'it\'s "so"'),
    "backslashes outside of quotes": (r"A=a\nb", r"a\nb"),
    "windows": ("A=b\r", "b"),
}


@pytest.mark.parametrize(("line", "value"), LINES.values(), ids=LINES.keys())
def test_a_line(line: str, value: str) -> None:
    assert envfile.parse(line, "x.env") == {"A": value}


def test_a_file() -> None:
    text = "\ufeff# first\n\nA=1\n  # indented\nB='2'\nA=3\n"
    assert envfile.parse(text, "x.env") == {"A": "3", "B": "2"}


@pytest.mark.parametrize("line", ["SOLO", "1A=b", 'A="b', "A='b", 'A="b" c', "=b", "A B=c"])
def test_a_wrong_line_is_named_without_its_text(line: str) -> None:
    with pytest.raises(Refused, match=r"x\.env:2 is not KEY=VALUE") as refused:
        envfile.parse(f"OK=1\n{line}", "x.env")
    assert line not in refused.value.message


@given(st.text(st.characters(exclude_characters="'\r", exclude_categories=("Cs", "Cc", "Zl", "Zp"))))
def test_single_quotes_keep_everything(value: str) -> None:
    assert envfile.parse(f"A='{value}'", "x.env") == {"A": value}


@given(st.text(max_size=40))
def test_no_text_is_slow_or_a_traceback(text: str) -> None:
    with suppress(Refused):
        assert all(isinstance(value, str) for value in envfile.parse(text, "x.env").values())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"env_file .*/none\.env does not exist"):
        envfile.read(tmp_path / "none.env")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.env").write_bytes(b"A=\xff\xfe")
    with pytest.raises(Refused, match="is not UTF-8"):
        envfile.read(tmp_path / "a.env")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="Is a directory"):
        envfile.read(tmp_path)
