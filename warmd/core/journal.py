"""The journal's codec: one record a line, each bound to the one before by checksums.

A line is canonical JSON with the keys ``v, seq, at, run, type, data, prev_crc, crc``; ``crc`` is the
CRC-32 of the line without it, so a flipped bit is found, and ``prev_crc`` ties the order. A torn last
line (a crash in the middle of an append) is dropped; anything else that does not fit is damage.

The chain can't say that its own end is missing. A *tip*, kept beside the journal, names the last record
that was acknowledged: a journal that ends before it was cut short. The tip is written after the record
is durable, so it is never ahead; an old, lost or torn one proves less and is no damage.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from warmd.core.model import Json, canonical
from warmd.errors import JournalDamaged, JournalError

#: The version of the format. A journal with a newer one is refused.
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Draft:
    """A record before it has a place: what happened, when, and in which run (or None)."""

    type: str
    at: datetime
    data: Json
    run: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a journal. ``seq`` counts from 1 without gaps."""

    seq: int
    at: datetime
    run: str | None
    type: str
    data: Json
    prev_crc: int
    crc: int


def _crc(body: dict[str, Any]) -> int:
    return zlib.crc32(canonical(body))


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def encode(draft: Draft, *, after: Record | None) -> tuple[Record, bytes]:
    """The record that ``draft`` becomes behind ``after`` (None: the first), and its line.

    Raises JournalError where ``data`` is not JSON, or too big for one line.
    """
    seq, prev_crc = (after.seq + 1, after.crc) if after else (1, 0)
    where = f"record {seq} ({draft.type})"
    try:
        data = json.loads(canonical(draft.data), parse_constant=_no_constant)
        body: dict[str, Any] = {
            "v": FORMAT,
            "seq": seq,
            "at": draft.at.isoformat(),
            "run": draft.run,
            "type": draft.type,
            "data": data,
            "prev_crc": prev_crc,
        }
        crc = _crc(body)
        line = canonical(body | {"crc": crc}) + b"\n"
    except (TypeError, ValueError) as error:
        raise JournalError(f"{where}: can't be written as JSON: {error}") from error
    if len(line) > _MAX_LINE:
        raise JournalError(f"{where}: {len(line)} bytes are too many for one line; big things are blobs")
    return Record(seq, draft.at, draft.run, draft.type, data, prev_crc, crc), line


def decode(content: bytes, *, where: str) -> tuple[tuple[Record, ...], int]:
    """All records of a journal, and how many bytes of ``content`` are good.

    The good length is shorter than ``content`` exactly where the last line is torn: the rest is to
    be cut off before the next append. Raises JournalDamaged, naming ``where`` and the line, and
    JournalError where a newer warmd wrote it.
    """
    records: list[Record] = []
    good = 0
    lines = content.split(b"\n")
    tail = lines.pop()  # what follows the last newline: empty, or torn
    for number, line in enumerate(lines, start=1):
        records.append(_decode_line(line, _last(records), f"{where}:{number}"))
        good += len(line) + 1
    if len(tail) > _MAX_LINE:
        raise JournalDamaged(f"{where}: {len(tail)} bytes without a newline at the end", hint=_HINT)
    # Torn means that the end is missing. A whole line with another byte than the newline behind it
    # is no such thing: it was acknowledged once, and dropping it would lose it silently.
    if _is_whole(tail[:-1], _last(records)):
        raise JournalDamaged(f"{where}:{len(lines) + 1}: its newline was changed", hint=_HINT)
    return tuple(records), good


@dataclass(frozen=True, slots=True)
class Tip:
    """What a tip says: the number and the checksum of the last acknowledged record."""

    seq: int
    crc: int


#: The length of what ``encode_tip`` gives: always the same, so that it can be written in place.
TIP_BYTES = 33


def encode_tip(tip: Tip) -> bytes:
    """The content of a tip file."""
    text = f"{FORMAT} {tip.seq:012d} {tip.crc:08x}"
    return f"{text} {zlib.crc32(text.encode()):08x}\n".encode()


def decode_tip(content: bytes) -> Tip | None:
    """What ``encode_tip`` wrote; None for anything else: a torn, damaged or newer one says nothing."""
    try:
        _, seq, crc, _ = content.decode("ascii").split(" ")
        tip = Tip(int(seq), int(crc, 16))
        return tip if tip.seq > 0 and content == encode_tip(tip) else None
    except ValueError:
        return None


def require_tip(records: tuple[Record, ...], tip: Tip | None, *, where: str) -> None:
    """Raises JournalDamaged where the journal lacks the record that ``tip`` names, or has another there."""
    if tip is None:
        return
    if len(records) < tip.seq:
        ends = f"ends with record {len(records)}" if records else "holds no record"
        raise JournalDamaged(
            f"{where}: {ends}, though record {tip.seq} was written: it was cut short", hint=_HINT
        )
    if records[tip.seq - 1].crc != tip.crc:
        raise JournalDamaged(f"{where}:{tip.seq}: is not the record that was written", hint=_HINT)


#: Bytes. Far above any real record, and low enough that a file of garbage is no memory problem.
_MAX_LINE = 16 * 1024 * 1024
_HINT = "move the journal* files aside, then run: warmd adopt SERVICE"


def _last(records: list[Record]) -> Record | None:
    return records[-1] if records else None


def _is_whole(line: bytes, after: Record | None) -> bool:
    try:
        _decode_line(line, after, "")
    except JournalError:
        return False
    return True


def _decode_line(line: bytes, after: Record | None, where: str) -> Record:
    try:
        body = json.loads(line)
        version = body["v"]
        if not isinstance(version, int) or version < FORMAT:
            raise ValueError(f"its format is {version!r}")
        written = canonical(body)
        crc = body.pop("crc")
        checksum = _crc(body)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise JournalDamaged(f"{where}: not a journal line: {error}", hint=_HINT) from error
    # The checksum is of the value; other bytes that say the same (1e5, 1E5) are a change all the same.
    if crc != checksum or written != line:
        raise JournalDamaged(f"{where}: its checksum does not fit: the line was changed", hint=_HINT)
    if version > FORMAT:  # whatever else it changes, it keeps v and crc as they are
        raise JournalError(
            f"{where}: written in format {version}, this warmd reads up to {FORMAT}",
            hint="run the newer warmd again",
        )
    try:
        record = Record(
            body["seq"],
            datetime.fromisoformat(body["at"]),
            body["run"],
            body["type"],
            body["data"],
            body["prev_crc"],
            crc,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise JournalDamaged(f"{where}: not a journal line: {error}", hint=_HINT) from error
    expected = (after.seq + 1, after.crc) if after else (1, 0)
    if (record.seq, record.prev_crc) != expected:
        raise JournalDamaged(f"{where}: does not follow the line before it", hint=_HINT)
    return record
