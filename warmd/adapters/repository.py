"""Reading a bare git repository with a few long commands, not one a tag; nothing in it is executed.

Files come out as they were committed: no attribute, filter or substitution of the repository is
looked at, so what is deployed is what the commit says.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import anyio.to_thread

from warmd.adapters.process import LIMIT, Completed, run
from warmd.adapters.remote import environment
from warmd.errors import Permanent, Refused

#: Seconds that a command may take that only reads or writes this repository.
LOCAL = 60.0

#: Most bytes of files that one release may have.
TREE_LIMIT = 512 * 1024 * 1024

#: Most bytes of the list of one release's files: a few objects can stand for more files than atoms.
TREE_LISTING_LIMIT = 32 * 1024 * 1024

_LISTING_LIMIT = 256 * 1024 * 1024
_REF_FIELDS = (
    *("objectname", "objecttype", "*objectname", "*objecttype"),
    *("taggerdate:unix", "committerdate:unix", "*committerdate:unix", "refname"),
)
_REF_FORMAT = "--format=" + "%00".join(f"%({name})" for name in _REF_FIELDS)
_FIRST_SEEN = "refs/warmd/first-seen/"
_LAST_SECOND = 253_402_300_799  # of year 9999, which datetime ends with


class Damaged(Permanent):
    """The repository can't be read: something of it is missing or broken."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag that leads to a commit. ``at``: the tagger's date, else the commit's, UTC. ``first`` is
    the commit it was first seen with, None before that was recorded."""

    name: str
    commit: str
    at: datetime
    first: str | None


@dataclass(frozen=True, slots=True)
class Refs:
    """What the refs say. ``other`` counts tags that lead to no commit or are not text; ``head`` is the
    remote's default branch; ``digest`` changes when anything here does."""

    digest: str
    tags: tuple[Tag, ...]
    other: int
    head: str | None
    branches: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Found:
    """What a path leads to. ``linked``: through a symlink, which is not followed."""

    object: str
    kind: str
    size: int
    linked: bool = False


def moment(seconds: str) -> datetime:
    """Unix seconds, as git prints them, as a UTC time; what no calendar has becomes the nearest it has."""
    return datetime.fromtimestamp(min(max(int(seconds or 0), 0), _LAST_SECOND), UTC)


class Repository:
    """A bare repository in a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def git(
        self,
        *args: str,
        env: Mapping[str, str] | None = None,
        deadline: float = LOCAL,
        limit: int = LIMIT,
        cut: bool = False,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
        pass_fds: Sequence[int] = (),
        under: Sequence[str] = (),
    ) -> Completed:
        """Run one git command on it, by the program ``under`` if given. Raises what ``process.run`` does."""
        command = next(arg for arg in args if not arg.startswith("-"))
        return await run(
            [*under, "git", f"--git-dir={self.path}", *args],
            env=environment() if env is None else env,
            cwd=self.path,
            deadline=deadline,
            limit=limit,
            cut=cut,
            stdin=stdin,
            stdout=stdout,
            pass_fds=pass_fds,
            name=f"git {command}",
        )

    async def refs(self) -> Refs:
        """All refs, tags peeled to commits. Raises Damaged."""
        args = (_REF_FORMAT, "refs/tags", "refs/heads", "refs/warmd")
        done = await self.git("for-each-ref", *args, limit=_LISTING_LIMIT)
        if done.code != 0 or done.truncated:
            raise Damaged(f"the refs of {self.path} can't be read: {done.reason}")
        return await self._parsed(done.stdout)

    async def _parsed(self, listing: bytes) -> Refs:
        lines = [line.split(b"\0") for line in listing.split(b"\n") if line]
        nested = [oid.decode() for oid, kind, _, peeled, *_ in lines if kind == peeled == b"tag"]
        peeled = await self._peeled(nested) if nested else {}
        tags: list[tuple[str, str, datetime]] = []
        first: dict[str, str] = {}
        branches: dict[str, str] = {}
        head, other = None, 0
        for oid, kind, target, target_kind, *dates, raw_name in lines:
            name = raw_name.decode(errors="surrogateescape")
            seconds = next((date for date in dates if date), b"").decode()
            commit = (oid if kind == b"commit" else target if target_kind == b"commit" else b"").decode()
            if oid.decode() in peeled:
                commit, committed = peeled[oid.decode()]
                seconds = seconds or committed
            if name.startswith(_FIRST_SEEN):
                first[name.removeprefix(_FIRST_SEEN)] = oid.decode()
            elif name.startswith("refs/heads/"):
                branches[name.removeprefix("refs/heads/")] = oid.decode()
            elif name == "refs/warmd/HEAD":
                head = oid.decode()
            elif not name.startswith("refs/tags/"):
                continue
            elif commit and name.isprintable():
                tags.append((name.removeprefix("refs/tags/"), commit, moment(seconds)))
            else:
                other += 1
        found = tuple(Tag(name, commit, at, first.get(name)) for name, commit, at in tags)
        return Refs(hashlib.sha256(listing).hexdigest(), found, other, head, branches)

    async def _peeled(self, tags: Sequence[str]) -> dict[str, tuple[str, str]]:
        """For tags of tags: the commit at the end and its time; those that end elsewhere are left out."""
        found = await self.look_up([f"{tag}^{{commit}}" for tag in tags], follow=False)
        ends = {tag: end.object for tag, end in zip(tags, found, strict=True) if end is not None}
        commits = await self.contents(set(ends.values()))
        return {tag: (commit, _committed(commits[commit])) for tag, commit in ends.items()}

    async def record_first_seen(self, tags: Iterable[Tag], *, pass_fds: Sequence[int] = ()) -> None:
        """Create ``refs/warmd/first-seen/<tag>`` for each; one that exists is an error, never moved."""
        lines = "".join(f"create {_FIRST_SEEN}{tag.name} {tag.commit}\n" for tag in tags)
        with tempfile.TemporaryFile() as wanted:
            wanted.write(lines.encode())
            wanted.seek(0)
            done = await self.git("update-ref", "--stdin", stdin=wanted, pass_fds=pass_fds)
        if done.code != 0:
            raise Damaged(f"first commits of tags can't be recorded in {self.path}: {done.reason}")

    async def look_up(self, specs: Sequence[str], *, follow: bool) -> list[Found | None]:
        """What each ``<commit>:<path>`` names, None for nothing. Raises Damaged.

        With ``follow``, symlinks on the way are followed inside the commit; ones that lead nowhere or out
        of it are found as ``linked``.
        """
        flags = ("--buffer", "--follow-symlinks") if follow else ("--buffer",)
        with tempfile.TemporaryFile() as answers:
            await self._cat_file("--batch-check", *flags, ask=specs, answers=answers)
            found = await anyio.to_thread.run_sync(lambda: list(_answers(answers)))
        if len(found) != len(specs):
            raise Damaged(f"{self.path} gave {len(found)} answers to {len(specs)} questions")
        return found

    async def contents(self, objects: Iterable[str]) -> dict[str, bytes]:
        """The bytes of each object, all in memory: ask for sizes first. Raises Damaged."""
        wanted = sorted(set(objects))
        if not wanted:
            return {}
        with tempfile.TemporaryFile() as answers:
            await self._cat_file("--batch", "--buffer", ask=wanted, answers=answers)
            return await anyio.to_thread.run_sync(
                lambda: {name: b"".join(parts) for name, parts in self._objects(answers, wanted)}
            )

    async def _cat_file(self, *flags: str, ask: Iterable[str], answers: IO[bytes]) -> None:
        with tempfile.TemporaryFile() as questions:
            questions.write("".join(f"{line}\n" for line in ask).encode(errors="surrogateescape"))
            questions.seek(0)
            done = await self.git("cat-file", *flags, stdin=questions, stdout=answers)
        if done.code != 0:
            raise Damaged(f"{self.path} can't be read: {done.reason}")
        answers.seek(0)

    def _objects(self, answers: IO[bytes], wanted: Sequence[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Each object's name and its bytes in parts, from what ``cat-file --batch`` wrote."""
        for name in wanted:
            head = answers.readline().split()
            if len(head) != 3 or head[0].decode() != name:
                raise Damaged(f"{self.path} lacks the object {name}")
            left = int(head[2])
            yield name, _parts(answers, left)
            answers.read(1)

    async def export(self, commit: str, into: Path) -> None:
        """Write the commit's files into the empty and private folder ``into``, files 0600, programs 0700.

        Symlinks stay symlinks where they lead to a place inside; those that leave the folder, and
        submodules, are left out. Raises Refused (too big, or names no folder can have) and Damaged.
        """
        flags = ("-r", "-z", "-l", "--full-tree")
        done = await self.git("ls-tree", *flags, commit, limit=TREE_LISTING_LIMIT, cut=True)
        if done.truncated:
            raise Refused(
                f"the commit {commit} has too many files: their list is over {TREE_LISTING_LIMIT:,} bytes"
            )
        if done.code != 0:
            raise Damaged(f"the commit {commit} is not in {self.path}", hint="did its tag go away upstream?")
        files: dict[str, list[tuple[bytes, bool]]] = {}
        links: dict[str, list[bytes]] = {}
        total = 0
        for entry in done.stdout.split(b"\0")[:-1]:
            about, _, path = entry.partition(b"\t")
            mode, kind, name, size = about.split()
            if any(part in (b"", b".", b"..") or part.lower() == b".git" for part in path.split(b"/")):
                raise Refused(f"the commit {commit} has a file named {path!r}")
            if kind != b"blob":
                continue
            total += int(size)
            if mode == b"120000":
                links.setdefault(name.decode(), []).append(path)
            else:
                files.setdefault(name.decode(), []).append((path, mode == b"100755"))
        if total > TREE_LIMIT:
            raise Refused(f"the commit {commit} has {total:,} bytes of files, more than {TREE_LIMIT:,}")
        targets = await self.contents(links)
        with tempfile.TemporaryFile(dir=into.parent) as answers:
            wanted = sorted(files)
            await self._cat_file("--batch", "--buffer", ask=wanted, answers=answers)

            def write() -> None:
                for name, parts in self._objects(answers, wanted):
                    _write(into, files[name], parts)
                # Links come last, so that no file can be written through one.
                _link(into, {path: targets[name] for name in links for path in links[name]})

            await anyio.to_thread.run_sync(write)


def _parts(stream: IO[bytes], left: int) -> Iterator[bytes]:
    while left:
        part = stream.read(min(left, 1024 * 1024))
        if not part:
            raise Damaged("an object ends too early")
        left -= len(part)
        yield part


def _committed(commit: bytes) -> str:
    """The committer's Unix seconds in a commit object, empty where it has none."""
    for line in commit.partition(b"\n\n")[0].split(b"\n"):
        if line.startswith(b"committer "):
            seconds = line.split()[-2].decode(errors="replace")
            return seconds if seconds.isascii() and seconds.isdigit() else ""
    return ""


def _answers(stream: IO[bytes]) -> Iterator[Found | None]:
    """What ``cat-file --batch-check`` wrote, one answer a question."""
    while line := stream.readline():
        words = line.split()
        if words[0] in (b"symlink", b"dangling", b"loop"):
            target = stream.read(int(words[1]) + 1)[:-1]
            yield Found(hashlib.sha256(target).hexdigest(), words[0].decode(), len(target), linked=True)
        elif words[0] == b"notdir":
            stream.read(int(words[1]) + 1)
            yield None
        elif len(words) == 3 and words[2].isdigit():
            yield Found(words[0].decode(), words[1].decode(), int(words[2]))
        else:
            yield None  # missing


def _place(root: Path, path: bytes) -> Path:
    place = root / os.fsdecode(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _write(root: Path, places: Sequence[tuple[bytes, bool]], parts: Iterator[bytes]) -> None:
    """The same content under each path; (path, whether it is a program)."""
    first, *others = places
    made = _place(root, first[0])
    with made.open("xb") as file:
        file.writelines(parts)
    made.chmod(0o700 if first[1] else 0o600)
    for path, program in others:
        copy = _place(root, path)
        with copy.open("xb") as file, made.open("rb") as source:
            shutil.copyfileobj(source, file)
        copy.chmod(0o700 if program else 0o600)


def _link(root: Path, links: Mapping[bytes, bytes]) -> None:
    """Make all links, then remove those that lead out: before that nobody knows where each leads."""
    made = [_place(root, path) for path in links]
    for place, target in zip(made, links.values(), strict=True):
        place.symlink_to(os.fsdecode(target))
    inside = os.path.realpath(root)
    for place in [place for place in made if not Path(os.path.realpath(place)).is_relative_to(inside)]:
        place.unlink()
