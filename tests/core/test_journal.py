"""The journal's codec: what was written comes back, and what was changed is found."""

from __future__ import annotations

import json
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmd.core import journal
from warmd.core.journal import FORMAT, Draft, Record, decode, encode
from warmd.core.model import canonical
from warmd.errors import JournalError

AT = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)
drafts = st.builds(
    Draft,
    type=texts,
    at=st.datetimes(min_value=datetime(2000, 1, 1), timezones=st.just(UTC)),
    data=st.dictionaries(texts, values, max_size=4),
    run=st.none() | texts,
)
some_drafts = st.lists(drafts, max_size=5)


def written(what: list[Draft]) -> tuple[list[Record], list[bytes]]:
    records: list[Record] = []
    lines: list[bytes] = []
    for draft in what:
        record, line = encode(draft, after=records[-1] if records else None)
        records.append(record)
        lines.append(line)
    return records, lines


def line_of(**changes: Any) -> bytes:
    """A first line with a right checksum, whatever it says."""
    body: dict[str, Any] = {
        "v": FORMAT,
        "seq": 1,
        "at": AT.isoformat(),
        "run": None,
        "type": "t",
        "data": {},
        "prev_crc": 0,
    } | changes
    return canonical(body | {"crc": zlib.crc32(canonical(body))}) + b"\n"


@given(some_drafts)
def test_what_was_written_is_read_back(what: list[Draft]) -> None:
    records, lines = written(what)
    content = b"".join(lines)
    assert decode(content, where="j") == (tuple(records), len(content))
    assert [(r.type, r.at, r.run) for r in records] == [(d.type, d.at, d.run) for d in what]
    assert [canonical(r.data) for r in records] == [canonical(d.data) for d in what]
    assert [r.seq for r in records] == list(range(1, len(what) + 1))


@given(st.lists(drafts, min_size=1, max_size=3), st.data())
def test_every_flipped_bit_is_found(what: list[Draft], data: st.DataObject) -> None:
    _, lines = written(what)
    content = bytearray(b"".join(lines))
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(JournalError, match=r"^j:\d"):
        decode(bytes(content), where="j")


def test_every_single_bit_of_a_real_line_matters() -> None:
    _, lines = written([Draft("run-started", AT, {"to": "10.7.1+26.6.2", "big": 1e22, "tab": "\x1f"}, "r1")])
    for position in range(len(lines[0])):
        for bit in range(8):
            changed = bytearray(lines[0])
            changed[position] ^= 1 << bit
            with pytest.raises(JournalError):
                decode(bytes(changed), where="j")


@given(some_drafts, st.data())
def test_whatever_is_cut_off_what_is_left_is_a_prefix(what: list[Draft], data: st.DataObject) -> None:
    records, lines = written(what)
    content = b"".join(lines)
    kept = content[: data.draw(st.integers(0, len(content)))]
    got, good = decode(kept, where="j")
    assert got == tuple(records[: len(got)])
    assert good == sum(len(line) for line in lines[: len(got)])
    # Only the last line can be torn: no whole one is dropped.
    assert len(kept) - good < len(lines[len(got)]) if len(got) < len(lines) else len(kept) == good


@pytest.mark.parametrize("tail", [b"{", b'{"at":"2026', b"\x00" * 4096, b"\xff\xfe"], ids=repr)
def test_a_torn_tail_is_not_damage(tail: bytes) -> None:
    records, lines = written([Draft("a", AT, {}), Draft("b", AT, {})])
    content = b"".join(lines)
    assert decode(content + tail, where="j") == (tuple(records), len(content))


def test_a_record_lacks_only_its_newline_and_is_dropped() -> None:
    records, lines = written([Draft("a", AT, {}), Draft("b", AT, {})])
    assert decode(b"".join(lines)[:-1], where="j") == ((records[0],), len(lines[0]))


def _swapped(lines: list[bytes]) -> list[bytes]:
    return [lines[1], lines[0], lines[2]]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        pytest.param(_swapped, "j:1", id="two lines swapped"),
        pytest.param(lambda lines: lines[1:], "j:1", id="the first line is missing"),
        pytest.param(lambda lines: [lines[0], lines[2]], "j:2", id="a line in the middle is missing"),
        pytest.param(lambda lines: [lines[0], *lines], "j:2", id="a line stands twice"),
        pytest.param(lambda lines: [lines[0], b"\n", *lines[1:]], "j:2", id="an empty line in between"),
        pytest.param(lambda lines: [lines[0], b"\x00\n"], "j:2", id="zeros with a newline"),
        pytest.param(lambda lines: [lines[0], b"[]\n"], "j:2", id="JSON, but no object"),
        pytest.param(lambda lines: [lines[0], b"1\n"], "j:2", id="JSON, but a number"),
        pytest.param(lambda lines: [lines[0], b"{}\n"], "j:2", id="an object without keys"),
        pytest.param(lambda lines: [lines[0], b"[" * 100_000 + b"\n"], "j:2", id="nested without end"),
        pytest.param(lambda lines: [lines[0][:-1] + b" \n"], "j:1", id="a space behind"),
        pytest.param(
            lambda lines: [*lines[:2], lines[2][:-1] + b"\x0b"], "j:3", id="another byte than newline"
        ),
        pytest.param(lambda _: [line_of(at="yesterday")], "j:1", id="no time"),
        pytest.param(lambda _: [line_of(seq=2)], "j:1", id="counts from two"),
        pytest.param(lambda _: [line_of(prev_crc=1)], "j:1", id="follows nothing"),
    ],
)
def test_damage_names_the_line(change: Any, where: str) -> None:
    _, lines = written([Draft("a", AT, {}), Draft("b", AT, {"n": 1}), Draft("c", AT, {})])
    with pytest.raises(JournalError, match=f"^{where}: ") as caught:
        decode(b"".join(change(lines)), where="j")
    assert "warmd adopt" in caught.value.hint


def test_a_newer_format_is_refused_and_says_so() -> None:
    with pytest.raises(JournalError, match="written in format 2, this warmd reads up to 1") as caught:
        decode(line_of(v=FORMAT + 1), where="j")
    assert caught.value.hint == "run the newer warmd again"


@pytest.mark.parametrize("version", ["one", 0, None])
def test_a_format_that_never_was_is_damage(version: Any) -> None:
    assert decode(line_of(v=FORMAT), where="j")[0][0].type == "t"
    with pytest.raises(JournalError, match=f"not a journal line: its format is {version!r}"):
        decode(line_of(v=version), where="j")


def test_an_endless_last_line_is_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_MAX_LINE", 100)
    assert decode(b"x" * 100, where="j") == ((), 0)
    with pytest.raises(JournalError, match="101 bytes without a newline"):
        decode(b"x" * 101, where="j")


def test_what_is_too_big_for_a_line_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    _, line = encode(Draft("t", AT, {"note": "x" * 100}), after=None)
    monkeypatch.setattr(journal, "_MAX_LINE", len(line))
    assert encode(Draft("t", AT, {"note": "x" * 100}), after=None)[1] == line
    with pytest.raises(JournalError, match="too many for one line"):
        encode(Draft("t", AT, {"note": "x" * 101}), after=None)


def test_half_a_character_as_undecodable_file_names_have_is_written_as_a_question_mark() -> None:
    record, line = encode(Draft("t", AT, {"x": "caf\udce9"}), after=None)
    assert record.data == {"x": "caf?"}
    assert decode(line, where="j") == ((record,), len(line))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({"x": float("nan")}, id="not a number"),
        pytest.param({"x": float("inf")}, id="infinite"),
        pytest.param({"x": AT}, id="a time"),
        pytest.param({"x": {1, 2}}, id="a set"),
        pytest.param({1: 1, "a": 2}, id="keys that can't be sorted"),
    ],
)
def test_what_json_cannot_say_is_not_written(data: Any) -> None:
    with pytest.raises(JournalError, match=r"record 1 \(t\): can't be written as JSON"):
        encode(Draft("t", AT, data), after=None)


def test_a_record_does_not_change_with_the_draft_it_came_from() -> None:
    data = {"list": [1]}
    record, _ = encode(Draft("t", AT, data), after=None)
    data["list"].append(2)
    assert record.data == {"list": [1]}


def test_a_line_is_readable_by_any_program() -> None:
    record, line = encode(Draft("t", AT + timedelta(seconds=1), {"a": "ö"}, "r"), after=None)
    assert json.loads(line) == {
        "v": 1,
        "seq": 1,
        "at": "2026-01-31T12:00:01+00:00",
        "run": "r",
        "type": "t",
        "data": {"a": "ö"},
        "prev_crc": 0,
        "crc": record.crc,
    }
    assert line.endswith(b"}\n")
