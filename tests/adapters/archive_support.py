"""Volumes for the archive's tests, and what is in one, found out without the code under test."""

from __future__ import annotations

import errno
import os
import stat
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from warmd.adapters.archive.capture import capture
from warmd.adapters.archive.children import MARK
from warmd.adapters.archive.restore import restore
from warmd.adapters.archive.seal import seal
from warmd.ports import CaptureRequest, Volume

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def go_on() -> None:
    """A check that never stops anything."""


@dataclass(frozen=True)
class Place:
    """A service's folder and some volumes, laid out as docker does."""

    root: Path

    @property
    def folder(self) -> Path:
        return self.root / "state" / "services" / "sso"

    def snapshot(self, id_: str) -> Path:
        return self.folder / "snapshots" / id_

    def data(self, name: str) -> Path:
        """The volume's folder, made if it isn't there."""
        path = self.root / "docker" / "volumes" / name / "_data"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def volume(self, name: str) -> Volume:
        return Volume(name, "local", str(self.data(name)))

    def capture(self, id_: str, *names: str, level: int = 1, check: Any = go_on) -> Path:
        request = CaptureRequest(
            id=id_,
            service="sso",
            stack="sso",
            volumes=tuple(self.volume(name) for name in names),
            at=NOW,
            version="1.0.0+2.3",
            bundle={"networks": [], "configs": [], "secrets": [], "services": []},
        )
        return capture(self.folder, request, node="node1", level=level, check=check)

    def sealed(self, id_: str, *names: str) -> Path:
        path = self.capture(id_, *names)
        seal(self.folder, id_, check=go_on)
        return path

    def restore(self, id_: str, run: str, **options: Any) -> Any:
        return restore(self.folder, id_, run=run, at=NOW, check=go_on, **options)


def facts(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything that a copy has to keep, by path: two equal volumes give equal facts."""
    found: dict[str, tuple[Any, ...]] = {".": _facts_of(root)}
    names_of: dict[int, list[str]] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder) / name
            st = path.lstat()
            if stat.S_ISSOCK(st.st_mode):
                continue
            relative = str(path.relative_to(root))
            found[relative] = _facts_of(path)
            if st.st_nlink > 1 and (stat.S_ISREG(st.st_mode) or stat.S_ISLNK(st.st_mode)):
                names_of.setdefault(st.st_ino, []).append(relative)
    for names in names_of.values():
        found[f"//hard links of {min(names)}"] = tuple(sorted(names))
    return found


def _facts_of(path: Path) -> tuple[Any, ...]:
    st = path.lstat()
    names = [n for n in os.listxattr(path, follow_symlinks=False) if n != MARK]
    xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    content: bytes | str = b""
    if stat.S_ISREG(st.st_mode):
        content = path.read_bytes()
    elif stat.S_ISLNK(st.st_mode):
        content = str(path.readlink())
    device = st.st_rdev if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode) else 0
    return (st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns, device, content, xattrs)


def set_xattr(path: Path, name: str, value: bytes) -> None:
    """Where the file system has no such attributes (user.* on an older tmpfs), the file goes without."""
    try:
        os.setxattr(path, name, value, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM):
            raise


def acl(user: int, permissions: int) -> bytes:
    """An ACL with one named user, as the kernel stores it in system.posix_acl_access."""
    nobody = 0xFFFFFFFF
    rows = [(1, 7, nobody), (2, permissions, user), (4, 5, nobody), (0x10, 7, nobody), (0x20, 5, nobody)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in rows)


ODD_NAMES = (
    b"\xff\xfe\xed\xa0\x80",
    b"new\nline",
    b" ",
    b"-rf",
    "sm\u00f6rg\u00e5s".encode(),
    b"a\\b",
    b"x" * 255,
)


def one_of_everything(root: Path) -> None:
    """Fill a volume with one of each sort of thing."""
    folder = root / "folder"
    folder.mkdir(mode=0o2750)
    (folder / "setuid").write_bytes(b"#!/bin/true\n")
    (folder / "setuid").chmod(0o4755)
    (root / "empty").touch()
    (root / "binary").write_bytes(os.urandom(3000))
    os.chown(root / "binary", 4_000_000, 3_000_000_000)
    (folder / "the same").hardlink_to(root / "binary")
    with (root / "sparse").open("wb") as file:
        file.truncate(50_000_000)
        file.seek(20_000_000)
        file.write(b"an island")
    (root / "absolute link").symlink_to("/etc/shadow")
    (root / "up").symlink_to("../../..")
    os.link(root / "up", root / "up again", follow_symlinks=False)
    os.mkfifo(root / "fifo", 0o622)
    os.mknod(root / "char", 0o640 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(root / "block", 0o640 | stat.S_IFBLK, os.makedev(7, 200))
    os.mknod(root / "socket", 0o640 | stat.S_IFSOCK)
    for name in ODD_NAMES:
        (root / os.fsdecode(name)).write_bytes(name)
    set_xattr(root / "binary", "user.with=and%", b"\x00\n\xff")
    set_xattr(root / "up", "trusted.on-a-link", b"1")
    set_xattr(root / "empty", "security.capability", bytes.fromhex("01000002" + "00200000" + "00" * 12))
    set_xattr(folder, "system.posix_acl_default", acl(12, 6))
    (folder / "heir").touch()  # made under the default ACL
    (folder / "plain").touch()
    os.removexattr(folder / "plain", "system.posix_acl_access")
    set_xattr(root / "char", "system.posix_acl_access", acl(3, 4))
    os.utime(root / "empty", ns=(0, -1_500_000_000_123_456_789))
    os.utime(root / "absolute link", ns=(0, 1_700_000_000_000_000_001), follow_symlinks=False)
    os.utime(folder, ns=(0, 999_999_999_999_999_999))
    os.chown(root, 999, 998)
    root.chmod(0o1770)


@contextmanager
def mounted(path: Path, *arguments: str) -> Iterator[None]:
    """Something mounted at ``path`` for as long as the block lasts: ``-t tmpfs -o size=1m tmpfs``."""
    subprocess.run(["mount", *arguments, str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


def children() -> set[str]:
    """Names of the programs that this process has started and that are still there."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            try:
                found.add(Path(f"/proc/{pid}/comm").read_text().strip())
            except OSError:
                continue
    return found & {"tar", "zstd", "rm", "sync"}
