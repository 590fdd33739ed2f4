"""What only a real engine, a real registry and what stands between can show."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from anyio.abc import ByteStream

from tests.adapters.sockets import Recorder, recording
from tests.contracts.stacks import FOREVER, change, replicas, service
from tests.lab import Lab, host
from warmd.adapters.clock import SystemClock
from warmd.adapters.docker import DockerSwarm, open_swarm
from warmd.adapters.docker.credentials import Credentials
from warmd.core.model import LABEL_STACK, StackSeen
from warmd.errors import DockerUnreachable, Refused, RegistryUnreachable

pytestmark = pytest.mark.swarm


def idle(stack: str, image: str) -> dict[str, Any]:
    """A service that wants no task."""
    return service(stack, "web", image, **replicas(0))


@pytest.fixture
def recorder(lab: Lab) -> Iterator[Recorder]:
    with recording(lab.docker_host) as recorder:
        yield recorder


@pytest.fixture
async def swarm(recorder: Recorder) -> AsyncIterator[DockerSwarm]:
    async with open_swarm(recorder.host, SystemClock()) as swarm:
        yield swarm


# How much is asked


async def test_one_listing_serves_all_workers_whatever_the_number_of_stacks(
    lab: Lab, recorder: Recorder, swarm: DockerSwarm
) -> None:
    image = lab.image("many", "1", {}, FOREVER)
    stacks = [f"m{secrets.token_hex(4)}" for _ in range(5)]
    try:
        for stack in stacks:
            await swarm.create("services", idle(stack, image))
        recorder.clear()
        clock, seen = SystemClock(), list[StackSeen]()
        look = clock.monotonic()

        async def worker(stack: str) -> None:
            seen.append((await swarm.stacks(not_before=look))[stack])

        async with anyio.create_task_group() as group:
            for _ in range(40):
                for stack in stacks:
                    group.start_soon(worker, stack)
        assert len(seen) == 200
        assert all(s.deployed for s in seen)
        assert [r.split("?")[0] for r in recorder.requests] == ["GET /v1.41/services", "GET /v1.41/tasks"]
    finally:
        for stack in stacks:
            await anyio.to_thread.run_sync(lab.remove_stack, stack)


async def test_the_version_is_agreed_on_once_and_the_node_asked_once(
    recorder: Recorder, swarm: DockerSwarm
) -> None:
    assert await swarm.node() == await swarm.node()
    assert recorder.requests == ["GET /version", "GET /v1.41/info"]


async def test_containers_are_filtered_by_the_engine_and_each_looked_into_once(
    lab: Lab, recorder: Recorder, swarm: DockerSwarm, stack_name: str
) -> None:
    image = lab.image("one", "1", {}, FOREVER)
    lab.docker("pull", "-q", image)
    await swarm.create("services", service(stack_name, "web", image, **replicas(2)))
    await anyio.to_thread.run_sync(
        lambda: lab.wait(
            lambda: sum(t["Status"]["State"] == "running" for t in lab.tasks(stack_name)) == 2, "two tasks"
        )
    )
    recorder.clear()
    assert len(await swarm.containers(stack=stack_name)) == 2
    asked = [r.split("?")[0] for r in recorder.requests]
    assert asked[:2] == ["GET /v1.41/containers/json"] * 2
    assert len(asked) == 4
    assert len(set(asked[2:])) == 2


async def test_a_container_that_vanishes_between_is_left_out(
    lab: Lab, swarm: DockerSwarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = lab.image("one", "1", {}, FOREVER)
    lab.docker("pull", "-q", image)
    volume = f"v{secrets.token_hex(4)}"
    stays, goes = (lab.docker("run", "-d", "-v", f"{volume}:/x", image) for _ in range(2))
    list_containers = swarm._list_containers

    async def list_then_remove(filters: dict[str, list[str]]) -> list[Any]:
        listed = await list_containers(filters)
        await anyio.to_thread.run_sync(lab.docker, "rm", "-f", goes)
        return list(listed)

    monkeypatch.setattr(swarm, "_list_containers", list_then_remove)
    try:
        assert [c.id for c in await swarm.containers(volume=volume)] == [stays]
    finally:
        lab.docker("rm", "-f", stays)
        lab.docker("volume", "rm", volume)


async def test_a_person_s_container_of_a_similar_name_is_not_the_stack_s(
    lab: Lab, swarm: DockerSwarm, stack_name: str
) -> None:
    image = lab.image("one", "1", {}, FOREVER)
    lab.docker("pull", "-q", image)
    mine = lab.docker("run", "-d", "--name", f"{stack_name}_backup", image)
    try:
        assert await swarm.containers(stack=stack_name) == []
        assert mine in {c.id for c in await swarm.containers()}
    finally:
        lab.docker("rm", "-f", mine)


async def test_tcp_is_spoken_too(lab: Lab) -> None:
    with recording(lab.docker_host, tcp=True) as recorder:
        assert recorder.host.startswith("tcp://")
        async with open_swarm(recorder.host, SystemClock()) as swarm:
            assert await swarm.node() == lab.api.get("/info").json()["Swarm"]["NodeID"]
            assert await swarm.stack("none") == StackSeen("none")


async def test_what_a_health_check_does_wakes_nobody(lab: Lab, swarm: DockerSwarm, stack_name: str) -> None:
    image = lab.image("one", "1", {}, FOREVER)
    lab.docker("pull", "-q", image)
    other = f"{stack_name}x"
    container = lab.docker("run", "-d", "--label", f"{LABEL_STACK}={stack_name}", image)
    try:
        hints = swarm.events()
        await anyio.to_thread.run_sync(lab.docker, "exec", container, "true")
        await swarm.create("services", idle(other, image))
        with anyio.fail_after(1):
            assert await anext(hints) == other, "the exec before it gave no hint"
        await anyio.to_thread.run_sync(lab.docker, "kill", container)
        with anyio.fail_after(1):
            assert await anext(hints) == stack_name, "a death does"
        await hints.aclose()
    finally:
        lab.docker("rm", "-f", container)
        await anyio.to_thread.run_sync(lab.remove_stack, other)


async def test_hints_that_nobody_takes_hold_nothing_up(lab: Lab, swarm: DockerSwarm, stack_name: str) -> None:
    hints = swarm.events()
    image = lab.image("one", "1", {}, FOREVER)
    body = idle(stack_name, image)
    await swarm.create("services", body)
    assert await anext(hints) == stack_name
    with anyio.fail_after(30):
        for number in range(200):
            labels = {LABEL_STACK: stack_name, "number": str(number)}
            await change(swarm, stack_name, body | {"Labels": labels})
        for _ in range(200):
            assert await anext(hints) == stack_name
    await hints.aclose()


# Registries that fail


async def test_a_failed_pull_is_an_error_though_an_image_of_that_tag_is_here(
    lab: Lab, swarm: DockerSwarm
) -> None:
    image = lab.image("stale", "1", {}, FOREVER)
    gone = "127.0.0.1:1/stale:1"  # a port that nothing listens on
    lab.docker("pull", "-q", image)
    lab.docker("tag", image, gone)
    assert await swarm.image_config(gone) is not None
    with pytest.raises(RegistryUnreachable, match="connection refused") as failed:
        await swarm.pull(gone)
    assert gone in failed.value.message


async def test_what_is_pinned_and_here_needs_no_registry(
    lab: Lab, recorder: Recorder, swarm: DockerSwarm
) -> None:
    pinned = await swarm.pull(lab.image("pinned", "1", {}, FOREVER))
    recorder.clear()
    assert await swarm.pull(pinned) == pinned
    assert not [r for r in recorder.requests if r.startswith("POST")]
    elsewhere = pinned.replace(lab.registry, "127.0.0.1:1")
    with pytest.raises(RegistryUnreachable):
        await swarm.pull(elsewhere)  # a digest known under another name does not count


async def test_a_registry_that_accepts_and_never_answers(lab: Lab) -> None:
    async def hang(client: ByteStream) -> None:
        async with client:
            await anyio.sleep_forever()

    *net, last = lab.host.split(".")
    here = ".".join([*net, str(int(last) - 1)])  # this end of the lab's cable
    listener = await anyio.create_tcp_listener(local_host=here)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, hang)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with open_swarm(lab.docker_host, SystemClock(), deadline=0.5, pull_idle=1) as swarm:
            with pytest.raises(RegistryUnreachable, match=f"{here}:{port} for 1 s"):
                await swarm.pull(f"{here}:{port}/app:1")
        group.cancel_scope.cancel()


async def test_the_current_digest_is_told_of_an_image_that_was_pushed_twice(
    lab: Lab, swarm: DockerSwarm
) -> None:
    """One image under two digests of one repository: its list of digests alone would not tell."""
    first = await swarm.pull(lab.image("twice", "1", {}, FOREVER))
    manifest = lab.registry_url + "/v2/twice/manifests/1"
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    async with httpx.AsyncClient(timeout=20) as client:
        body = (await client.get(manifest, headers={"Accept": kind})).raise_for_status().content
        again = await client.put(manifest, content=body + b"\n", headers={"Content-Type": kind})
        again.raise_for_status()
    second = await swarm.pull(f"{lab.registry}/twice:1")
    assert second != first
    known = json.loads(lab.docker("image", "inspect", second))[0]["RepoDigests"]
    assert {f"{lab.registry}/twice@{r.split('@')[1]}" for r in (first, second)} <= set(known)
    assert await swarm.pull(first) == first


# Registries that ask who is there

USER, PASSWORD = "reader", "open sesame"
_HTPASSWD = f"{USER}:$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n"


@pytest.fixture(scope="module")
def private(lab: Lab) -> Iterator[str]:
    """The lab's registry once more, at another port where one has to log in; its host and port."""
    port = lab.free_port()
    (lab.folder / "htpasswd").write_text(_HTPASSWD)
    config = lab.folder / "private.yml"
    config.write_text(
        "version: 0.1\nlog: { level: error, accesslog: { disabled: true } }\n"
        f'storage: {{ filesystem: {{ rootdirectory: "{lab.folder}/registry" }} }}\n'
        f'http: {{ addr: "127.0.0.1:{port}" }}\n'
        f'auth: {{ htpasswd: {{ realm: lab, path: "{lab.folder}/htpasswd" }} }}\n'
    )
    process = subprocess.Popen(
        ["nsenter", f"--net={host.NETNS / lab.note.name}", "docker-registry", "serve", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        probe = [
            "nsenter",
            f"--net={host.NETNS / lab.note.name}",
            "bash",
            "-c",
            f"</dev/tcp/127.0.0.1/{port}",
        ]
        lab.wait(
            lambda: subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode == 0,
            "the private registry",
        )
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def login(folder: Path, config: dict[str, Any]) -> Credentials:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return Credentials(folder)


def plain(registry: str) -> dict[str, Any]:
    return {"auths": {registry: {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}}}


@asynccontextmanager
async def logged_in(lab: Lab, credentials: Credentials) -> AsyncIterator[tuple[DockerSwarm, Recorder]]:
    with recording(lab.docker_host) as recorder:
        async with open_swarm(recorder.host, SystemClock(), credentials=credentials) as swarm:
            yield swarm, recorder


async def test_a_private_image_needs_a_login_and_the_hint_says_where(
    lab: Lab, private: str, tmp_path: Path
) -> None:
    lab.image("private", "1", {}, FOREVER)
    image = f"{private}/private:1"
    async with logged_in(lab, login(tmp_path, {})) as (swarm, _):
        with pytest.raises(Refused) as refused:
            await swarm.pull(image)
    assert refused.value.hint == f"docker login {private}"
    async with logged_in(lab, login(tmp_path, plain(private))) as (swarm, _):
        assert (await swarm.pull(image)).startswith(f"{image}@sha256:")


async def test_a_wrong_password_is_refused_and_not_shown(lab: Lab, private: str, tmp_path: Path) -> None:
    lab.image("private", "1", {}, FOREVER)
    wrong = {"auths": {private: {"username": USER, "password": "wrong-as-can-be"}}}
    async with logged_in(lab, login(tmp_path, wrong)) as (swarm, _):
        with pytest.raises(Refused) as refused:
            await swarm.pull(f"{private}/private:9")
    assert "wrong-as-can-be" not in str(refused.value)
    assert refused.value.hint == f"docker login {private}"


async def test_a_credential_helper_is_asked(
    lab: Lab, private: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.image("private", "1", {}, FOREVER)
    helper = tmp_path / "docker-credential-vault"
    answer = json.dumps({"ServerURL": private, "Username": USER, "Secret": PASSWORD})
    helper.write_text(f'#!/bin/sh\nread -r server\n[ "$1 $server" = "get {private}" ] && echo \'{answer}\'\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    credentials = login(tmp_path / "docker", {"credHelpers": {private: "vault"}})
    async with logged_in(lab, credentials) as (swarm, _):
        assert await swarm.pull(f"{private}/private:1")


async def test_a_service_is_given_the_login_and_later_keeps_the_one_it_has(
    lab: Lab, private: str, tmp_path: Path, stack_name: str
) -> None:
    lab.image("kept", "1", {}, FOREVER)
    image = f"{private}/kept:1"

    def running() -> bool:
        return any(t["Status"]["State"] == "running" for t in lab.tasks(stack_name))

    body = idle(stack_name, image)
    async with logged_in(lab, login(tmp_path, plain(private))) as (swarm, _):
        await swarm.create("services", body)
    # The image is not on the node: the task can only have it with the login kept in the spec
    async with logged_in(lab, login(tmp_path, {})) as (swarm, recorder):
        await change(swarm, stack_name, body | replicas(1))
        await anyio.to_thread.run_sync(lambda: lab.wait(running, "a task with a private image", deadline=30))
        assert any("registryAuthFrom=spec" in r for r in recorder.requests)


# Engines that go away, or are no managers


@pytest.fixture(scope="module")
def own_lab() -> Iterator[Lab]:
    """A lab that these tests may take down."""
    with Lab() as lab:
        yield lab


async def test_an_engine_that_goes_and_comes_back(own_lab: Lab) -> None:
    """Everything goes on with the same connection object; events end, and can be asked for again."""
    async with open_swarm(own_lab.docker_host, SystemClock()) as swarm, anyio.create_task_group() as group:
        node = await swarm.node()
        ended = anyio.Event()

        async def listen() -> None:
            async for _ in swarm.events():
                pass
            ended.set()

        group.start_soon(listen)
        assert await swarm.stack("x") == StackSeen("x")
        await anyio.to_thread.run_sync(own_lab.stop_dockerd)
        with anyio.fail_after(5):
            await ended.wait()
        with pytest.raises(DockerUnreachable):
            await swarm.stack("x")
        with pytest.raises(DockerUnreachable):
            await swarm.pull("app:1")
        await anyio.to_thread.run_sync(own_lab.restart_dockerd)
        assert await swarm.stack("x") == StackSeen("x")
        assert await swarm.node() == node


async def test_a_node_without_a_swarm_is_no_usable_docker_and_says_what_to_type(own_lab: Lab) -> None:
    own_lab.docker("swarm", "leave", "--force")
    async with open_swarm(own_lab.docker_host, SystemClock()) as swarm:
        for call in (
            swarm.stack("x"),
            swarm.secrets(),
            swarm.create("services", idle("x", "x")),
            swarm.node(),
        ):
            with pytest.raises(DockerUnreachable) as unusable:
                await call
            assert unusable.value.hint == "docker swarm init"
        assert await swarm.containers(stack="x") == []
