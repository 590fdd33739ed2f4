"""A git remote that means harm, or is merely broken: it costs a deadline, and nothing of it runs or leaks."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from tests.hostile.text import steering
from tests.size import size
from tests.upstream import Served, Upstream, fetch, fetched, mirror_at, names, serve
from warmd.errors import Refused


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    upstream = Upstream(tmp_path / "srv" / "recipe")
    upstream.release("1.0.0")
    return upstream


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mirrors"


def below(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


# --- a server that says what it likes ------------------------------------------------------------


@dataclass
class Raw:
    """A port where ``act`` has each connection to itself; ``heard`` is what came in."""

    port: int
    heard: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/recipe"


@contextmanager
def raw(act: Callable[[socket.socket, threading.Event], None]) -> Iterator[Raw]:
    """Serve connections, one at a time each in a thread, until the block ends."""
    over = threading.Event()
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        served = Raw(listener.getsockname()[1])

        def one(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                served.heard.append(connection.recv(65536))
                act(connection, over)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    thread = threading.Thread(target=one, args=(listener.accept()[0],))
                    thread.start()
                    threads.append(thread)

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield served
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()


def answer(body: bytes, head: str = "200 OK", *more: str) -> bytes:
    lines = [f"HTTP/1.1 {head}", "Content-Type: application/x-git-upload-pack-advertisement", *more]
    return (
        "\r\n".join([*lines, f"Content-Length: {len(body)}", "Connection: close"]) + "\r\n\r\n"
    ).encode() + body


def line(text: bytes) -> bytes:
    return f"{len(text) + 4:04x}".encode() + text


def waits(connection: socket.socket, over: threading.Event) -> None:
    over.wait()


def says(data: bytes) -> Callable[[socket.socket, threading.Event], None]:
    return lambda connection, over: connection.sendall(data)


def drips(data: bytes) -> Callable[[socket.socket, threading.Event], None]:
    """A byte every tenth of a second, for ever."""

    def drip(connection: socket.socket, over: threading.Event) -> None:
        for place in range(len(data)):
            connection.sendall(data[place : place + 1])
            if over.wait(0.1):
                return

    return drip


def floods(head: bytes, piece: bytes) -> Callable[[socket.socket, threading.Event], None]:
    def flood(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(head)
        while not over.is_set():
            connection.sendall(piece)

    return flood


_BEGIN = line(b"# service=git-upload-pack\n") + b"0000"
_REF = b"0" * 39 + b"1"
_ENDLESS = answer(b"").replace(b"Content-Length: 0\r\n", b"")
BAD: dict[str, Callable[[socket.socket, threading.Event], None]] = {
    "nothing, ever": waits,
    "a byte at a time": drips(answer(_BEGIN * 1000)),
    "headers without end": floods(b"HTTP/1.1 200 OK\r\n", b"x-y: z\r\n" * 100),
    "a web page": says(answer(b"<html>welcome</html>")),
    "a web page with escapes": says(answer(b"<html>\x1b[2J\x1b]0;owned\x07</html>")),
    "an error page with escapes": says(answer(b"\x1b[2J\nwarmd: all is well", "500 \x1b[31mFAKE")),
    "an error of git's own, with escapes": says(answer(_BEGIN + line(b"ERR \x1b[2J\rFAKE\n$ FAKE | sh"))),
    "lines of the wrong length": says(answer(_BEGIN + b"ffff" + b"x" * 100)),
    "a length that is none": says(answer(_BEGIN + b"zzzz")),
    "refs that are none": says(answer(_BEGIN + line(b"not a ref\0 multi_ack\n") + b"0000")),
    "refs without a pack": says(
        answer(_BEGIN + line(_REF + b" refs/tags/1.1.0\0 side-band-64k\n") + b"0000")
    ),
    "refs without end": floods(_ENDLESS + _BEGIN, line(_REF + b" refs/tags/x\n") * 1000),
    "half an answer": says(answer(_BEGIN + line(b"version 2\n"))[:-30]),
    "the end at once": lambda connection, over: None,
    "not found": says(answer(b"", "404 Not Found")),
    "a password, please": says(
        answer(b"", "401 No", 'WWW-Authenticate: Basic realm="\x1b[31mroot password"')
    ),
    "a password for a proxy": says(answer(b"", "407 No", "Proxy-Authenticate: Basic realm=x")),
    "try again for ever": says(answer(b"", "429 Too Many Requests", "Retry-After: 100000")),
}


@pytest.mark.parametrize("act", BAD.values(), ids=BAD.keys())
async def test_a_remote_that_does_not_serve_git_is_trouble_within_the_deadline(
    folder: Path, upstream: Upstream, act: Callable[[socket.socket, threading.Event], None]
) -> None:
    with raw(act) as bad:
        began = time.monotonic()
        look = await fetch(mirror_at(folder, bad.url, timedelta(seconds=2)))
        assert time.monotonic() - began < 15
    assert look.refs is None or look.refs.tags == ()
    assert look.trouble
    assert steering(look.trouble) == set()
    assert len(look.trouble) < 500


# --- a server that breaks off, or sends what it does not have ------------------------------------

SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "at once": lambda told: b"",
    "in the middle": lambda told: told[: len(told) // 2],
    "before the last byte": lambda told: told[:-1],
    "a bit flipped": lambda told: told[:-60] + bytes([told[-60] ^ 1]) + told[-59:],
    "no pack": lambda told: line(b"packfile\n") + line(b"\1garbage" * 100) + b"0000",
    "a pack of a billion objects": lambda told: (
        line(b"packfile\n") + line(b"\1PACK\0\0\0\2\x3b\x9a\xca\0" + b"x" * 100) + b"0000"
    ),
    "progress with escapes": lambda told: line(b"packfile\n") + line(b"\2\x1b[2JFAKE\n") + b"0000",
    "an error with escapes": lambda told: line(b"packfile\n") + line(b"\3\x1b[2J\rFAKE\n$ FAKE") + b"0000",
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT.keys())
async def test_what_arrives_spoilt_is_trouble_and_what_was_there_stays(
    folder: Path, upstream: Upstream, spoil: Callable[[bytes], bytes]
) -> None:
    def mangled(asked: bytes, told: bytes) -> bytes:
        return spoil(told) if b"command=fetch" in asked and bad else told

    bad = False
    with serve(upstream.path.parent, mangle=mangled) as served:
        mirror = mirror_at(folder, served.url(upstream))
        await fetched(mirror)
        upstream.release("1.1.0", {"big": "x" * 10_000})
        bad = True
        look = await fetch(mirror)
        assert names(look.refs) == ["1.0.0"]
        assert look.trouble
        assert steering(look.trouble) == set()
        assert "\n" not in look.trouble
        bad = False
        assert names(await fetched(mirror)) == ["1.0.0", "1.1.0"]


# --- redirects -----------------------------------------------------------------------------------


def redirects(where: str) -> Callable[[socket.socket, threading.Event], None]:
    def redirect(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(answer(b"", "302 Found", f"Location: {where}"))

    return redirect


async def test_a_redirect_is_followed_where_no_password_is_at_stake(folder: Path, upstream: Upstream) -> None:
    with serve(upstream.path.parent) as real:
        moved = f"{real.url(upstream)}/info/refs?service=git-upload-pack"
        with raw(redirects(moved)) as old:
            assert names(await fetched(mirror_at(folder, old.url))) == ["1.0.0"]


async def test_a_password_goes_nowhere_else_and_a_hint_says_why(folder: Path, upstream: Upstream) -> None:
    with serve(upstream.path.parent) as thief:
        moved = f"{thief.url(upstream)}/info/refs?service=git-upload-pack"
        with raw(redirects(moved)) as old:
            url = old.url.replace("//", "//bot:s3cret@")
            look = await fetch(mirror_at(folder, url))
        assert thief.authorizations == []
    assert look.refs is None
    assert "s3cret" not in f"{look.trouble}{look.hint}"
    assert "put the new address into the URL" in look.hint
    assert b"Authorization: Basic" in old.heard[0]


@pytest.mark.parametrize(
    "where",
    [
        "file://{path}",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1/x",
        "ssh://127.0.0.1/x",
        "ext::sh -c id",
        "/{path}",
    ],
)
async def test_a_redirect_to_another_protocol_leads_nowhere(
    folder: Path, upstream: Upstream, where: str
) -> None:
    with raw(redirects(where.replace("{path}", str(upstream.path)))) as bad:
        look = await fetch(mirror_at(folder, bad.url, timedelta(seconds=3)))
    assert look.refs is None
    assert look.trouble


async def test_a_redirect_to_itself_ends(folder: Path) -> None:
    places: list[str] = [""]
    with raw(lambda connection, over: redirects(places[0])(connection, over)) as bad:
        places[0] = f"{bad.url}/info/refs?service=git-upload-pack"
        look = await fetch(mirror_at(folder, bad.url, timedelta(seconds=10)))
        assert len(bad.heard) < 100
    assert look.refs is None
    assert look.trouble


# --- names of tags -------------------------------------------------------------------------------


@contextmanager
def with_refs(upstream: Upstream, refs: list[bytes]) -> Iterator[Served]:
    """The real server, whose list of refs has more in it than git would let into a repository."""
    commit = upstream.git("rev-parse", "main").encode()

    def longer(asked: bytes, told: bytes) -> bytes:
        more = b"".join(line(commit + b" " + ref + b"\n") for ref in refs)
        return told.removesuffix(b"0000") + more + b"0000" if b"command=ls-refs" in asked else told

    with serve(upstream.path.parent, mangle=longer) as served:
        yield served


ODD = [
    *(b"--upload-pack=touch x", b"-foo", b"-", b"--", b"--exec=id", b"a b", b"1.1.0;id", b"$(id)", b"`id`"),
    *(
        b"../../../hooks/x",
        b"a/../b",
        b"a/./b",
        b"/etc/passwd",
        b".hidden",
        b"x.lock",
        b"@",
        b"@{0}",
        b"a//b",
    ),
    *(b"new\nline", b"tab\tbed", b"\x1b[2Jclear", b"\xff\xfe", b"\x7f", b"nul\0byte", b"~^:?*[\\"),
    *(
        "\u202e1.2.0".encode(),
        "1.2.0\u200b".encode(),
        "\u2028".encode(),
        "1.3.0\N{FULLWIDTH DIGIT ONE}".encode(),
    ),
]


async def test_odd_names_stay_names_or_are_left_out_and_nothing_runs(
    folder: Path, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    upstream.tag("-1.1.0")
    with with_refs(upstream, [b"refs/tags/" + name for name in ODD]) as served:
        mirror = mirror_at(folder, served.url(upstream))
        look = await fetch(mirror)
    assert look.trouble is None
    assert look.refs is not None
    got = [tag.name for tag in look.refs.tags]
    assert {"1.0.0", "-foo", "-1.1.0", "1.1.0;id"} <= set(got)
    assert not any(steering(name) or " " in name or ".." in name for name in got)
    assert {path.relative_to(tmp_path).parts[0] for path in below(tmp_path)} == {"srv", "mirrors"}
    assert not (mirror.repository.path / "hooks").exists()


@pytest.mark.parametrize("length", [240, 4_000, 10_000, 60_000])
async def test_a_very_long_name_takes_no_other_with_it(folder: Path, upstream: Upstream, length: int) -> None:
    refs: list[bytes] = []
    with with_refs(upstream, refs) as served:
        mirror = mirror_at(folder, served.url(upstream))
        await fetched(mirror)
        upstream.release("1.1.0")
        refs.append(b"refs/tags/" + b"x" * length)
        look = await fetch(mirror)
    assert bool(look.trouble) == (length > 240)
    assert len(look.trouble or "") < 500
    assert look.refs is not None
    assert {"1.0.0", "1.1.0"} <= {tag.name for tag in look.refs.tags}


async def test_refs_outside_of_tags_and_branches_are_none_of_ours(folder: Path, upstream: Upstream) -> None:
    odd = [
        b"refs/warmd/first-seen/1.0.0",
        b"refs/heads/../x",
        b"refs/replace/" + b"1" * 40,
        b"HEAD2",
        b"config",
    ]
    with with_refs(upstream, odd) as served:
        mirror = mirror_at(folder, served.url(upstream))
        refs = await fetched(mirror)
    assert names(refs) == ["1.0.0"]
    listed = await mirror.repository.git("for-each-ref", "--format=%(refname)")
    assert set(listed.stdout.decode().split()) == {
        *("refs/heads/main", "refs/tags/1.0.0", "refs/warmd/HEAD", "refs/warmd/first-seen/1.0.0")
    }


# --- many and much -------------------------------------------------------------------------------


@pytest.mark.crash_too
async def test_ten_times_the_tags_take_about_ten_times_as_long(tmp_path: Path) -> None:
    took = {}
    few = size(50, 200, 200)
    for count in (few, 10 * few):
        upstream = Upstream(tmp_path / f"srv{count}")
        upstream.commit({"compose.yml": "x"})
        upstream.pack_by_hand([f"1.{number}.0".encode() for number in range(count)])
        began = time.monotonic()
        refs = await fetched(mirror_at(tmp_path / f"mirrors{count}", upstream))
        took[count] = time.monotonic() - began
        assert len(refs.tags) == count
    assert took[10 * few] < 20 * took[few], "were it each with each, it would be a hundred times"


async def test_a_folder_of_folders_without_end_is_refused_soon(folder: Path, upstream: Upstream) -> None:
    """Ten folders that each have the next level ten times: ten billion files in eleven objects."""
    oid = upstream.git("hash-object", "-w", "--stdin", data=b"x")
    entries = [f"100644 blob {oid}\tfile{n}" for n in range(10)]
    for _ in range(10):
        tree = upstream.git("mktree", data=("\n".join(entries) + "\n").encode())
        entries = [f"040000 tree {tree}\tfolder{n}" for n in range(10)]
    commit = upstream.git("-c", "user.name=A", "-c", "user.email=a@b", "commit-tree", "-m", "bomb", tree)
    upstream.tag("1.1.0", commit)
    mirror = mirror_at(folder, upstream)
    refs = await fetched(mirror)
    (bomb,) = [tag for tag in refs.tags if tag.name == "1.1.0"]
    began = time.monotonic()
    with pytest.raises(Refused, match="too many files"):
        async with mirror.tree(bomb.commit):
            raise AssertionError("it was written")
    assert time.monotonic() - began < 20
    assert list((folder / "trees").iterdir()) == []


async def test_a_file_that_packs_well_is_measured_unpacked(folder: Path, upstream: Upstream) -> None:
    big = upstream.git("hash-object", "-w", "--stdin", data=b"\0" * 40_000_000)
    entries = "".join(f"100644 blob {big}\tbig{n}\n" for n in range(20))
    tree = upstream.git("mktree", data=entries.encode())
    commit = upstream.git("-c", "user.name=A", "-c", "user.email=a@b", "commit-tree", "-m", "big", tree)
    upstream.tag("1.1.0", commit)
    mirror = mirror_at(folder, upstream)
    await fetched(mirror)
    assert sum(p.stat().st_size for p in below(folder) if p.is_file()) < 5_000_000
    with pytest.raises(Refused, match="more than"):
        async with mirror.tree(commit):
            raise AssertionError("it was written")
