"""The control socket: one JSON request a connection, one JSON answer. The peer's uid is the kernel's word."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import anyio
import structlog
from anyio.abc import SocketAttribute, SocketStream, TaskGroup

from warmd import errors
from warmd.engine.desk import Answer, Request
from warmd.errors import Locked, Refused, WarmdError

log = structlog.get_logger("warmd.control")

#: Bytes that a request may have; answers are bounded by what they are about.
MAX_REQUEST = 64 * 1024
#: Seconds that a client has to say what it wants.
PATIENCE = 10.0
#: Who may open the socket: its owner and group. What they may do is decided by their uid.
MODE = 0o660


class Answers(Protocol):
    """Who answers requests; ``Desk``, in the daemon."""

    async def answer(self, request: Request) -> Answer:
        """The answer as JSON values. Raises WarmdError."""


async def serve(
    desk: Answers, path: Path, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Answer requests at ``path`` until cancelled. A socket left by a dead daemon is replaced: the
    caller holds the lock of the state directory."""
    await anyio.Path(path).unlink(missing_ok=True)
    async with anyio.create_task_group() as work:
        listener = await anyio.create_unix_listener(path, mode=MODE)
        async with listener:
            task_status.started()
            try:
                await listener.serve(lambda stream: _talk(desk, work, stream))
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.Path(path).unlink(missing_ok=True)


def _peer_uid(stream: SocketStream) -> int:
    raw = stream.extra(SocketAttribute.raw_socket)
    size = struct.calcsize("3i")
    _pid, uid, _gid = struct.unpack("3i", raw.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)


async def _talk(desk: Answers, work: TaskGroup, stream: SocketStream) -> None:
    async with stream:
        answered = anyio.Event()
        answer: Answer = {}

        async def do(request: Request) -> None:
            nonlocal answer
            answer = await _answer(desk, request)
            answered.set()

        try:
            with anyio.fail_after(PATIENCE):
                request = _parse(await _line(stream), _peer_uid(stream))
        except (WarmdError, TimeoutError, anyio.BrokenResourceError) as error:
            answer = {"error": _error(error if isinstance(error, WarmdError) else Refused("no request came"))}
        else:
            # In a task of its own: what was begun goes on when whoever asked has gone.
            work.start_soon(do, request)
            await answered.wait()
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await stream.send(json.dumps(answer).encode() + b"\n")


async def _line(stream: SocketStream) -> bytes:
    received = b""
    while not received.endswith(b"\n"):
        try:
            received += await stream.receive()
        except anyio.EndOfStream:
            break
        if len(received) > MAX_REQUEST:
            raise Refused("the request is too long")
    return received


def _parse(line: bytes, uid: int) -> Request:
    try:
        body = json.loads(line)
        verb, service, args = body["verb"], body.get("service"), body.get("args") or {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Refused(f"not a request: {error}") from error
    if not isinstance(verb, str) or not isinstance(service, str | None) or not isinstance(args, dict):
        raise Refused("not a request: verb, service and args have the wrong types")
    return Request(verb, service, args, uid)


async def _answer(desk: Answers, request: Request) -> Answer:
    try:
        answer = await desk.answer(request)
    except WarmdError as error:
        return {"error": _error(error)}
    except Exception as error:
        log.exception("control.crashed", verb=request.verb)
        return {"error": _error(WarmdError(f"unexpected {type(error).__name__}: {error}"))}
    log.info("control.answered", verb=request.verb, service=request.service, uid=request.uid)
    return {"ok": answer}


def _error(error: WarmdError) -> dict[str, Any]:
    # The nearest class of the error tree: it tells the exit code, and a client knows no other.
    known = next(kind for kind in type(error).__mro__ if getattr(errors, kind.__name__, None) is kind)
    return {"type": known.__name__, "message": error.message, "hint": error.hint}


class NoDaemon(Locked):
    """Nobody answers at the socket: the caller may do the work itself, under the lock."""


def _request(verb: str, service: str | None, args: Mapping[str, Any]) -> bytes:
    return json.dumps({"verb": verb, "service": service, "args": dict(args)}).encode() + b"\n"


async def ask(path: Path, verb: str, service: str | None, args: Mapping[str, Any]) -> Answer:
    """Ask the daemon at ``path``. Raises what the daemon raised, NoDaemon where none answers, and
    Refused where the socket may not be opened."""
    try:
        stream = await anyio.connect_unix(path)
    except PermissionError as error:
        raise Refused(f"you may not open {path}", hint="use sudo") from error
    except OSError as error:
        raise NoDaemon(f"no daemon answers at {path}: {error.strerror}") from error
    received = bytearray()
    async with stream:
        # An answer may come before the request was read, and a reset instead of an end.
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            await stream.send(_request(verb, service, args))
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while not received.endswith(b"\n"):
                received += await stream.receive()
    try:
        answer = json.loads(received)
    except ValueError:
        raise WarmdError("the daemon stopped before it answered", hint="warmd status") from None
    if "error" in answer:
        said = answer["error"]
        kind = getattr(errors, said["type"], WarmdError)
        raise kind(said["message"], hint=said["hint"])
    result: Answer = answer["ok"]
    return result
