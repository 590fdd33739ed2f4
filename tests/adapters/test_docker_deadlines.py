"""Nothing that Docker does, or leaves undone, is waited for without an end."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, aclosing, contextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream

from tests.adapters.sockets import answering
from tests.adapters.test_docker_faults import STREAM, VERSION, answer, scripted
from warmd.adapters.clock import SystemClock
from warmd.adapters.docker import client, events, open_swarm
from warmd.adapters.render import record, recorder
from warmd.errors import DockerUnreachable, Transient

COMPOSE = 'version: "3.8"\nservices: { app: { image: "app:1" } }\n'
WITH_CONFIG = """\
version: "3.8"
services: { app: { image: "app:1", configs: [one] } }
configs: { one: { file: ./compose.yml } }
"""
CHUNK = b"%x\r\n%s\r\n"


@contextmanager
def full(listener: socket.socket) -> Iterator[None]:
    """Nobody accepts, and the queue of those that wait to be accepted is full."""
    with ExitStack() as stack:
        stack.enter_context(listener)
        listener.listen(0)
        while True:
            waiting = stack.enter_context(socket.socket(listener.family))
            waiting.settimeout(0.1)
            try:
                waiting.connect(listener.getsockname())
            except (TimeoutError, BlockingIOError):
                break
        yield


@pytest.mark.parametrize("kind", ["unix", "tcp"])
async def test_an_engine_that_takes_no_connection_is_given_up_soon(kind: str, tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
    listener.bind(str(tmp_path / "sock") if kind == "unix" else ("127.0.0.1", 0))
    path = listener.getsockname()
    host = f"unix://{path}" if kind == "unix" else f"tcp://127.0.0.1:{path[1]}"
    with full(listener):
        async with open_swarm(host, SystemClock(), connect=0.3, deadline=60, pull_idle=60) as swarm:
            for ask in (swarm.configs(), swarm.pull("app:1")):
                with anyio.fail_after(10), pytest.raises(DockerUnreachable) as failed:
                    await ask
                assert host in failed.value.message
                if kind == "tcp":
                    assert "took no connection" in failed.value.message
                    assert "within 0.3 s" in failed.value.message
                    assert "systemctl restart docker" in failed.value.hint


async def test_an_answer_that_trickles_in_is_given_up_at_the_same_deadline() -> None:
    async def trickle(request: str, stream: ByteStream) -> None:
        if request == "GET /version":
            await stream.send(answer(200, VERSION))
            return
        await stream.send(STREAM)
        while True:
            await stream.send(CHUNK % (1, b" "))
            await anyio.sleep(0.02)

    async with answering(trickle) as host, open_swarm(host, SystemClock(), deadline=0.4) as swarm:
        with anyio.fail_after(10), pytest.raises(DockerUnreachable, match=r"within 0\.4 s"):
            await swarm.configs()


@pytest.mark.parametrize(
    ("status", "text"), [(500, "out of memory"), (503, "starting"), (400, "bad filter")], ids=str
)
async def test_events_that_are_refused_are_an_error_of_ours(status: int, text: str) -> None:
    """Of another kind it would end the daemon, which only waits for hints there."""
    async with (
        answering(scripted(answer(status, {"message": text}))) as host,
        open_swarm(host, SystemClock()) as swarm,
    ):
        with pytest.raises(Exception, match=f"listening to events.*{text}") as failed:
            await anext(swarm.events())
    assert isinstance(failed.value, DockerUnreachable if status == 503 else Exception)
    assert type(failed.value).__module__ == "warmd.errors"


async def test_events_that_stay_silent_are_asked_for_anew_and_none_is_missed() -> None:
    """A connection that died without a word looks like an engine where nothing happens."""
    asked: list[float] = []
    event = {"Type": "service", "Actor": {"ID": "1", "Attributes": {"name": "sso_app"}}}
    line = json.dumps(event).encode() + b"\n"

    async def handle(request: str, stream: ByteStream) -> None:
        if request == "GET /version":
            await stream.send(answer(200, VERSION))
            return
        asked.append(float(request.partition("since=")[2].partition("&")[0]))
        await stream.send(STREAM)
        if len(asked) > 1:
            await stream.send(CHUNK % (len(line), line))
        await anyio.sleep_forever()

    ticks = iter(range(100, 200))
    async with answering(handle) as host, client.connect(host, connect=5, deadline=5) as engine:
        hints = events.listen(engine, lambda: next(ticks), lambda _: None, since=50, quiet=0.2)
        async with aclosing(hints):
            with anyio.fail_after(10):
                assert await anext(hints) == "sso"
    assert asked == [50, 100], "from when it was last known that nothing had come"


async def test_rendering_does_not_wait_for_each_answer_that_does_not_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "DEADLINE", 1.0)
    (tmp_path / "compose.yml").write_text(COMPOSE)
    asked: list[str] = []

    async def hang(request: str, _: ByteStream) -> None:
        asked.append(request)
        await anyio.sleep_forever()

    docker = shutil.which("docker")
    assert docker is not None
    async with answering(hang) as host:
        with anyio.fail_after(30), pytest.raises(DockerUnreachable, match="no answer within 1 s"):
            await record(host, docker, "sso", ["compose.yml"], tmp_path, {})
    assert len(asked) == 1, "who did not answer once is not waited for again"


@pytest.mark.parametrize("answered", ["<html>", [1], {"no": "list"}], ids=str)
async def test_rendering_with_what_is_no_engine_is_dockers_trouble(tmp_path: Path, answered: object) -> None:
    """And not the release's, which would never be tried again."""
    (tmp_path / "compose.yml").write_text(WITH_CONFIG)
    docker = shutil.which("docker")
    assert docker is not None

    async def handle(request: str, stream: ByteStream) -> None:
        if "/_ping" in request:
            await stream.send(b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 0\r\n\r\n")
        else:
            about = {"Swarm": {"ControlAvailable": True}}
            await stream.send(answer(200, about if "/info" in request else answered))

    async with answering(handle) as host:
        with anyio.fail_after(30), pytest.raises(DockerUnreachable, match="no Engine API"):
            await record(host, docker, "sso", ["compose.yml"], tmp_path, {})


async def test_rendering_asks_again_where_an_answer_was_only_an_error(tmp_path: Path) -> None:
    (tmp_path / "compose.yml").write_text(COMPOSE)
    docker = shutil.which("docker")
    assert docker is not None
    async with answering(scripted(answer(503, {"message": "The swarm does not have a leader."}))) as host:
        with anyio.fail_after(30), pytest.raises(Transient, match="does not have a leader"):
            await record(host, docker, "sso", ["compose.yml"], tmp_path, {})
