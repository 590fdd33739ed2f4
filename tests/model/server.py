"""The model behind a unix socket, in real time times ``Timing.scale``; its applications on loopback ports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from tests.model import apps, control, routes_node
from tests.model.engine import Model
from tests.model.faults import Answer, Cut, Hang
from tests.model.http import Connection, Request
from tests.model.store import Container
from tests.model.timing import Timing

_HEADERS = ("Api-Version: 1.41", "Docker-Experimental: false", "Ostype: linux", "Server: Docker/20.10.24")

#: Methods that a client repeats by itself, and how soon (seconds) it is that one which asks again.
_ASKED_TWICE = ("GET", "HEAD", "DELETE", "PUT")
_AT_ONCE = 0.1
_VERSIONED = re.compile(r"/v\d+\.\d+(?=/)")


class Server:
    """Serves one model until it is cancelled."""

    def __init__(
        self, listener: socket.socket, root: Path, *, seed: int, timing: Timing, step: float = 0.0
    ) -> None:
        self._step = step
        self._stepped = 0.0
        self._listener = listener
        self._root = root
        self._seed = seed
        self._timing = timing
        self._ports: dict[int, tuple[str, asyncio.Server]] = {}
        self._opening: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._refuse_again: tuple[Request, float] | None = None
        self.model = self._new()

    def _new(self) -> Model:
        return Model(self._root, seed=self._seed, timing=self._timing)

    def reset(self, seed: int | None = None) -> None:
        """A new swarm: nothing runs, nothing is published, the volumes are empty."""
        if seed is not None:
            self._seed = seed
        self.model.stop_engine()  # whoever listens to it hears that it is gone
        shutil.rmtree(self._root / "volumes", ignore_errors=True)
        self.model = self._new()

    async def run(self, alive: int | None) -> None:
        self._loop = asyncio.get_running_loop()
        if alive is not None:
            self._loop.add_reader(alive, os._exit, 0)
        server = await self._loop.create_unix_server(self._connection, sock=self._listener)
        async with server:
            self.tick()
            await server.serve_forever()

    def _connection(self) -> Connection:
        return Connection(self._handle, _HEADERS)

    # Time

    def tick(self) -> None:
        """Bring the model to now, and come again when something is due."""
        self._advance()
        self._open_ports()
        if self._timer is not None:
            self._timer.cancel()
        soon = 0.05 if self.model.running() else 1.0
        due = self.model.due()
        wait = soon if due is None or self._step else min(soon, max(0.0005, due - time.monotonic()))
        self._timer = self._loop.call_later(wait, self.tick)

    def _advance(self) -> None:
        self.model.advance(self._stepped if self._step else time.monotonic(), time.time())

    # The engine's socket

    def _handle(self, connection: Connection, request: Request) -> None:
        path = _VERSIONED.sub("", request.path)
        body = json.loads(request.body) if request.body.strip() else None
        if path.startswith("/_model/"):
            self.tick()
            status, answer = control.answer(self, request.method, path.removeprefix("/_model/"), body)
            self.tick()
            connection.answer(status, answer)
            return
        self._stepped += self._step
        self._advance()
        if self._refused_again(request):
            connection.cut()
            return
        try:
            answer = self.model.call(request.method, path, request.query, body)
        except Cut as cut:
            self._cut(connection, request, cut)
        except Hang:
            pass
        else:
            if answer.delay:
                self._loop.call_later(answer.delay, self._say, connection, path, answer)
            else:
                self._say(connection, path, answer)
        self.tick()

    def _cut(self, connection: Connection, request: Request, cut: Cut) -> None:
        """Break the connection, and see to it that the client notices.

        Where no answer had begun, clients ask once more by themselves (RFC 9112, 9.3.1): so an answer
        begins, and a refusal is repeated to the one who asks the same at once.
        """
        if not cut.refused:
            connection.begin()
        elif request.method in _ASKED_TWICE:
            self._refuse_again = (request, time.monotonic() + _AT_ONCE)
        connection.cut()

    def _refused_again(self, request: Request) -> bool:
        before, self._refuse_again = self._refuse_again, None
        return before is not None and before[0] == request and time.monotonic() < before[1]

    def _say(self, connection: Connection, path: str, answer: Answer) -> None:
        if answer.lines is not None:
            connection.begin()
            for line in answer.lines:
                connection.chunk(line)
            connection.end()
        elif path == "/events" and answer.status == 200:
            self._events(connection, answer.json)
        else:
            connection.answer(answer.status, answer.json)

    def _events(self, connection: Connection, asked: dict[str, Any]) -> None:
        model, number = self.model, 0

        def news() -> None:
            nonlocal number
            number, found = routes_node.events_after(model, number, asked["since"], asked["filters"])
            for event in found:
                connection.chunk(event)
            if model.down:
                connection.cut()

        connection.begin()
        connection.gone = lambda: model.listeners.discard(news)
        model.listeners.add(news)
        news()

    # The applications' ports

    def _open_ports(self) -> None:
        wanted = self.model.listening()
        for port, (id_, server) in list(self._ports.items()):
            if port not in wanted or wanted[port].id != id_:
                server.close()
                del self._ports[port]
        for port, container in wanted.items():
            if port not in self._ports and port not in self._opening:
                self._opening.add(port)
                task = self._loop.create_task(self._open(port, container))
                task.add_done_callback(partial(self._opened, port))

    def _opened(self, port: int, _task: asyncio.Task[None]) -> None:
        self._opening.discard(port)

    async def _open(self, port: int, container: Container) -> None:
        def made() -> Connection:
            return Connection(lambda c, r: self._app(c, r, container), ("Connection: close",))

        try:
            server = await self._loop.create_server(made, "127.0.0.1", port, reuse_address=True)
        except OSError as error:
            sys.stderr.write(f"port {port} can't be opened: {error}\n")
            return
        if container.running:
            self._ports[port] = (container.id, server)
        else:
            server.close()

    def _app(self, connection: Connection, request: Request, container: Container) -> None:
        """As the lab's application answers; see tests/lab/warmapp.py."""
        self._advance()
        folder = container.data
        if not container.running:
            connection.cut()
        elif request.path == "/health":
            app = container.app
            well = app.healthy(self.model.agent.age(container))
            said = {"status": "ok" if well else "down", "version": app.version}
            schema = {"schema": apps.read(folder, "schema")} if well and folder is not None else {}
            connection.answer(200 if well else 503, said | schema)
        elif folder is None:
            connection.answer(404, "no volume")
        elif request.path == "/data":
            facts = apps.facts(folder)
            connection.answer(
                200, {k: facts[k] for k in ("schema", "sha256")} | {"notes": len(facts["notes"])}
            )
        elif request.path == "/history":
            connection.answer(200, apps.read(folder, "history"))
        elif request.path == "/notes" and request.method == "POST":
            apps.note(folder, request.body.decode().splitlines()[0])
            connection.answer(200, {"written": True})
        else:
            connection.answer(404, "no such page")


def listen(path: Path) -> socket.socket:
    """A listening unix socket: whoever connects from now on is served as soon as somebody serves."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(64)
    listener.setblocking(False)
    return listener


def serve(
    path: Path | socket.socket,
    root: Path,
    *,
    seed: int = 0,
    timing: Timing | None = None,
    step: float = 0.0,
    alive: int | None = None,
) -> None:
    """Serve a new model at a socket until the process is told to end, or ``alive`` (a pipe) is closed.

    With ``step``, no clock moves it: each call of the Engine API takes so many seconds, all else no time.
    """
    listener = path if isinstance(path, socket.socket) else listen(path)
    server = Server(listener, root, seed=seed, timing=timing or Timing(), step=step)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(server.run(alive))
