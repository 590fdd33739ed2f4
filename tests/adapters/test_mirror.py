"""One folder a remote: fetched once for many, never stuck, never half-made, and nothing of it executed."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from tests.upstream import Link, Program, Submodule, Upstream, serve, silent, unused_port
from warmd.adapters.mirror import Look, Mirror, mirror_of
from warmd.adapters.remote import Remote
from warmd.adapters.repository import Damaged, Refs, moment
from warmd.errors import Refused

SOON = timedelta(seconds=20)


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path / "srv" / "recipe")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mirrors"


def mirror_at(folder: Path, where: Upstream | str, deadline: timedelta = SOON) -> Mirror:
    """As after a restart: it shares nothing with another one but the folder."""
    text = where if isinstance(where, str) else str(where.path)
    mirror = Mirror(folder, Remote.parse(text, folder), time.monotonic)
    mirror.deadline = deadline
    return mirror


async def fetch(mirror: Mirror) -> Look:
    return await mirror.look(not_before=time.monotonic())


async def fetched(mirror: Mirror) -> Refs:
    look = await fetch(mirror)
    assert look.trouble is None
    assert look.refs is not None
    return look.refs


def names(refs: Refs | None) -> list[str]:
    assert refs is not None
    return sorted(tag.name for tag in refs.tags)


def command_lines() -> dict[int, str]:
    """Of all processes, by their ids."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def written(folder: Path, text: bytes) -> bool:
    return any(text in path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - other processes set no event
            await anyio.sleep(0.01)


# --- sharing


async def test_there_is_one_mirror_of_a_place_in_a_process_and_the_longest_deadline_counts(
    folder: Path,
) -> None:
    first, again, other = (
        mirror_of(folder, Remote.parse(url, folder), deadline=timedelta(minutes=m), monotonic=time.monotonic)
        for url, m in (("https://h/k", 3), ("https://H/k", 2), ("https://h/other", 1))
    )
    assert first is again
    assert first is not other
    assert first.deadline == timedelta(minutes=3)


async def test_what_is_derived_is_made_once_until_the_refs_change(folder: Path, upstream: Upstream) -> None:
    upstream.release("1.0.0")
    mirror = mirror_at(folder, upstream)
    made: list[str] = []

    async def make() -> int:
        made.append("made")
        await anyio.lowlevel.checkpoint()
        return len(made)

    async def derive() -> int:
        return await mirror.derived("key", await fetched(mirror), make)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(derive)
    assert await derive() == 1
    upstream.release("1.1.0")
    assert await derive() == 2


async def test_another_process_at_work_is_waited_for_and_then_trouble(
    folder: Path, upstream: Upstream
) -> None:
    upstream.release("1.0.0")
    mirror = mirror_at(folder, upstream)
    await fetched(mirror)
    with mirror.repository.path.with_suffix(".lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        mirror.deadline = timedelta(seconds=0.3)
        look = await fetch(mirror)
        assert "in use elsewhere for 300ms" in str(look.trouble)
        assert names(look.refs) == ["1.0.0"]
        mirror.deadline = SOON
        async with anyio.create_task_group() as group:
            group.start_soon(fetched, mirror)
            await anyio.wait_all_tasks_blocked()
            fcntl.flock(held, fcntl.LOCK_UN)


_FETCH = """
import anyio, sys, time
from datetime import timedelta
from pathlib import Path
from warmd.adapters.mirror import mirror_of
from warmd.adapters.remote import Remote

folder = Path(sys.argv[1])
remote = Remote.parse(sys.argv[2], folder)
mirror = mirror_of(folder, remote, deadline=timedelta(minutes=5), monotonic=time.monotonic)
anyio.run(lambda: mirror.look(not_before=time.monotonic()))
"""


def started(folder: Path, url: str) -> subprocess.Popen[bytes]:
    """A warmd of its own that fetches."""
    return subprocess.Popen([sys.executable, "-c", _FETCH, str(folder), url])


async def test_a_git_that_outlives_a_killed_warmd_keeps_the_lock(folder: Path) -> None:
    with silent() as port:
        url = f"http://127.0.0.1:{port}/outlives-{os.getpid()}"
        killed = started(folder, url)

        def gits() -> list[int]:
            lines = {pid: line for pid, line in command_lines().items() if url in line}
            return [pid for pid, line in lines.items() if pid != killed.pid]

        try:
            await until(lambda: len(gits()) >= 3)  # git and its two helpers
        finally:
            killed.kill()
            killed.wait()
        look = await fetch(mirror_at(folder, url, timedelta(seconds=0.3)))
        assert "in use elsewhere" in str(look.trouble)
        for pid in gits():
            os.kill(pid, 9)
        await until(lambda: not gits())
        look = await fetch(mirror_at(folder, url, timedelta(seconds=0.3)))
        assert "did not answer within 300ms" in str(look.trouble)


async def test_a_git_that_outlives_a_killed_warmd_ends_by_itself(
    folder: Path,
) -> None:
    with silent() as port:
        url = f"http://127.0.0.1:{port}/ends-{os.getpid()}"
        async with anyio.create_task_group() as group:
            group.start_soon(fetch, mirror_at(folder, url, timedelta(seconds=77)))
            await until(lambda: any(url in line for line in command_lines().values()))
            watchdogs = [
                line for line in command_lines().values() if line.startswith("timeout") and url in line
            ]
            group.cancel_scope.cancel()
    assert {tuple(line.split()[1:4]) for line in watchdogs} == {("--kill-after=5s", "87s", "git")}


# --- remotes that behave badly


async def test_a_remote_that_never_answers_is_left_at_the_deadline_with_no_git_running(folder: Path) -> None:
    with silent() as port:
        url = f"http://127.0.0.1:{port}/never-{os.getpid()}"
        started = time.monotonic()
        look = await fetch(mirror_at(folder, url, timedelta(seconds=0.5)))
        assert look.refs is None
        assert look.trouble == f"{url} did not answer within 500ms"
        assert time.monotonic() - started < 5
        await until(lambda: not any(url in line for line in command_lines().values()))


async def test_cancelling_a_look_ends_its_git(folder: Path) -> None:
    with silent() as port:
        url = f"http://127.0.0.1:{port}/cancelled-{os.getpid()}"
        async with anyio.create_task_group() as group:
            group.start_soon(fetch, mirror_at(folder, url))
            await until(lambda: any(url in line for line in command_lines().values()))
            group.cancel_scope.cancel()
        await until(lambda: not any(url in line for line in command_lines().values()))


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        pytest.param(lambda path: f"http://127.0.0.1:{unused_port()}/k", "", id="refused"),
        pytest.param(lambda path: str(path / "nothing"), "check the URL", id="no-folder"),
        pytest.param(lambda path: str(path), "check the URL", id="not-a-repository"),
        pytest.param(lambda path: "https://no-such-host.invalid/k", "name service", id="no-host"),
    ],
)
async def test_an_unreachable_remote_is_named_with_a_hint(
    tmp_path: Path, folder: Path, make: Callable[[Path], str], hint: str
) -> None:
    url = make(tmp_path)
    look = await fetch(mirror_at(folder, url))
    assert look.refs is None
    assert str(look.trouble).startswith(f"{url} can't be fetched: fatal: ")
    assert hint in look.hint


async def test_a_remote_that_asks_for_credentials_is_trouble_and_no_prompt(
    folder: Path, upstream: Upstream
) -> None:
    with serve(upstream.path.parent, user="bot", password="s3cret") as served:
        look = await fetch(mirror_at(folder, served.url(upstream)))
    assert "could not read Username" in str(look.trouble)
    assert "credentials" in look.hint


async def test_a_password_in_the_url_is_sent_and_shown_to_nobody(folder: Path, upstream: Upstream) -> None:
    upstream.release("1.0.0")
    with serve(upstream.path.parent, user="bot", password="s3cret") as served:
        refs = await fetched(mirror_at(folder, served.url(upstream, "bot:s3cret@")))
        assert names(refs) == ["1.0.0"]
        assert set(served.authorizations) == {"Basic Ym90OnMzY3JldA=="}
        look = await fetch(mirror_at(folder, served.url(upstream, "bot:wr0ng@")))
    assert look.trouble
    assert "wr0ng" not in look.trouble
    assert not written(folder, b"s3cret")


async def test_a_password_is_in_no_command_line(folder: Path) -> None:
    with silent() as port:
        marker = f"hidden-{os.getpid()}"
        url = f"http://bot:{marker}@127.0.0.1:{port}/shown-{os.getpid()}"
        async with anyio.create_task_group() as group:
            group.start_soon(fetch, mirror_at(folder, url))
            await until(lambda: any(f"shown-{os.getpid()}" in line for line in command_lines().values()))
            lines = list(command_lines().values())
            group.cancel_scope.cancel()
    assert not any(marker in line for line in lines)


HOSTILE = ["-foo", "--upload-pack=touch", "--output=x", "1.0.0;id", "$(id)", "`id`", "a'b", "HEAD", "x" * 200]


async def test_a_hostile_tag_is_a_tag_like_any_other(folder: Path, upstream: Upstream) -> None:
    upstream.release("1.0.0")
    for tag in HOSTILE:
        upstream.tag(tag, "refs/heads/main")
    assert names(await fetched(mirror_at(folder, upstream))) == sorted(["1.0.0", *HOSTILE])


async def test_tags_that_are_no_text_or_no_ref_are_left_out(folder: Path, upstream: Upstream) -> None:
    upstream.release("1.0.0")
    upstream.pack_by_hand([b"caf\xe9", b"a..b", b"x.lock"])
    refs = await fetched(mirror_at(folder, upstream))
    assert names(refs) == ["1.0.0"]
    assert refs.other == 1


async def test_a_tag_too_long_for_a_file_is_trouble_and_stops_no_other(
    folder: Path, upstream: Upstream
) -> None:
    upstream.release("1.0.0")
    mirror = mirror_at(folder, upstream)
    await fetched(mirror)
    upstream.release("1.1.0")
    upstream.pack_by_hand([b"x" * 400])
    look = await fetch(mirror)
    assert look.trouble
    assert names(look.refs) == ["1.0.0", "1.1.0"]
    assert all(tag.first == tag.commit for tag in look.refs.tags) if look.refs else False


async def test_a_remote_whose_head_leads_nowhere_has_its_tags(folder: Path, upstream: Upstream) -> None:
    upstream.release("1.0.0")
    mirror = mirror_at(folder, upstream)
    assert (await fetched(mirror)).head is not None
    upstream.git("symbolic-ref", "HEAD", "refs/heads/gone")
    refs = await fetched(mirror)
    assert (names(refs), refs.head) == (["1.0.0"], None)


async def test_objects_that_could_do_harm_are_not_let_in(folder: Path, upstream: Upstream) -> None:
    upstream.release("1.0.0")
    mirror = mirror_at(folder, upstream)
    await fetched(mirror)
    blob = upstream.git("hash-object", "-w", "--stdin", data=b"[core]\n")
    inner = upstream.git("mktree", data=f"100644 blob {blob}\tconfig\n".encode())
    outer = upstream.git("mktree", data=f"040000 tree {inner}\t.git\n".encode())
    commit = upstream.git("-c", "user.name=A", "-c", "user.email=a@b", "commit-tree", "-m", "bad", outer)
    upstream.tag("1.1.0", commit)
    look = await fetch(mirror)
    assert "fsck" in str(look.trouble)
    assert names(look.refs) == ["1.0.0"]


# --- what must not run


async def test_nothing_of_the_machine_s_git_configuration_or_hooks_counts(
    tmp_path: Path, folder: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.release("1.0.0")
    home = tmp_path / "home"
    (home / "hooks").mkdir(parents=True)
    hook = home / "hooks" / "reference-transaction"
    hook.write_text(f"#!/bin/sh\ntouch {home}/ran\n")
    hook.chmod(0o755)
    (home / ".gitconfig").write_text(
        f'[core]\n\thooksPath = {home}/hooks\n[url "/nowhere"]\n\tinsteadOf = {upstream.path}\n'
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    mirror = mirror_at(folder, upstream)
    await fetched(mirror)
    (mirror.repository.path / "hooks").mkdir()
    hook.rename(mirror.repository.path / "hooks" / hook.name)
    upstream.release("1.1.0")
    assert names(await fetched(mirror)) == ["1.0.0", "1.1.0"]
    assert not (home / "ran").exists()


# --- killed in the middle


@pytest.mark.parametrize(
    "left", [(), ("HEAD",), ("HEAD", "config", "objects/pack/tmp_pack_1"), ("refs/tags/1.0.0",)], ids=str
)
async def test_a_mirror_that_was_never_finished_is_made_anew(
    folder: Path, upstream: Upstream, left: tuple[str, ...]
) -> None:
    upstream.release("1.0.0")
    mirror = mirror_at(folder, upstream)
    for name in left:
        (mirror.repository.path / name).parent.mkdir(parents=True, exist_ok=True)
        (mirror.repository.path / name).write_bytes(b"\0\0\0")
    mirror.repository.path.mkdir(parents=True, exist_ok=True)
    assert (await mirror.look(not_before=time.monotonic(), offline=True)).refs is None
    assert names(await fetched(mirror)) == ["1.0.0"]


@pytest.mark.parametrize("lost", ["HEAD", "config"])
async def test_a_mirror_that_lost_a_small_file_to_a_power_cut_is_completed(
    folder: Path, upstream: Upstream, lost: str
) -> None:
    first = upstream.release("1.0.0")
    mirror = mirror_at(folder, upstream)
    await fetched(mirror)
    (mirror.repository.path / lost).write_bytes(b"")
    upstream.release("1.0.0", {"compose.yml": "# moved"})
    (tag,) = (await fetched(mirror)).tags
    assert tag.first == first != tag.commit


async def test_what_a_killed_git_left_behind_is_removed(folder: Path, upstream: Upstream) -> None:
    upstream.release("1.0.0")
    mirror = mirror_at(folder, upstream)
    await fetched(mirror)
    path = mirror.repository.path
    upstream.release("1.0.0", {"compose.yml": "# moved"})
    upstream.release("1.1.0")
    (path / "refs/tags").mkdir(exist_ok=True, parents=True)
    left = [
        path / name
        for name in (
            *("packed-refs.lock", "shallow.lock", "config.lock", "HEAD.lock"),
            *("refs/tags/1.0.0.lock", "refs/tags/1.1.0.lock", "refs/warmd/HEAD.lock"),
            *("objects/pack/tmp_pack_abc", "objects/info/commit-graph.lock"),
        )
    ]
    for file in left:
        file.touch()
    assert names(await fetched(mirror)) == ["1.0.0", "1.1.0"]
    assert not [file for file in left if file.exists()]


async def test_first_commits_are_recorded_also_when_that_was_missed(folder: Path, upstream: Upstream) -> None:
    commit = upstream.release("1.0.0")
    mirror = mirror_at(folder, upstream)
    await fetched(mirror)
    await mirror.repository.git("update-ref", "-d", "refs/warmd/first-seen/1.0.0")
    look = await mirror.look(not_before=time.monotonic(), offline=True)
    assert look.refs is not None
    assert [tag.first for tag in look.refs.tags] == [commit]


async def test_a_damaged_mirror_says_what_to_do_and_where(folder: Path, upstream: Upstream) -> None:
    upstream.release("1.0.0")
    mirror = mirror_at(folder, upstream)
    await fetched(mirror)
    (mirror.repository.path / "packed-refs").write_text("not a list of refs\n")
    look = await fetch(mirror)
    assert look.trouble
    assert look.refs is None
    assert str(mirror.repository.path) in look.trouble + look.hint


async def test_a_folder_that_can_not_be_written_is_trouble(tmp_path: Path, upstream: Upstream) -> None:
    (tmp_path / "file").touch()
    look = await fetch(mirror_at(tmp_path / "file" / "mirrors", upstream))
    assert look.refs is None
    assert "can't be" in str(look.trouble)


async def test_when_it_was_fetched_outlives_a_restart(folder: Path, upstream: Upstream) -> None:
    upstream.release("1.0.0")
    before = await fetch(mirror_at(folder, upstream))
    after = await mirror_at(folder, upstream).look(not_before=time.monotonic(), offline=True)
    assert before.fetched_at is not None
    assert after.fetched_at == before.fetched_at
    assert abs(before.fetched_at.timestamp() - time.time()) < 60


def pile_up(repository: Path, packs: int) -> None:
    """As so many fetches would leave them."""
    for number in range(packs):
        blob = subprocess.run(
            ["git", "hash-object", "-w", "--stdin"], cwd=repository, input=b"%d" % number, capture_output=True
        ).stdout
        subprocess.run(
            ["git", "pack-objects", "-q", "objects/pack/pack"],
            cwd=repository,
            input=blob,
            stdout=subprocess.DEVNULL,
        )


async def test_packs_that_pile_up_become_one_after_a_fetch(folder: Path, upstream: Upstream) -> None:
    commit = upstream.release("1.0.0")
    mirror = mirror_at(folder, upstream)
    await fetched(mirror)
    path = mirror.repository.path
    pile_up(path, 31)
    refs = await fetched(mirror)
    assert not list(path.glob("gc.pid*"))
    assert len(list(path.glob("objects/pack/*.pack"))) < 5
    assert [(tag.commit, tag.first) for tag in refs.tags] == [(commit, commit)]


# --- the tree


@pytest.fixture
def hostile(upstream: Upstream) -> str:
    """A commit that would run, hide or rewrite something if anybody checked it out as usual."""
    return upstream.commit(
        {
            ".gitattributes": "*.yml filter=evil export-ignore\n*.txt export-subst text eol=crlf\n",
            ".gitmodules": '[submodule "sub"]\n\tpath = sub\n\turl = https://example.org/sub.git\n',
            "compose.yml": "services: {}\n",
            "subst.txt": "$Format:%H$\n",
            "run.sh": Program("#!/bin/sh\n"),
            "deep/er/file with space": b"\0binary\xff",
            "sub": Submodule("1" * 40),
            "inside": Link("deep/er"),
            "deep/up": Link("../compose.yml"),
            "dangling": Link("nowhere"),
            "out": Link("/etc/passwd"),
            "deep/out": Link("../../.."),
            "here": Link("."),
            "round": Link("here/here/../../other"),
            "via": Link("out"),
        }
    )


async def test_the_tree_is_what_was_committed_and_nothing_was_run(
    folder: Path, upstream: Upstream, hostile: str
) -> None:
    mirror = mirror_at(folder, upstream)
    await fetched(mirror)
    async with mirror.tree(hostile) as tree:
        files = {
            p.relative_to(tree).as_posix() for p in tree.rglob("*") if p.is_file() and not p.is_symlink()
        }
        links = {p.relative_to(tree).as_posix() for p in tree.rglob("*") if p.is_symlink()}
        assert files == {
            *(".gitattributes", ".gitmodules", "compose.yml", "subst.txt", "run.sh"),
            "deep/er/file with space",
        }
        assert links == {"inside", "deep/up", "dangling", "here"}
        assert (tree / "subst.txt").read_bytes() == b"$Format:%H$\n"
        assert (tree / "inside" / "file with space").read_bytes() == b"\0binary\xff"
        assert {p.stat().st_mode & 0o777 for p in (tree, tree / "run.sh")} == {0o700}
        assert (tree / "compose.yml").stat().st_mode & 0o777 == 0o600
    assert list((folder / "trees").iterdir()) == []


async def test_one_content_under_many_names_is_written_under_each(folder: Path, upstream: Upstream) -> None:
    commit = upstream.commit({"a": "same", "b": "same", "c/d": Program("same")})
    mirror = mirror_at(folder, upstream)
    await fetched(mirror)
    async with mirror.tree(commit) as tree:
        assert [(tree / name).read_text() for name in ("a", "b", "c/d")] == ["same"] * 3
        assert [(tree / name).stat().st_mode & 0o777 for name in ("a", "c/d")] == [0o600, 0o700]


async def test_a_commit_that_is_not_there_is_an_error_and_leaves_no_folder(
    folder: Path, upstream: Upstream
) -> None:
    upstream.release("1.0.0")
    mirror = mirror_at(folder, upstream)
    await fetched(mirror)

    async def enter() -> None:
        async with mirror.tree("1" * 40):
            pytest.fail("there is nothing to show")

    with pytest.raises(Damaged, match="1111 is not in"):
        await enter()
    assert list((folder / "trees").iterdir()) == []


async def test_objects_that_are_missing_are_an_error_that_names_the_mirror(
    folder: Path, upstream: Upstream
) -> None:
    commit = upstream.release("1.0.0")
    mirror = mirror_at(folder, upstream)
    await fetched(mirror)
    blob = upstream.git("rev-parse", f"{commit}:compose.yml")
    (mirror.repository.path / "objects" / blob[:2] / blob[2:]).unlink()

    async def enter() -> None:
        async with mirror.tree(commit):
            pytest.fail("a file is missing")

    with pytest.raises(Damaged, match=re.escape(str(mirror.repository.path))):
        await enter()


@pytest.mark.parametrize(
    ("seconds", "year"), [("0", 1970), ("", 1970), ("-5", 1970), ("1700000000", 2023), ("9" * 18, 9999)]
)
def test_no_date_of_a_tag_is_too_far_away(seconds: str, year: int) -> None:
    assert moment(seconds).year == year


async def test_a_release_of_too_many_bytes_is_refused(
    folder: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = upstream.commit({"big": "x" * 2000})
    mirror = mirror_at(folder, upstream)
    await fetched(mirror)
    monkeypatch.setattr("warmd.adapters.repository.TREE_LIMIT", 1000)

    async def enter() -> None:
        async with mirror.tree(commit):
            pytest.fail("too big")

    with pytest.raises(Refused, match="2,000 bytes"):
        await enter()


async def test_trees_of_a_killed_warmd_go_and_those_in_use_stay(folder: Path, upstream: Upstream) -> None:
    commit = upstream.release("1.0.0")
    mirror = mirror_at(folder, upstream)
    await fetched(mirror)
    left = folder / "trees" / "left"
    left.mkdir(parents=True)
    async with mirror.tree(commit) as used:
        for tree in (left, used):
            os.utime(tree, (0, 0))
        async with mirror.tree(commit):
            assert not left.exists()
            assert (used / "compose.yml").exists()
