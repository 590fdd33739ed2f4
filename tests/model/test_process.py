"""The model as a process: docker's own clients use it, its applications answer, and it ends with its user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.contracts.deployer_site import CLIENTS
from tests.lab import warm_compose
from tests.model import Timing
from tests.model.lab import ModelLab

_ROOT = Path(__file__).parents[2]


@pytest.fixture
def model() -> Iterator[ModelLab]:
    with ModelLab(timing=Timing(scale=0.02)) as model:
        yield model


def wait(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


@pytest.mark.parametrize("client", CLIENTS)
def test_docker_s_own_client_deploys_lists_updates_and_removes(model: ModelLab, client: str) -> None:
    def docker(*args: str, stdin: str = "") -> str:
        done = subprocess.run(
            [client, *args], input=stdin, env=model.docker_env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def up(version: str) -> Callable[[], bool]:
        shown = ("--filter", "desired-state=running", "--format", "{{.Image}} {{.CurrentState}}")
        return lambda: f"warm:{version} Running" in docker("stack", "ps", "s", *shown)

    port = model.free_port()
    for version in ("1.0.0", "1.1.0"):
        compose = warm_compose(model.warm_app(version), port, stack="s", network="overlay")
        docker("stack", "deploy", "--compose-file", "-", "s", stdin=compose)
        wait(up(version), f"{version} runs")
    assert docker("service", "ls", "--format", "{{.Name}} {{.Replicas}}") == "s_app 1/1\n"
    mounted = docker("volume", "inspect", "s_data", "--format", "{{.Mountpoint}}").strip()
    assert (Path(mounted) / "schema").read_text() == "1.1.0\n"
    docker("stack", "rm", "s")
    wait(lambda: not docker("ps", "--all", "--quiet"), "all containers are gone")
    assert docker("network", "ls", "--filter", "label=com.docker.stack.namespace=s", "--quiet") == ""
    assert model.violations == []


def test_its_applications_answer_at_their_published_ports(model: ModelLab) -> None:
    port = model.free_port()
    model.deploy("s", warm_compose(model.warm_app("1.0.0"), port, stack="s"))
    url = f"http://127.0.0.1:{port}"

    def health() -> dict[str, str]:
        try:
            answer: dict[str, str] = httpx.get(f"{url}/health").json()
        except httpx.TransportError:
            return {}
        return answer

    wait(health, "it answers")
    assert health() == {"status": "ok", "version": "1.0.0", "schema": "1.0.0"}
    assert httpx.post(f"{url}/notes", content="mine\n").json() == {"written": True}
    data = httpx.get(f"{url}/data").json()
    assert (data["schema"], data["notes"]) == ("1.0.0", 1)
    assert data["sha256"] == model.volume_facts("s_data")["sha256"]
    model.scale("s_app", 0)
    wait(lambda: not health(), "it answers no more")
    model.deploy("s", warm_compose(model.warm_app("1.1.0", bad="never-healthy"), port, stack="s"))
    wait(lambda: health().get("status") == "down", "it says that it is not well")


def test_reset_is_a_new_swarm(model: ModelLab) -> None:
    model.deploy("s", warm_compose(model.warm_app("1.0.0"), model.free_port(), stack="s"))
    wait(lambda: model.ask("running"), "it runs")
    model.reset(seed=2)
    assert model.tasks("s") == []
    assert model.volumes("s") == []
    assert not (model.root / "volumes").exists()
    model.deploy("s", warm_compose(model.warm_app("1.0.0"), model.free_port(), stack="s"))
    wait(lambda: model.ask("running"), "it runs again")


def test_what_is_asked_for_wrongly_is_said(model: ModelLab) -> None:
    with pytest.raises(AssertionError, match="no service nobody"):
        model.scale("nobody", 1)
    with pytest.raises(AssertionError, match="no such verb"):
        model.ask("dance")


def test_it_ends_with_the_process_that_started_it() -> None:
    script = (
        "import os, sys; from tests.model import ModelProcess\n"
        "p = ModelProcess().__enter__(); print(p.pid, p.folder, flush=True); sys.stdin.read(); os._exit(0)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid, folder = parent.stdout.readline().split()
        os.kill(int(pid), 0)
        parent.kill()
    wait(lambda: _gone(int(pid)), "the model has ended")
    shutil.rmtree(folder)


def _gone(pid: int) -> bool:
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True


def test_it_serves_from_a_shell(tmp_path: Path) -> None:
    path = tmp_path / "s"
    argv = [sys.executable, "-m", "tests.model", str(path), str(tmp_path / "root"), "--scale", "0.02"]
    with subprocess.Popen(argv, cwd=_ROOT) as served:
        try:
            wait(path.exists, "the socket is there")
            transport = httpx.HTTPTransport(uds=str(path), retries=3)
            with httpx.Client(transport=transport, base_url="http://docker") as client:
                wait(lambda: client.get("/_ping").text == "OK", "it answers")
                said = client.post("/_model/violations").json()
        finally:
            served.terminate()
    assert json.dumps(said) == '{"result": []}'
