"""One whole life of a service, with a secret in every place that has one; then everything is searched."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.hostile.canaries import canary, found_below, found_in, watched_processes
from tests.hostile.guarded import REGISTRY, guarded_registry, log_in
from tests.hostile.text import steering
from tests.lab import Lab
from tests.swarm.world import World
from tests.upstream import serve

#: Where each secret is, and what it is for.
PLACES = (
    *("env-file", "env-file-before", "env-file-unused", "env-file-in-a-label", "secret-file"),
    *("git-url", "git-url-wrong", "probe-header", "registry", "registry-wrong"),
)


@dataclass
class Guarded(World):
    """A service all of whose neighbours want to know who it is."""

    secrets: Mapping[str, str] = field(default_factory=lambda: {name: canary(name) for name in PLACES})
    source: str = ""
    said: bytes = b""

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {"DOCKER_CONFIG": str(self.folder / "docker-config")}

    @property
    def table(self) -> str:
        check = (
            f'{{ kind = "http", url = "{self.url}/health", json = {{ status = "ok" }}, timeout = "2s", '
            f"headers = {{ Authorization = {json.dumps('Bearer ' + self.header)} }} }}"
        )
        return f"""
[services.app]
stack = "{self.stack}"
health = [ {check} ]
source = {{ kind = "git", url = "{self.source}" }}
policy = {{ {self.policy} }}
snapshot = {self.snapshot}
{self.gate}
[services.app.deploy]
kind = "stack"
files = ["compose.yml"]
env = {{ SECRET_FILE = "{self.folder}/secret-file" }}
env_file = "app.env"
allow = {{ files = ["{self.folder}/secret-file"] }}
"""

    @property
    def header(self) -> str:
        """In ASCII, as a header has to be."""
        return self.secrets["probe-header"].replace("é", "e")

    def write_env_file(self, of_the_service: str) -> None:
        given = {
            "LICENSE": self.secrets[of_the_service],
            "UNUSED": self.secrets["env-file-unused"],
            "USERS": self.secrets["env-file-in-a-label"],
        }
        lines = [f'{name}="{v.replace(chr(34), chr(92) + chr(34))}"\n' for name, v in given.items()]
        (self.folder / "app.env").write_text("".join(lines))

    def publish_guarded(self, version: str, *, more: str = "", notes: str | None = None, **app: Any) -> None:
        """A release that takes all its secrets, and its image from the registry that is guarded."""
        image = self.lab.warm_app(version.partition("+")[2], **app).replace(self.lab.registry, REGISTRY)
        # An innocent name: the secret is known by its value.
        taken = f"""\
    environment: {{ LICENSE: "${{LICENSE}}", VERSION: "{version}" }}
    secrets: [key]
    deploy:
      labels: ["site.users=${{USERS}}"]
      replicas: 1{more}
"""
        compose = self.compose(image).replace("    deploy:\n      replicas: 1\n", taken)
        assert "environment" in compose
        self.recipe.publish(
            version, compose=compose + "secrets: { key: { file: '${SECRET_FILE}' } }\n", notes=notes
        )

    def type(self, *args: str, check: int | None = 0) -> str:
        """Run a verb for people and, where it has that, for programs; all of it is kept for the search."""
        told = self.warmd(*args, check=check)
        self.said += f"$ warmd {' '.join(args)}\n{told.out}\n{told.err}\n".encode()
        return told.out + told.err

    def read(self, *, everything: bool = False) -> None:
        """What a person looks at, or everything that can be looked at, in both forms."""
        for verb in ("status", "plan app", "history app", "alerts app"):
            self.type(*verb.split(), "--json", check=None)
        if everything:
            for verb in ("status", "plan app", "history app", "alerts app", "snapshots app", "check-config"):
                self.type(*verb.split(), check=None)
            for verb in ("snapshots app", "check-config"):
                self.type(*verb.split(), "--json", check=None)


@pytest.fixture
def world(lab: Lab, tmp_path: Path, stack_name: str) -> Guarded:
    world = Guarded(lab, tmp_path, stack_name, interval="1h", daemon='log_level = "debug"')
    (tmp_path / "secret-file").write_text(world.secrets["secret-file"])
    (tmp_path / "secret-file").chmod(0o600)
    world.write_env_file("env-file-before")
    return world


def with_password(world: Guarded, port: int, password: str) -> str:
    return f"http://bot:{quote(world.secrets[password], safe='')}@127.0.0.1:{port}/recipe/.git"


@pytest.mark.crash
def test_no_secret_is_anywhere_but_where_it_belongs(lab: Lab, world: Guarded) -> None:
    secrets, folder = world.secrets, world.folder
    log_in(folder / "docker-config", "me", secrets["registry"])
    (folder / "guard").mkdir()
    with (
        serve(folder, user="bot", password=secrets["git-url"]) as git,
        guarded_registry(lab, folder / "guard", "me", secrets["registry"]),
        watched_processes(secrets) as in_processes,
    ):
        world.source = with_password(world, git.port, "git-url")
        world.write_config()
        world.publish_guarded("1.0.0+1.0.0")
        with world.running("--log-level", "debug"):
            world.committed("1.0.0+1.0.0")
            assert secrets["secret-file"] in inside(lab, world, "cat", "/run/secrets/key")
            # Two that are wrong in a way that makes docker's client, and the engine, quote the secret.
            world.publish_guarded(
                "1.0.1+1.0.0", more='\n      resources: { limits: { memory: "${LICENSE}" } }'
            )
            assert "***" in world.type("reconcile", "app", check=7)
            world.recipe.git("tag", "--delete", "1.0.1+1.0.0")
            world.publish_guarded("1.0.2+1.0.0", more='\n      endpoint_mode: "${LICENSE}"')
            assert "***" in world.type("reconcile", "app", check=4)
            # One that is never healthy, and goes back.
            world.publish_guarded("1.2.0+1.2.0", bad="never-healthy")
            assert "rolled-back" in world.type("reconcile", "app", check=4)
            # The operator changes the secret: what is configured is no longer what runs.
            world.publish_guarded("2.0.0+2.0.0", notes="Export the index first.")
            world.write_env_file("env-file")
            assert "config-drift" in world.type("reconcile", "app", check=None)
            world.read(everything=True)
            world.type("deploy", "app", check=None)
            # The registry does not let it in any more.
            log_in(folder / "docker-config", "me", secrets["registry-wrong"])
            world.publish_guarded("1.4.0+1.4.0")
            world.type("reconcile", "app", check=None)
            world.read()
        world.source = with_password(world, git.port, "git-url-wrong")
        world.write_config()
        world.type("up", "--log-level", "debug", check=None)
        # A configuration that is wrong, next to its secrets.
        right = world.config.read_text()
        world.config.write_text(right.replace("headers = {", "header = {").replace("127.0.0.1", "127.0.0."))
        world.type("check-config", check=2)
        world.type("check-config", "--json", check=2)
        world.config.write_text(right)

    assert in_processes == set(), "anybody can read command lines"
    assert found_in(world.said, secrets) == set()
    assert steering(world.said) == set()
    # Where each secret belongs: the operator's own files, and, of those that a compose file writes into
    # the specs of a service, the copies of these specs.
    own = [
        folder / name for name in ("warmd.toml", "app.env", "secret-file", "docker-config", "recipe", "guard")
    ]
    kept = found_below(folder, secrets, apart_from=own)
    specs = {
        name for name in kept if Path(name).parts[:2] == ("state", "blobs") or name.endswith("/bundle.json")
    }
    assert kept.keys() - specs == set(), {name: kept[name] for name in kept.keys() - specs}
    in_specs = ("env-file ", "env-file-before ", "env-file-in-a-label ")
    assert all(hit.startswith(in_specs) for name in specs for hit in kept[name])
    for name in specs:
        place = folder / name
        assert (place.stat().st_mode & 0o077, place.parent.stat().st_mode & 0o077) == (0, 0), name
    assert specs, "the search finds what is there"


def inside(lab: Lab, world: Guarded, *command: str) -> str:
    """What a command in the running container prints."""
    (container,) = [c for c in lab.containers(world.stack) if c["State"] == "running"]
    return lab.docker("exec", container["Id"], *command)
