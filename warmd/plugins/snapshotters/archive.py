"""Snapshotter ``archive``: every volume as ``tar | zstd`` with a manifest, in the service's own folder.

The work is warmd.adapters.archive's, in threads. A cancelled call comes back only when its thread has
stopped and tar and zstd are gone, which takes well under a second.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
from pydantic import Field

from warmd.adapters.archive.capture import capture
from warmd.adapters.archive.children import Check, Stopped, checker
from warmd.adapters.archive.durable import is_full
from warmd.adapters.archive.manifest import load, load_bundle, snapshot_path
from warmd.adapters.archive.moved import moved
from warmd.adapters.archive.restore import restore
from warmd.adapters.archive.retention import list_snapshots, prune
from warmd.adapters.archive.room import make_room, measure, why_not_kind
from warmd.adapters.archive.seal import seal
from warmd.core.model import Json, SnapshotHandle, SnapshotInfo
from warmd.errors import NotFound, SnapshotError
from warmd.plugins.base import Context, Settings
from warmd.ports import CaptureRequest, Snapshotter, Volume

T = TypeVar("T")


class Config(Settings):
    """Copies of all volumes, kept in the state directory."""

    kind: Literal["archive"] = "archive"
    exclude: tuple[str, ...] = ()
    """Mounts that need no copy: a volume's name with or without the stack's prefix, or a bind's path."""
    keep: int = Field(default=3, ge=1)
    """How many verified snapshots stay, beside those a rollback would need."""
    level: int = Field(default=1, ge=1, le=19)
    """zstd's level: a higher one is slower, and the service is down while the copy is made."""

    def excludes(self, source: str, stack: str) -> bool:
        """Whether the volume of that name, or the bind of that path, is excluded."""
        return source in self.exclude or source.removeprefix(f"{stack}_") in self.exclude


class ArchiveSnapshotter:
    """Meets the Snapshotter port; excluded volumes are left out of everything."""

    def __init__(self, config: Config, context: Context) -> None:
        self._config = config
        self._context = context
        self._node = ""

    async def _here(self) -> str:
        self._node = self._node or await self._context.swarm.node()
        return self._node

    async def _own(self, handle: SnapshotHandle) -> str:
        if handle.node != await self._here():
            raise SnapshotError(
                f"snapshot {handle.id} lies on node {handle.node}, this is node {await self._here()}",
                hint="run this there",
            )
        return handle.id

    def _wanted(self, volumes: Sequence[Volume]) -> tuple[Volume, ...]:
        return tuple(v for v in volumes if not self._config.excludes(v.name, self._context.stack))

    async def make_room(self, volumes: Sequence[Volume]) -> None:
        folder = self._context.folder
        await _in_thread(lambda check: make_room(folder, self._wanted(volumes), check=check))

    async def capture(self, request: CaptureRequest) -> SnapshotHandle:
        node = await self._here()
        wanted = replace(request, volumes=self._wanted(request.volumes))
        folder, level = self._context.folder, self._config.level
        await _in_thread(lambda check: capture(folder, wanted, node=node, level=level, check=check))
        return SnapshotHandle(node, request.id)

    async def seal(self, handle: SnapshotHandle) -> SnapshotInfo:
        id_ = await self._own(handle)
        return await _in_thread(lambda check: seal(self._context.folder, id_, check=check))

    async def restore(
        self,
        handle: SnapshotHandle,
        *,
        run: str,
        volumes: Sequence[Volume],
        still: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        id_ = await self._own(handle)
        folder, at, room = self._context.folder, self._context.clock.now(), self._context.room

        def put_back(check: Check, ask: _Ask) -> None:
            if room is not None and is_full(folder):  # its record is small, but has to find a place
                room.give_back()

            def places() -> dict[str, Path]:
                # Asked only where it begins: halfway through, a volume's folder may be missing.
                return _places(snapshot_path(folder, id_), volumes)

            def nothing_runs() -> None:
                if still is not None:
                    ask(still)

            restore(folder, id_, run=run, at=at, check=check, mountpoints=places, still=nothing_runs)

        await _in_thread_asking(put_back)

    async def moved(self, handle: SnapshotHandle, *, volumes: Sequence[Volume]) -> str:
        path = snapshot_path(self._context.folder, await self._own(handle))
        return await _in_thread(lambda check: moved(path, _places(path, volumes), check=check))

    async def snapshots(self) -> Sequence[SnapshotInfo]:
        found = await _in_thread(lambda _: list_snapshots(self._context.folder))
        return tuple(snapshot.info for snapshot in found)

    async def specs(self, handle: SnapshotHandle) -> Json:
        path = snapshot_path(self._context.folder, await self._own(handle))
        return await _in_thread(lambda _: load_bundle(path))

    async def measure(self, volumes: Sequence[Volume]) -> int:
        roots = [Path(v.mountpoint) for v in self._wanted(volumes)]
        return await _in_thread(lambda check: sum(measure(r, check).copy for r in roots if r.is_dir()))

    async def prune(self, *, keep: int, needed: frozenset[str]) -> Sequence[str]:
        folder, now = self._context.folder, self._context.clock.now()
        return await _in_thread(lambda check: prune(folder, keep=keep, needed=needed, now=now, check=check))


def build(config: Config, context: Context) -> Snapshotter:
    return ArchiveSnapshotter(config, context)


def _places(snapshot: Path, volumes: Sequence[Volume]) -> dict[str, Path]:
    """Where the data of a snapshot goes: not where its manifest says that it lay once, but where the
    engine says that the volumes are. Raises SnapshotError where one isn't there or can't take it."""
    try:
        wanted = {part.volume for part in load(snapshot)[0].volumes}
    except (NotFound, SnapshotError):
        return {}  # a restore that was unpacked before goes on by its record; another one says what is wrong
    there = [volume for volume in volumes if volume.name in wanted]
    if missing := sorted(wanted - {volume.name for volume in there}):
        raise SnapshotError(
            f"volume {', '.join(missing)} is not there", hint=f"docker volume create {missing[0]}"
        )
    for volume in there:  # its folder may be missing: a restore that was ended moves it away for a moment
        if reason := why_not_kind(volume):
            raise SnapshotError(f"volume {volume.name} can't take its data back: {reason}")
    return {volume.name: Path(volume.mountpoint) for volume in there}


async def _in_thread(work: Callable[[Check], T]) -> T:
    """``work`` in a thread. Cancelled, its ``check`` raises, and this waits until it is really over."""
    return await _in_thread_asking(lambda check, _ask: work(check))


async def _in_thread_asking(work: Callable[[Check, _Ask], T]) -> T:
    """As ``_in_thread``, for work that has to ask the loop something: its ``ask`` waits for a call there,
    which is cancelled with this one, and what the call raises comes out of this one as it is.

    A call that waits for a thread doesn't see its cancellation, so a task beside it does, and passes it on.
    """
    flag = threading.Event()

    async def pass_on() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            flag.set()

    def ask(question: Callable[[], Awaitable[None]]) -> None:
        answer = Future[None]()

        async def put() -> None:
            try:
                await question()
            except Exception as error:
                answer.set_exception(_Answered(error))
            except BaseException:
                answer.set_exception(Stopped("stopped, as asked"))
                raise
            else:
                answer.set_result(None)

        anyio.from_thread.run_sync(group.start_soon, put)
        answer.result()

    def attempt() -> T | _Failure:
        try:
            return work(checker(flag.is_set), ask)
        except _Answered as answered:
            return _Failure(answered.error)
        except Exception as error:  # carried over as a value: a task group would wrap it
            return _Failure(error)

    async with anyio.create_task_group() as group:
        group.start_soon(pass_on)
        outcome = await anyio.to_thread.run_sync(attempt)
        group.cancel_scope.cancel()
    if isinstance(outcome, _Failure):
        if isinstance(outcome.error, Stopped):
            await anyio.lowlevel.checkpoint()  # where the cancellation that caused it is raised
        raise outcome.error
    return outcome


#: Waits, in the thread, for a call on the loop.
_Ask: TypeAlias = Callable[[Callable[[], Awaitable[None]]], None]


class _Answered(Exception):
    """Carries what a call on the loop raised past those who would take it for a failure of their own."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Failure:
    """What ``work`` raised."""

    def __init__(self, error: Exception) -> None:
        self.error = error
