"""The control socket: what a client may say, what it gets, and who may do what."""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import SocketStream

from warmd.config import ConfigProblems
from warmd.engine import control
from warmd.engine.desk import Answer, Desk, Request
from warmd.errors import ConfigError, Locked, NotFound, Refused, WarmdError


@dataclass
class Table:
    """Answers each verb with what is laid out for it, and remembers who asked what."""

    answers: dict[str, Answer | Exception] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)
    begun: anyio.Event = field(default_factory=anyio.Event)
    go_on: anyio.Event = field(default_factory=anyio.Event)
    done: anyio.Event = field(default_factory=anyio.Event)

    async def answer(self, request: Request) -> Answer:
        self.asked.append(request)
        if request.verb == "slow":
            self.begun.set()
            await self.go_on.wait()
            self.done.set()
            return {"slow": True}
        found = self.answers[request.verb]
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def place() -> Iterator[Path]:
    # The path of a socket may have 107 bytes; pytest's own folders are longer than that at times.
    with tempfile.TemporaryDirectory(prefix="warmd-") as folder:
        yield Path(folder) / "control.sock"


@asynccontextmanager
async def served(desk: control.Answers, path: Path) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        await tasks.start(control.serve, desk, path)
        yield
        tasks.cancel_scope.cancel()


async def read(stream: SocketStream) -> Any:
    received = b""
    with anyio.fail_after(10):
        while not received.endswith(b"\n"):
            received += await stream.receive()
    return json.loads(received)


async def say(path: Path, raw: bytes) -> Any:
    """Send bytes as they are; the answer."""
    async with await anyio.connect_unix(path) as stream:
        await stream.send(raw)
        return await read(stream)


# --- the protocol --------------------------------------------------------------------------------


async def test_a_request_is_one_line_and_so_is_its_answer(place: Path) -> None:
    desk = Table({"plan": {"plans": [1, 2]}})
    async with served(desk, place):
        answer = await say(place, b'{"verb": "plan", "service": "app", "args": {"offline": true}}\n')
    assert answer == {"ok": {"plans": [1, 2]}}
    assert desk.asked == [Request("plan", "app", {"offline": True}, os.geteuid())]


async def test_service_and_args_may_be_left_out(place: Path) -> None:
    desk = Table({"status": {}})
    async with served(desk, place):
        assert await say(place, b'{"verb": "status"}\n') == {"ok": {}}
    assert desk.asked == [Request("status", None, {}, os.geteuid())]


async def test_an_end_of_input_ends_a_request_too(place: Path) -> None:
    async with served(Table({"status": {}}), place), await anyio.connect_unix(place) as stream:
        await stream.send(b'{"verb": "status"}')
        await stream.send_eof()
        assert await read(stream) == {"ok": {}}


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"hello\n", id="no JSON"),
        pytest.param(b"\n", id="nothing"),
        pytest.param(b"\xff\xfe\x00\n", id="no text"),
        pytest.param(b"[]\n", id="a list"),
        pytest.param(b"null\n", id="null"),
        pytest.param(b'"status"\n', id="only a verb"),
        pytest.param(b"{}\n", id="no verb"),
        pytest.param(b'{"verb": 7}\n', id="a verb that is a number"),
        pytest.param(b'{"verb": "status", "service": ["app"]}\n', id="a list of services"),
        pytest.param(b'{"verb": "status", "args": "why"}\n', id="args that are text"),
        pytest.param(b"[" * 5000 + b"\n", id="nested too deep"),
    ],
)
async def test_what_is_no_request_is_refused_and_the_next_one_is_answered(place: Path, raw: bytes) -> None:
    desk = Table({"status": {}})
    async with served(desk, place):
        answer = await say(place, raw)
        assert answer["error"]["type"] == "Refused"
        assert answer["error"]["message"].startswith("not a request: ")
        assert await say(place, b'{"verb": "status"}\n') == {"ok": {}}
    assert len(desk.asked) == 1


async def test_a_request_without_end_is_refused(place: Path) -> None:
    desk = Table()
    async with served(desk, place), await anyio.connect_unix(place) as stream:
        await stream.send(b"x" * (control.MAX_REQUEST + 1))
        assert (await read(stream))["error"]["message"] == "the request is too long"
    assert desk.asked == []


async def test_a_client_that_says_nothing_is_let_go(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "PATIENCE", 0.05)
    async with served(Table(), place), await anyio.connect_unix(place) as stream:
        assert (await read(stream))["error"]["message"] == "no request came"
        with pytest.raises(anyio.EndOfStream), anyio.fail_after(10):
            await stream.receive()


async def test_a_client_that_goes_away_before_it_asked_disturbs_nobody(place: Path) -> None:
    async with served(Table({"status": {}}), place):
        for begun in (b"", b'{"verb": "sta'):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(place))
                client.sendall(begun)
        assert await control.ask(place, "status", None, {}) == {}


async def test_work_goes_on_when_whoever_asked_has_gone(place: Path) -> None:
    desk = Table()
    async with served(desk, place):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(place))
            client.sendall(b'{"verb": "slow"}\n')
            with anyio.fail_after(10):
                await desk.begun.wait()
        desk.go_on.set()
        with anyio.fail_after(10):
            await desk.done.wait()


async def test_one_that_takes_long_does_not_keep_others_waiting(place: Path) -> None:
    desk = Table({"status": {"services": []}})
    async with served(desk, place), await anyio.connect_unix(place) as stream:
        await stream.send(b'{"verb": "slow"}\n')
        with anyio.fail_after(10):
            await desk.begun.wait()
            assert await control.ask(place, "status", None, {}) == {"services": []}
        desk.go_on.set()
        assert await read(stream) == {"ok": {"slow": True}}


# --- errors --------------------------------------------------------------------------------------


async def test_an_error_comes_back_as_the_class_it_was(place: Path) -> None:
    raised = NotFound("no service 'ap' in the configuration", hint="known: app")
    async with served(Table({"history": raised}), place):
        with pytest.raises(NotFound) as caught:
            await control.ask(place, "history", "ap", {})
    assert (caught.value.message, caught.value.hint) == (raised.message, raised.hint)


async def test_an_error_of_a_class_that_clients_do_not_know_keeps_its_exit_code(place: Path) -> None:
    async with served(Table({"plan": ConfigProblems(())}), place):
        with pytest.raises(ConfigError) as caught:
            await control.ask(place, "plan", None, {})
    assert type(caught.value) is ConfigError


async def test_a_bug_is_told_and_the_next_request_is_answered(place: Path) -> None:
    async with served(Table({"plan": ZeroDivisionError("by zero"), "status": {}}), place):
        with pytest.raises(WarmdError, match="unexpected ZeroDivisionError: by zero"):
            await control.ask(place, "plan", None, {})
        assert await control.ask(place, "status", None, {}) == {}


async def test_where_nobody_serves_the_caller_learns_it(place: Path) -> None:
    with pytest.raises(control.NoDaemon, match="no daemon answers at"):
        await control.ask(place, "status", None, {})
    assert control.NoDaemon.exit_code == Locked.exit_code


async def test_a_daemon_that_dies_before_it_answers_is_not_taken_for_none(place: Path) -> None:
    async with anyio.create_task_group() as tasks:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(place))
            server.listen()

            def hang_up() -> None:
                client, _ = server.accept()
                client.recv(100)
                client.close()

            tasks.start_soon(anyio.to_thread.run_sync, hang_up)
            with pytest.raises(WarmdError, match="stopped before it answered") as caught:
                await control.ask(place, "deploy", "app", {})
    # Doing the work once more by itself is what a caller would do where no daemon runs.
    assert not isinstance(caught.value, Locked)


async def test_an_empty_name_is_no_service_and_not_all_of_them() -> None:
    with pytest.raises(NotFound, match="no service ''"):
        await Desk({}, owners=frozenset({0})).answer(Request("pause", "", {}, 0))


# --- the socket's file, and who may do what ------------------------------------------------------


async def test_the_socket_is_for_owner_and_group_and_goes_when_it_is_over(place: Path) -> None:
    async with served(Table(), place):
        assert stat.S_IMODE((await anyio.Path(place).stat()).st_mode) == 0o660
    assert not await anyio.Path(place).exists()


async def test_what_a_dead_daemon_left_is_replaced(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(place))
    async with served(Table({"status": {}}), place):
        assert await control.ask(place, "status", None, {}) == {}


# What another user types: plain sockets, one line out, one line in. It becomes that user only after it
# has started, because the interpreter's folder may be closed to others.
_STRANGER = """
import os, socket, sys
os.setgroups([])
os.setgid(int(sys.argv[3]))
os.setuid(int(sys.argv[3]))
with socket.socket(socket.AF_UNIX) as s:
    s.connect(sys.argv[1])
    s.sendall(sys.argv[2].encode() + b"\\n")
    print(s.makefile().readline())
"""
NOBODY = 65534


async def as_stranger(path: Path, verb: str) -> Any:
    request = json.dumps({"verb": verb})
    command = [sys.executable, "-I", "-S", "-c", _STRANGER, str(path), request, str(NOBODY)]
    with anyio.fail_after(30):
        done = await anyio.run_process(command)
    return json.loads(done.stdout)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_another_user_may_look_but_not_act(place: Path) -> None:
    desk = Desk({}, owners=frozenset({0}))
    async with served(desk, place):
        await anyio.Path(place.parent).chmod(0o755)
        await anyio.Path(place).chmod(0o666)
        assert await as_stranger(place, "status") == {"ok": {"services": []}}
        assert await as_stranger(place, "pause") == {
            "error": {"type": "Refused", "message": f"uid {NOBODY} may look but not act", "hint": "use sudo"}
        }
        assert await control.ask(place, "pause", None, {}) == {"paused": []}


@pytest.mark.parametrize(
    ("verb", "args", "expected"),
    [
        ("dance", {}, "no such verb: dance"),
        ("approve", {"why": "x"}, "approve: version is missing"),
        ("approve", {"version": "1.0.0", "why": ""}, "approve: why is missing"),
        ("approve", {"version": 7, "why": "x"}, "approve: version must be text, not 7"),
        ("restore", {"snapshot": None}, "restore: snapshot is missing"),
        ("preview", {}, "preview: of is missing"),
    ],
)
async def test_requests_that_lack_something_are_refused_with_what(
    verb: str, args: dict[str, Any], expected: str
) -> None:
    desk = Desk({}, owners=frozenset({0}))
    with pytest.raises(Refused, match=expected):
        await desk.answer(Request(verb, "app", args, 0))
