"""Source: the tags of a git repository, with the notes that lie in it.

docs/versions.md says which tags count, how they are ordered, and where notes are read.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field

from warmd.adapters.mirror import Mirror, mirror_of
from warmd.adapters.remote import Remote
from warmd.adapters.repository import Found, Refs, Repository, Tag
from warmd.core.model import Catalog, Note, Release
from warmd.core.versions import Version
from warmd.errors import SourceUnreachable
from warmd.plugins.base import Context, Duration, Settings

#: Bytes of one note that is read; a longer one counts as a note that needs reading.
NOTE_LIMIT = 256 * 1024

#: Bytes of all notes of a repository together that are kept in memory; beyond it they count as too long.
ALL_NOTES_LIMIT = 64 * 1024 * 1024

_SKIP = "WARMD_SKIP_FETCH"
_Releases: TypeAlias = tuple[tuple[Release, ...], int]


def _checked_url(url: str) -> str:
    Remote.parse(url, Path("/"))
    return url


def _checked_template(template: str) -> str:
    parts = template.split("/")
    if "{version}" not in template or not template.isprintable() or any(p in ("", ".", "..") for p in parts):
        raise ValueError(
            'expected a path in the repository with {version} in it, such as "notes/{version}.md"'
        )
    return template


def _checked_deadline(deadline: timedelta) -> timedelta:
    if deadline <= timedelta():
        raise ValueError("expected a duration above zero")
    return deadline


class Config(Settings):
    """Releases are the repository's tags ``x.y.z+app``, ``x.y.z`` and ``vx.y.z``."""

    kind: Literal["git"]

    url: Annotated[str, AfterValidator(_checked_url)]
    """``https://host/path``, ``ssh://user@host/path``, ``user@host:path``, or a local path (relative to
    the configuration's folder); ``http`` for loopback addresses only."""

    branch: Annotated[str, Field(min_length=1)] | None = None
    """The branch whose newest commit is read for notes too; the remote's default branch unless set."""

    fetch_deadline: Annotated[Duration, AfterValidator(_checked_deadline)] = timedelta(minutes=2)
    """How long one fetch may take; the longest counts where services share a repository."""

    notes_paths: tuple[Annotated[str, AfterValidator(_checked_template)], ...] = (
        "release/{version}",
        "release/{version}.md",
        "releaseNotes/{version}.md",
    )
    """Where notes of a version lie in the repository."""


def build(config: Config, context: Context) -> GitSource:
    """The source, on the mirror that all services with this URL share."""
    remote = Remote.parse(config.url, context.config_dir)
    mirror = mirror_of(
        context.mirrors, remote, deadline=config.fetch_deadline, monotonic=context.clock.monotonic
    )
    return GitSource(mirror, branch=config.branch, notes_paths=config.notes_paths)


class GitSource:
    """The Source port over a mirror."""

    def __init__(self, mirror: Mirror, *, branch: str | None, notes_paths: tuple[str, ...]) -> None:
        self._mirror = mirror
        self._branch = branch
        self._notes_paths = notes_paths

    async def releases(self, *, not_before: float, offline: bool = False) -> Catalog:
        """See the port. Offline, or with WARMD_SKIP_FETCH=1 in the environment: no network."""
        offline = offline or os.environ.get(_SKIP, "0") not in ("", "0")
        look = await self._mirror.look(not_before=not_before, offline=offline)
        shown = self._mirror.remote.shown
        if look.refs is None:
            hint = look.hint or (f"run once without --offline and {_SKIP}" if offline else "")
            raise SourceUnreachable(look.trouble or f"nothing was fetched from {shown} yet", hint=hint)
        refs = look.refs
        found, ignored = await self._mirror.derived(
            (self._branch, self._notes_paths), refs, lambda: self._read(refs)
        )
        trouble = look.trouble
        if trouble is None and self._branch is not None and self._branch not in refs.branches:
            trouble = f"{shown} has no branch {self._branch}: notes are read at the tags only"
        return Catalog(found, ignored, look.fetched_at, trouble)

    def tree(self, release: Release) -> AbstractAsyncContextManager[Path]:
        """The release's files as committed. Symlinks that lead out of it, and submodules, are left out."""
        return self._mirror.tree(release.commit)

    async def _read(self, refs: Refs) -> _Releases:
        """All releases, lowest first, and how many tags are none."""
        versions, ignored = _versions(refs)
        head = refs.branches.get(self._branch) if self._branch is not None else refs.head
        notes = await _notes(self._mirror.repository, versions, head, self._notes_paths)
        releases = [
            Release(version, tag.name, tag.commit, tag.at, notes.get(tag.name, ()), tag.first)
            for version, tag in versions
        ]
        return tuple(sorted(releases, key=lambda release: release.version)), ignored


def _versions(refs: Refs) -> tuple[list[tuple[Version, Tag]], int]:
    """The tags that are versions, one a version, and how many are none. ``1.0.0`` wins over ``v1.0.0``."""
    chosen: dict[tuple[object, ...], tuple[Version, Tag]] = {}
    for tag in sorted(refs.tags, key=lambda tag: tag.name.startswith("v")):
        version = Version.parse(tag.name)
        if version is not None:
            chosen.setdefault((version.recipe, version.app), (version, tag))
    return list(chosen.values()), refs.other + len(refs.tags) - len(chosen)


async def _notes(
    repository: Repository,
    versions: Sequence[tuple[Version, Tag]],
    head: str | None,
    templates: Iterable[str],
) -> Mapping[str, tuple[Note, ...]]:
    """The notes of each tag: at the tag's commit first, then at ``head``; the same content once."""
    wanted = [
        (tag.name, commit, template.replace("{version}", spelling))
        for _, tag in versions
        for commit in dict.fromkeys((tag.commit, *([head] if head else ())))
        for template in templates
        for spelling in dict.fromkeys((tag.name, tag.name.removeprefix("v")))
    ]
    answers = await repository.look_up([f"{commit}:{path}" for _, commit, path in wanted], follow=True)
    there = [(*asked, found) for asked, found in zip(wanted, answers, strict=True) if found is not None]
    # What isn't the same without following symlinks was reached through one.
    direct = await repository.look_up([f"{commit}:{path}" for _, commit, path, _ in there], follow=False)
    plain = [found for (*_, found), same in zip(there, direct, strict=True) if found == same]
    texts = await _texts(repository, plain)
    notes: dict[str, dict[str, Note]] = {}
    for (tag, _, path, found), same in zip(there, direct, strict=True):
        if found.linked and same is None:
            continue  # a linked folder that has no such file
        unread = (hashlib.sha256(f"{found.kind} {found.object}".encode()).hexdigest(), None)
        sha256, text = texts.get(found.object, unread) if found == same else unread
        notes.setdefault(tag, {}).setdefault(sha256, Note(path, sha256, text))
    return {tag: tuple(found.values()) for tag, found in notes.items()}


async def _texts(repository: Repository, found: Iterable[Found]) -> Mapping[str, tuple[str, str | None]]:
    """SHA-256 and text by object, of what is a file and not too long; text None where it is binary."""
    short: dict[str, int] = {}
    left = ALL_NOTES_LIMIT
    for each in found:
        if each.kind == "blob" and each.object not in short and each.size <= min(left, NOTE_LIMIT):
            short[each.object] = each.size
            left -= each.size
    contents = await repository.contents(short)
    return {name: (hashlib.sha256(data).hexdigest(), _text(data)) for name, data in contents.items()}


# All that may move a cursor, hide or reorder what is read: control characters but tab and newline (with a
# return before it), the C1 range, where terminals look for commands as well, and overrides of direction.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]|\r(?!\n)")


def _text(data: bytes) -> str | None:
    """``data`` as text, None where it is none: not UTF-8, or with characters that would
    let a terminal show something else than what is there."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    return None if _CONTROL.search(text) else text
