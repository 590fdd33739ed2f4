"""Deployer ``stack``: compose files of the release, rendered by docker's client, applied by warmd.

The environment that the files are interpolated with is ``env_file`` overlaid with ``env`` and nothing
else: what the daemon was started with plays no part.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import anyio
import structlog
from pydantic import AfterValidator, Field, StrictBool

from warmd.adapters.stacks import StackOps
from warmd.core import reach, specs
from warmd.core.model import LABEL_STACK, Bundle, Json, Mount, Release, canonical
from warmd.core.specdiff import mask
from warmd.errors import Refused, WarmdError
from warmd.plugins import envfile
from warmd.plugins.base import Context, Settings
from warmd.ports import Ask, Rendered

log = structlog.get_logger()

#: Characters from which on a value of the env file is taken out of messages; "on" and "443" say nothing.
_TELLING = 4


def _inside(path: str) -> str:
    parts = PurePosixPath(path)
    if not path or parts.is_absolute() or ".." in parts.parts:
        raise ValueError("expected a path inside the release's files, such as compose.yml")
    return path


class Allow(Settings):
    """What the stack may reach outside of itself. Nothing else goes through."""

    binds: tuple[str, ...] = ()
    """Folders and files of the machine that may be mounted, with all that lies below them."""

    capabilities: tuple[str, ...] = ()
    """Capabilities that a service may add, such as NET_ADMIN."""

    host_network: StrictBool = False
    """Services may use the machine's own network."""

    privileged: StrictBool = False
    """Services may ask for `privileged`, devices, the machine's processes and the like. A swarm gives none
    of these to anybody, so this only keeps their mention from being refused."""

    external: tuple[str, ...] = ()
    """Networks, volumes, configs and secrets whose names don't begin with the stack's."""

    files: tuple[Path, ...] = ()
    """Files and folders outside of the release that configs, secrets and `env_file` may be read from."""


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

    allow: Allow | None = None
    """What the stack may reach outside of itself, and nothing else. Without it everything that does not give
    it the machine or another stack's secrets, and what it has already as it runs."""


def build(config: Config, context: Context) -> StackDeployer:
    """The deployer of one service. Nothing is read or run yet."""
    return StackDeployer(config, context)


class StackDeployer(StackOps):
    """Meets ``warmd.ports.Deployer``."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(context.swarm, context.stack, context.clock)
        self._config = config
        self._docker_host = context.docker_host
        allow = config.allow
        self._readable = () if allow is None else tuple(context.config_dir / path for path in allow.files)
        self._env_file = None if config.env_file is None else context.config_dir / config.env_file
        own = [*map(str, context.protected), context.docker_host.removeprefix("unix://")]
        self._protected = (*own, *([] if self._env_file is None else [str(self._env_file)]))

    async def inputs(self, release: Release) -> str:
        _, env = await self._environment()
        return self._hash(release, env)

    async def render(self, release: Release, tree: Path) -> Rendered:
        secret, env = await self._environment()
        async with self._discreet():
            return await self._render(release, tree, env, _telling(secret))

    async def pin(self, bundle: Bundle) -> Bundle:
        async with self._discreet():
            return await super().pin(bundle)

    async def check(self, bundle: Bundle) -> tuple[Mount, ...]:
        async with self._discreet():
            return await super().check(bundle)

    async def deploy(self, bundle: Bundle, *, labels: Mapping[str, str], ask: Ask | None = None) -> None:
        async with self._discreet():
            await super().deploy(bundle, labels=labels, ask=ask)

    @asynccontextmanager
    async def _discreet(self) -> AsyncIterator[None]:
        """Docker's client and its engine quote what they don't like, and it may be from the env file. That
        is only read when there is an error: going back must not depend on it."""
        try:
            yield
        except WarmdError as error:
            secret: dict[str, str] = {}
            with suppress(WarmdError):
                secret, _ = await self._environment()
            error.message, error.hint = (mask(t, _telling(secret)) for t in (error.message, error.hint))
            error.args = (error.message,)
            raise

    async def _render(
        self, release: Release, tree: Path, env: dict[str, str], hides: tuple[str, ...]
    ) -> Rendered:
        from warmd.adapters.render import record  # the client is not needed by those who only look

        done = await record(
            self._docker_host,
            self._config.client,
            self.stack,
            self._config.files,
            tree,
            env,
            readable=self._readable,
        )
        warnings = tuple(mask(warning, hides) for warning in done.warnings)
        for warning in warnings:
            log.warning("render.warned", stack=self.stack, version=release.version.text, said=warning)
        bundle = specs.recorded((post.kind, post.body) for post in done.posts)
        self._refuse_what_cannot_run(bundle, tree)
        await self._refuse_what_it_may_not_reach(bundle, warnings)
        return Rendered(bundle, self._hash(release, env), warnings, hides)

    async def _environment(self) -> tuple[dict[str, str], dict[str, str]]:
        """The env file's variables, which are nobody's business, and all. Read anew each time: the file may
        have been edited since."""
        if self._env_file is None:
            return {}, dict(self._config.env)
        secret = await anyio.to_thread.run_sync(envfile.read, self._env_file)
        return secret, {**secret, **self._config.env}

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

    async def _refuse_what_it_may_not_reach(self, bundle: Bundle, warnings: tuple[str, ...]) -> None:
        found = reach.reaches(bundle, stack=self.stack, warnings=warnings)
        if not found:
            return
        config, sources = self._config.allow, {r.value for r in found if r.kind == "bind"}
        leads_to = await anyio.to_thread.run_sync(_leads_to, sources | {*self._protected})
        allow = None
        if config is not None:
            allow = reach.Allow(
                config.binds, config.capabilities, config.host_network, config.privileged, config.external
            )
        here = reach.Here(
            (*self._protected, *(leads_to.get(path, path) for path in self._protected)),
            leads_to,
            reach.reaches(await self.read_back(), stack=self.stack) if allow is None else (),
            await self._foreign() if allow is None else frozenset(),
        )
        if refused := reach.refusals(found, allow, here):
            raise Refused(
                f"{', '.join(self._config.files)}: {'; '.join(dict.fromkeys(map(reach.said, refused)))}: "
                f"{'not in deploy.allow' if allow else 'refused unless allowed'}",
                hint=f"after reading the release, if that is right, in deploy: {reach.line_to_allow(found)}",
            )

    async def _foreign(self) -> frozenset[tuple[str, str]]:
        """Volumes, configs and secrets that are of other stacks, by their labels."""

        def others(kind: str, objects: Iterable[tuple[str, Json]]) -> set[tuple[str, str]]:
            return {
                (kind, name) for name, labels in objects if labels.get(LABEL_STACK) not in (None, self.stack)
            }

        swarm = self._swarm
        specs_of = {"config": await swarm.configs(), "secret": await swarm.secrets()}
        found = others("volume", ((v.name, v.labels) for v in await swarm.volumes()))
        for kind, listed in specs_of.items():
            bodies = [o["Spec"] for o in listed]
            found |= others(kind, ((b["Name"], b.get("Labels") or {}) for b in bodies))
        return frozenset(found)


def _telling(secret: Mapping[str, str]) -> tuple[str, ...]:
    """The values to keep out of messages, also as others quote them: Go and JSON escape, YAML doubles, and
    of a text of several lines one may be shown alone."""
    found: dict[str, None] = {}
    for value in secret.values():
        for part in {value, *value.split("\n")}:
            quoted = (json.dumps(part, ensure_ascii=ascii_only)[1:-1] for ascii_only in (False, True))
            found |= dict.fromkeys((part, *quoted, part.replace("'", "''")))
    return tuple(value for value in found if len(value) >= _TELLING)


def _leads_to(paths: set[str]) -> dict[str, str]:
    """Where paths lead on this machine, symlinks followed."""
    return {path: os.path.realpath(path) for path in paths if path.startswith("/")}
