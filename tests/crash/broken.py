"""warmds that are broken on purpose. If the observer finds nothing wrong with them, it is blind.

Each is one line of warmd's taken away, in the child only: see ``BROKEN``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def _nothing() -> Callable[..., Any]:
    async def nothing(self: Any, *args: Any, **more: Any) -> None:
        return None

    return nothing


def _stop() -> None:
    """A stop that says it is done at once, and nobody who looks again."""
    from warmd.adapters.archive import capture
    from warmd.adapters.stacks import StackOps
    from warmd.engine.hands import Hands

    setattr(StackOps, "stop", _nothing())  # noqa: B010 - mypy forbids the other way
    setattr(Hands, "judge", _nothing())  # noqa: B010 - as above
    setattr(capture, "require_unmoved", lambda root, listed, check: listed.close())  # noqa: B010 - as above


def _restore() -> None:
    """A rollback of the version alone, as everybody else does it."""
    from warmd.plugins.snapshotters.archive import ArchiveSnapshotter

    setattr(ArchiveSnapshotter, "restore", _nothing())  # noqa: B010 - as above


def _alerts() -> None:
    """An alert that is told to the journal and to nobody else."""
    from warmd.plugins.alerters.spool import Spool

    setattr(Spool, "deliver", _nothing())  # noqa: B010 - as above


def _horizon() -> None:
    """A restore however much is lost by it."""
    from warmd.core import runs

    setattr(runs, "_lost_by_a_restore", lambda run, now: "")  # noqa: B010 - as above


def _moved() -> None:
    """Trust in a copy that somebody worked on since."""
    from warmd.plugins.snapshotters.archive import ArchiveSnapshotter

    setattr(ArchiveSnapshotter, "moved", _nothing())  # noqa: B010 - as above


def _seal() -> None:
    """A seal on an archive that nobody has read, and that is not whole."""
    from warmd.adapters.archive import capture

    publish = capture._publish

    def half(partial: Any, final: Any, check: Any) -> None:
        for archive in partial.glob("*.tar.zst"):
            archive.write_bytes(archive.read_bytes()[:-1])
        publish(partial, final, check)

    async def seal(self: Any, handle: Any) -> Any:
        import hashlib
        import json

        path = self._context.folder / "snapshots" / handle.id
        digest = hashlib.sha256((path / "manifest.json").read_bytes()).hexdigest()
        (path / "sealed").write_text(json.dumps({"manifest_sha256": digest}))
        return next(s for s in await self.snapshots() if s.handle.id == handle.id)

    from warmd.plugins.snapshotters.archive import ArchiveSnapshotter

    setattr(capture, "_publish", half)  # noqa: B010 - as above
    setattr(ArchiveSnapshotter, "seal", seal)  # noqa: B010 - as above


BROKEN: Mapping[str, Callable[[], None]] = {
    "stop": _stop,
    "restore": _restore,
    "alerts": _alerts,
    "horizon": _horizon,
    "moved": _moved,
    "seal": _seal,
}
