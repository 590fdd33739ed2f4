"""One folder a remote: fetched once for many, never stuck, never half-made, and nothing of it executed."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from tests.upstream import (
    SOON,
    Upstream,
    fetch,
    fetched,
    mirror_at,
    names,
    serve,
    silent,
    unused_port,
)
from warmd.adapters.mirror import mirror_of
from warmd.adapters.remote import Remote


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path / "srv" / "recipe")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mirrors"


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
