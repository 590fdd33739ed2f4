"""What images do when they run: applications that migrate and write real files, and a few shell lines."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Behaviour = Literal["good", "crash", "never-healthy", "sick-later", "slow"]

_SECOND = 1_000_000_000

#: Files of a volume that say how often a writer wrote, and nothing about what it means.
COUNTERS = ("a", "b")


@dataclass(frozen=True, slots=True)
class App:
    """An image. Times are in seconds of the swarm (before ``Timing.scale``).

    behaviour   "good"; "crash": exits 1 ``after`` its start; "never-healthy"; "sick-later": unhealthy
                ``after`` its start; "slow": takes ``stop`` to end after SIGTERM
    delay       from its start to being healthy
    healthcheck the image has a HEALTHCHECK that asks the application; or the argv of one
    writes      while it runs it writes the files ``a`` and ``b`` this often, one half a turn after the
                other: whoever finds them unequal looked at a running application
    cmd         instead of all that: a command line, of which only the ways to end are understood
    """

    version: str = "1.0.0"
    behaviour: Behaviour = "good"
    after: float = 0.0
    stop: float = 0.03
    delay: float = 0.0
    healthcheck: bool | tuple[str, ...] = False
    writes: float = 0.0
    volumes: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    cmd: tuple[str, ...] = ()
    #: Where it keeps its data.
    data: str = "/data"

    @property
    def bad(self) -> bool:
        """Whether it damages what it migrates."""
        return self.behaviour in ("crash", "never-healthy", "sick-later")

    @property
    def ends(self) -> tuple[float, int] | None:
        """When it ends by itself, from its start, and with which code."""
        if self.behaviour == "crash":
            return self.after, 1
        if not self.cmd or self.cmd[0] in ("sleep", "tail", "top"):
            return None
        if self.cmd[-1] in ("true", "false"):
            return 0.0, int(self.cmd[-1] == "false")
        text = " ".join(self.cmd)
        if "while" in text or "trap" in text:
            return None
        code = re.search(r"exit (\d+)", text)
        slept = re.search(r"sleep ([\d.]+)", text)
        if code or slept:
            return float(slept[1]) if slept else 0.0, int(code[1]) if code else 0
        return None

    @property
    def deaf(self) -> bool:
        """Whether it ignores SIGTERM, as a shell without a trap does that is PID 1."""
        if not self.cmd:
            return False
        text = " ".join(self.cmd)
        return "TERM" not in text or bool(re.search(r"""trap (''|"") TERM""", text))

    @property
    def stopping(self) -> float:
        """Seconds from SIGTERM to the end."""
        slow = re.search(r"trap '?\"?sleep ([\d.]+)", " ".join(self.cmd))
        return float(slow[1]) if slow else self.stop

    def healthy(self, age: float) -> bool:
        """What it answers at ``/health`` so long after its start."""
        if self.behaviour == "never-healthy" or age < self.delay:
            return False
        return not (self.behaviour in ("sick-later", "crash") and self.after and age >= self.after)

    def check(self, test: list[str], age: float) -> bool:
        """Whether a HEALTHCHECK of these words passes."""
        if test and test[-1] in ("true", "false"):
            return test[-1] == "true"
        return self.healthy(age)

    @property
    def config(self) -> dict[str, Any]:
        """The ``Config`` of the image."""
        found: dict[str, Any] = {
            "Cmd": list(self.cmd or ("/app/start",)),
            "Env": ["PATH=/bin"],
            "Volumes": {v: {} for v in self.volumes},
            "Labels": {"version": self.version, **dict(self.labels)},
            "User": "",
            "Entrypoint": None,
        }
        if self.healthcheck:
            asks = ["wget", "http://127.0.0.1/health"]
            if not isinstance(self.healthcheck, bool):
                asks = list(self.healthcheck)
            found["Healthcheck"] = {
                "Test": ["CMD", *asks],
                "Interval": _SECOND,
                "Timeout": 5 * _SECOND,
                "Retries": 3,
            }
        return found

    @property
    def digest(self) -> str:
        """The same application has the same digest, wherever it is published."""
        return f"sha256:{hashlib.sha256(repr(self).encode()).hexdigest()}"


def newer(one: str, other: str) -> bool:
    """Whether version ``one`` is higher, as ``sort -V`` has it for numbers and dots."""
    return _numbers(one) > _numbers(other)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version))


def start(app: App, folder: Path) -> str:
    """What an application does to its volume when it starts; what is wrong about that, or nothing."""
    schema = folder / "schema"
    old = read(folder, "schema")
    if old and newer(old, app.version):
        _append(folder / "damaged", f"damaged by {app.version} on {old}\n")
        return f"{app.version} was started on data of {old}"
    if old != app.version:
        _append(folder / "history", f"{old or 'none'} -> {app.version}\n")
        _write(schema, f"{app.version}\n")
        if app.bad:
            _write(folder / "notes", f"damaged by {app.version}\n")
    return ""


def write(folder: Path, counts: tuple[int, int]) -> None:
    """The pair of counters, as it is in the middle of a turn or between two."""
    for name, count in zip(COUNTERS, counts, strict=True):
        _write(folder / name, f"{count}\n")


def settle(folder: Path) -> None:
    """A writer ends its last pair before it ends."""
    _write(folder / COUNTERS[1], read(folder, COUNTERS[0]) + "\n")


def pair(folder: Path) -> tuple[int, int]:
    """The two counters of a volume or of a copy; 0 where nothing was written."""
    first, second = (int(read(folder, name) or 0) for name in COUNTERS)
    return first, second


def digest(folder: Path) -> str:
    """SHA-256 over names and contents of all files but the counters."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in COUNTERS):
        total.update(f"{path.relative_to(folder)} ".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()


def facts(folder: Path) -> Mapping[str, Any]:
    """What an observer asks of a volume's data."""
    return {
        "schema": read(folder, "schema"),
        "history": read(folder, "history").splitlines(),
        "notes": read(folder, "notes").splitlines(),
        "damaged": read(folder, "damaged").splitlines(),
        "sha256": digest(folder),
        "pair": list(pair(folder)),
    }


def read(folder: Path, name: str) -> str:
    """A file's text without its last newline; nothing where it is not there."""
    try:
        return (folder / name).read_text().rstrip("\n")
    except FileNotFoundError:
        return ""


def note(folder: Path, text: str) -> None:
    """What a user of the application writes."""
    _append(folder / "notes", f"{text}\n")


def _write(path: Path, text: str) -> None:
    # In place: a rename over a file makes ext4 write it out at once, which costs more than all the rest
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.pwrite(file, text.encode(), 0)
        os.ftruncate(file, len(text.encode()))
    finally:
        os.close(file)


def _append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)
