"""JournalStore over one append-only file a service: ``<state_dir>/services/<id>/journal``.

The token is the sequence number of the last record, 0 for none. Only whole, fsynced lines count: a
torn tail is cut off before the next append. The last record is kept in memory, so an append reads
nothing; a file that changed under us (its inode or size) is noticed and refused. The records
themselves are not kept: a journal grows for years.

Beside it lies ``journal.tip``, by which a journal that was cut short is known: see core/journal.py.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shlex
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import anyio
from anyio import to_thread

from warmd.adapters import files
from warmd.adapters.reserve import Reserve
from warmd.core.journal import (
    TIP_BYTES,
    Draft,
    Record,
    Tip,
    decode,
    decode_tip,
    encode,
    encode_tip,
    require_tip,
)
from warmd.errors import JournalDamaged, JournalError

T = TypeVar("T")

#: (device, inode, bytes) of the file when it was last read or written; None: there is none.
_Shape = tuple[int, int, int] | None
_AGAIN = "run the command again; if it stays, another program writes there"


@dataclass
class _Known:
    """What memory holds of one journal: its last record, and the file it came from."""

    last: Record | None
    good: int
    shape: _Shape


@dataclass
class _Journal:
    """One service's file. All of it runs in threads, under ``lock``: memory and disk change together
    there, so a caller that is cancelled or gone can't leave them apart."""

    path: Path
    room: Reserve
    lock: threading.Lock = field(default_factory=threading.Lock)
    known: _Known | None = None
    broken: str = ""
    named: bool = False  # the file's name, and the folder's, are known to be durable

    def load(self) -> tuple[tuple[Record, ...], int]:
        with self.lock:
            self._check_broken()
            records, self.known = self._read()
            return records, len(records)

    def append(self, draft: Draft, expected: int) -> tuple[Record, int]:
        with self.lock:
            self._check_broken()
            known = self.known = self.known or self._read()[1]
            ends = known.last.seq if known.last else 0
            if ends != expected:
                raise JournalError(
                    f"{self.path}: ends with record {ends}, not with {expected}: "
                    "somebody else appended to it",
                    hint=_AGAIN,
                )
            record, line = encode(draft, after=known.last)
            try:
                known.shape = self._write(line, known)
            except BaseException:
                self.known = None  # whatever is on disk now, the next call reads it
                raise
            known.last = record
            known.good += len(line)
            self._note(record)
            return record, record.seq

    def set_aside(self, first: Draft) -> None:
        """At every moment what lies there is damaged, and found to be by whoever comes next, or it is the
        new journal with its first record: the old tip speaks against both, and goes last."""
        with self.lock:
            self._check_broken()
            self.known = None
            place, tip, new = self.path.with_name("damaged"), self._beside("tip"), self._beside("new")
            record, line = encode(first, after=None)
            files.make_folder(place)
            # What fails for want of room does so before there is anything under another name.
            self._write_new(new, line)
            for path in (self.path, tip):
                with contextlib.suppress(FileNotFoundError):
                    (place / f"{path.name}.{time.time_ns()}").hardlink_to(path)
            self._fsync_folder(place)
            new.rename(self.path)
            self._fsync_folder(self.path.parent)
            tip.unlink(missing_ok=True)
            self._fsync_folder(self.path.parent)
            self._note(record)

    def _beside(self, what: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{what}")

    def _note(self, record: Record) -> None:
        """Write the tip. Not fsynced, and trouble with it is none: one that is old or torn says less."""
        with contextlib.suppress(OSError):
            fd = os.open(self._beside("tip"), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                os.write(fd, encode_tip(Tip(record.seq, record.crc)))
            finally:
                os.close(fd)

    def _tip(self) -> Tip | None:
        try:
            fd = os.open(self._beside("tip"), os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        with os.fdopen(fd, "rb") as file:
            return decode_tip(file.read(TIP_BYTES))

    def _check_broken(self) -> None:
        if self.broken:
            raise JournalError(
                f"{self.path}: {self.broken}; what is on the disk is not known",
                hint="see dmesg, mend the disk, then restart warmd",
            )

    def _read(self) -> tuple[tuple[Record, ...], _Known]:
        tip = self._tip()  # first: whoever appends meanwhile must not make the journal look short
        try:
            fd = self._open_to_read()
        except FileNotFoundError:
            require_tip((), tip, where=str(self.path))
            return (), _Known(None, 0, None)
        with os.fdopen(fd, "rb") as file:
            content = file.read()
            seen = os.fstat(fd)
            records, good = decode(content, where=str(self.path))
            require_tip(records, tip, where=str(self.path))
            shape = (seen.st_dev, seen.st_ino, len(content))
            if self.known is None or self.known.shape != shape:
                # A process that was killed before its fsync leaves lines that only memory has. They
                # are acted on from here on, so they have to be as durable as ours.
                if records and (tip is None or tip.seq < len(records)):
                    self._write_again(fd, content[:good])
                self._fsync(fd)
        return records, _Known(records[-1] if records else None, good, shape)

    def _open_to_read(self) -> int:
        try:
            return os.open(self.path, os.O_RDWR | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            return os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW)

    @staticmethod
    def _write_again(fd: int, content: bytes) -> None:
        """The last line was never acknowledged: its writer was killed, or its fsync failed, after which
        another one may say yes to what is not on the disk. Written anew, the same bytes have to get there."""
        start = content.rfind(b"\n", 0, -1) + 1
        try:
            os.pwrite(fd, content[start:], start)
        except OSError as error:
            if error.errno != errno.EBADF:  # opened to read only: then nothing is acted on either
                raise

    def _write(self, line: bytes, known: _Known) -> _Shape:
        if known.shape is None:
            files.make_folder(self.path.parent)
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW
        # One that is not there is made, and one that was there and is gone is an error.
        fd = os.open(self.path, flags | (os.O_CREAT | os.O_EXCL if known.shape is None else 0), 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            seen = os.fstat(fd)
            if known.shape is not None and known.shape != (seen.st_dev, seen.st_ino, seen.st_size):
                raise JournalError(f"{self.path}: changed since it was read", hint=_AGAIN)
            if seen.st_size > known.good:  # a torn tail
                os.ftruncate(fd, known.good)
                self._fsync(fd)
            if not self.named:  # before the line: what fails here leaves no record behind
                self._fsync_folder(self.path.parent)
                self._fsync_folder(self.path.parent.parent)
                self.named = True
            self._write_line(fd, line, known.good)
            self._fsync(fd)
        finally:
            os.close(fd)
        return (seen.st_dev, seen.st_ino, known.good + len(line))

    def _write_new(self, path: Path, line: bytes) -> None:
        path.unlink(missing_ok=True)  # of an attempt that failed, or was killed
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            self._write_line(fd, line, 0)
            self._fsync(fd)
        finally:
            os.close(fd)

    def _write_line(self, fd: int, line: bytes, good: int) -> None:
        def write() -> None:
            files.write_all(fd, line)

        # Undone because the full disk may have taken a part of it.
        self.room.spent_if_full(write, undo=lambda: os.ftruncate(fd, good))

    def _fsync_folder(self, folder: Path) -> None:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._fsync(fd)
        finally:
            os.close(fd)

    def _fsync(self, fd: int) -> None:
        try:
            os.fsync(fd)
        except OSError as error:
            self.broken = f"fsync failed: {error.strerror}"
            self._check_broken()


async def _shielded(call: Callable[[], T]) -> T:
    with anyio.CancelScope(shield=True):
        answer = await to_thread.run_sync(call)
    return answer  # noqa: RET504 - mypy can't know that this scope never swallows a cancellation


class JournalFiles:
    """All services' journals below one folder, ``<state_dir>/services``."""

    def __init__(self, services: Path, room: Reserve | None = None) -> None:
        self._services = services
        self._room = room or Reserve(services / ".reserve")
        self._journals: dict[str, _Journal] = {}

    async def load(self, service: str) -> tuple[tuple[Record, ...], int]:
        """All records and the token. No file is no record. Raises JournalError where it is damaged,
        Transient or Permanent where it can't be read."""
        journal = self._journal(service)
        return await self._in_thread(journal, "can't read", journal.load)

    async def append(self, service: str, draft: Draft, *, expected: int) -> tuple[Record, int]:
        """Append durably; the record and the next token. Not interrupted by cancellation.

        Raises JournalError where the journal does not end with ``expected``, changed since it was
        read or is damaged, and for ever after a failed fsync; Transient where the disk is full: then
        nothing was appended, and the same call may work later.
        """
        journal = self._journal(service)
        return await self._in_thread(journal, "can't append to", lambda: journal.append(draft, expected))

    async def reserve(self, service: str) -> None:
        """Hold room on the disk for the records of one run; cheap where it is held already. Raises
        Transient where there is none."""
        try:
            await _shielded(self._room.hold)
        except OSError as error:
            raise files.explain(error, f"can't hold room in {self._room.folder}") from error

    async def set_aside(self, service: str, first: Draft) -> None:
        """Move what is there into the folder ``damaged`` beside it, as a new journal that begins with
        ``first`` takes its place. Raises Transient or Permanent, with what is there left in its place,
        and JournalError after a failed fsync."""
        journal = self._journal(service)
        await self._in_thread(journal, "can't move away", lambda: journal.set_aside(first))

    def _journal(self, service: str) -> _Journal:
        if service not in self._journals:
            if service in ("", ".", "..") or "/" in service or "\0" in service:
                raise JournalError(f"{service!r} can't be the name of a service's folder")
            self._journals[service] = _Journal(self._services / service / "journal", self._room)
        return self._journals[service]

    async def _in_thread(self, journal: _Journal, verb: str, call: Callable[[], T]) -> T:
        try:
            return await _shielded(call)
        except JournalDamaged as error:
            folder, name = journal.path.parent, journal.path.parent.name
            # All of them together: a tip of another journal would speak against a new one.
            aside = f"cd {shlex.quote(str(folder))} && mkdir -p damaged && mv -b journal* damaged/"
            hint = f"{aside}; then, if the service is well: warmd adopt {name}"
            raise JournalDamaged(error.message, hint=hint, aside=aside) from error
        except BlockingIOError as error:
            raise JournalError(f"{journal.path}: another process is writing to it", hint=_AGAIN) from error
        except (FileExistsError, FileNotFoundError) as error:
            raise JournalError(f"{journal.path}: changed since it was read", hint=_AGAIN) from error
        except OSError as error:
            raise files.explain(error, f"{verb} {journal.path}") from error
