"""The journal's codec: one record a line, each bound to the one before by checksums.

A line is canonical JSON with the keys ``v, seq, at, run, type, data, prev_crc, crc``; ``crc`` is the
CRC-32 of the line without it, so a flipped bit is found, and ``prev_crc`` ties the order. A torn last
line (a crash in the middle of an append) is dropped; anything else that does not fit is damage.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from warmd.core.model import Json, canonical
from warmd.errors import JournalError

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
    be cut off before the next append. Raises JournalError, naming ``where`` and the line.
    """
    records: list[Record] = []
    good = 0
    lines = content.split(b"\n")
    tail = lines.pop()  # what follows the last newline: empty, or torn
    for number, line in enumerate(lines, start=1):
        records.append(_decode_line(line, _last(records), f"{where}:{number}"))
        good += len(line) + 1
    if len(tail) > _MAX_LINE:
        raise JournalError(f"{where}: {len(tail)} bytes without a newline at the end", hint=_HINT)
    # Torn means that the end is missing. A whole line with another byte than the newline behind it
    # is no such thing: it was acknowledged once, and dropping it would lose it silently.
    if _is_whole(tail[:-1], _last(records)):
        raise JournalError(f"{where}:{len(lines) + 1}: its newline was changed", hint=_HINT)
    return tuple(records), good


#: Bytes. Far above any real record, and low enough that a file of garbage is no memory problem.
_MAX_LINE = 16 * 1024 * 1024
_HINT = "move the file aside, then run: warmd adopt SERVICE"


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
        if version > FORMAT:
            raise JournalError(
                f"{where}: written in format {version}, this warmd reads up to {FORMAT}",
                hint="run the newer warmd again",
            )
        written = canonical(body)
        crc = body.pop("crc")
        record = Record(
            body["seq"],
            datetime.fromisoformat(body["at"]),
            body["run"],
            body["type"],
            body["data"],
            body["prev_crc"],
            crc,
        )
        checksum = _crc(body)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise JournalError(f"{where}: not a journal line: {error}", hint=_HINT) from error
    # The checksum is of the value; other bytes that say the same (1e5, 1E5) are a change all the same.
    if crc != checksum or written != line:
        raise JournalError(f"{where}: its checksum does not fit: the line was changed", hint=_HINT)
    expected = (after.seq + 1, after.crc) if after else (1, 0)
    if (record.seq, record.prev_crc) != expected:
        raise JournalError(f"{where}: does not follow the line before it", hint=_HINT)
    return record
