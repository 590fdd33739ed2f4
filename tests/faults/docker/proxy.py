"""A socket in front of a real dockerd that passes everything on, and does one thing wrong when it is told to.

Threads and blocking sockets: it must go on while the loop that is tested hangs. It parses what passes
(h11) and hands bodies on as they come, so streams and docker's own client work through it.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import h11
import httpx

from tests.faults.docker.faults import OF_SWARM, SAYS, Call, Fault, Rule, template

#: Seconds for which nobody gets a connection once one was refused.
REFUSED_FOR = 0.6
#: Seconds that a slow answer takes.
SLOW = 1.5


@dataclass
class Proxy:
    """``host`` is where it listens. ``state`` tells in which state of a run a request came."""

    upstream: str
    host: str
    listener: socket.socket
    state: Callable[[], str]
    seen: list[Call] | None = None
    _rules: list[Rule] = field(default_factory=list)
    _refuses_until: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _sockets: set[socket.socket] = field(default_factory=set)
    _threads: set[threading.Thread] = field(default_factory=set)

    @contextmanager
    def failing(self, call: Call, fault: Fault, *, lasts: float = 0.0, alike: bool = False) -> Iterator[Rule]:
        """While the block runs, what fits fails."""
        rule = Rule(call, fault, lasts, alike)
        with self._lock:
            self._rules.append(rule)
        try:
            yield rule
        finally:
            rule.let_go.set()
            with self._lock:
                self._rules.remove(rule)
                self._refuses_until = 0.0

    @contextmanager
    def noting(self) -> Iterator[list[Call]]:
        """The calls that come while the block runs."""
        noted: list[Call] = []
        self.seen = noted
        try:
            yield noted
        finally:
            self.seen = None

    # --- serving ----------------------------------------------------------------------------------

    def start(self) -> None:
        self._spawn(self._accept)

    def close(self) -> None:
        _end(self.listener)
        with self._lock:
            for each in self._sockets:
                _end(each)
        while self._threads:
            with contextlib.suppress(KeyError):
                self._threads.pop().join(10)
        self.listener.close()

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads = {t for t in self._threads if t.is_alive()} | {thread}
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return  # closed
            if time.monotonic() < self._refuses_until:
                client.close()
                continue
            with self._lock:
                self._sockets.add(client)
            self._spawn(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            with contextlib.suppress(OSError, h11.RemoteProtocolError, _Cut):
                while self._serve_one(connection, client):
                    connection.start_next_cycle()
        finally:
            self._close(client)

    def _close(self, each: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(each)
        each.close()

    def _serve_one(self, connection: h11.Connection, client: socket.socket) -> bool:
        request, body = _receive(connection, client)
        if request is None:
            return False
        call = Call(self.state(), request.method.decode(), template(request.target.decode()))
        with self._lock:
            if self.seen is not None:
                self.seen.append(call)
            rule = next((r for r in self._rules if r.takes(call)), None)
        fault = rule.fault if rule else None
        if fault is Fault.REFUSED:
            self._refuses_until = max(rule.until, time.monotonic() + REFUSED_FOR) if rule else 0.0
            return False
        if fault is Fault.HANGS:
            while client.recv(65536):  # until whoever asked gives up
                pass
            return False
        if fault in OF_SWARM and call.of_networks:
            return self._only_local(connection, client, call)
        if fault in SAYS and fault is not Fault.STALE_DONE:
            status, said = SAYS[fault]
            return _answer(connection, client, status, None if call.method == "HEAD" else said)
        if rule and fault is Fault.HELD:
            rule.hold()
        return self._pass_on(connection, client, request, body, rule)

    def _only_local(self, connection: h11.Connection, client: socket.socket, call: Call) -> bool:
        """What the engine says of networks while nobody answers for the swarm: that it has no others."""
        if call.path != "networks":
            name = call.path.partition("/")[2]
            return _answer(connection, client, 404, {"message": f"network {name} not found"})
        transport = httpx.HTTPTransport(uds=self.upstream)
        with httpx.Client(transport=transport, base_url="http://docker") as engine:
            found = engine.get("/networks").json()
        return _answer(connection, client, 200, [n for n in found if n["Scope"] == "local"])

    def _pass_on(
        self,
        connection: h11.Connection,
        client: socket.socket,
        request: h11.Request,
        body: bytes,
        rule: Rule | None,
    ) -> bool:
        fault = rule.fault if rule else None
        engine, upstream = socket.socket(socket.AF_UNIX), h11.Connection(h11.CLIENT)
        with self._lock:
            self._sockets.add(engine)
        try:
            engine.connect(self.upstream)
            headers = [(k, v) for k, v in request.headers if k not in (b"connection", b"expect")]
            engine.sendall(
                _bytes(
                    upstream,
                    h11.Request(method=request.method, target=request.target, headers=headers),
                    *([h11.Data(data=body)] if body else []),
                    h11.EndOfMessage(),
                )
            )
            sink = _Sink(client, fault)
            while True:
                event = upstream.next_event()
                if event is h11.NEED_DATA:
                    upstream.receive_data(_recv_while_wanted(engine, client))
                elif isinstance(event, h11.Response | h11.Data | h11.EndOfMessage):
                    if fault is not Fault.STALE_DONE:
                        sink.put(connection.send(_plain(event)) or b"")
                    if isinstance(event, h11.EndOfMessage):
                        break
                elif isinstance(event, h11.ConnectionClosed):
                    return False
            if fault is Fault.STALE_DONE:
                return _answer(connection, client, *SAYS[fault])
            if rule and fault is Fault.HELD_ANSWER:
                rule.hold()
            sink.end()
            return connection.our_state is connection.their_state is h11.DONE
        finally:
            self._close(engine)


class _Cut(Exception):
    """The connection is to be closed here."""


class _Sink:
    """Where an answer goes: on to the client, or not quite."""

    def __init__(self, client: socket.socket, fault: Fault | None) -> None:
        self._client = client
        self._fault = fault
        self._kept = bytearray()

    def put(self, data: bytes) -> None:
        if self._fault in (Fault.CUT, Fault.LOST, Fault.HELD_ANSWER, Fault.SLOW):
            self._kept += data
        else:
            self._client.sendall(data)

    def end(self) -> None:
        if self._fault in (Fault.LOST, Fault.HELD_ANSWER):
            raise _Cut
        if self._fault is Fault.CUT:
            # In the middle of the body; where there is none, of the head.
            head, mark, body = bytes(self._kept).partition(b"\r\n\r\n")
            self._client.sendall(head + mark + body[: len(body) // 2] if body else head[: len(head) // 2])
            raise _Cut
        pieces = max(1, len(self._kept) // 15)
        for start in range(0, len(self._kept), pieces):
            self._client.sendall(self._kept[start : start + pieces])
            time.sleep(SLOW / 15)


def _plain(event: h11.Event) -> h11.Event:
    """A response's head as it may be sent on: the connection behind it is another."""
    if not isinstance(event, h11.Response):
        return event
    headers = [(k, v) for k, v in event.headers if k != b"connection"]
    return h11.Response(status_code=event.status_code, headers=headers, reason=event.reason)


def _bytes(connection: h11.Connection, *events: h11.Event) -> bytes:
    return b"".join(connection.send(event) or b"" for event in events)


def _answer(connection: h11.Connection, client: socket.socket, status: int, body: object) -> bool:
    """Say so without asking the engine. A text is sent as it is, anything else as JSON; None is no body."""
    content = b"" if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(content)))]
    answer = h11.Response(status_code=status, headers=headers, reason=b"X")
    data = [h11.Data(data=content)] if content else []
    client.sendall(_bytes(connection, answer, *data, h11.EndOfMessage()))
    return connection.our_state is connection.their_state is h11.DONE


def _receive(connection: h11.Connection, client: socket.socket) -> tuple[h11.Request | None, bytes]:
    """One request; None where the client has gone."""
    request: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(client.recv(65536))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return request, bytes(body)
        else:
            return None, b""


def _recv_while_wanted(engine: socket.socket, client: socket.socket) -> bytes:
    """What the engine says next. A client that goes away takes its request with it, as without a proxy."""
    while True:
        ready, _, _ = select.select([engine, client], [], [])
        if engine in ready:
            return engine.recv(65536)
        if not client.recv(65536, socket.MSG_PEEK):
            raise _Cut


def _end(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxied(docker_host: str, state: Callable[[], str]) -> Iterator[Proxy]:
    """A proxy in front of ``unix://…``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(64)
        proxy = Proxy(docker_host.removeprefix("unix://"), f"unix://{path}", listener, state)
        proxy.start()
        try:
            yield proxy
        finally:
            proxy.close()
