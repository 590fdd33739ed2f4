"""As much HTTP/1.1 as docker's clients speak: keep-alive, bodies, chunked answers. Nothing is waited for."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

_REASONS = {200: "OK", 201: "Created", 204: "No Content", 404: "Not Found", 503: "Service Unavailable"}


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    body: bytes


class Connection(asyncio.Protocol):
    """One connection of a client. ``handle(connection, request)`` has to end in one of ``answer``,
    ``begin`` … ``end`` or ``cut``, then or later; the next request waits for that."""

    def __init__(self, handle: Callable[[Connection, Request], None], headers: tuple[str, ...] = ()) -> None:
        self._handle = handle
        self._headers = "".join(f"{h}\r\n" for h in headers)
        self._data = bytearray()
        self._waiting: deque[Request] = deque()
        self._busy: Request | None = None
        self._transport: asyncio.Transport | None = None
        #: Called once when the client is gone or the answer is over.
        self.gone: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._over()

    def _over(self) -> None:
        if self.gone is not None:
            gone, self.gone = self.gone, None
            gone()

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (request := self._parse()) is not None:
            self._waiting.append(request)
        self._next()

    def _next(self) -> None:
        while self._busy is None and self._waiting and self._transport is not None:
            self._busy = self._waiting.popleft()
            self._handle(self, self._busy)

    def _parse(self) -> Request | None:
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return None
        first, *lines = bytes(self._data[:end]).decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        start = end + 4
        if headers.get("transfer-encoding", "").lower() == "chunked":
            found = _chunks(self._data, start)
            if found is None:
                return None
            body, stop = found
        else:
            stop = start + int(headers.get("content-length") or 0)
            if len(self._data) < stop:
                return None
            body = bytes(self._data[start:stop])
        del self._data[:stop]
        method, target, _ = first.split(" ", 2)
        url = urlsplit(target)
        return Request(method, unquote(url.path), dict(parse_qsl(url.query, keep_blank_values=True)), body)

    def answer(self, status: int, body: Any = None) -> None:
        """A whole answer: text stays text, everything else becomes JSON, None is empty."""
        if isinstance(body, str):
            data, kind = body.encode(), "text/plain; charset=utf-8"
        else:
            data = b"" if body is None else json.dumps(body).encode() + b"\n"
            kind = "application/json"
        if self._busy is None or self._transport is None:
            return
        length = "" if status == 204 else f"Content-Length: {len(data)}\r\n"
        content = f"Content-Type: {kind}\r\n" if data else ""
        head = f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}\r\n{self._headers}{content}{length}\r\n"
        self._transport.write(head.encode() + (b"" if self._busy.method == "HEAD" else data))
        self._done()

    def begin(self) -> None:
        """A chunked answer begins."""
        head = f"HTTP/1.1 200 OK\r\n{self._headers}Content-Type: application/json\r\n"
        self._write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())

    def chunk(self, value: Any) -> None:
        """One JSON value, a line."""
        data = json.dumps(value).encode() + b"\r\n"
        self._write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def end(self) -> None:
        self._write(b"0\r\n\r\n")
        self._done()

    def cut(self) -> None:
        """The connection breaks."""
        if self._transport is not None:
            self._transport.abort()
        self._over()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _done(self) -> None:
        self._busy = None
        self._over()
        asyncio.get_running_loop().call_soon(self._next)


def _chunks(data: bytearray, start: int) -> tuple[bytes, int] | None:
    """A chunked body from ``start`` on, and where it ends; None where it is not whole yet."""
    body = bytearray()
    while (end := data.find(b"\r\n", start)) >= 0:
        size = int(bytes(data[start:end]).split(b";")[0], 16)
        start = end + 2
        if len(data) < start + size + 2:
            return None
        body += data[start : start + size]
        start += size + 2
        if size == 0:
            return bytes(body), start
    return None
