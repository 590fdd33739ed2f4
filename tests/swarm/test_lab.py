"""The lab itself: what other tests rely on, and that it leaves nothing on the machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.lab import Lab, Recipe, host, warm_compose
from tests.lab.note import notes


def ask(lab: Lab, port: int, path: str) -> httpx.Response | None:
    try:
        return httpx.get(f"http://{lab.host}:{port}{path}", timeout=2)
    except httpx.TransportError:
        return None


def wait_for(lab: Lab, port: int, version: str) -> dict[str, Any]:
    def serves() -> bool:
        reply = ask(lab, port, "/health")
        return reply is not None and reply.is_success and reply.json()["version"] == version

    lab.wait(serves, f"version {version} on port {port}")
    found: dict[str, Any] = httpx.get(f"http://{lab.host}:{port}/data", timeout=5).json()
    return found


def test_application_keeps_and_migrates_its_data(lab: Lab, stack_name: str) -> None:
    port = lab.free_port()
    lab.deploy(stack_name, warm_compose(lab.warm_app("1.0.0"), port))
    fresh = wait_for(lab, port, "1.0.0")
    httpx.post(f"http://{lab.host}:{port}/notes", content=b"hello", timeout=5)
    written = wait_for(lab, port, "1.0.0")
    assert (fresh["notes"], written["notes"]) == (0, 1)
    assert fresh["sha256"] != written["sha256"]

    lab.deploy(stack_name, warm_compose(lab.warm_app("1.1.0"), port))
    migrated = wait_for(lab, port, "1.1.0")
    assert (migrated["schema"], migrated["notes"]) == ("1.1.0", 1)

    # As with Keycloak: an old version on newer data looks healthy, only the schema tells.
    lab.deploy(stack_name, warm_compose(lab.warm_app("1.0.0"), port))
    assert wait_for(lab, port, "1.0.0")["schema"] == "1.1.0"
    history = ask(lab, port, "/history")
    assert history is not None
    assert history.text.splitlines() == ["none -> 1.0.0", "1.0.0 -> 1.1.0"]


def test_bad_version_damages_the_data_and_is_never_healthy(lab: Lab, stack_name: str) -> None:
    port = lab.free_port()
    lab.deploy(stack_name, warm_compose(lab.warm_app("1.0.0"), port))
    wait_for(lab, port, "1.0.0")
    httpx.post(f"http://{lab.host}:{port}/notes", content=b"hello", timeout=5)
    before = wait_for(lab, port, "1.0.0")

    lab.deploy(stack_name, warm_compose(lab.warm_app("1.0.1", bad="never-healthy"), port))

    def down() -> bool:
        reply = ask(lab, port, "/health")
        return reply is not None and reply.status_code == 503

    lab.wait(down, "the bad version's 503")
    after = ask(lab, port, "/data")
    assert after is not None
    assert after.json()["sha256"] != before["sha256"]


def test_crashing_version_ends_its_task(lab: Lab, stack_name: str) -> None:
    lab.deploy(stack_name, warm_compose(lab.warm_app("2.0.0", bad="crash"), lab.free_port()))
    lab.wait(lambda: [t for t in lab.tasks(stack_name) if t["Status"]["State"] == "failed"], "a failed task")


def test_services_of_a_stack_see_each_other(lab: Lab, stack_name: str) -> None:
    image = lab.warm_app("1.0.0")
    other = lab.image(
        "peer", "1", {}, ["sleep", "1000"], healthcheck=["wget", "-q", "-O", "-", "http://app/health"]
    )
    compose = warm_compose(image, lab.free_port(), network="overlay").replace(
        "networks:\n  internal: {}\n",
        f'  peer:\n    image: "{other}"\n    networks: [internal]\n    deploy: {{ endpoint_mode: dnsrr }}\n'
        "networks:\n  internal: {}\n",
    )
    lab.deploy(stack_name, compose)
    lab.wait(
        lambda: [c for c in lab.containers(stack_name) if "(healthy)" in c["Status"]],
        "a peer that reaches the application by name",
    )


def test_volumes_and_networks_go_with_the_stack(lab: Lab, stack_name: str) -> None:
    port = lab.free_port()
    lab.deploy(stack_name, warm_compose(lab.warm_app("1.0.0"), port, network="overlay"))
    wait_for(lab, port, "1.0.0")
    assert lab.volumes(stack_name) == [f"{stack_name}_data"]
    lab.remove_stack(stack_name, volumes=False)
    assert lab.volumes(stack_name) == [f"{stack_name}_data"]
    lab.remove_stack(stack_name)
    assert lab.volumes(stack_name) == []
    assert lab.docker("network", "ls", "--quiet", "--filter", f"name={stack_name}") == ""


def test_service_comes_back_after_a_restart_of_dockerd(lab: Lab, stack_name: str) -> None:
    port = lab.free_port()
    lab.deploy(stack_name, warm_compose(lab.warm_app("1.0.0"), port))
    before = wait_for(lab, port, "1.0.0")
    lab.restart_dockerd()
    assert wait_for(lab, port, "1.0.0") == before


def test_image_is_not_on_the_node_until_pulled(lab: Lab) -> None:
    ref = lab.image("lonely", "1", {"hello": "hi"}, ["cat", "/hello"], env={"A": "b"}, volumes=["/data"])
    assert lab.docker("image", "ls", "--quiet", ref) == ""
    lab.docker("pull", "--quiet", ref)
    config = json.loads(lab.docker("image", "inspect", ref))[0]["Config"]
    assert config["Volumes"] == {"/data": {}}
    assert "A=b" in config["Env"]
    assert lab.docker("run", "--rm", ref) == "hi"


SECOND_LAB = """
import sys, time
from tests.lab import Lab, warm_compose
lab = Lab()
lab.deploy("left", warm_compose(lab.warm_app("1.0.0"), 20500))
lab.wait(lambda: lab.containers("left"), "a container")
print(lab.note.id, flush=True)
if sys.argv[1] == "stop":
    lab.stop()
else:
    time.sleep(600)
"""


def leavings(ident: str) -> list[str]:
    name = f"wl-{ident}"
    # Walked, for other labs' groups come and go meanwhile.
    found = [folder for folder, _, _ in os.walk("/sys/fs/cgroup") if Path(folder).name == name]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if name in line]
    places = [host.NETNS / name, Path("/sys/class/net") / name, Path("/run/warmd-lab") / f"{ident}.json"]
    found += [str(p) for p in places if p.exists()]
    found += [str(p) for p in host.processes_in_netns(name) | host.processes_in_cgroup(name)]
    return found


@pytest.mark.parametrize("how", ["stop", "killed"])
def test_second_lab_works_beside_the_first_and_leaves_nothing(lab: Lab, how: str) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", SECOND_LAB, how], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    with child:
        assert child.stdout is not None
        ident = child.stdout.readline().strip()
        assert ident
        if how == "killed":
            folder = Path(next(note.folder for note in notes() if note.id == ident))
            assert leavings(ident)
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            subprocess.run([sys.executable, "-m", "tests.lab", "sweep"], check=True)
            assert not folder.exists()
        assert child.wait(timeout=60) == (0 if how == "stop" else -signal.SIGKILL)
    assert leavings(ident) == []
    assert lab.api.get("/_ping").is_success


def test_recipe_publishes_tags_with_notes(tmp_path: Path) -> None:
    recipe = Recipe(tmp_path / "recipe")
    first = recipe.publish("1.0.0+1.0.0", compose="services: {}\n")
    recipe.publish("1.1.0+1.1.0", notes="Read me.\n", annotated=False)
    assert recipe.git("rev-parse", "1.0.0+1.0.0^{commit}") == first
    assert recipe.git("show", "1.1.0+1.1.0:release/1.1.0+1.1.0") == "Read me."
    assert recipe.git("cat-file", "-t", "refs/tags/1.1.0+1.1.0") == "commit"
