"""Volumes as Hypothesis makes them up: everything a Linux file system can hold, under names nobody likes."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from hypothesis import strategies as st

Kind: TypeAlias = Literal["file", "sparse", "folder", "link", "fifo", "char", "block", "socket", "hard"]

ODD_NAMES = (
    b"new\nline", b"\n", b" ", b" before", b"after ", b"-", b"--", b"-rf", b"--to-command=touch x",
    b"--checkpoint-action=exec=sh", b"...", b".hidden", b"~", b"*", b"[a-z]", b"$(touch x)", b"`id`",
    b"a'b", b'a"b', b"a\\b", b"a\\nb", b"\\", b"#", b"a=b", b"%3D", b"100%", b"a:b", b".._@LongLink",
    b"PaxHeaders", b"GNUSparseFile.0", b".warmd-quarantine", b".wh.removed", b"manifest.json", b"sealed",
    b"\xff\xfe", b"\xed\xa0\x80", b"\x01\x1b[31m", b"\x7f", "smörgåsbord".encode(), "e\u0301".encode(),
    b"x" * 255, b"\xc3\xa9" * 127, b"y" * 100, b"z" * 101,
)  # fmt: skip
_TARGETS = (
    b"/etc/shadow", b"/", b"..", b"../../../../..", b"gone", b".", b"a/b/../c", b"x" * 1000, b"new\nline",
    b"\xff", b"/proc/self/fd/0", b" ", b"-rf",
)  # fmt: skip
#: What enough trees together hold, as ``build`` counts it.
KINDS = frozenset({
    "file", "sparse", "folder", "link", "fifo", "char", "block", "socket", "hard", "setuid, setgid or sticky",
    "user.*", "trusted.*", "security.capability", "system.posix_acl_access", "system.posix_acl_default",
})  # fmt: skip
_NOBODY = 0xFFFFFFFF
_IDS = st.one_of(st.sampled_from([0, 1, 33, 999, 65534, 2**31, 2**32 - 2]), st.integers(0, 2**32 - 2))

names = st.one_of(
    st.sampled_from([name.replace(b"/", b"_") for name in ODD_NAMES]),
    st.binary(min_size=1, max_size=30)
    .map(lambda b: b.replace(b"/", b"_").replace(b"\0", b"_"))
    .filter(lambda b: b not in (b".", b"..")),
)
_modes = st.one_of(
    st.integers(0, 0o7777), st.sampled_from([0o4755, 0o2750, 0o1777, 0o6711, 0, 0o555, 0o7777])
)
_times = st.one_of(
    st.integers(-(2**31) * 10**9, 2**33 * 10**9),
    st.sampled_from([0, -1, 1, 999_999_999, -1_500_000_000_123_456_789, 2**32 * 10**9, 10**18 + 1]),
)


def acl(*rows: tuple[int, int, int]) -> bytes:
    """An access control list as the kernel keeps it: (tag, permissions, id) a row."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in rows)


@st.composite
def acls(draw: st.DrawFn) -> bytes:
    """A valid list: named users and groups, and the mask that they need."""
    bits = st.integers(0, 7)
    users = sorted(draw(st.sets(_IDS, max_size=2)))
    groups = sorted(draw(st.sets(_IDS, max_size=2)))
    rows = [(0x01, draw(bits), _NOBODY), *((0x02, draw(bits), user) for user in users)]
    rows += [(0x04, draw(bits), _NOBODY), *((0x08, draw(bits), group) for group in groups)]
    if users or groups:
        rows.append((0x10, draw(bits), _NOBODY))
    return acl(*rows, (0x20, draw(bits), _NOBODY))


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing of a volume. ``into`` says which of the folders so far (or which file, for a hard link)."""

    kind: Kind
    into: int
    name: bytes
    content: bytes
    hole: int
    target: bytes
    mode: int
    owner: tuple[int, int]
    mtime: int
    xattrs: dict[str, bytes]
    capability: bytes | None
    access: bytes | None
    default: bytes | None


_capabilities = st.sampled_from([
    bytes.fromhex("01000002" + "00200000" + "00" * 12),
    bytes.fromhex("01000003" + "00040000" + "00" * 12 + "e8030000"),
])  # fmt: skip

things = st.builds(
    Thing,
    kind=st.sampled_from(
        ["file", "file", "file", "sparse", "folder", "folder", "folder", "link", "link", "fifo", "char",
         "block", "socket", "hard", "hard"]
    ),
    into=st.integers(0, 40),
    name=names,
    content=st.binary(max_size=3000),
    hole=st.integers(0, 20_000_000),
    target=st.one_of(
        st.sampled_from(_TARGETS), st.binary(min_size=1, max_size=40).map(lambda b: b.replace(b"\0", b"_"))
    ),
    mode=_modes,
    owner=st.tuples(_IDS, _IDS),
    mtime=_times,
    xattrs=st.dictionaries(
        st.text("aB.=%é\n ", min_size=1, max_size=8),
        st.one_of(st.binary(max_size=40), st.just(b"\0\n=")),
        max_size=2,
    ),
    capability=st.one_of(st.none(), st.none(), _capabilities),
    access=st.one_of(st.none(), acls()),
    default=st.one_of(st.none(), acls()),
)  # fmt: skip

plans = st.lists(things, max_size=20)


def build(root: Path, plan: list[Thing]) -> Counter[str]:
    """Make what the plan says below ``root``, as far as it can be made; what was made, by kind."""
    # Folders are held open: a path from the root may be longer than the kernel takes.
    folders = [os.open(root, os.O_RDONLY)]
    others: list[tuple[int, bytes]] = []
    made: list[tuple[int, bytes, Thing]] = []
    told: Counter[str] = Counter()
    depth = {folders[0]: 0}
    try:
        for thing in plan:
            fd = folders[thing.into % len(folders)]
            reserved = fd == folders[0] and thing.name == b".warmd-quarantine"
            impossible = _exists(fd, thing.name) or (thing.kind == "hard" and not others)
            if reserved or impossible or depth[fd] > 3600:
                continue
            _make(fd, thing, others)
            told[thing.kind] += 1
            if thing.kind == "folder":
                inner = os.open(thing.name, os.O_RDONLY, dir_fd=fd)
                folders.append(inner)
                depth[inner] = depth[fd] + len(thing.name) + 1
            elif thing.kind not in ("socket", "hard"):
                others.append((fd, thing.name))
            made.append((fd, thing.name, thing))
        if plan:
            made.insert(0, (folders[0], b".", plan[0]))
        for fd, name, thing in reversed(made):
            told += _dress(fd, name, thing)
        for fd, name, thing in reversed(made):  # what is inside first: it moved its folder's time
            os.utime(name, ns=(0, thing.mtime), dir_fd=fd, follow_symlinks=False)
    finally:
        for fd in folders:
            os.close(fd)
    return told


def _exists(fd: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _make(fd: int, thing: Thing, others: list[tuple[int, bytes]]) -> None:
    match thing.kind:
        case "folder":
            os.mkdir(thing.name, dir_fd=fd)
        case "file" | "sparse":
            file = os.open(thing.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, dir_fd=fd)
            at = thing.hole if thing.kind == "sparse" else 0
            os.ftruncate(file, at * 2)
            os.pwrite(file, thing.content, at)
            os.close(file)
        case "link":
            os.symlink(thing.target, thing.name, dir_fd=fd)
        case "hard":
            there, name = others[thing.into % len(others)]
            os.link(name, thing.name, src_dir_fd=there, dst_dir_fd=fd, follow_symlinks=False)
        case "fifo":
            os.mkfifo(thing.name, dir_fd=fd)
        case "char":
            os.mknod(
                thing.name, stat.S_IFCHR | 0o600, os.makedev(thing.into, thing.mtime % 70_000), dir_fd=fd
            )
        case "block":
            os.mknod(thing.name, stat.S_IFBLK | 0o600, os.makedev(7, thing.mtime % 1_000_000), dir_fd=fd)
        case "socket":
            os.mknod(thing.name, stat.S_IFSOCK | 0o600, dir_fd=fd)


def _dress(fd: int, name: bytes, thing: Thing) -> Counter[str]:
    kind = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
    os.chown(name, *thing.owner, dir_fd=fd, follow_symlinks=False)
    told: Counter[str] = Counter()
    plain = stat.S_ISREG(kind) or stat.S_ISDIR(kind)
    attributes = {("user." if plain else "trusted.") + key: value for key, value in thing.xattrs.items()}
    if plain:
        attributes |= {f"trusted.{key}": value for key, value in thing.xattrs.items()}
    if thing.capability and stat.S_ISREG(kind):
        attributes["security.capability"] = thing.capability
    if not stat.S_ISLNK(kind):
        os.chmod(name, thing.mode, dir_fd=fd)
        if thing.access:
            attributes["system.posix_acl_access"] = thing.access
        if thing.default and stat.S_ISDIR(kind):
            attributes["system.posix_acl_default"] = thing.default
        if thing.mode & 0o7000:
            told["setuid, setgid or sticky"] += 1
    for key, value in attributes.items():
        try:
            os.setxattr(b"/proc/self/fd/%d/%s" % (fd, name), key, value, follow_symlinks=False)
            told[key if key.startswith("s") else f"{key.partition('.')[0]}.*"] += 1
        except OSError as error:  # a file system without such attributes, or with no room for more
            if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.ENOSPC):
                raise
    return told
