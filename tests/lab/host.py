"""What a lab leaves on the host, and how to take it away again: processes, mounts, cgroups, a namespace.

Everything here is found by what it belongs to (the lab's network namespace, cgroup or folder), never by
a process's name, so it is right for a lab whose owner was killed and for several labs at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

NETNS = Path("/run/netns")
CGROUP = Path("/sys/fs/cgroup")


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None if it is gone (or a zombie)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name stands in brackets and may hold anything, brackets too.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(argv)}: {done.stderr.strip() or f'exit {done.returncode}'}")


def addresses() -> set[str]:
    """This network namespace's IPv4 addresses."""
    told = subprocess.run(["ip", "-json", "-4", "address"], capture_output=True, text=True, check=True).stdout
    return {info["local"] for link in json.loads(told) for info in link.get("addr_info", ())}


def make_netns(name: str, link: str, here: str, there: str) -> None:
    """A network namespace with one cable to the host: ``here`` and ``there`` are its two addresses, a /30."""
    run("ip", "netns", "add", name)
    run("ip", "link", "add", link, "type", "veth", "peer", "name", "up0", "netns", name)
    run("ip", "addr", "add", f"{here}/30", "dev", link)
    run("ip", "link", "set", link, "up")
    run("ip", "-n", name, "addr", "add", f"{there}/30", "dev", "up0")
    run("ip", "-n", name, "link", "set", "up0", "up")
    run("ip", "-n", name, "link", "set", "lo", "up")


def processes_in_netns(name: str) -> set[int]:
    try:
        wanted = (NETNS / name).stat()
    except FileNotFoundError:
        return set()
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                seen = (entry / "ns" / "net").stat()
                if (seen.st_ino, seen.st_dev) == (wanted.st_ino, wanted.st_dev):
                    found.add(int(entry.name))
    return found


def _cgroups(name: str) -> Iterator[Path]:
    """The cgroup of that name in every hierarchy (version 1: one a controller; version 2: the root)."""
    for root in (CGROUP, *(p for p in CGROUP.iterdir() if p.is_dir())):
        if (root / name).is_dir():
            yield root / name


def processes_in_cgroup(name: str) -> set[int]:
    found: set[int] = set()
    for group in _cgroups(name):
        for procs in group.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                found.update(int(line) for line in procs.read_text().split())
    return found


def mounts_under(folder: Path) -> list[Path]:
    """Mount points in the folder, innermost first."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = Path(line.split()[4].encode().decode("unicode_escape"))
        if point != folder and point.is_relative_to(folder):
            points.append(point)
    return points[::-1]


def _remove_dead_shim_sockets(since: float) -> None:
    """containerd's shims put their sockets in one place for all and often leave them behind.

    Their names are hashes, so ours are those that were made in the lab's time and that nobody answers.
    """
    for path in Path("/run/containerd/s").glob("*"):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            if path.stat().st_mtime >= since:
                try:
                    probe.connect(str(path))
                except ConnectionRefusedError:
                    path.unlink()


def _kill(netns: str, cgroup: str, *, deadline: float) -> None:
    """Kill daemons first (they would start containers anew), then containers, until none is left."""
    until = time.monotonic() + deadline
    while left := processes_in_netns(netns) or processes_in_cgroup(cgroup):
        for pid in left - {os.getpid()}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > until:
            raise OSError(f"processes of the lab survive SIGKILL: {sorted(left)}")
        time.sleep(0.02)


def sweep(*, folder: Path, netns: str, link: str, cgroup: str, since: float) -> None:
    """Take away all that a lab made. Idempotent; raises OSError where something stays."""
    _kill(netns, cgroup, deadline=20)
    for point in mounts_under(folder):
        subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)
    if left := mounts_under(folder):
        raise OSError(f"still mounted: {left[0]}")
    if (NETNS / netns).exists():
        run("ip", "netns", "del", netns)
    if (Path("/sys/class/net") / link).exists():
        # Goes by itself with the namespace, but a little later; whoever is first.
        with contextlib.suppress(OSError):
            run("ip", "link", "del", link)
    _remove_dead_shim_sockets(since)
    _remove_cgroups(cgroup)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        shutil.rmtree(folder)


def _remove_cgroups(name: str) -> None:
    until = time.monotonic() + 5
    while True:
        for group in list(_cgroups(name)):
            for inner in [*sorted((p for p in group.rglob("*") if p.is_dir()), reverse=True), group]:
                with contextlib.suppress(OSError):  # busy for some milliseconds after its last process
                    inner.rmdir()
        left = list(_cgroups(name))
        if not left:
            return
        if time.monotonic() > until:
            raise OSError(f"cgroup stays: {left[0]}")
        time.sleep(0.02)
