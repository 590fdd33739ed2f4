"""What the deployer's tests share: a place to deploy to, whichever deployer and docker client."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio

from tests.lab import Lab
from warmd.adapters.clock import SystemClock
from warmd.core.model import Bundle, Release, ServiceSeen
from warmd.core.versions import Version
from warmd.plugins.base import Context
from warmd.plugins.deployers import stack as stack_plugin
from warmd.ports import Deployer, Swarm

RELEASE = Release(Version.of("1.0.0+1.0"), "1.0.0+1.0", "c0ffee", datetime(2026, 1, 2, tzinfo=UTC))

#: docker clients of this machine by path: the distribution's, and a newer one where it is installed.
CLIENTS = sorted(
    {
        str(path)
        for path in (
            Path("/usr/bin/docker"),
            Path("/usr/local/bin/docker"),
            Path(shutil.which("docker") or ""),
        )
        if path.is_file()
    }
)

#: Of the label that docker's client puts on all that is a stack's.
NAMESPACE = "com.docker.stack.namespace"


@dataclass
class Site:
    """One stack name of one swarm, a folder for a release's files, and deployers for it."""

    lab: Lab
    swarm: Swarm
    stack: str
    tree: Path
    client: str
    #: What a second of this swarm is of the clock: a model's time may run faster.
    second: float = 1.0

    def deployer(self, swarm: Swarm | None = None, **settings: Any) -> Deployer:
        """A deployer of ``compose.yml`` in the tree."""
        config = stack_plugin.Config(**{"files": ["compose.yml"], "client": self.client, **settings})
        context = Context(
            service=self.stack,
            stack=self.stack,
            folder=self.tree,
            mirrors=self.tree,
            config_dir=self.tree,
            docker_host=self.lab.docker_host,
            swarm=swarm or self.swarm,
            clock=SystemClock(),
        )
        return stack_plugin.build(config, context)

    def write(self, compose: str, **files: str) -> None:
        (self.tree / "compose.yml").write_text(compose)
        for name, content in files.items():
            (self.tree / name).write_text(content)

    async def bundle(self, compose: str, **settings: Any) -> Bundle:
        """``compose`` rendered and pinned, as a run has it when it comes to deploying."""
        self.write(compose)
        deployer = self.deployer(**settings)
        return await deployer.pin((await deployer.render(RELEASE, self.tree)).bundle)

    async def running(self, *services: str) -> None:
        """Wait until these services of the stack have converged."""
        await self.until(lambda seen: {n for n, s in seen.items() if s.converged} >= set(services))

    async def until(self, condition: Callable[[Mapping[str, ServiceSeen]], bool]) -> None:
        """Wait until ``condition(services by short name)`` holds."""
        with anyio.fail_after(60):
            while not condition(await self.services()):  # noqa: ASYNC110  # another process changes it
                await anyio.sleep(0.1)

    async def services(self) -> Mapping[str, ServiceSeen]:
        """The stack's services by their short names."""
        seen = await self.swarm.stack(self.stack)
        return {s.name.removeprefix(f"{self.stack}_"): s for s in seen.services}

    def task_ids(self) -> set[str]:
        """All tasks ever listed of the stack, ended ones too."""
        return {task["ID"] for task in self.lab.tasks(self.stack)}

    async def settled_task_ids(self) -> set[str]:
        """``task_ids`` once the orchestrator has dealt with everything up to now.

        It takes changes in order: when a service made now has its task, what came before was acted on.
        """
        name = f"{self.stack}-last"
        image = next(iter((await self.services()).values())).image
        self.lab.docker("service", "create", "--detach", "--endpoint-mode", "dnsrr", "--name", name, image)
        try:
            with anyio.fail_after(60):
                ps = ("service", "ps", "--filter", "desired-state=running", "--quiet", name)
                while not self.lab.docker(*ps):  # noqa: ASYNC110  # as above
                    await anyio.sleep(0.05)
            return self.task_ids()
        finally:
            self.lab.docker("service", "rm", name)

    async def indexes(self) -> dict[str, int]:
        return {name: service.index for name, service in (await self.services()).items()}
