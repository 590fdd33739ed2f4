"""A private bare mirror of a remote repository: one folder, one fetch at a time, whoever asks.

What a tag pointed to when it was first seen stays in ``refs/warmd/first-seen/<tag>`` of the mirror,
also when the tag moves or goes away. The file ``warmd-fetched`` in it is touched after each fetch
that went well; a mirror without it was never finished, and is made anew.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, TypeVar, cast

import anyio
import anyio.to_thread

from warmd.adapters.files import explain
from warmd.adapters.process import Completed, Deadline, printable
from warmd.adapters.remote import Remote, environment
from warmd.adapters.repository import Damaged, Refs, Repository, Tag
from warmd.adapters.shared import Shared
from warmd.core import durations
from warmd.core.versions import Version
from warmd.errors import SourceUnreachable, Transient

T = TypeVar("T")

_MARKER = "warmd-fetched"
_HEAD_MISSING = b"couldn't find remote ref HEAD"
_POLL = 0.05  # seconds between two tries for the lock
_LOCAL_WAIT = 5.0  # seconds for the lock where no network is meant to be waited for
_ORPHANED = 10.0  # seconds past its deadline after which a fetch ends without us
_TIDY = 60.0  # seconds; what takes longer is given up until the next start
_LEFTOVER_TREE = 3600.0  # seconds after which a tree nobody holds is taken for a killed warmd's

# Lines of git that only repeat that something went wrong.
_EMPTY_WORDS = (
    "fatal: Could not read from remote repository.",
    "Please make sure you have the correct access rights",
    "and the repository exists.",
)
_HINTS = (
    (
        r"could not read (Username|Password)|Authentication failed|terminal prompts disabled",
        "the remote asks for credentials: put them into the URL or into ~/.netrc, or use an ssh key",
    ),
    (
        r"returned error: 30[12378]",
        "the remote redirects, and a password goes nowhere else: put the new address into the URL",
    ),
    (r"Permission denied \(", "give the remote the ssh key of the user that warmd runs as"),
    (r"Host key verification failed", "add the host's key to ~/.ssh/known_hosts, after checking it"),
    (r"dubious ownership", "the repository's owner must be the user that warmd runs as"),
    (r"not (appear to be )?a git repository|not found|does not exist", "check the URL"),
    (r"[Cc]ould not resolve host", "check the URL and the name service"),
    (
        r"fsck|index-pack failed",
        "the repository has objects that git itself takes for harmful: tell its owner",
    ),
    (r"No space left", "free some space for the mirrors"),
)


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found. ``refs`` is None where nothing was ever fetched; ``trouble`` is why the
    remote did not answer this time (with ``hint``), None where it did or was not asked."""

    refs: Refs | None
    fetched_at: datetime | None = None
    trouble: str | None = None
    hint: str = ""


class Mirror:
    """The mirror of ``remote`` below ``folder``; ``mirror_of`` gives the same one to all who use it."""

    def __init__(self, folder: Path, remote: Remote, monotonic: Callable[[], float]) -> None:
        self.remote = remote
        self.repository = Repository(folder / remote.folder)
        self.deadline = timedelta()  # of a whole fetch; mirror_of sets the longest that is asked for
        self._folder = folder
        self._path = self.repository.path
        self._fetched = Shared(self._refresh, monotonic)
        self._local = Shared(self._reread, monotonic)
        self._tidies = True
        self._derived: dict[object, tuple[str, Any]] = {}
        self._deriving = anyio.Lock()

    async def look(self, *, not_before: float, offline: bool = False) -> Look:
        """What is published, after a fetch unless ``offline``; shared as ``Shared.get`` says.

        A remote that can't be reached is ``trouble``, no error. Raises ProgramMissing (no git).
        """
        return await (self._local if offline else self._fetched).get(not_before=not_before)

    async def derived(self, key: object, refs: Refs, make: Callable[[], Awaitable[T]]) -> T:
        """What ``make`` makes of these refs: made once for all who ask under this key, until they change."""
        async with self._deriving:
            digest, made = self._derived.get(key, ("", None))
            if digest != refs.digest:
                made = await make()
                self._derived[key] = (refs.digest, made)
            return cast(T, made)

    @asynccontextmanager
    async def tree(self, commit: str) -> AsyncIterator[Path]:
        """The commit's files in a private folder, as ``Repository.export`` writes them; removed on exit.
        Raises Transient where the disk is full."""
        trees = self._folder / "trees"
        try:
            tree, held = await anyio.to_thread.run_sync(_new_tree, trees)
        except OSError as error:
            raise explain(error, f"can't make a folder in {trees}") from error
        try:
            try:
                await self.repository.export(commit, tree)
            except OSError as error:
                raise explain(error, f"can't write the files of {commit[:12]} to {tree}") from error
            yield tree
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(partial(shutil.rmtree, tree, ignore_errors=True))
                os.close(held)

    async def _refresh(self) -> Look:
        """Fetch, and look at what is there then."""
        until = anyio.current_time() + self.deadline.total_seconds()
        try:
            async with self._locked(self.deadline.total_seconds()) as lock:
                if await anyio.to_thread.run_sync(self._repair):
                    await self._create(lock)
                await self._fetch(lock, until)
                refs = await self._with_first_seen(lock)
                await anyio.to_thread.run_sync(self._mark)
                await self._tidy(lock)
        except (Transient, Damaged, Deadline) as error:
            return replace(await self._reread(), trouble=error.message, hint=error.hint)
        except OSError as error:
            trouble = f"the mirror {self._path} can't be used: {error.strerror or error}"
            return replace(await self._reread(), trouble=trouble)
        return Look(refs, self._fetched_at())

    async def _reread(self) -> Look:
        """What the last fetch left, no network."""
        try:
            fetched_at = self._fetched_at()
            if fetched_at is None:
                return Look(None)
            refs = await self.repository.refs()
            if _unrecorded(refs):  # killed between fetch and record, or the fetch half failed
                async with self._locked(_LOCAL_WAIT) as lock:
                    refs = await self._with_first_seen(lock)
        except SourceUnreachable:  # busy elsewhere: whoever holds the lock records them
            return Look(refs, fetched_at)
        except (Damaged, Deadline) as error:
            return Look(None, fetched_at, error.message, f"move {self._path} away; it is fetched anew")
        except Transient as error:
            return Look(None, fetched_at, error.message, error.hint)
        except OSError as error:
            return Look(None, None, f"the mirror {self._path} can't be read: {error.strerror or error}")
        return Look(refs, fetched_at)

    async def _fetch(self, lock: int, until: float) -> None:
        """Make tags, branches and HEAD what the remote has, gone ones removed."""
        specs = ("+refs/tags/*:refs/tags/*", "+refs/heads/*:refs/heads/*")
        done = await self._fetch_once(lock, until, *specs, "+HEAD:refs/warmd/HEAD")
        if done.code != 0 and _HEAD_MISSING in done.stderr:  # empty, or its HEAD names no branch
            done = await self._fetch_once(lock, until, *specs)
            if done.code == 0:
                await self.repository.git("update-ref", "-d", "refs/warmd/HEAD", pass_fds=(lock,))
        if done.code != 0:
            raise self._unreachable(done)

    async def _fetch_once(self, lock: int, until: float, *specs: str) -> Completed:
        flags = (
            *("--quiet", "--prune", "--force", "--no-tags", "--no-recurse-submodules"),
            *("--no-write-fetch-head", "--no-auto-maintenance", "--no-show-forced-updates"),
        )
        left = max(until - anyio.current_time(), 0.0)
        try:
            return await self.repository.git(
                *("fetch", *flags, "--end-of-options", self.remote.url, *specs),
                env=self.remote.environment(),
                deadline=left,
                pass_fds=(lock,),
                # Of a killed warmd nobody would end it, and it holds the lock.
                under=("timeout", "--kill-after=5s", f"{left + _ORPHANED:.0f}s"),
            )
        except Deadline as error:
            within = durations.format(self.deadline)
            raise SourceUnreachable(f"{self.remote.shown} did not answer within {within}") from error

    def _unreachable(self, done: Completed) -> SourceUnreachable:
        """The error that git's words are about, without secrets."""
        text = self.remote.masked(done.stderr.decode(errors="replace"))
        hint = next((hint for pattern, hint in _HINTS if re.search(pattern, text)), "")
        return SourceUnreachable(
            f"{self.remote.shown} can't be fetched: {_reason(text) or done.code}", hint=hint
        )

    async def _with_first_seen(self, lock: int) -> Refs:
        """All refs, first commits recorded for tags that are new."""
        refs = await self.repository.refs()
        new = _unrecorded(refs)
        if not new:
            return refs
        await self.repository.record_first_seen(new, pass_fds=(lock,))
        await self.repository.git("pack-refs", "--all", pass_fds=(lock,))  # thousands of files read slowly
        return await self.repository.refs()

    async def _tidy(self, lock: int) -> None:
        """Let git pack what has piled up, here where nobody else is at work and a deadline holds.

        What only tags that moved or went away lead to stays for two weeks, and what they led to first
        stays for good. Trouble here is none of the caller's.
        """
        config = (("gc.auto", "2000"), ("gc.autoPackLimit", "30"), ("gc.autoDetach", "false"))
        if self._tidies:
            try:
                flags = ("--auto", "--quiet", "--prune=2.weeks.ago")
                await self.repository.git(
                    *("gc", *flags), env=environment(config), deadline=_TIDY, pass_fds=(lock,)
                )
            except Deadline:
                self._tidies = False

    def _repair(self) -> bool:
        """Undo what a killed git left behind; true if there is no usable mirror. We hold the lock, and
        every git of ours holds it with us: whatever lies here is nobody's any more."""
        path = self._path
        if not (path / _MARKER).exists():
            shutil.rmtree(path, ignore_errors=True)  # nothing was ever shown of it
            path.mkdir(mode=0o700)
            return True
        leftovers = [*path.glob("*.lock"), *path.glob("refs/**/*.lock"), *path.glob("objects/info/*.lock")]
        for left in [*leftovers, *path.glob("objects/pack/tmp_*"), *path.glob("objects/pack/*.lock")]:
            left.unlink(missing_ok=True)
        for small in (path / "HEAD", path / "config"):
            if small.exists() and not small.read_bytes().strip(b"\0\n "):
                small.unlink()  # written, but not to the disk, when the power went
        return not all((path / part).exists() for part in ("HEAD", "config", "objects", "refs"))

    async def _create(self, lock: int) -> None:
        """Also completes what is there: git keeps objects and refs."""
        args = ("--quiet", "--bare", "--template=", "--initial-branch=main")
        done = await self.repository.git("init", *args, pass_fds=(lock,))
        if done.code != 0:
            raise Damaged(f"the mirror {self._path} can't be made: {done.reason}")

    def _mark(self) -> None:
        (self._path / _MARKER).write_text(f"{self.remote.shown}\n")

    def _fetched_at(self) -> datetime | None:
        try:
            return datetime.fromtimestamp((self._path / _MARKER).stat().st_mtime, UTC)
        except FileNotFoundError:
            return None

    @asynccontextmanager
    async def _locked(self, wait: float) -> AsyncIterator[int]:
        """Hold the mirror against other processes; the descriptor, for every git that changes it.

        A git that outlives a killed warmd keeps the lock that way. Raises SourceUnreachable after
        ``wait`` seconds.
        """
        lock = await anyio.to_thread.run_sync(self._open_lock)
        try:
            with anyio.move_on_after(wait) as scope:
                while not _taken(lock):  # noqa: ASYNC110 - another process sets no event
                    await anyio.sleep(_POLL)
            if scope.cancelled_caught:
                within = durations.format(timedelta(seconds=wait))
                raise SourceUnreachable(f"the mirror {self._path} was in use elsewhere for {within}")
            yield lock
        finally:
            os.close(lock)

    def _open_lock(self) -> int:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path.with_suffix(".lock")
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


_mirrors: weakref.WeakValueDictionary[tuple[Path, Remote], Mirror] = weakref.WeakValueDictionary()


def mirror_of(folder: Path, remote: Remote, *, deadline: timedelta, monotonic: Callable[[], float]) -> Mirror:
    """This process's one mirror of ``remote`` below ``folder``; of several deadlines the longest holds."""
    key = (folder.absolute(), remote)
    mirror = _mirrors.get(key)
    if mirror is None:
        mirror = _mirrors[key] = Mirror(folder.absolute(), remote, monotonic)
    mirror.deadline = max(mirror.deadline, deadline)
    return mirror


def _unrecorded(refs: Refs) -> list[Tag]:
    return [tag for tag in refs.tags if tag.first is None and Version.parse(tag.name) is not None]


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _reason(stderr: str) -> str:
    """The line of git's that says most: the first fatal one, else the first error, else the last."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    telling = [line for line in lines if line not in _EMPTY_WORDS] or lines or [""]
    loud = [line for mark in ("fatal:", "error:") for line in telling if line.startswith(mark)]
    return printable((loud or telling[-1:])[0])


def _new_tree(trees: Path) -> tuple[Path, int]:
    """A new private folder, and a descriptor that holds it; unheld old ones are removed."""
    trees.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in trees.iterdir():
        if time.time() - old.stat().st_mtime > _LEFTOVER_TREE:
            held = os.open(old, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            if _taken(held):
                shutil.rmtree(old, ignore_errors=True)
            os.close(held)
    tree = Path(mkdtemp(dir=trees))
    held = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    _taken(held)
    return tree, held
