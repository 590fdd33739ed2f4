"""The tip: what the chain of checksums can't say, that its own end is missing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmd.core.journal import TIP_BYTES, Draft, Record, Tip, decode_tip, encode, encode_tip, require_tip
from warmd.errors import JournalError

AT = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)

tips = st.builds(Tip, seq=st.integers(1, 10**12 - 1), crc=st.integers(0, 2**32 - 1))


def records(count: int, word: str = "") -> tuple[Record, ...]:
    made: list[Record] = []
    for n in range(count):
        made.append(encode(Draft("t", AT, {"n": n, "word": word}), after=made[-1] if made else None)[0])
    return tuple(made)


def tip_of(journal: tuple[Record, ...]) -> Tip:
    return Tip(journal[-1].seq, journal[-1].crc)


@given(tips)
def test_what_was_written_is_read_back(tip: Tip) -> None:
    assert decode_tip(encode_tip(tip)) == tip


@given(tips, tips)
def test_every_tip_is_as_long_so_that_a_new_one_covers_an_old_one(one: Tip, other: Tip) -> None:
    assert len(encode_tip(one)) == len(encode_tip(other)) == TIP_BYTES


@given(tips, st.data())
def test_a_flipped_bit_makes_it_say_nothing(tip: Tip, data: st.DataObject) -> None:
    content = bytearray(encode_tip(tip))
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert decode_tip(bytes(content)) is None


@given(tips, tips, st.data())
def test_half_of_one_over_another_says_nothing_or_one_of_both(
    old: Tip, new: Tip, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(encode_tip(new))))
    assert decode_tip(encode_tip(new)[:cut] + encode_tip(old)[cut:]) in (None, old, new)


@given(st.binary(max_size=60))
def test_whatever_stands_there_is_read_without_an_error(content: bytes) -> None:
    assert decode_tip(content) is None


@pytest.mark.parametrize("tip", [Tip(0, 0), Tip(-1, 0)], ids=["zero", "below zero"])
def test_no_record_has_a_number_below_one(tip: Tip) -> None:
    assert decode_tip(encode_tip(tip)) is None


@given(st.integers(1, 6), st.integers(1, 6))
def test_a_journal_is_whole_as_far_as_the_tip_says(length: int, acknowledged: int) -> None:
    journal, tip = records(length), tip_of(records(acknowledged))
    if acknowledged <= length:
        require_tip(journal, tip, where="j")
    else:
        with pytest.raises(
            JournalError, match=f"^j: ends with record {length}, though record {acknowledged}"
        ):
            require_tip(journal, tip, where="j")


@given(st.integers(0, 6))
def test_without_a_tip_nothing_is_missing(length: int) -> None:
    require_tip(records(length), None, where="j")


def test_an_empty_journal_is_not_what_was_written() -> None:
    with pytest.raises(JournalError, match=r"^j: holds no record, though record 2 was written") as caught:
        require_tip((), tip_of(records(2)), where="j")
    assert caught.value.hint == "move the journal* files aside, then run: warmd adopt SERVICE"


def test_another_journal_of_the_same_length_is_not_what_was_written() -> None:
    with pytest.raises(JournalError, match=r"^j:2: is not the record that was written") as caught:
        require_tip(records(3, "other"), tip_of(records(2)), where="j")
    assert "warmd adopt" in caught.value.hint
