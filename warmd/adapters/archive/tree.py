"""One file of a volume as data, and walks over a volume that find everything or say why not.

Walks go depth first with names in byte order, which is the order of ``tar --sort=name``: two walks,
or a walk and an archive, are compared side by side without holding either in memory. Paths are
bytes, relative to the volume; ``.`` is the volume's own folder.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from warmd.adapters.archive.children import CHUNK, MARK, Check
from warmd.errors import SnapshotError

#: Where replaced data stays if the volume's folder is itself a mount point. Never part of a snapshot.
QUARANTINE = ".warmd-quarantine"

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISREG, "file"),
    (stat.S_ISDIR, "folder"),
    (stat.S_ISLNK, "link"),
    (stat.S_ISFIFO, "fifo"),
    (stat.S_ISCHR, "char"),
    (stat.S_ISBLK, "block"),
    (stat.S_ISSOCK, "socket"),
)
# The label belongs to the place, not to the data: the machine's policy sets it anew. So does the mark.
_NOT_DATA = frozenset({"security.selinux", MARK})
# What the kernel takes as one path, the "./" of the archive included: GNU tar packs longer ones, but
# can't unpack them.
_LONGEST = 4095 - len("./")
_STILL = "something is still writing to it"


def text_of(path: bytes) -> str:
    """Bytes as JSON can hold them; ``bytes_of`` gets the same ones back."""
    return path.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def shown(path: bytes) -> str:
    """Bytes for a message: printable, on one line."""
    return ascii(text_of(path)) if not path.isascii() or not text_of(path).isprintable() else text_of(path)


def kind_of(mode: int) -> str:
    return next(name for test, name in _KINDS if test(mode))


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, folder, link … ``mode`` has the 12 permission bits, ``mtime`` and ``ctime`` are ns.

    ``same`` is the path of the first name of a file or symbolic link that has several (a hard link).
    ``ino`` and ``ctime`` are where it was copied from: only ``moved_since`` looks at them.
    """

    path: bytes
    kind: str
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int = 0
    sha256: str | None = None
    target: bytes | None = None
    device: tuple[int, int] | None = None
    same: bytes | None = None
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    ino: int = 0
    ctime: int = 0

    def to_line(self) -> bytes:
        data: dict[str, Any] = {
            "path": text_of(self.path),
            "type": self.kind,
            "mode": f"{self.mode:04o}",
            "uid": self.uid,
            "gid": self.gid,
            "mtime": self.mtime,
            "ino": self.ino,
            "ctime": self.ctime,
        }
        if self.kind == "file":
            data |= {"size": self.size, "sha256": self.sha256}
        if self.kind == "socket":
            data["ignored"] = True  # a socket is nothing without the process that made it
        if self.target is not None:
            data["target"] = text_of(self.target)
        if self.device is not None:
            data["device"] = list(self.device)
        if self.same is not None:
            data["same"] = text_of(self.same)
        if self.xattrs:
            data["xattrs"] = {
                text_of(os.fsencode(k)): base64.b64encode(v).decode() for k, v in sorted(self.xattrs.items())
            }
        return json.dumps(data, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Entry:
        """Raises ValueError, KeyError or TypeError where the line is none."""
        data = json.loads(line)
        return cls(
            path=bytes_of(data["path"]),
            kind=data["type"],
            mode=int(data["mode"], 8),
            uid=data["uid"],
            gid=data["gid"],
            mtime=data["mtime"],
            size=data.get("size", 0),
            sha256=data.get("sha256"),
            target=bytes_of(data["target"]) if "target" in data else None,
            device=(data["device"][0], data["device"][1]) if "device" in data else None,
            same=bytes_of(data["same"]) if "same" in data else None,
            xattrs={os.fsdecode(bytes_of(k)): base64.b64decode(v) for k, v in data.get("xattrs", {}).items()},
            ino=data["ino"],
            ctime=data["ctime"],
        )

    def difference(self, other: Entry) -> str | None:
        """How ``other`` differs in what a copy has to keep, in words; None where it doesn't."""
        for name in ("kind", "target", "device", "same", "size", "sha256", "mode", "uid", "gid", "mtime"):
            mine, its = getattr(self, name), getattr(other, name)
            if mine != its:
                kind = "type" if name == "kind" else name
                form = oct if name == "mode" else str
                return f"{kind} is {form(its)}, not {form(mine)}"
        names = self.xattrs.keys() | other.xattrs.keys()
        wrong = sorted(n for n in names if self.xattrs.get(n) != other.xattrs.get(n))
        return f"extended attribute {wrong[0]} differs" if wrong else None

    def moved_since(self, now: os.stat_result) -> bool:
        """Whether it was touched after it was described: a change of any sort moves ctime."""
        was = (self.ino, self.ctime, self.mtime, self.mode, self.uid, self.gid)
        is_now = (
            now.st_ino,
            now.st_ctime_ns,
            now.st_mtime_ns,
            stat.S_IMODE(now.st_mode),
            now.st_uid,
            now.st_gid,
        )
        return was != is_now or (self.kind == "file" and self.size != now.st_size)


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing met on a walk: ``name`` within the folder open as ``fd`` (until the walk goes on)."""

    path: bytes
    name: bytes
    fd: int
    stat: os.stat_result


@dataclass(slots=True)
class _Level:
    prefix: bytes
    names: Iterator[bytes]
    identity: tuple[int, int]


def _names(fd: int) -> Iterator[bytes]:
    return iter(sorted(os.fsencode(name) for name in os.listdir(fd)))


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def walk(root: Path, check: Check, *, live: bool = False) -> Generator[Seen]:
    """Everything below ``root``, itself first.

    One folder is open at a time, each opened from the one above: depth costs nothing, and a symbolic
    link is never followed. With ``live``, what vanishes on the way is passed over (nothing was stopped
    yet); without, it is an OSError. Raises SnapshotError at a mount point and at a path that tar could
    not unpack.
    """
    inner = mount_points_below(root)
    fd = os.open(root, _FOLDER)
    try:
        top = os.fstat(fd)
        require_own_quarantine(root, fd)
        yield Seen(b".", b".", fd, top)
        names = (name for name in _names(fd) if name != os.fsencode(QUARANTINE))
        stack = [_Level(b"", names, (top.st_dev, top.st_ino))]
        while stack:
            check()
            level = stack[-1]
            name = next(level.names, None)
            if name is None:
                stack.pop()
                if stack:
                    fd = _up(fd, stack[-1])
                continue
            path = level.prefix + name
            try:
                seen = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                if live:
                    continue
                raise
            if seen.st_dev != top.st_dev or path in inner:
                raise SnapshotError(
                    f"{root}: {shown(path)} is a mount point or another file system inside the volume",
                    hint="unmount it, or exclude the volume",
                )
            if len(path) > _LONGEST:
                raise SnapshotError(
                    f"{root}: the path {shown(path)[:60]}… is longer than {_LONGEST} bytes",
                    hint="tar can't unpack it: shorten it, or exclude the volume",
                )
            yield Seen(path, name, fd, seen)
            if stat.S_ISDIR(seen.st_mode):
                try:
                    child = os.open(name, _FOLDER, dir_fd=fd)
                except (FileNotFoundError, NotADirectoryError):
                    if live:
                        continue
                    raise
                os.close(fd)
                fd = child
                stack.append(_Level(path + b"/", _names(fd), (seen.st_dev, seen.st_ino)))
    finally:
        os.close(fd)


def require_own_quarantine(root: Path, fd: int | None = None) -> None:
    """Raises SnapshotError where the volume (open as ``fd``) has something of the name of warmd's own
    folder that warmd did not make: it would neither be copied nor put back, and a symbolic link of that
    name would lead out of the volume.
    """
    try:
        found = os.stat(QUARANTINE if fd is not None else root / QUARANTINE, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return
    if found.st_mode != stat.S_IFDIR | 0o700 or found.st_uid != os.geteuid():
        raise SnapshotError(
            f"{root}: warmd keeps replaced data in {QUARANTINE}, and what is there now is not warmd's",
            hint=f"give {root / QUARANTINE} another name, or exclude the volume",
        )


def _up(fd: int, level: _Level) -> int:
    above = os.open("..", _FOLDER, dir_fd=fd)
    os.close(fd)
    found = os.fstat(above)
    if (found.st_dev, found.st_ino) != level.identity:
        os.close(above)
        raise FileNotFoundError(errno.ENOENT, "a folder was moved while it was read", level.prefix or b".")
    return above


def mount_points_below(root: Path) -> frozenset[bytes]:
    """Paths, relative to ``root``, of what is mounted below it: st_dev doesn't show a bind mount."""
    prefix = os.fsencode(root.resolve()) + b"/"
    return frozenset(p.removeprefix(prefix) for p in _mount_points() if p.startswith(prefix))


def is_mount_point(root: Path) -> bool:
    """Whether something is mounted at ``root`` itself; then it can't be renamed."""
    return os.fsencode(root.resolve()) in _mount_points()


def _mount_points() -> Iterator[bytes]:
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        point = line.split(b" ")[4]
        for octal, char in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
            point = point.replace(octal, char)
        yield point


def entries(root: Path, check: Check) -> Generator[Entry]:
    """Everything below ``root`` with content hashes and attributes.

    Raises SnapshotError where something vanishes or changes while it is read.
    """
    first_names: dict[int, bytes] = {}
    try:
        for seen in walk(root, check):
            try:
                yield _describe(seen, first_names, check)
            except (FileNotFoundError, _Changed) as error:
                raise SnapshotError(
                    f"{root}: {shown(seen.path)} changed or vanished while it was read: {_STILL}"
                ) from error
    except FileNotFoundError as error:
        raise SnapshotError(f"{root}: {error.strerror}: {error.filename!r}: {_STILL}") from error


class _Changed(Exception):
    pass


def _describe(seen: Seen, first_names: dict[int, bytes], check: Check) -> Entry:
    st = seen.stat
    kind = kind_of(st.st_mode)
    same = None
    # tar keeps hard links of files and symbolic links; of devices and FIFOs it makes separate ones.
    if st.st_nlink > 1 and kind in ("file", "link"):
        first = first_names.setdefault(st.st_ino, seen.path)
        same = first if first != seen.path else None
    return Entry(
        path=seen.path,
        kind=kind,
        mode=stat.S_IMODE(st.st_mode),
        uid=st.st_uid,
        gid=st.st_gid,
        mtime=st.st_mtime_ns,
        size=st.st_size if kind == "file" else 0,
        sha256=_hash(seen, check) if kind == "file" else None,
        target=os.readlink(seen.name, dir_fd=seen.fd) if kind == "link" else None,
        device=(os.major(st.st_rdev), os.minor(st.st_rdev)) if kind in ("char", "block") else None,
        same=same,
        xattrs=_xattrs(seen),
        ino=st.st_ino,
        ctime=st.st_ctime_ns,
    )


def _hash(seen: Seen, check: Check) -> str:
    digest = hashlib.sha256()
    # NONBLOCK: should it have become a FIFO meanwhile, this doesn't wait for a writer.
    fd = os.open(seen.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=seen.fd)
    rest = seen.stat.st_size
    try:
        while rest >= 0 and (block := os.read(fd, CHUNK)):  # a growing file might never end
            check()
            digest.update(block)
            rest -= len(block)
        after = os.fstat(fd)
    finally:
        os.close(fd)
    before = seen.stat
    if (before.st_ino, before.st_size, before.st_mtime_ns, before.st_ctime_ns) != (
        after.st_ino,
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    ):
        raise _Changed
    return digest.hexdigest()


def _xattrs(seen: Seen) -> dict[str, bytes]:
    # There is no call that takes a folder's descriptor and a name; /proc gives a path that is one.
    path = b"/proc/self/fd/%d/%s" % (seen.fd, seen.name)
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EPERM):
            return {}
        raise
    return {n: os.getxattr(path, n, follow_symlinks=False) for n in names if n not in _NOT_DATA}


def require_unmoved(root: Path, listed: Generator[Entry], check: Check) -> None:
    """A walk that reads no content. Raises SnapshotError where anything changed since it was listed."""
    try:
        with closing(listed), closing(walk(root, check)) as found:
            for was, now in zip_longest(listed, found):
                if was is None or now is None or was.path != now.path or was.moved_since(now.stat):
                    path = min(thing.path for thing in (was, now) if thing is not None)
                    raise SnapshotError(
                        f"{root}: {shown(path)} changed while the volume was copied: {_STILL}"
                    )
    except FileNotFoundError as error:
        raise SnapshotError(f"{root}: a file vanished while the volume was copied: {_STILL}") from error


def require_same(where: str, listed: Generator[Entry], found: Generator[Entry]) -> None:
    """Compare what should be with what is, sockets apart. Raises SnapshotError at the first difference.

    Both are closed in any case, so that no program behind them goes on.
    """
    with closing(listed), closing(found):
        wanted = (entry for entry in listed if entry.kind != "socket")
        for was, now in zip_longest(wanted, found):
            if was is None or (now is not None and was.path != now.path):
                assert now is not None
                instead = f", {shown(was.path)} should be there" if was else ""
                raise SnapshotError(f"{where}: {shown(now.path)} was never captured{instead}")
            if now is None:
                raise SnapshotError(f"{where}: {shown(was.path)} is missing")
            if difference := was.difference(now):
                raise SnapshotError(f"{where}: {shown(was.path)}: {difference}")
