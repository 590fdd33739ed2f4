"""The model in a process of its own, and its outside hands from here."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import socket
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.model.apps import App
from tests.model.faults import Fault
from tests.model.server import listen, serve
from tests.model.timing import Timing


class ModelProcess:
    """A context manager: a forked process serves a model at ``docker_host`` (unix://…) while it is open.

    ``folder`` (default: one of its own, removed at the end) holds the socket and the volumes. Ports that
    specs publish answer on 127.0.0.1. With ``step``, time passes by calls of the Engine API only, so many
    seconds each. Every method but ``ask`` is ``Model``'s of that name.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        seed: int = 0,
        timing: Timing | None = None,
        step: float = 0.0,
    ) -> None:
        self._step = step
        self._own = folder is None
        # Short: a socket's path must stay under 108 bytes
        self.folder = folder or Path(tempfile.mkdtemp(prefix="wm-"))
        self.root = self.folder / "model"
        self.socket = self.folder / "docker.sock"
        self.docker_host = f"unix://{self.socket}"
        self._seed = seed
        self._timing = timing or Timing()
        self.pid = 0
        self._alive = -1

    def __enter__(self) -> Self:
        self.root.mkdir(parents=True, exist_ok=True)
        listener = listen(self.socket)
        alive, self._alive = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            self._serve(listener, alive)
        listener.close()
        os.close(alive)
        return self

    def _serve(self, listener: socket.socket, alive: int) -> None:
        """In the child: nothing of the parent's but its memory. ``alive`` ends when the parent does."""
        try:
            signal.set_wakeup_fd(-1)  # a loop of the parent's may have one
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            sockets = os.dup(listener.fileno()), os.dup(alive)
            log = os.open(self.folder / "model.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            _keep_open({0, 1, 2, *sockets})
            kept = socket.socket(fileno=sockets[0])
            serve(kept, self.root, seed=self._seed, timing=self._timing, step=self._step, alive=sockets[1])
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(0)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self._alive)
            self.pid = 0
        self.socket.unlink(missing_ok=True)
        if self._own:
            shutil.rmtree(self.folder, ignore_errors=True)

    # Hands

    def ask(self, verb: str, **body: Any) -> Any:
        """One control call; see ``tests.model.control``. Raises AssertionError with what is wrong."""
        data = json.dumps(body).encode()
        head = f"POST /_model/{verb} HTTP/1.1\r\nHost: model\r\nContent-Length: {len(data)}\r\n\r\n"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(30)
            client.connect(str(self.socket))
            client.sendall(head.encode() + data)
            answer = _read(client)
        if "message" in answer:
            raise AssertionError(answer["message"])
        return answer["result"]

    def publish(self, reference: str, app: App) -> str:
        return str(self.ask("publish", reference=reference, app=dataclasses.asdict(app)))

    def next(self, pattern: str, fault: Fault, *, skip: int = 0, times: int = 1) -> None:
        self.ask("next", pattern=pattern, fault=dataclasses.asdict(fault), skip=skip, times=times)

    def scale(self, name: str, replicas: int) -> None:
        self.ask("scale", name=name, replicas=replicas)

    def update_by_hand(self, name: str, **spec: Any) -> None:
        self.ask("update_by_hand", name=name, **spec)

    def remove_stack(self, stack: str) -> None:
        self.ask("remove_stack", stack=stack)

    def kill_task(self, service: str) -> bool:
        return bool(self.ask("kill_task", service=service))

    def restart_engine(self, *, kill: bool = False, seconds: float = 1.0) -> None:
        self.ask("restart_engine", kill=kill, seconds=seconds)

    def stop_engine(self) -> None:
        self.ask("stop_engine")

    def reset(self, seed: int | None = None) -> None:
        """A new swarm in the same process."""
        self.ask("reset", seed=seed)

    def volume_facts(self, name: str) -> dict[str, Any]:
        """As ``Model.volume_facts``, with the ``mountpoint``."""
        return dict(self.ask("volume", name=name))

    @property
    def violations(self) -> list[str]:
        return list(self.ask("violations"))

    @property
    def calls(self) -> list[dict[str, Any]]:
        return list(self.ask("calls"))


def _keep_open(kept: set[int]) -> None:
    """Close the parent's open files: its pipes would never see their end."""
    for number in {int(file.name) for file in Path("/proc/self/fd").iterdir()} - kept:
        with contextlib.suppress(OSError):
            os.close(number)


def _read(client: socket.socket) -> dict[str, Any]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(client)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = (line.partition(b":") for line in head.lower().split(b"\r\n")[1:])
    length = int({k: v for k, _, v in lines}[b"content-length"])
    while len(body) < length:
        body += _some(client)
    return dict(json.loads(body))


def _some(client: socket.socket) -> bytes:
    data = client.recv(65536)
    if not data:
        raise AssertionError("the model's process is gone; its folder has a model.log")
    return data
