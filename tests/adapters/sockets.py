"""Sockets for the tests of the Docker adapter: one that records what passes, one that misbehaves."""

from __future__ import annotations

import contextlib
import re
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
from anyio.abc import ByteStream

_REQUEST = re.compile(rb"^((?:GET|POST|DELETE) \S+) HTTP/1\.1\r$", re.MULTILINE)


class Recorder:
    """Passes a Docker socket on, and knows every request that went through. ``host`` is where it is.

    Threads and blocking sockets: what is recorded must not depend on the loop that is tested.
    """

    def __init__(self, upstream: str, listener: socket.socket, host: str) -> None:
        self.host = host
        self._upstream = upstream
        self._listener = listener
        self._sent: list[bytearray] = []
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    @property
    def requests(self) -> list[str]:
        """``METHOD /path?query`` of each request; of one connection in order."""
        return [found.decode() for sent in self._sent for found in _REQUEST.findall(bytes(sent))]

    def clear(self) -> None:
        for sent in self._sent:
            sent.clear()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            engine = socket.socket(socket.AF_UNIX)
            self._sockets += [client, engine]
            engine.connect(self._upstream)
            self._sent.append(sent := bytearray())
            self._start(self._pump, client, engine, sent)
            self._start(self._pump, engine, client, bytearray())

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket, record: bytearray) -> None:
        with contextlib.suppress(OSError):  # either side went away: so does the other
            while chunk := source.recv(65536):
                record += chunk
                target.sendall(chunk)
        _end(source)
        _end(target)

    def close(self) -> None:
        _end(self._listener)
        for each in self._sockets:
            _end(each)
        for thread in self._threads:
            thread.join()
        for each in (self._listener, *self._sockets):
            each.close()


def _end(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)


@contextmanager
def recording(docker_host: str, *, tcp: bool = False) -> Iterator[Recorder]:
    """A Recorder in front of ``unix://…``, itself at a unix socket or a TCP port."""
    with tempfile.TemporaryDirectory() as folder:
        if tcp:
            listener = socket.create_server(("127.0.0.1", 0))
            host = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        else:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(f"{folder}/sock")
            listener.listen()
            host = f"unix://{folder}/sock"
        recorder = Recorder(docker_host.removeprefix("unix://"), listener, host)
        try:
            yield recorder
        finally:
            recorder.close()


@asynccontextmanager
async def answering(handle: Callable[[str, ByteStream], Awaitable[None]]) -> AsyncIterator[str]:
    """A unix socket; ``handle`` gets a connection's first request line and may do with it what it likes.

    The connection is closed when ``handle`` returns. Yields the ``unix://`` address.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sock"
        listener = await anyio.create_unix_listener(path)

        async def serve(client: ByteStream) -> None:
            async with client:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += await client.receive()
                await handle(request.split(b" HTTP/")[0].decode(), client)

        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, serve)
            yield f"unix://{path}"
            group.cancel_scope.cancel()
