"""A Docker socket that shows an empty stack, keeps what it is asked to create, and creates nothing.

Only GETs reach the real daemon, so whatever the client does, nothing is changed. Bodies stay in memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import anyio
import h11
from anyio.abc import ByteStream

from warmd.core.model import Json
from warmd.errors import ConfigError

_CHUNK = 64 * 1024

#: Seconds for one answer of the real daemon.
DEADLINE = 20.0

#: Headers that are about one connection and not about the answer.
_HOP = {b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"upgrade"}


@dataclass(frozen=True, slots=True)
class Post:
    """One create call: ``kind`` is networks, configs, secrets or services."""

    kind: str
    body: Json


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ((b"Content-Type", b"application/json"),)


class Recorder:
    """What happened on the socket. ``daemon`` is the last failure to get an answer from the real one."""

    def __init__(self, docker_host: str) -> None:
        self._host = docker_host
        self.posts: list[Post] = []
        self.daemon: str | None = None
        self._silent = False

    async def serve(self, client: ByteStream) -> None:
        """One connection of the client, request after request."""
        connection = h11.Connection(h11.SERVER)
        async with client:
            try:
                while await self._serve_one(connection, client):
                    connection.start_next_cycle()
            except (h11.RemoteProtocolError, anyio.BrokenResourceError, anyio.EndOfStream):
                return  # the client went away; what it says of it is in its output

    async def _serve_one(self, connection: h11.Connection, client: ByteStream) -> bool:
        """Answer one request; True where another may follow on this connection."""
        request, body = await _receive(connection, client)
        if not isinstance(request, h11.Request):
            return False
        answer = await self._answer(request.method.decode(), request.target.decode(), body)
        headers = [(k, v) for k, v in answer.headers if k.lower() not in _HOP]
        headers.append((b"Content-Length", str(len(answer.body)).encode()))
        await _send(connection, client, h11.Response(status_code=answer.status, headers=headers))
        if request.method != b"HEAD":
            await _send(connection, client, h11.Data(data=answer.body))
        await _send(connection, client, h11.EndOfMessage())
        return connection.our_state is connection.their_state is h11.DONE

    async def _answer(self, method: str, target: str, body: bytes) -> _Answer:
        path = unquote(re.sub(r"^/v\d+\.\d+", "", urlsplit(target).path))
        if method in ("GET", "HEAD"):
            return self._stack_is_empty(path) or await self._forward(method, target, path)
        kind = path.strip("/").removesuffix("/create")
        if method != "POST" or path != f"/{kind}/create" or kind not in _KINDS:
            # A client that wants to change something else does not see an empty stack: a bug worth seeing.
            return _said(405, f"warmd records a deploy and does not pass on {method} {path}")
        self.posts.append(Post(kind, json.loads(body)))
        made_up = f"recorded-{len(self.posts)}"
        return _Answer(201, json.dumps({"ID": made_up, "Id": made_up}).encode())

    def _stack_is_empty(self, path: str) -> _Answer | None:
        """What the client asks of the stack's own objects, so that it always creates; None: ask the daemon.

        Lists of networks are only asked for those of the stack; a secret or config is only asked for by
        its name to choose between create and update. External ones are looked for differently.
        """
        if path in ("/services", "/networks", "/tasks"):
            return _Answer(200, b"[]")
        found = re.fullmatch(r"/(secrets|configs)/([^/]+)", path)
        return _said(404, f"{found[1][:-1]} {found[2]} not found") if found else None

    async def _forward(self, method: str, target: str, path: str) -> _Answer:
        if self._silent:  # the client asks for one thing after another, and each would wait as long
            return _said(502, f"the Docker daemon does not answer: {self.daemon}")
        try:
            with anyio.fail_after(DEADLINE):
                answer = await self._ask_daemon(method, target)
        except TimeoutError:
            self.daemon, self._silent = f"no answer within {DEADLINE:g} s", True
        except (OSError, h11.RemoteProtocolError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
            self.daemon = str(error) or type(error).__name__
        else:
            if answer.status >= 500:
                self.daemon = answer.body.decode(errors="replace").strip()
            try:
                if path in ("/secrets", "/configs") and answer.status == 200:
                    return _Answer(200, self._with_recorded(path.strip("/"), answer.body))
                return answer
            except (ValueError, LookupError, TypeError) as error:
                self.daemon = f"what it says is no Engine API ({type(error).__name__}: {error})"
        return _said(502, f"the Docker daemon does not answer: {self.daemon}")

    def _with_recorded(self, kind: str, listed: bytes) -> bytes:
        """Services refer to secrets and configs by id, which the client takes from this list."""
        made = {p.body["Name"]: f"recorded-{i}" for i, p in enumerate(self.posts, 1) if p.kind == kind}
        others: list[Any] = [o for o in json.loads(listed) or () if o["Spec"]["Name"] not in made]
        return json.dumps([*others, *({"ID": i, "Spec": {"Name": n}} for n, i in made.items())]).encode()

    async def _ask_daemon(self, method: str, target: str) -> _Answer:
        async with await _connect(self._host) as stream:
            connection = h11.Connection(h11.CLIENT)
            headers = [("Host", "docker"), ("Connection", "close")]
            await _send(connection, stream, h11.Request(method=method, target=target, headers=headers))
            await _send(connection, stream, h11.EndOfMessage())
            response, body = await _receive(connection, stream)
            if not isinstance(response, h11.Response):
                raise anyio.EndOfStream
            return _Answer(response.status_code, body, tuple(response.headers))


_KINDS = ("networks", "configs", "secrets", "services")


def _said(status: int, message: str) -> _Answer:
    return _Answer(status, json.dumps({"message": message}).encode())


async def _connect(host: str) -> ByteStream:
    url = urlsplit(host)
    if url.scheme == "unix":
        return await anyio.connect_unix(url.path)
    if url.scheme in ("tcp", "http") and url.hostname:
        return await anyio.connect_tcp(url.hostname, url.port or 2375)
    raise ConfigError(f"docker_host {host!r} can't be used here", hint="unix:///path or tcp://host:port")


async def _send(connection: h11.Connection, stream: ByteStream, event: h11.Event) -> None:
    data = connection.send(event)
    if data:
        await stream.send(data)


async def _receive(
    connection: h11.Connection, stream: ByteStream
) -> tuple[h11.Request | h11.Response | None, bytes]:
    """One whole message and its body; None where the other side closed instead."""
    head: h11.Request | h11.Response | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            try:
                connection.receive_data(await stream.receive(_CHUNK))
            except anyio.EndOfStream:
                connection.receive_data(b"")
        elif isinstance(event, h11.Request | h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return head, bytes(body)
        elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
            return None, b""


@asynccontextmanager
async def recording(docker_host: str, folder: Path) -> AsyncIterator[tuple[Recorder, str]]:
    """A recorder on a socket in ``folder`` (private to us) and the address to give to the client."""
    recorder = Recorder(docker_host)
    path = folder / "docker.sock"
    listener = await anyio.create_unix_listener(path)
    try:
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, recorder.serve)
            yield recorder, f"unix://{path}"
            group.cancel_scope.cancel()
    except BaseExceptionGroup as failures:
        # One thing went wrong: callers know it by its own name and not as a group of one.
        if len(failures.exceptions) == 1:
            raise failures.exceptions[0] from None
        raise
