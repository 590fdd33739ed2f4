"""The model of a swarm as a site: real processes, a real socket, real volumes; only time goes faster.

Its state is kept by forking: whoever serves a model forks, and the copy holds still until somebody wants
the swarm as it was then, when it forks again. All of them have the same listening socket, and one serves at a
time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

from tests.crash.world import Engine, World, environment
from tests.lab.warmapp import Bad
from tests.model import Timing
from tests.model import server as served
from tests.model.http import Connection, Request
from tests.model.server import Server

#: A second of the swarm, and of warmd's clock, is so many of ours.
SCALE = 0.02
_NOTHING = "nothing"


class Modelled:
    """One worker's swarm, below ``folder``. A context manager."""

    gate = '{ deadline = "20s", interval = "1s", successes = 2, stable = "1s" }'
    slow_gate = '{ deadline = "3m", interval = "500ms", successes = 2, stable = "1s" }'
    interval = "60s"
    patience = 30.0
    scale = 1 / SCALE
    rewinds = True

    def __init__(self, folder: Path, worker: int = 0) -> None:
        self._folder = folder / "swarm"
        self.docker_host = f"unix://{self._folder}/docker.sock"
        self.env: Mapping[str, str] = environment()
        self._pids: set[int] = set()
        self._live = 0
        self._now: str = _NOTHING

    def __enter__(self) -> Self:
        (self._folder / "root").mkdir(parents=True)
        listener = served.listen(self._folder / "docker.sock")
        turn = _turnstile(self._folder, _NOTHING)
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            _hold_still(turn, listener, _served(listener, self._folder / "root", 0))
        listener.close()
        turn.close()
        self._pids.add(pid)
        self.rewind(None, 0)
        return self

    def __exit__(self, *_: object) -> None:
        for pid in (*self._pids, self._live):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in self._pids:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)

    # --- Site -------------------------------------------------------------------------------------

    @property
    def processes(self) -> frozenset[int]:
        """Its own: no orphans of a warmd."""
        return frozenset((*self._pids, self._live))

    def keep(self, name: str) -> None:
        pid = int(Engine(self.docker_host).ask("POST", "/_model/keep", {"name": name}))
        self._pids.add(pid)
        shutil.copytree(self._folder / "root" / "volumes", self._folder / name, symlinks=True)

    def rewind(self, name: str | None, seed: int) -> None:
        name = name or _NOTHING
        if self._live:
            os.kill(self._live, signal.SIGKILL)
        shutil.rmtree(self._folder / "root" / "volumes", ignore_errors=True)
        if name == _NOTHING:
            (self._folder / "root" / "volumes").mkdir()
        else:
            shutil.copytree(self._folder / name, self._folder / "root" / "volumes", symlinks=True)
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(self._folder / f"{name}.turn"))
            link.sendall(f"{seed}\n".encode())
            self._live = int(link.recv(32))

    def image(self, version: str, bad: Bad | None) -> str:
        reference = f"registry.example/warm:{version}"
        app = {"version": version, "behaviour": bad or "good", "healthcheck": True, "writes": 0.4}
        Engine(self.docker_host).ask("POST", "/_model/publish", {"reference": reference, "app": app})
        return reference

    def port(self) -> int:
        return 0

    def health(self, port: int) -> str:
        return ""

    def write(self, world: World, text: str) -> None:
        body = {"volume": f"{world.stack}_data", "text": text}
        Engine(self.docker_host).ask("POST", "/_model/note", body)

    def violations(self) -> list[str]:
        found: dict[str, list[str]] = Engine(self.docker_host).ask("POST", "/_model/violations", {})
        return found["result"]


# --- the serving processes ---------------------------------------------------------------------------


def _turnstile(folder: Path, name: str) -> socket.socket:
    """Where a process that holds still is asked to go on."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / f"{name}.turn"))
    listener.listen()
    return listener


class _Served(Server):
    """A server that can be kept."""

    def _handle(self, connection: Connection, request: Request) -> None:
        if request.path != "/_model/keep":
            super()._handle(connection, request)
            return
        turn = _turnstile(self._root.parent, str(json.loads(request.body)["name"]))
        self.tick()
        pid = os.fork()
        if pid == 0:
            _hold_still(turn, self._listener, self)
        turn.close()
        connection.answer(200, pid)


def _served(listener: socket.socket, root: Path, seed: int) -> _Served:
    return _Served(listener, root, seed=seed, timing=Timing(scale=SCALE))


def _hold_still(turn: socket.socket, listener: socket.socket, server: Server) -> None:
    """Fork a server of this state for everybody who asks. Does not return, and leaves the event loop in
    which it may have been called as it is: nothing of it is used again."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    _close_all_but({0, 1, 2, turn.fileno(), listener.fileno()})
    began: float = served.__dict__["time"].monotonic()
    while True:
        link, _ = turn.accept()
        seed = int(link.recv(64))
        pid = os.fork()
        if pid == 0:
            link.close()
            turn.close()
            _go_on(listener, server, seed, began)
        link.sendall(str(pid).encode())
        link.close()


def _go_on(listener: socket.socket, kept: Server, seed: int, began: float) -> None:
    """Serve the kept state, whose time goes on from when it was kept. Does not return."""
    code = 1
    try:
        real = time
        away = real.monotonic() - began
        served.__dict__["time"] = SimpleNamespace(monotonic=lambda: real.monotonic() - away, time=real.time)
        asyncio.events._set_running_loop(None)
        server = _served(listener, kept._root, seed)
        server.model = kept.model
        server.model.random = random.Random(seed)
        for container in server.model.running():  # the volumes were put back as well: other folders
            container.inodes = [folder.stat().st_ino for _, folder, _, _ in container.mounts]
        asyncio.run(server.run(None))
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _close_all_but(kept: set[int]) -> None:
    for number in [int(p.name) for p in Path("/proc/self/fd").iterdir()]:
        if number not in kept:
            with contextlib.suppress(OSError):
                os.close(number)


# --- what is done once and not in every run ----------------------------------------------------------


def remember_renderings(folder: Path) -> None:
    """Let docker's client render each release once: from then on its answer is read from ``folder``."""
    from warmd.core.model import Bundle
    from warmd.plugins.deployers.stack import StackDeployer
    from warmd.ports import Rendered

    folder.mkdir(exist_ok=True)
    render = StackDeployer.render

    async def remembered(self: Any, release: Any, tree: Path) -> Rendered:
        inputs = await self.inputs(release)
        known = folder / inputs
        if known.exists():
            return Rendered(Bundle.from_json(json.loads(known.read_bytes())), inputs)
        rendered = await render(self, release, tree)
        beside = known.with_suffix(f".{os.getpid()}")
        beside.write_text(json.dumps(rendered.bundle.to_json()))
        os.rename(beside, known)  # noqa: PTH104 - not through pathlib, which is watched
        return rendered

    setattr(StackDeployer, "render", remembered)  # noqa: B010 - mypy forbids the other way
