"""Who looks from outside: applications' data, and what must never happen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.model import apps
from tests.model.store import Container


class Watch:
    """Starts and ends the writers, and keeps ``violations``: a line each, with the model's time."""

    def __init__(self, now: Callable[[], float], scale: float) -> None:
        self._now = now
        self._scale = scale
        self.violations: list[str] = []
        self._running: dict[str, Container] = {}
        self._writers: dict[str, Container] = {}

    def started(self, container: Container) -> None:
        for volume, _, _, writable in container.mounts:
            for other in self._running.values():
                if writable and any(name == volume and rw for name, _, _, rw in other.mounts):
                    self._note(f"two writers on {volume}: {other.name} and {container.name}")
        self._running[container.id] = container
        container.inodes = [_inode(folder) for _, folder, _, _ in container.mounts]
        app, folder = container.app, container.data
        if app.cmd or folder is None:
            return
        if wrong := apps.start(app, folder):
            self._note(wrong)
        if app.writes:
            container.base = apps.pair(folder)[0]
            container.written = (container.base, container.base)
            self._writers[container.id] = container

    def ended(self, container: Container) -> None:
        if self._running.pop(container.id, None) is not None:
            self._swapped(container)
        if self._writers.pop(container.id, None) is not None and container.data is not None:
            self._write(container)
            apps.settle(container.data)

    def _swapped(self, container: Container) -> None:
        """Whether a volume is another folder than the one that the container was started on."""
        for (volume, folder, _, _), inode in zip(container.mounts, container.inodes, strict=True):
            if _inode(folder) != inode and inode:
                self._note(f"{volume} was replaced under {container.name}, which runs")
        container.inodes = [_inode(folder) for _, folder, _, _ in container.mounts]

    def look(self) -> None:
        """Compare what runs with what it was started on."""
        for container in self._running.values():
            self._swapped(container)

    def write(self) -> None:
        """Let those that write come to where they are by now."""
        for container in self._writers.values():
            self._write(container)

    def _write(self, container: Container) -> None:
        assert container.data is not None
        age = (self._now() - container.started_at) / self._scale
        halves = int(age * 2 / container.app.writes)
        counts = (container.base + (halves + 1) // 2, container.base + halves // 2)
        if counts != container.written and container.data.is_dir():
            container.written = counts
            apps.write(container.data, counts)

    def _note(self, text: str) -> None:
        self.violations.append(f"{self._now():.3f} {text}")


def _inode(folder: Path) -> int:
    try:
        return folder.stat().st_ino
    except FileNotFoundError:
        return 0
