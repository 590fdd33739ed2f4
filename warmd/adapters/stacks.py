"""The swarm side of every deployer: pin, check, read back, stop and apply a stack given as a ``Bundle``.

Nothing here knows where a bundle comes from, and nothing waits for health.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import anyio

from warmd.adapters import stack_check
from warmd.core import normal, specs
from warmd.core.model import LABEL_OWNER, Bundle, Json, Mount, ServiceSeen, StackSeen
from warmd.errors import Foreign, Refused, SwarmConflict, Transient, WarmdError
from warmd.ports import Ask, Clock, Swarm

T = TypeVar("T")

#: Times that a conflict with somebody else's change is met by reading again.
RETRIES = 5

#: Pulls at a time: more make the first one late and the disk busy.
PULLS = 2

#: Seconds that the last container may take beyond its grace: the engine's own kill and clean-up.
STOP_SLACK = 60.0

_POLL = 0.2

#: States that a task never leaves again.
_OVER = frozenset({"complete", "shutdown", "failed", "rejected", "remove", "orphaned"})


class StackOps:
    """One stack of a swarm. Methods as ``warmd.ports.Deployer`` has them."""

    def __init__(self, swarm: Swarm, stack: str, clock: Clock) -> None:
        self.stack = stack
        self._swarm = swarm
        self._clock = clock

    async def seen(self, *, not_before: float | None = None) -> StackSeen:
        if not_before is None:
            return await self._swarm.stack(self.stack)
        stacks = await self._swarm.stacks(not_before=not_before)
        return stacks.get(self.stack) or StackSeen(self.stack)

    async def read_back(self) -> Bundle:
        seen = await self._swarm.stack(self.stack)
        return specs.read_back(
            self.stack,
            [service.spec for service in seen.services],
            networks=await self._swarm.networks(),
            configs=await self._swarm.configs(),
            secrets=await self._swarm.secrets(),
        )

    async def pin(self, bundle: Bundle) -> Bundle:
        references: dict[str, str] = {}
        failed: list[WarmdError] = []
        limiter = anyio.CapacityLimiter(PULLS)

        async def pull(image: str) -> None:
            try:
                async with limiter:
                    references[image] = await self._swarm.pull(image)
            except WarmdError as error:  # kept, so that the caller sees it and not a group of one
                failed.append(error)
                group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for image in sorted(set(bundle.images.values())):
                group.start_soon(pull, image)
        if failed:
            raise failed[0]
        return specs.pinned(bundle, references)

    async def check(self, bundle: Bundle) -> tuple[Mount, ...]:
        found = await self._objects()
        if problems := stack_check.problems(self.stack, bundle, found):
            raise stack_check.refusal(self.stack, problems)
        return await self.mounts(bundle)

    async def mounts(self, bundle: Bundle) -> tuple[Mount, ...]:
        return await self._mounts(bundle.services)

    async def writable(self) -> tuple[Mount, ...]:
        seen = await self._swarm.stack(self.stack)
        return await self._mounts([service.spec for service in seen.services])

    async def _mounts(self, services: Sequence[Json]) -> tuple[Mount, ...]:
        """Images that are not here are pulled: what they declare as volumes is part of the answer."""
        images: dict[str, Json] = {}
        for image in sorted({specs.container(s)["Image"] for s in services}):
            config = await self._swarm.image_config(image)
            if config is None:
                await self._swarm.pull(image)
                config = await self._swarm.image_config(image)
            if config is None:
                raise Transient(f"image {image} is not on this node", hint=f"docker pull {image}")
            images[image] = config
        return specs.mounts(services, images)

    async def _objects(self) -> stack_check.Found:
        return stack_check.Found(
            networks=await self._swarm.networks(),
            configs=await self._swarm.configs(),
            secrets=await self._swarm.secrets(),
        )

    # Stopping

    async def stop(self, *, ask: Ask | None = None) -> None:
        began, patience, done = self._clock.monotonic(), STOP_SLACK, set[str]()

        async def scale_down() -> StackSeen:
            return await self._scale_down(done, ask)

        while True:
            # Looked at each time round: whoever scales it up meanwhile must not make a copy of moving data.
            seen = await self._retried(scale_down)
            patience = max([patience, *(specs.grace(s.spec) + STOP_SLACK for s in seen.services)])
            left = [f"task {t.id} of {t.service} ({t.state})" for t in _unfinished(seen)]
            if not left:
                # A task is listed as gone before its container is, and those of removed services never.
                containers = await self._swarm.containers(stack=self.stack)
                left = [f"container {c.id[:12]} of {c.service}" for c in containers if c.running]
            if not left:
                return
            if self._clock.monotonic() - began > patience:
                raise Transient(
                    f"stack {self.stack} did not stop within {patience:.0f} s: {', '.join(left)} still there",
                    hint=f"docker stack ps {self.stack}",
                )
            await self._clock.sleep(_POLL)

    async def _scale_down(self, done: set[str], ask: Ask | None) -> StackSeen:
        """Want nothing: replicated services 0 times; global ones and jobs, which have no 0, not at all.

        Each once, ``done`` says which: against somebody who scales up there is nothing to win.
        """
        seen = await self._swarm.stack(self.stack)
        if ask is not None:
            await ask(seen)
        if again := [s.name for s in seen.services if s.id in done and s.replicas]:
            raise Foreign(f"{', '.join(again)} was scaled up again while stack {self.stack} is stopped")
        for service in seen.services:
            if service.replicas is None:
                await self._swarm.remove("services", service.id)
            elif service.replicas > 0:
                spec = {**service.spec, "Mode": {"Replicated": {"Replicas": 0}}}
                await self._swarm.update("services", service.id, service.index, spec)
                done.add(service.id)
        return seen

    # Applying

    async def deploy(self, bundle: Bundle, *, labels: Mapping[str, str], ask: Ask | None = None) -> None:
        async def apply() -> None:
            await self._apply(bundle, labels, ask)

        await self._retried(apply)

    async def _retried(self, act: Callable[[], Awaitable[T]]) -> T:
        """``act`` reads before it writes, so on a conflict it is done anew from what is there then."""
        for attempt in range(RETRIES):
            try:
                return await act()
            except SwarmConflict:
                await self._clock.sleep((0.05 + 0.1 * self._clock.jitter()) * 2**attempt)
        return await act()

    async def _apply(self, bundle: Bundle, labels: Mapping[str, str], ask: Ask | None) -> None:
        seen = await self._swarm.stack(self.stack)
        if ask is not None:
            await ask(seen)
        owner = labels.get(LABEL_OWNER)
        if owner is not None and seen.owner not in (None, owner):
            raise Refused(
                f"stack {self.stack} belongs to another installation of warmd ({seen.owner})",
                hint=f"stop that one, or take the label {LABEL_OWNER} off its services",
            )
        ids = await self._apply_parts(bundle)
        names = {n["Id"]: n["Name"] for n in await self._swarm.networks()}
        wanted = {spec["Name"]: specs.careful(_labelled(spec, labels)) for spec in bundle.services}
        live: dict[str, ServiceSeen] = {}
        for service in seen.services:
            spec = wanted.get(service.name)
            if spec is not None and normal.mode(spec)["kind"] == normal.mode(service.spec)["kind"]:
                live[service.name] = service
            else:  # before anything is started: it may hold the ports that the others need
                await self._swarm.remove("services", service.id)
        for name, spec in wanted.items():
            try:
                await self._apply_service(spec, live.get(name), ids, names)
            except Refused as error:
                if await self._lost_network(bundle):
                    raise SwarmConflict(f"a network of stack {self.stack} was just removed") from error
                raise

    async def _lost_network(self, bundle: Bundle) -> bool:
        """A ``docker stack rm`` that is not through yet removes networks last, also under our feet."""
        there = {n["Name"] for n in await self._swarm.networks()}
        return any(body["Name"] not in there for body in bundle.networks)

    async def _apply_parts(self, bundle: Bundle) -> Mapping[tuple[str, str], str]:
        """Make the networks, secrets and configs that are missing; ids of the latter two by (kind, name)."""
        found = await self._objects()
        if problems := stack_check.problems(self.stack, bundle, found):
            raise stack_check.refusal(self.stack, problems)
        networks = {n["Name"] for n in found.networks}
        for body in bundle.networks:
            if body["Name"] not in networks:
                await self._swarm.create("networks", _addresses_kept(body))
        ids: dict[tuple[str, str], str] = {}
        for kind, listed, bodies in (
            ("secrets", found.secrets, bundle.secrets),
            ("configs", found.configs, bundle.configs),
        ):
            there = {o["Spec"]["Name"]: o for o in listed}
            ids |= {(kind, name): o["ID"] for name, o in there.items()}
            for body in bodies:
                name = body["Name"]
                if name in there:
                    await self._relabel(kind, there[name], body)
                else:
                    made = specs.marked(body) if kind == "secrets" else body
                    ids[kind, name] = await self._swarm.create(kind, made)
        return ids

    async def _relabel(self, kind: str, there: Json, body: Json) -> None:
        """Labels are all that can change. Ours stay as they are: they say what the content was."""
        old = there["Spec"].get("Labels") or {}
        new = {k: v for k, v in old.items() if k.startswith("warmd.")} | specs.without_ours(
            body.get("Labels")
        )
        if new != old:
            spec = {**there["Spec"], "Labels": new}
            await self._swarm.update(kind, there["ID"], there["Version"]["Index"], spec)

    async def _apply_service(
        self,
        spec: Json,
        live: ServiceSeen | None,
        ids: Mapping[tuple[str, str], str],
        names: Mapping[str, str],
    ) -> None:
        if live is None:
            await self._swarm.create("services", _with_ids(spec, ids))
            return
        there, wanted = normal.service(specs.by_name(live.spec, names)), normal.service(spec)
        if there == wanted:
            return
        post = _with_ids(spec, ids)
        # swarmkit compares to the letter: a spec that only means the same would restart the tasks. Going
        # back in the middle of a rolling update, that would be the ones which are still well.
        for raw in filter(None, (live.previous, live.spec)):
            meant = normal.service(specs.by_name(raw, names))
            for part in ("TaskTemplate", "EndpointSpec"):
                if meant.get(part) == wanted.get(part):
                    post[part] = raw.get(part)
        await self._swarm.update("services", live.id, live.index, post)


def _unfinished(seen: StackSeen) -> list[Any]:
    return [t for service in seen.services for t in service.tasks if t.state not in _OVER]


def _labelled(spec: Json, labels: Mapping[str, str]) -> dict[str, Any]:
    return {**spec, "Labels": {**(spec.get("Labels") or {}), **labels}}


def _addresses_kept(body: Json) -> Json:
    """With a label where the addresses were asked for: once assigned, they all look alike."""
    if not (body.get("IPAM") or {}).get("Config"):
        return body
    return {**body, "Labels": {**(body.get("Labels") or {}), specs.LABEL_ADDRESSES: "asked"}}


def _with_ids(spec: Json, ids: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """The engine resolves names of networks itself, those of configs and secrets not."""
    inner = dict(specs.container(spec))
    for key, kind, id_, name in (
        ("Configs", "configs", "ConfigID", "ConfigName"),
        ("Secrets", "secrets", "SecretID", "SecretName"),
    ):
        if references := inner.get(key):
            inner[key] = [{**r, id_: ids[kind, r[name]]} if r.get(name) else r for r in references]
    return {**spec, "TaskTemplate": {**spec["TaskTemplate"], "ContainerSpec": inner}}
