"""The Source port's contract, over every implementation and the ways it reaches its remote."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import anyio
import pytest

from tests.upstream import Link, Served, Upstream, serve
from warmd.adapters.clock import SystemClock
from warmd.adapters.remote import Remote
from warmd.core.model import Catalog, Note
from warmd.errors import SourceUnreachable
from warmd.plugins.base import Context
from warmd.plugins.sources import git
from warmd.ports import Source, Swarm

SOON = timedelta(seconds=20)


class Published:
    """One upstream repository, and services' sources over it."""

    def __init__(self, folder: Path, served: Served | None) -> None:
        self.folder = folder
        self.upstream = Upstream(folder / "srv" / "recipe")
        self.served = served
        self.mirrors = folder / "mirrors"

    @property
    def url(self) -> str:
        return self.served.url(self.upstream) if self.served else str(self.upstream.path)

    def source(self, **settings: object) -> Source:
        config = git.Config.model_validate(
            {"kind": "git", "url": self.url, "fetch_deadline": SOON, **settings}
        )
        return git.build(config, self.context())

    def context(self) -> Context:
        nothing = cast(Swarm, None)  # a source has no use for the swarm
        here = self.folder
        return Context("keycloak", "sso", here, self.mirrors, here, "unix:///nowhere", nothing, SystemClock())

    def go_away(self) -> None:
        self.upstream.path.rename(self.folder / "gone")

    def come_back(self) -> None:
        (self.folder / "gone").rename(self.upstream.path)


@pytest.fixture(params=["path", "http"])
def published(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Published]:
    if request.param == "path":
        yield Published(tmp_path, None)
        return
    with serve(tmp_path / "srv") as served:
        yield Published(tmp_path, served)


async def now(source: Source) -> Catalog:
    return await source.releases(not_before=time.monotonic())


def tags(catalog: Catalog) -> list[str]:
    return [release.tag for release in catalog.releases]


async def test_releases_come_lowest_first_and_other_tags_are_counted(published: Published) -> None:
    for name in ("10.7.1+26.5.6", "9.0.0", "v10.7.0+26.5.6", "10.7.1+26.5.10", "10.10.0+26.6.2"):
        published.upstream.release(name)
    for name in ("nightly", "1.2", "2.0.0-rc1"):
        published.upstream.tag(name)
    catalog = await now(published.source())
    assert tags(catalog) == ["9.0.0", "v10.7.0+26.5.6", "10.7.1+26.5.6", "10.7.1+26.5.10", "10.10.0+26.6.2"]
    assert catalog.ignored == 3
    assert catalog.trouble is None


async def test_a_repository_without_a_release_is_an_empty_catalogue(published: Published) -> None:
    published.upstream.commit({"README.md": "soon"})
    catalog = await now(published.source())
    assert (catalog.releases, catalog.ignored, catalog.trouble) == ((), 0, None)


async def test_a_repository_without_a_commit_is_an_empty_catalogue(published: Published) -> None:
    catalog = await now(published.source())
    assert (catalog.releases, catalog.trouble) == ((), None)


async def test_a_light_tag_has_its_commit_and_the_time_of_it(published: Published) -> None:
    commit = published.upstream.release("1.0.0+2.0")
    made = published.upstream.clock - 60  # tagging itself took a minute
    (release,) = (await now(published.source())).releases
    assert (release.commit, release.first_commit, release.moved) == (commit, commit, False)
    assert release.at == datetime.fromtimestamp(made, UTC)


@pytest.mark.parametrize("depth", [1, 2])
async def test_an_annotated_tag_leads_to_its_commit_and_has_its_own_time(
    published: Published, depth: int
) -> None:
    commit = published.upstream.commit({"compose.yml": "#"})
    target = commit
    for _ in range(depth):
        target = published.upstream.tag("1.0.0+2.0", target, annotated=True)
    (release,) = (await now(published.source())).releases
    assert release.commit == commit
    assert release.at == datetime.fromtimestamp(published.upstream.clock, UTC)


async def test_tags_that_lead_to_no_commit_are_counted(published: Published) -> None:
    commit = published.upstream.release("1.0.0")
    published.upstream.tag("2.0.0", f"{commit}:compose.yml")
    published.upstream.tag("3.0.0", f"{commit}^{{tree}}")
    published.upstream.tag("4.0.0", f"{commit}^{{tree}}", annotated=True)
    published.upstream.tag(
        "5.0.0", published.upstream.tag("4.0.0", f"{commit}^{{tree}}", annotated=True), annotated=True
    )
    catalog = await now(published.source())
    assert (tags(catalog), catalog.ignored) == (["1.0.0"], 4)


async def test_of_two_spellings_the_one_without_v_counts(published: Published) -> None:
    published.upstream.release("v1.0.0")
    commit = published.upstream.release("1.0.0")
    catalog = await now(published.source())
    assert [(r.tag, r.commit) for r in catalog.releases] == [("1.0.0", commit)]
    assert catalog.ignored == 1


async def test_a_new_release_is_seen_by_the_next_look(published: Published) -> None:
    published.upstream.release("1.0.0")
    source = published.source()
    before = await now(source)
    published.upstream.release("1.1.0")
    after = await now(source)
    assert (tags(before), tags(after)) == (["1.0.0"], ["1.0.0", "1.1.0"])


async def test_a_moved_tag_keeps_the_commit_it_was_first_seen_with(published: Published) -> None:
    first = published.upstream.release("1.0.0")
    await now(published.source())
    second = published.upstream.release("1.0.0", {"compose.yml": "# another"})
    for _ in range(2):
        (release,) = (await now(published.source())).releases
        assert (release.commit, release.first_commit, release.moved) == (second, first, True)


async def test_a_tag_made_anew_on_the_same_commit_has_not_moved(published: Published) -> None:
    commit = published.upstream.release("1.0.0")
    await now(published.source())
    published.upstream.tag("1.0.0", commit, annotated=True)
    (release,) = (await now(published.source())).releases
    assert not release.moved


async def test_a_tag_that_went_away_is_gone_and_remembered(published: Published) -> None:
    first = published.upstream.release("1.0.0")
    source = published.source()
    await now(source)
    published.upstream.untag("1.0.0")
    assert tags(await now(source)) == []
    published.upstream.release("1.0.0", {"compose.yml": "# other"})
    (release,) = (await now(source)).releases
    assert (release.first_commit, release.moved) == (first, True)


def notes_of(catalog: Catalog) -> list[tuple[str, str | None]]:
    (release,) = catalog.releases
    return [(note.path, note.text) for note in release.notes]


async def test_notes_are_read_at_the_tag_in_three_places(published: Published) -> None:
    places = ["release/1.0.0+2", "release/1.0.0+2.md", "releaseNotes/1.0.0+2.md"]
    others = {"release/0.9.0+2": "Older.", "release/1.0.0": "Half a version.", "release/next": "Unpublished."}
    published.upstream.release("1.0.0+2", {place: f"Mind {place}.\n" for place in places} | others)
    (release,) = (await now(published.source())).releases
    assert release.notes == tuple(
        Note(place, hashlib.sha256(f"Mind {place}.\n".encode()).hexdigest(), f"Mind {place}.\n")
        for place in places
    )


async def test_notes_added_later_are_read_at_the_default_branch(published: Published) -> None:
    published.upstream.release("1.0.0")
    source = published.source()
    assert notes_of(await now(source)) == []
    published.upstream.commit({"release/1.0.0": "Read this first."})
    assert notes_of(await now(source)) == [("release/1.0.0", "Read this first.")]


async def test_notes_changed_later_are_there_twice_the_same_ones_once(published: Published) -> None:
    published.upstream.release("1.0.0", {"release/1.0.0": "As tagged.", "release/1.0.0.md": "Stays."})
    published.upstream.commit({"release/1.0.0": "As corrected."})
    catalog = await now(published.source())
    assert notes_of(catalog) == [
        ("release/1.0.0", "As tagged."),
        ("release/1.0.0.md", "Stays."),
        ("release/1.0.0", "As corrected."),
    ]


async def test_notes_that_change_change_what_an_approval_binds(published: Published) -> None:
    published.upstream.release("1.0.0", {"release/1.0.0": "Safe."})
    source = published.source()
    (before,) = (await now(source)).releases
    published.upstream.commit({"release/1.0.0": "Not safe at all."})
    (after,) = (await now(source)).releases
    assert before.fingerprint != after.fingerprint


async def test_notes_of_another_branch_are_read_where_it_is_named(published: Published) -> None:
    published.upstream.release("1.0.0")
    published.upstream.commit({"release/1.0.0": "From stable."}, branch="stable")
    assert notes_of(await now(published.source())) == []
    assert notes_of(await now(published.source(branch="stable"))) == [("release/1.0.0", "From stable.")]


async def test_a_branch_that_is_not_there_is_trouble(published: Published) -> None:
    published.upstream.release("1.0.0")
    catalog = await now(published.source(branch="stabel"))
    assert tags(catalog) == ["1.0.0"]
    assert "no branch stabel" in str(catalog.trouble)


async def test_notes_of_a_tag_with_v_are_found_under_both_spellings(published: Published) -> None:
    published.upstream.release("v1.0.0", {"release/1.0.0": "Bare.", "release/v1.0.0.md": "Spelled."})
    assert sorted(notes_of(await now(published.source()))) == [
        ("release/1.0.0", "Bare."),
        ("release/v1.0.0.md", "Spelled."),
    ]


UNREADABLE: dict[str, bytes | Link] = {
    "1.0.0+binary": b"\x7fELF\0\0",
    "1.0.0+latin-1": "gr\xfcn".encode("latin-1"),
    "1.0.0+terminal-escapes": b"fine \x1b[2K\x1b[1A hidden",
    "1.0.0+one-byte-escapes": "fine \x9b2K hidden".encode(),
    "1.0.0+written-over": b"hidden\rfine  ",
    "1.0.0+turned-round": "fine \u202enedd\u202c".encode(),
    "1.0.0+too-long": b"x" * (256 * 1024 + 1),
    "1.0.0+symlink": Link("../compose.yml"),
    "1.0.0+symlink-out": Link("/etc/passwd"),
    "1.0.0+symlink-dangling": Link("nowhere"),
    "1.0.0+symlink-loop": Link("1.0.0+symlink-loop"),
}


async def test_notes_that_can_not_be_shown_are_notes_all_the_same(published: Published) -> None:
    files = {f"release/{tag}": content for tag, content in UNREADABLE.items()}
    published.upstream.release("1.0.0", files | {"release/1.0.0+folder/notes.md": "Below."})
    for tag in (*UNREADABLE, "1.0.0+folder"):
        published.upstream.tag(tag, "1.0.0")
    without, *releases = (await now(published.source())).releases
    assert without.notes == ()
    assert {release.tag: [(note.path, note.text) for note in release.notes] for release in releases} == {
        tag: [(f"release/{tag}", None)] for tag in (*UNREADABLE, "1.0.0+folder")
    }
    assert len({note.sha256 for release in releases for note in release.notes}) == len(releases)


async def test_notes_behind_a_linked_folder_are_notes_that_can_not_be_shown(published: Published) -> None:
    published.upstream.release("1.0.0", {"release": Link("notes"), "notes/1.0.0": "Behind."})
    published.upstream.tag("0.9.0", "1.0.0")  # without any
    without, behind = (await now(published.source())).releases
    assert without.notes == ()
    assert [(note.path, note.text) for note in behind.notes] == [("release/1.0.0", None)]


async def test_a_note_of_just_the_longest_length_is_read(published: Published) -> None:
    published.upstream.release("1.0.0", {"release/1.0.0": "x" * (256 * 1024)})
    (release,) = (await now(published.source())).releases
    assert release.notes == (Note("release/1.0.0", release.notes[0].sha256, "x" * (256 * 1024)),)


async def test_other_folders_of_notes_can_be_set(published: Published) -> None:
    published.upstream.release("1.0.0", {"docs/news/1.0.0.txt": "News.", "release/1.0.0": "Not asked for."})
    source = published.source(notes_paths=["docs/news/{version}.txt"])
    assert notes_of(await now(source)) == [("docs/news/1.0.0.txt", "News.")]


async def test_callers_at_once_share_one_fetch(published: Published) -> None:
    published.upstream.release("1.0.0")
    asked = time.monotonic()
    sources = [published.source() for _ in range(20)]
    catalogs: list[Catalog] = []

    async def ask(source: Source) -> None:
        catalogs.append(await source.releases(not_before=asked))

    async with anyio.create_task_group() as group:
        for source in sources:
            group.start_soon(ask, source)
    assert [tags(catalog) for catalog in catalogs] == [["1.0.0"]] * 20
    if published.served is not None:
        assert published.served.fetches == 1


async def test_offline_uses_what_is_there_and_asks_nobody(published: Published) -> None:
    published.upstream.release("1.0.0")
    fetched = await now(published.source())
    published.upstream.release("1.1.0")
    requests = len(published.served.requests) if published.served else 0
    catalog = await published.source().releases(not_before=time.monotonic(), offline=True)
    assert (tags(catalog), catalog.trouble, catalog.fetched_at) == (["1.0.0"], None, fetched.fetched_at)
    assert requests == (len(published.served.requests) if published.served else 0)


async def test_the_environment_can_forbid_fetching(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    published.upstream.release("1.0.0")
    await now(published.source())
    published.upstream.release("1.1.0")
    monkeypatch.setenv("WARMD_SKIP_FETCH", "1")
    assert tags(await now(published.source())) == ["1.0.0"]
    monkeypatch.setenv("WARMD_SKIP_FETCH", "0")
    assert tags(await now(published.source())) == ["1.0.0", "1.1.0"]


async def test_offline_with_nothing_there_says_so(published: Published) -> None:
    with pytest.raises(SourceUnreachable, match="nothing was fetched") as raised:
        await published.source().releases(not_before=time.monotonic(), offline=True)
    assert "--offline" in raised.value.hint


async def test_a_remote_that_is_away_is_trouble_and_no_error(published: Published) -> None:
    published.upstream.release("1.0.0")
    source = published.source()
    before = await now(source)
    published.go_away()
    during = await now(source)
    assert (tags(during), during.fetched_at) == (["1.0.0"], before.fetched_at)
    assert during.trouble
    published.come_back()
    published.upstream.release("1.1.0")
    after = await now(source)
    assert (tags(after), after.trouble) == (["1.0.0", "1.1.0"], None)
    assert after.fetched_at is not None
    assert before.fetched_at is not None
    assert after.fetched_at > before.fetched_at


async def test_a_remote_that_never_answered_is_an_error_with_a_hint(published: Published) -> None:
    published.go_away()
    with pytest.raises(SourceUnreachable, match="recipe can't be fetched") as raised:
        await now(published.source())
    assert "URL" in raised.value.hint
    published.come_back()
    assert tags(await now(published.source())) == []


async def test_the_tree_has_the_release_s_files_and_is_gone_afterwards(published: Published) -> None:
    published.upstream.release("1.0.0", {"conf/app.ini": "a = 1\n"})
    published.upstream.release("1.1.0", {"conf/app.ini": "a = 2\n"})
    source = published.source()
    first, second = (await now(source)).releases
    async with source.tree(first) as old, source.tree(second) as new:
        assert old != new
        assert [(tree / "conf" / "app.ini").read_text() for tree in (old, new)] == ["a = 1\n", "a = 2\n"]
        assert (old / "compose.yml").read_text() == "# 1.0.0\n"
        assert old.stat().st_mode & 0o777 == 0o700
    assert not old.exists()
    assert not new.exists()


async def test_the_tree_is_gone_also_after_a_failure(published: Published) -> None:
    published.upstream.release("1.0.0")
    source = published.source()
    (release,) = (await now(source)).releases
    trees: list[Path] = []

    async def render() -> None:
        async with source.tree(release) as tree:
            trees.append(tree)
            raise RuntimeError("rendering failed")

    with pytest.raises(RuntimeError, match="rendering failed"):
        await render()
    assert not trees[0].exists()


async def test_the_tree_of_a_release_that_went_away_is_still_there(published: Published) -> None:
    published.upstream.release("1.0.0")
    source = published.source()
    (release,) = (await now(source)).releases
    published.upstream.untag("1.0.0")
    await now(source)
    async with source.tree(release) as tree:
        assert (tree / "compose.yml").exists()


@pytest.fixture
def crowded(tmp_path: Path) -> Published:
    """5,000 tags, each tenth with notes, fetched before."""
    published = Published(tmp_path, None)
    who = "A Maintainer <maintainer@example.org> 1700000000 +0000\n"
    parts = []
    for number in range(5000):
        note = f"M 100644 inline release/1.{number}.0\ndata 5\nread\n\n" if number % 10 == 0 else ""
        parts.append(f"commit refs/heads/main\nmark :{number + 1}\ncommitter {who}data 0\n{note}")
        parts.append(f"M 100644 inline compose.yml\ndata 8\n# {number:05}\n\n")
    published.upstream.git("fast-import", "--quiet", data="".join(parts).encode())
    commits = published.upstream.git("rev-list", "--reverse", "main").split()
    tags = [f"{commit} refs/tags/1.{number}.0\n" for number, commit in enumerate(commits)]
    (published.upstream.path / "packed-refs").write_text("".join(tags))
    mirror = published.mirrors / Remote.parse(published.url, tmp_path).folder
    published.upstream.git("clone", "--quiet", "--mirror", str(published.upstream.path), str(mirror))
    seen = [line.replace("refs/tags/", "refs/warmd/first-seen/") for line in tags]
    (mirror / "packed-refs").write_text("".join(tags + seen))
    (mirror / "warmd-fetched").touch()
    return published


def processor_seconds() -> float:
    """Of this process and of all that it ran."""
    return sum(os.times()[:4])


@pytest.mark.slow
async def test_five_thousand_tags_with_notes_are_looked_at_within_two_seconds(crowded: Published) -> None:
    before = processor_seconds()
    source = crowded.source()
    catalog = await now(source)
    assert processor_seconds() - before < 2
    assert len(catalog.releases) == 5000
    assert catalog.trouble is None
    assert not any(release.moved for release in catalog.releases)
    assert sum(bool(release.notes) for release in catalog.releases) == 500
    before = processor_seconds()
    assert (await now(source)).releases is catalog.releases
    assert processor_seconds() - before < 1
