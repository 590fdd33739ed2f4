"""``DockerSwarm``: the ``Swarm`` port on a real Docker Engine, 20.10 (API 1.41) or newer."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from warmd.adapters.docker import client, events, faults, listing
from warmd.adapters.docker.client import Engine, EngineAnswer
from warmd.adapters.docker.credentials import Credentials
from warmd.adapters.docker.images import Images
from warmd.adapters.docker.references import Reference
from warmd.adapters.shared import Shared
from warmd.core.model import LABEL_STACK, Json, StackSeen
from warmd.errors import DockerUnreachable, SwarmConflict
from warmd.ports import Clock, Container, Volume

#: Seconds for a connection, and for one whole answer.
CONNECT = 5.0
DEADLINE = 30.0

#: Seconds that a pull may go without saying anything, and all it may take.
PULL_IDLE = 120.0
PULL_DEADLINE = 2 * 3600.0

_KINDS = {"networks": "network", "configs": "config", "secrets": "secret", "services": "service"}
#: Made and never changed or removed: data lies in them.
_MADE_ONLY = {"volumes": "volume"}


@asynccontextmanager
async def open_swarm(
    docker_host: str,
    clock: Clock,
    *,
    connect: float = CONNECT,
    deadline: float = DEADLINE,
    pull_idle: float = PULL_IDLE,
    pull_deadline: float = PULL_DEADLINE,
    credentials: Credentials | None = None,
) -> AsyncIterator[DockerSwarm]:
    """The swarm behind ``unix:///path`` or ``tcp://host:port``; nothing is asked yet, so it may be down.

    ``connect`` is in seconds, for each connection, ``deadline`` for each call but a pull; a pull may take
    ``pull_deadline`` and be silent for ``pull_idle``. Raises ConfigError where ``docker_host`` is neither.
    """
    async with client.connect(docker_host, connect=connect, deadline=deadline) as engine:
        logins = credentials or Credentials()
        images = Images(engine, logins, idle=pull_idle, deadline=pull_deadline)
        yield DockerSwarm(engine, images, logins, clock)


class DockerSwarm:
    """Meets ``warmd.ports.Swarm``; made by ``open_swarm``.

    Beside what the port says, every call may raise DockerUnreachable: also where the node is no
    manager, or its swarm is locked.
    """

    def __init__(self, engine: Engine, images: Images, credentials: Credentials, clock: Clock) -> None:
        self._engine = engine
        self._images = images
        self._credentials = credentials
        self._clock = clock
        self._listing = Shared(self._list_all, clock.monotonic)
        self._stack_of: dict[str, str] = {}
        self._node = ""
        self._predefined: tuple[Json | None, ...] | None = None

    async def stacks(self, *, not_before: float) -> Mapping[str, StackSeen]:
        return await self._listing.get(not_before=not_before)

    async def _list_all(self) -> Mapping[str, StackSeen]:
        found = await self._list(LABEL_STACK)
        # What was removed is forgotten here, so that this can't grow for years
        self._stack_of = {s.id: seen.stack for seen in found.values() for s in seen.services}
        return found

    async def stack(self, name: str) -> StackSeen:
        seen = (await self._list(f"{LABEL_STACK}={name}")).get(name) or StackSeen(name)
        self._stack_of.update((service.id, name) for service in seen.services)
        return seen

    async def _list(self, label: str) -> dict[str, StackSeen]:
        filters = {"label": [label]}
        services = await self._engine.get("services", doing="listing services", filters=filters)
        tasks = await self._engine.get("tasks", doing="listing tasks", filters=filters)
        with self._engine.boundary("reading the listing"):
            return listing.stacks(services or (), tasks or ())

    async def networks(self) -> Sequence[Json]:
        return (*await self._objects("networks"), *await self._node_networks())

    async def _node_networks(self) -> Sequence[Json]:
        """The swarm's own ids of ``bridge`` and ``host``, by which services name them: listings leave
        them out. They are made with the swarm, so they are asked for until both were told of: while
        the swarm has no leader, the engine says of its networks that there are none."""
        if self._predefined is None or None in self._predefined:
            found = [
                await self._engine.call(
                    "GET",
                    f"networks/{name}",
                    doing=f"looking into network {name}",
                    params={"scope": "swarm"},
                    missing_ok=True,
                )
                for name in ("bridge", "host")
            ]
            self._predefined = tuple(found)
        return tuple(n for n in self._predefined if n is not None)

    async def configs(self) -> Sequence[Json]:
        return await self._objects("configs")

    async def secrets(self) -> Sequence[Json]:
        return await self._objects("secrets")

    async def _objects(self, kind: str) -> Sequence[Json]:
        return tuple(await self._engine.get(kind, doing=f"listing {kind}") or ())

    async def create(self, kind: str, body: Json) -> str:
        noun = _MADE_ONLY.get(kind) or _noun(kind)
        headers: dict[str, str] | None = None
        if kind == "networks":
            # Before 1.44 the engine makes a second network of a name without a word
            body = {**body, "CheckDuplicate": True}
        elif kind == "services":
            headers = await self._registry_auth(body)
        answer = await self._engine.call(
            "POST", f"{kind}/create", doing=f"creating {noun} {body.get('Name')}", body=body, headers=headers
        )
        with self._engine.boundary(f"creating {noun}"):
            return str(answer.get("ID") or answer.get("Id") or answer["Name"])

    async def update(self, kind: str, id_: str, index: int, body: Json) -> None:
        noun = _noun(kind)
        if kind == "networks":
            raise ValueError("the Engine API has no call to update a network")
        doing = f"updating {noun} {body.get('Name')}"
        params, headers = {"version": str(index)}, None
        if kind == "services":
            headers = await self._registry_auth(body)
            if headers is None:
                # Without a login of ours, the one kept in the swarm's spec goes on being used
                params["registryAuthFrom"] = "spec"
        path = f"{kind}/{quote(id_, safe='')}/update"
        try:
            await self._engine.ask("POST", path, doing=doing, params=params, body=body, headers=headers)
        except EngineAnswer as answer:
            if answer.status == 404:
                raise SwarmConflict(f"{doing}: it was removed meanwhile") from None
            raise faults.translate(self._engine.host, doing, answer.status, answer.message) from None

    async def remove(self, kind: str, id_: str) -> None:
        path = f"{kind}/{quote(id_, safe='')}"
        await self._engine.call("DELETE", path, doing=f"removing {_noun(kind)} {id_}", missing_ok=True)

    async def _registry_auth(self, service: Json) -> dict[str, str] | None:
        image = listing.dig(service, "TaskTemplate", "ContainerSpec", "Image")
        if not image:
            return None
        header = await self._credentials.header(Reference.parse(image).registry)
        return {"X-Registry-Auth": header} if header else None

    async def pull(self, image: str) -> str:
        return await self._images.pull(image)

    async def digest_of(self, image: str) -> str | None:
        return await self._images.digest_of(image)

    async def image_config(self, image: str) -> Json | None:
        inspected = await self._images.inspect(Reference.parse(image))
        return None if inspected is None else inspected.get("Config") or {}

    async def containers(self, *, stack: str | None = None, volume: str | None = None) -> Sequence[Container]:
        filters = {} if volume is None else {"volume": [volume]}
        if stack is None:
            listed = await self._list_containers(filters)
        else:
            # Docker's own client labels the containers too, but a spec need not come from it: then
            # the names tell, which swarm makes of the service's. Either filter is the engine's work.
            by_label = await self._list_containers(filters | {"label": [f"{LABEL_STACK}={stack}"]})
            by_name = await self._list_containers(filters | {"name": [f"^/?{re.escape(stack)}_"]})
            listed = [c for c in (*by_label, *by_name) if listing.belongs(c, stack)]
        ids = dict.fromkeys(c["Id"] for c in listed)
        inspected = [c for id_ in ids if (c := await self._inspect_container(id_)) is not None]
        if volume is not None:
            # The engine's filter also matches where something is mounted in the container
            inspected = [c for c in inspected if volume in c.volumes]
        return inspected

    async def _list_containers(self, filters: Mapping[str, list[str]]) -> list[Mapping[str, Any]]:
        found = await self._engine.get(
            "containers/json", doing="listing containers", filters=filters, all="1"
        )
        return list(found or ())

    async def _inspect_container(self, id_: str) -> Container | None:
        doing = f"looking into container {id_[:12]}"
        answer = await self._engine.call("GET", f"containers/{id_}/json", doing=doing, missing_ok=True)
        with self._engine.boundary(doing):
            # None: gone since it was listed
            return None if answer is None else listing.container(answer)

    async def volumes(self, stack: str | None = None) -> Sequence[Volume]:
        filters = None if stack is None else {"label": [f"{LABEL_STACK}={stack}"]}
        answer = await self._engine.get("volumes", doing="listing volumes", filters=filters)
        with self._engine.boundary("listing volumes"):
            found = [listing.volume(v) for v in answer.get("Volumes") or ()]
        return sorted(found, key=lambda v: v.name)

    async def node(self) -> str:
        if not self._node:
            info = await self._engine.get("info", doing="asking which node this is")
            node = listing.dig(info, "Swarm", "NodeID")
            if not node:
                raise DockerUnreachable(
                    f"the node at {self._engine.host} is in no swarm", hint="docker swarm init"
                )
            self._node = str(node)
        return self._node

    def events(self) -> AsyncGenerator[str, None]:
        # From now on, though the connection is only made at the first step: nothing falls between
        return events.listen(
            self._engine,
            lambda: self._clock.now().timestamp(),
            lambda service: self._stack_of.get(service),
            since=self._clock.now().timestamp(),
        )


def _noun(kind: str) -> str:
    """The singular. Raises ValueError for what the port has no kind for: a bug of the caller."""
    if kind not in _KINDS:
        raise ValueError(f"not a kind of swarm object: {kind!r}")
    return _KINDS[kind]
