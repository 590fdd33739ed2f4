"""Deployer ``stack``: compose files of the release, rendered by docker's client, applied by warmd.

The environment that the files are interpolated with is ``env_file`` overlaid with ``env`` and nothing
else: what the daemon was started with plays no part.
"""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import anyio
import structlog
from pydantic import AfterValidator, Field

from warmd.adapters.stacks import StackOps
from warmd.core import specs
from warmd.core.model import Bundle, Release, canonical
from warmd.errors import Refused
from warmd.plugins import envfile
from warmd.plugins.base import Context, Settings
from warmd.ports import Rendered

log = structlog.get_logger()


def _inside(path: str) -> str:
    parts = PurePosixPath(path)
    if not path or parts.is_absolute() or ".." in parts.parts:
        raise ValueError("expected a path inside the release's files, such as compose.yml")
    return path


class Config(Settings):
    """``[services.NAME.deploy]`` with ``kind = "stack"``."""

    kind: Literal["stack"] = "stack"
    files: Annotated[tuple[Annotated[str, AfterValidator(_inside)], ...], Field(min_length=1)]
    """Compose files, relative to the release's top folder; later ones are merged over earlier ones."""

    env: dict[str, str] = Field(default={})
    """What the compose files interpolate; wins over ``env_file``."""

    env_file: Path | None = None
    """A file of KEY=VALUE lines (quotes, comments; no interpolation), relative to this configuration."""

    client: str = "docker"
    """Docker's command line client, by name on PATH or by path; 20.10 or newer. It renders, nothing more."""


def build(config: Config, context: Context) -> StackDeployer:
    """The deployer of one service. Nothing is read or run yet."""
    return StackDeployer(config, context)


class StackDeployer(StackOps):
    """Meets ``warmd.ports.Deployer``."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(context.swarm, context.stack, context.clock)
        self._config = config
        self._docker_host = context.docker_host
        self._env_file = None if config.env_file is None else context.config_dir / config.env_file

    async def inputs(self, release: Release) -> str:
        return self._hash(release, await self._environment())

    async def render(self, release: Release, tree: Path) -> Rendered:
        from warmd.adapters.render import record  # the client is not needed by those who only look

        env = await self._environment()
        done = await record(self._docker_host, self._config.client, self.stack, self._config.files, tree, env)
        for warning in done.warnings:
            log.warning("render.warned", stack=self.stack, version=release.version.text, said=warning)
        bundle = specs.recorded((post.kind, post.body) for post in done.posts)
        self._refuse_what_cannot_run(bundle, tree)
        return Rendered(bundle, self._hash(release, env), done.warnings)

    async def _environment(self) -> dict[str, str]:
        """Read anew each time: the file may have been edited since."""
        if self._env_file is None:
            return dict(self._config.env)
        return {**await anyio.to_thread.run_sync(envfile.read, self._env_file), **self._config.env}

    def _hash(self, release: Release, env: dict[str, str]) -> str:
        facts = {"commit": release.commit, "files": self._config.files, "env": env, "stack": self.stack}
        return hashlib.sha256(canonical(facts)).hexdigest()

    def _refuse_what_cannot_run(self, bundle: Bundle, tree: Path) -> None:
        files = ", ".join(self._config.files)
        if not bundle.services:
            raise Refused(f"{files}: no service is defined")
        for spec in bundle.services:
            inner, name = specs.container(spec), spec["Name"]
            if not inner.get("Image"):
                raise Refused(
                    f"{files}: service {name} has no image", hint="swarm runs images and builds none"
                )
            for mount in inner.get("Mounts") or ():
                source = Path(mount.get("Source") or "")
                if mount["Type"] == "bind" and any(source.is_relative_to(t) for t in (tree, tree.resolve())):
                    raise Refused(
                        f"{files}: service {name} mounts a relative path at {mount['Target']}, "
                        "and the release's files are not kept",
                        hint="use a config, a volume or an absolute path",
                    )
