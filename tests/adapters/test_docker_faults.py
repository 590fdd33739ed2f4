"""What answers badly, or not at all, is told as warmd's own errors, in time."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream

from tests.adapters.sockets import answering
from warmd.adapters.clock import SystemClock
from warmd.adapters.docker import open_swarm
from warmd.errors import (
    ConfigError,
    DockerUnreachable,
    Refused,
    RegistryUnreachable,
    Transient,
    WarmdError,
)

VERSION = {"ApiVersion": "1.41", "MinAPIVersion": "1.12"}


def answer(status: int, body: object, kind: str = "application/json") -> bytes:
    content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + content


def scripted(reply: bytes) -> Callable[[str, ByteStream], Awaitable[None]]:
    """Tells a version like an engine does, and answers everything else with ``reply``."""

    async def handle(request: str, client: ByteStream) -> None:
        await client.send(answer(200, VERSION) if request == "GET /version" else reply)

    return handle


async def hang(_request: str, _client: ByteStream) -> None:
    await anyio.sleep_forever()


async def listing_fails(host: str, deadline: float = 5) -> WarmdError:
    async with open_swarm(host, SystemClock(), deadline=deadline) as swarm:
        with pytest.raises(WarmdError) as failed:
            await swarm.stacks(not_before=0)
    return failed.value


async def test_no_socket_names_it_and_what_to_try(tmp_path: Path) -> None:
    error = await listing_fails(f"unix://{tmp_path}/none.sock")
    assert isinstance(error, DockerUnreachable)
    assert error.message == (
        f"Docker does not answer at unix://{tmp_path}/none.sock (listing services): No such file or directory"
    )
    assert error.hint == f"is Docker running? try: docker -H unix://{tmp_path}/none.sock info"


async def test_a_socket_that_nobody_serves(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "sock"))
    error = await listing_fails(f"unix://{tmp_path}/sock")
    assert isinstance(error, DockerUnreachable)
    assert "Connection refused" in error.message


async def test_a_port_that_nobody_serves() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    error = await listing_fails(host)
    assert isinstance(error, DockerUnreachable)
    assert host in error.message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_a_socket_of_others() -> None:
    """Root may use any socket, so for the time of the call this is nobody."""
    async with answering(hang) as host:
        path = anyio.Path(host.removeprefix("unix://"))
        await path.chmod(stat.S_IRUSR | stat.S_IWUSR)
        await path.parent.chmod(0o755)
        os.seteuid(65534)
        try:
            error = await listing_fails(host)
        finally:
            os.seteuid(0)
    assert isinstance(error, DockerUnreachable)
    assert "Permission denied" in error.message
    assert "root" in error.hint


async def test_a_daemon_that_hangs_is_given_up_at_the_deadline() -> None:
    async with answering(hang) as host:
        started = anyio.current_time()
        error = await listing_fails(host, deadline=0.3)
        assert anyio.current_time() - started < 2
    assert isinstance(error, DockerUnreachable)
    assert error.message == f"Docker did not answer at {host} within 0.3 s (listing services)"
    assert "journalctl -u docker" in error.hint


async def test_a_caller_that_is_cancelled_is_let_go_at_once() -> None:
    async with answering(hang) as host, open_swarm(host, SystemClock()) as swarm:
        with anyio.move_on_after(0.1) as scope:
            await swarm.stack("x")
        assert scope.cancelled_caught
        with anyio.move_on_after(0.1) as scope:
            await anext(swarm.events())
        assert scope.cancelled_caught


CUT = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n[{"
CHUNKS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[{\r\n"


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"", id="closed"),
        pytest.param(CUT, id="cut"),
        pytest.param(CHUNKS, id="cut-between-chunks"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2p1\r\n", id="not-http"),
        pytest.param(answer(200, "<html>", "text/html"), id="not-json"),
        pytest.param(answer(200, ["no", "objects"]), id="other-json"),
        pytest.param(answer(500, {"reason": "none"}), id="500-without-a-message"),
        pytest.param(answer(502, "<html>", "text/html"), id="502"),
        pytest.param(answer(503, {"message": "The swarm does not have a leader."}), id="no-leader"),
        pytest.param(
            answer(
                503,
                {"message": "This node is not a swarm manager. Manager is being prepared or has trouble."},
            ),
            id="manager-starts",
        ),
    ],
)
async def test_no_usable_answer_is_docker_unreachable(reply: bytes) -> None:
    async with answering(scripted(reply)) as host:
        error = await listing_fails(host)
    assert isinstance(error, DockerUnreachable)
    assert host in error.message


async def test_an_engine_that_answers_500_is_there_and_may_be_asked_again() -> None:
    async with answering(scripted(answer(500, {"message": "rpc error: code = DeadlineExceeded"}))) as host:
        error = await listing_fails(host)
    assert isinstance(error, Transient)
    assert not isinstance(error, DockerUnreachable)


WORKER = "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state."
LOCKED = "Swarm is encrypted and needs to be unlocked before it can be used."


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        pytest.param(WORKER, "docker node promote", id="worker"),
        pytest.param(LOCKED, "docker swarm unlock", id="locked"),
    ],
)
async def test_an_engine_that_shows_no_swarm_is_no_usable_docker(text: str, hint: str) -> None:
    # As with a dockerd that is down, a run that met it goes on once a person has mended it.
    async with answering(scripted(answer(503, {"message": text}))) as host:
        error = await listing_fails(host)
    assert isinstance(error, DockerUnreachable)
    assert hint in error.hint


@pytest.mark.parametrize(
    ("status", "text", "hint"),
    [
        pytest.param(400, "bad filter", "", id="400"),
        pytest.param(403, "not for you", "", id="403"),
    ],
)
async def test_what_the_engine_takes_for_wrong_is_refused(status: int, text: str, hint: str) -> None:
    async with answering(scripted(answer(status, {"message": text}))) as host:
        error = await listing_fails(host)
    assert isinstance(error, Refused)
    assert hint in error.hint


async def test_an_engine_replaced_by_one_that_left_our_api_is_asked_for_its_version_again() -> None:
    asked: list[str] = []
    old = answer(400, {"message": "client version 1.41 is too old. Minimum supported API version is 1.44"})

    async def handle(request: str, client: ByteStream) -> None:
        asked.append(request.split("?")[0])
        versions = [VERSION, {"ApiVersion": "1.99", "MinAPIVersion": "1.44"}]
        if request == "GET /version":
            await client.send(answer(200, versions[asked.count("GET /version") - 1]))
        else:
            await client.send(old if "/v1.41/" in request else answer(200, []))

    async with answering(handle) as host, open_swarm(host, SystemClock()) as swarm:
        with pytest.raises(DockerUnreachable, match="was replaced"):
            await swarm.configs()
        assert await swarm.configs() == ()
    assert asked == ["GET /version", "GET /v1.41/configs", "GET /version", "GET /v1.51/configs"]


async def test_networks_that_the_swarm_did_not_tell_of_are_asked_for_again() -> None:
    """Without a leader the engine says of the swarm's networks that there are none, not that it can't say."""
    told = False

    async def handle(request: str, client: ByteStream) -> None:
        if request == "GET /version":
            await client.send(answer(200, VERSION))
        elif "/networks?" in request or request.endswith("/networks"):
            await client.send(answer(200, []))
        elif told:
            name = request.partition("/networks/")[2].partition("?")[0]
            await client.send(answer(200, {"Name": name, "Id": f"id-of-{name}"}))
        else:
            await client.send(answer(404, {"message": "network not found"}))

    async with answering(handle) as host, open_swarm(host, SystemClock()) as swarm:
        assert await swarm.networks() == ()
        told = True
        assert [n["Id"] for n in await swarm.networks()] == ["id-of-bridge", "id-of-host"]


PROGRESS = b'{"status":"Pulling from app"}\n'
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("begins", [False, True], ids=["never-begins", "stops-half-way"])
async def test_a_pull_that_says_nothing_is_given_up(begins: bool) -> None:
    async def handle(request: str, client: ByteStream) -> None:
        if request == "GET /version":
            await client.send(answer(200, VERSION))
            return
        if begins:
            await client.send(STREAM + b"%x\r\n%s\r\n" % (len(PROGRESS), PROGRESS))
        await anyio.sleep_forever()

    async with (
        answering(handle) as host,
        open_swarm(host, SystemClock(), deadline=0.1, pull_idle=0.4) as swarm,
    ):
        with pytest.raises(RegistryUnreachable, match=r"nothing came from registry\.test:5000 for 0\.4 s"):
            await swarm.pull("registry.test:5000/app:1")


async def test_a_pull_that_goes_on_may_take_longer_than_a_call_but_not_for_ever() -> None:
    async def handle(request: str, client: ByteStream) -> None:
        if request == "GET /version":
            await client.send(answer(200, VERSION))
            return
        await client.send(STREAM)
        while True:
            await client.send(b"%x\r\n%s\r\n" % (len(PROGRESS), PROGRESS))
            await anyio.sleep(0.05)

    async with (
        answering(handle) as host,
        open_swarm(host, SystemClock(), deadline=0.2, pull_idle=0.4, pull_deadline=0.8) as swarm,
    ):
        started = anyio.current_time()
        with pytest.raises(RegistryUnreachable, match=r"within 0\.8 s"):
            await swarm.pull("registry.test:5000/app:1")
        assert anyio.current_time() - started > 0.7


async def test_a_pull_whose_engine_goes_away_is_the_engine_s_fault() -> None:
    cut = STREAM + b"%x\r\n%s\r\n" % (len(PROGRESS), PROGRESS)
    async with answering(scripted(cut)) as host, open_swarm(host, SystemClock()) as swarm:
        with pytest.raises(DockerUnreachable, match="pulling app:1"):
            await swarm.pull("app:1")


@pytest.mark.parametrize(
    ("text", "error", "hint"),
    [
        ("manifest for app:1 not found: manifest unknown: manifest unknown", Refused, "docker pull"),
        ("no matching manifest for linux/arm64 in the manifest list entries", Refused, "docker pull"),
        ('failed to resolve reference "docker.io/x/app:1": docker.io/x/app:1: not found', Refused, ""),
        (
            "pull access denied for app, repository does not exist or may require 'docker login': denied: "
            "requested access to the resource is denied",
            Refused,
            "docker login docker.io",
        ),
        ("unauthorized: authentication required", Refused, "docker login docker.io"),
        ("toomanyrequests: You have reached your pull rate limit.", RegistryUnreachable, ""),
        (
            'Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io: no such host',
            RegistryUnreachable,
            "",
        ),
        ("received unexpected HTTP status: 503 Service Unavailable", RegistryUnreachable, ""),
        (
            "write /var/lib/docker/tmp/GetImageBlob1: no space left on device",
            RegistryUnreachable,
            "docker image prune",
        ),
    ],
)
@pytest.mark.parametrize("where", ["status", "stream"])
async def test_why_a_pull_failed(where: str, text: str, error: type[WarmdError], hint: str) -> None:
    line = json.dumps({"errorDetail": {"message": text}, "error": text})
    reply = answer(500, {"message": text}) if where == "status" else answer(200, PROGRESS.decode() + line)
    async with answering(scripted(reply)) as host, open_swarm(host, SystemClock()) as swarm:
        with pytest.raises(error) as failed:
            await swarm.pull("app:1")
    assert "app:1" in failed.value.message
    assert hint in failed.value.hint


async def test_events_end_with_the_connection_and_are_an_error_only_at_the_beginning() -> None:
    event = {"Type": "service", "Action": "update", "Actor": {"ID": "1", "Attributes": {"name": "sso_app"}}}
    body = json.dumps(event).encode() + b"\n"
    cut = STREAM + b"%x\r\n%s\r\n" % (len(body), body)
    async with answering(scripted(cut)) as host, open_swarm(host, SystemClock()) as swarm:
        assert [name async for name in swarm.events()] == ["sso"]
    async with open_swarm(host, SystemClock()) as swarm:
        with pytest.raises(DockerUnreachable, match="listening to events"):
            await anext(swarm.events())


def test_a_command_that_needs_no_engine_does_not_pay_for_its_client() -> None:
    code = (
        "import sys, warmd.adapters.docker; sys.exit('aiodocker' in sys.modules or 'aiohttp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("host", ["", "docker.sock", "unix://relative", "ssh://root@host", "http://host"])
async def test_a_host_that_is_none_is_a_configuration_error(host: str) -> None:
    with pytest.raises(ConfigError, match="docker_host"):
        async with open_swarm(host, SystemClock()):
            pass
