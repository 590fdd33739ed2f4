"""Real git repositories for tests, real HTTP servers in front of them, and mirrors of them."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from warmd.adapters.mirror import Look, Mirror
from warmd.adapters.remote import Remote
from warmd.adapters.repository import Refs

#: Long enough for any fetch here.
SOON = timedelta(seconds=20)

GIT_ENV = {
    "PATH": os.environ["PATH"],
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_COMMITTER_NAME": "A Maintainer",
    "GIT_COMMITTER_EMAIL": "maintainer@example.org",
}


@dataclass(frozen=True)
class Link:
    """A symlink of a commit."""

    target: str


@dataclass(frozen=True)
class Program:
    """An executable file of a commit."""

    text: str


@dataclass(frozen=True)
class Submodule:
    """A commit of another repository, as a submodule has it."""

    commit: str


Content = str | bytes | Link | Program | Submodule


class Upstream:
    """A bare repository that somebody publishes releases in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--bare", "--initial-branch=main")
        self.clock = 1_700_000_000

    def git(self, *args: str | bytes, data: bytes = b"") -> str:
        env = GIT_ENV | {"GIT_COMMITTER_DATE": f"{getattr(self, 'clock', 0)} +0200"}
        done = subprocess.run(
            ["git", *args], cwd=self.path, env=env, input=data, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def commit(self, files: Mapping[str, Content | None] | None = None, *, branch: str = "main") -> str:
        """A commit on top of ``branch`` that sets these files (None removes one); its id."""
        self.clock += 60
        known = self.git("for-each-ref", f"refs/heads/{branch}")
        parts = [
            f"commit refs/heads/{branch}\n".encode(),
            f"committer A Maintainer <maintainer@example.org> {self.clock} +0200\n".encode(),
            _data(b"a change"),
            f"from refs/heads/{branch}^0\n".encode() if known else b"",
            *(_change(path, content) for path, content in (files or {}).items()),
        ]
        self.git("fast-import", "--quiet", data=b"".join(parts))
        return self.git("rev-parse", f"refs/heads/{branch}")

    def tag(self, name: str | bytes, target: str = "main", *, annotated: bool = False) -> str:
        """Make or move a tag; what it points to."""
        raw = name.encode() if isinstance(name, str) else name
        self.clock += 60
        oid = self.git("rev-parse", target)
        if annotated:
            kind = self.git("cat-file", "-t", oid)
            head = b"object %s\ntype %s\ntag %s\n" % (oid.encode(), kind.encode(), raw)
            who = f"tagger A Maintainer <maintainer@example.org> {self.clock} +0200\n\na tag\n".encode()
            oid = self.git("hash-object", "-t", "tag", "-w", "--stdin", data=head + who)
        self.git("update-ref", b"refs/tags/" + raw, oid)
        return oid

    def untag(self, name: str) -> None:
        self.git("update-ref", "-d", f"refs/tags/{name}")

    def release(self, name: str, files: Mapping[str, Content | None] | None = None) -> str:
        """A commit and a light tag on it; the commit."""
        commit = self.commit({"compose.yml": f"# {name}\n"} | dict(files or {}))
        self.tag(name, commit)
        return commit

    def pack_by_hand(self, names: Iterator[bytes] | list[bytes], target: str = "main") -> None:
        """Tags under any name, also such as git itself would not make."""
        oid = self.git("rev-parse", target).encode()
        with (self.path / "packed-refs").open("ab") as packed:
            packed.writelines(oid + b" refs/tags/" + name + b"\n" for name in names)


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)


def _change(path: str, content: Content | None) -> bytes:
    match content:
        case None:
            return f"D {path}\n".encode()
        case Submodule(commit):
            return f"M 160000 {commit} {path}\n".encode()
        case Link(target):
            return f"M 120000 inline {path}\n".encode() + _data(target.encode())
        case Program(text):
            return f"M 100755 inline {path}\n".encode() + _data(text.encode())
        case str() as text:
            return f"M 100644 inline {path}\n".encode() + _data(text.encode())
        case bytes() as data:
            return f"M 100644 inline {path}\n".encode() + _data(data)


@dataclass
class Served:
    """A smart-HTTP server over all repositories of a folder. ``user`` and ``password`` guard it."""

    root: Path
    port: int = 0
    user: str = ""
    password: str = ""
    requests: list[str] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)

    def url(self, repository: Upstream, userinfo: str = "") -> str:
        return f"http://{userinfo}127.0.0.1:{self.port}/{repository.path.relative_to(self.root)}"

    @property
    def fetches(self) -> int:
        """How many times a client began: each starts by asking for the refs once."""
        return sum("info/refs" in path for path in self.requests)


@contextmanager
def serve(
    root: Path, *, user: str = "", password: str = "", mangle: Callable[[bytes, bytes], bytes] | None = None
) -> Iterator[Served]:
    """git's own http-backend on loopback. ``mangle`` makes of (request, answer) what is sent instead; a
    shorter one breaks off."""
    served = Served(root, user=user, password=password)
    wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            path, _, query = self.path.partition("?")
            served.requests.append(self.path)
            served.authorizations.append(self.headers.get("Authorization", ""))
            if served.user and served.authorizations[-1] != wanted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="recipes"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            env = GIT_ENV | {
                "GIT_PROJECT_ROOT": str(root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }
            done = subprocess.run(
                ["git", "http-backend"], env=env, input=body, capture_output=True, check=False
            )
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            fields = [line.partition(": ") for line in head.decode().split("\r\n")]
            status = next((value for name, _, value in fields if name == "Status"), "200")
            length = len(content)
            if mangle is not None:
                content = mangle(body, content)
            self.send_response(int(status.split()[0]))
            for name, _, value in fields:
                if name and name != "Status":
                    self.send_header(name, value)
            self.send_header("Content-Length", str(max(length, len(content))))
            self.end_headers()
            self.wfile.write(content)
            self.close_connection = len(content) < length

        do_GET = do_POST = answer  # noqa: N815 - names the base class looks for

        def log_message(self, *_args: object) -> None:
            """Tests read ``requests`` instead."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def silent() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield listener.getsockname()[1]


def unused_port() -> int:
    """A port where nobody listened just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
