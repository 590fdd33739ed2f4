"""The contract of the ``Swarm`` port. Every implementation passes all of it.

An implementation comes as a ``Place``: the swarm, and the little beside it that a test needs to set
the scene. To add one, write its Place and name it in ``IMPLEMENTATIONS``.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, Protocol, cast

import anyio
import pytest

from tests.contracts.stacks import FOREVER, change, only, replicas, service
from tests.lab import Lab
from warmd.adapters.clock import SystemClock
from warmd.adapters.docker import open_swarm
from warmd.core.model import LABEL_STACK, ServiceSeen, StackSeen
from warmd.errors import Refused, SwarmConflict
from warmd.ports import Swarm


class Place(Protocol):
    """A swarm, and a registry that it pulls from."""

    swarm: Swarm

    def monotonic(self) -> float:
        """The clock that ``not_before`` is of."""

    def publish(
        self, tag: str, cmd: list[str], *, healthcheck: list[str] | None = None, volumes: tuple[str, ...] = ()
    ) -> str:
        """Put an image into the registry, not onto the node; its reference, with the tag."""

    def clear(self, stack: str) -> None:
        """Take a stack's objects away, whatever is left of them."""


class RealPlace:
    """A real dockerd and a real registry."""

    def __init__(self, swarm: Swarm, lab: Lab, clock: SystemClock) -> None:
        self.swarm = swarm
        self.monotonic = clock.monotonic
        self._lab = lab

    def publish(
        self, tag: str, cmd: list[str], *, healthcheck: list[str] | None = None, volumes: tuple[str, ...] = ()
    ) -> str:
        return self._lab.image("contract", tag, {}, cmd, healthcheck=healthcheck, volumes=volumes)

    def clear(self, stack: str) -> None:
        self._lab.remove_stack(stack)


@asynccontextmanager
async def real(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    lab: Lab = request.getfixturevalue("lab")
    clock = SystemClock()
    async with open_swarm(lab.docker_host, clock) as swarm:
        yield RealPlace(swarm, lab, clock)


IMPLEMENTATIONS: dict[str, Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Place]]] = {
    "docker": real,
}


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.swarm) for name in IMPLEMENTATIONS])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with IMPLEMENTATIONS[request.param](request) as place:
        yield place


@pytest.fixture
def stack(place: Place) -> Iterator[str]:
    name = f"c{secrets.token_hex(4)}"
    yield name
    place.clear(name)


@pytest.fixture
def swarm(place: Place) -> Swarm:
    return place.swarm


@pytest.fixture
def image(place: Place) -> str:
    return place.publish("1.0.0", FOREVER)


def with_volume(body: dict[str, Any], stack: str, volume: str) -> dict[str, Any]:
    container = body["TaskTemplate"]["ContainerSpec"] | {
        "Mounts": [
            {
                "Type": "volume",
                "Source": volume,
                "Target": "/data",
                "VolumeOptions": {"Labels": {LABEL_STACK: stack}},
            }
        ]
    }
    return body | {"TaskTemplate": {"ContainerSpec": container}}


async def until(what: str, look: Callable[[], Awaitable[Any]], deadline: float = 30) -> Any:
    """What ``look`` returns, once that is true."""
    with anyio.move_on_after(deadline):
        while True:
            if found := await look():
                return found
            await anyio.sleep(0.05)
    raise AssertionError(f"waited {deadline} s in vain for {what}")


async def converged(swarm: Swarm, stack: str) -> StackSeen:
    async def look() -> StackSeen | None:
        seen = await swarm.stack(stack)
        return seen if seen.deployed and all(s.converged for s in seen.services) else None

    found: StackSeen = await until(f"{stack} to converge", look)
    return found


# Looking


async def test_an_unknown_stack_is_not_deployed(swarm: Swarm, place: Place, stack: str) -> None:
    assert await swarm.stack(stack) == StackSeen(stack)
    assert stack not in await swarm.stacks(not_before=place.monotonic())


async def test_a_service_is_listed_with_its_spec_and_its_task(swarm: Swarm, stack: str, image: str) -> None:
    body = service(stack, "web", image, Labels={LABEL_STACK: stack, "warmd.owner": "me"})
    id_ = await swarm.create("services", body)
    seen = await converged(swarm, stack)
    (web,) = seen.services
    assert (web.id, web.name, web.image, web.replicas) == (id_, f"{stack}_web", image, 1)
    assert (seen.owner, web.labels) == ("me", body["Labels"])
    assert web.spec["EndpointSpec"]["Mode"] == "dnsrr"
    (task,) = web.tasks
    assert (task.service, task.state, task.desired, task.image) == (web.name, "running", "running", image)
    assert task.container
    assert task.error == ""
    assert task.node == await swarm.node() != ""


async def test_both_listings_show_the_same(swarm: Swarm, place: Place, stack: str, image: str) -> None:
    for name in ("web", "db", "app"):
        await swarm.create("services", service(stack, name, image))
    alone = await converged(swarm, stack)
    shared = (await swarm.stacks(not_before=place.monotonic()))[stack]
    assert [s.name for s in alone.services] == [f"{stack}_app", f"{stack}_db", f"{stack}_web"], "by name"
    assert shared == alone


async def test_a_stack_whose_name_begins_with_another_s_is_another(
    swarm: Swarm, place: Place, stack: str, image: str
) -> None:
    longer = f"{stack}_x"
    try:
        await swarm.create("services", service(stack, "web", image))
        await swarm.create("services", service(longer, "web", image))
        await converged(swarm, stack)
        await converged(swarm, longer)
        assert [s.name for s in (await swarm.stack(stack)).services] == [f"{stack}_web"]
        assert {c.service for c in await swarm.containers(stack=stack)} == {f"{stack}_web"}
        assert {c.service for c in await swarm.containers(stack=longer)} == {f"{longer}_web"}
    finally:
        await anyio.to_thread.run_sync(place.clear, longer)


async def test_a_listing_is_fresh_enough_for_whoever_asks(
    swarm: Swarm, place: Place, stack: str, image: str
) -> None:
    before = place.monotonic()
    assert stack not in await swarm.stacks(not_before=before)
    await swarm.create("services", service(stack, "web", image))
    changed = place.monotonic()
    assert stack in await swarm.stacks(not_before=changed), "asked for later than the change: shows it"
    assert await swarm.stacks(not_before=changed) is await swarm.stacks(not_before=before), "shared"


async def test_the_newest_task_comes_first(swarm: Swarm, stack: str, image: str) -> None:
    body = service(stack, "web", image)
    await swarm.create("services", body)
    first = (await converged(swarm, stack)).services[0]
    for force in (1, 2):
        body["TaskTemplate"] = body["TaskTemplate"] | {"ForceUpdate": force}
        now = await change(swarm, stack, body)

        async def replaced(old: str = now.tasks[0].id) -> bool:
            (task, *older) = (await only(swarm, stack)).tasks
            return task.id != old and task.state == "running" and old in {t.id for t in older}

        await until("the new task to run", replaced)
    tasks = (await only(swarm, stack)).tasks
    assert len(tasks) == 3
    assert tasks[0].desired == "running"
    assert tasks[-1].id == first.tasks[0].id


async def test_a_global_service_has_no_replicas_and_converges(swarm: Swarm, stack: str, image: str) -> None:
    await swarm.create("services", service(stack, "agent", image, Mode={"Global": {}}))
    (agent,) = (await converged(swarm, stack)).services
    assert (agent.replicas, agent.running) == (None, 1)


async def test_what_fails_says_why(swarm: Swarm, place: Place, stack: str) -> None:
    crashing = place.publish("crash", ["sh", "-c", "exit 7"])
    await swarm.create("services", service(stack, "web", crashing))

    async def failed() -> ServiceSeen | None:
        seen = await only(swarm, stack)
        return seen if any(t.state == "failed" for t in seen.tasks) else None

    seen: ServiceSeen = await until("a failed task", failed)
    assert not seen.converged
    assert any("7" in t.error for t in seen.tasks)


# Changing


async def test_an_update_replaces_the_whole_spec(swarm: Swarm, stack: str, image: str) -> None:
    await swarm.create("services", service(stack, "web", image, Labels={LABEL_STACK: stack, "old": "1"}))
    body = service(stack, "web", image, Labels={LABEL_STACK: stack, "new": "2"})
    before = await change(swarm, stack, body)
    after = await only(swarm, stack)
    assert after.labels == body["Labels"]
    assert after.index > before.index


async def test_what_was_read_can_be_written_back(swarm: Swarm, stack: str, image: str) -> None:
    await swarm.create("services", with_volume(service(stack, "web", image), stack, f"{stack}_data"))
    before = (await converged(swarm, stack)).services[0]
    await change(swarm, stack, before.spec)
    after = (await converged(swarm, stack)).services[0]
    assert after.spec == before.spec
    assert [t.id for t in after.tasks] == [t.id for t in before.tasks], "not one task was created"


async def test_a_stale_index_is_a_conflict_and_changes_nothing(swarm: Swarm, stack: str, image: str) -> None:
    body = service(stack, "web", image)
    await swarm.create("services", body)
    stale = await change(swarm, stack, body | {"Labels": {LABEL_STACK: stack, "n": "1"}})
    with pytest.raises(SwarmConflict):
        await swarm.update(
            "services", stale.id, stale.index, body | {"Labels": {LABEL_STACK: stack, "n": "2"}}
        )
    assert (await only(swarm, stack)).labels["n"] == "1"


async def test_updating_what_was_removed_is_a_conflict(swarm: Swarm, stack: str, image: str) -> None:
    body = service(stack, "web", image)
    await swarm.create("services", body)
    gone = await only(swarm, stack)
    await swarm.remove("services", gone.id)
    with pytest.raises(SwarmConflict):
        await swarm.update("services", gone.id, gone.index, body)


async def test_at_scale_zero_no_task_and_no_container_is_left(swarm: Swarm, stack: str, image: str) -> None:
    body = service(stack, "web", image)
    await swarm.create("services", body)
    await converged(swarm, stack)
    assert len(await swarm.containers(stack=stack)) == 1
    await change(swarm, stack, body | replicas(0))

    async def stopped() -> bool:
        return not (await only(swarm, stack)).tasks and not await swarm.containers(stack=stack)

    await until("the stack to be stopped", stopped)
    assert (await only(swarm, stack)).replicas == 0


def object_of(kind: str, stack: str, image: str) -> dict[str, Any]:
    name, labels = f"{stack}_thing", {LABEL_STACK: stack}
    data = base64.b64encode(b"content").decode()
    return {
        "networks": {"Name": name, "Driver": "overlay", "Labels": labels},
        "configs": {"Name": name, "Labels": labels, "Data": data},
        "secrets": {"Name": name, "Labels": labels, "Data": data},
        "services": service(stack, "thing", image),
    }[kind]


KINDS = ("networks", "configs", "secrets", "services")


async def listed(swarm: Swarm, kind: str, stack: str) -> list[Mapping[str, Any]]:
    """Objects of a stack, by the listing of their kind."""
    if kind == "services":
        return [{"ID": s.id, "Name": s.name} for s in (await swarm.stack(stack)).services]
    look = {"networks": swarm.networks, "configs": swarm.configs, "secrets": swarm.secrets}[kind]
    return [o for o in await look() if ((o.get("Spec") or o).get("Labels") or {}).get(LABEL_STACK) == stack]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_object_is_made_listed_and_removed(swarm: Swarm, stack: str, image: str, kind: str) -> None:
    id_ = await swarm.create(kind, object_of(kind, stack, image))
    (found,) = await listed(swarm, kind, stack)
    assert (found.get("ID") or found["Id"], (found.get("Spec") or found)["Name"]) == (id_, f"{stack}_thing")
    await swarm.remove(kind, id_)
    assert await listed(swarm, kind, stack) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_name_that_exists_is_a_conflict(swarm: Swarm, stack: str, image: str, kind: str) -> None:
    await swarm.create(kind, object_of(kind, stack, image))
    with pytest.raises(SwarmConflict, match=f"{stack}_thing"):
        await swarm.create(kind, object_of(kind, stack, image))
    assert len(await listed(swarm, kind, stack)) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_removing_what_is_gone_is_fine(swarm: Swarm, stack: str, image: str, kind: str) -> None:
    id_ = await swarm.create(kind, object_of(kind, stack, image))
    await swarm.remove(kind, id_)
    await swarm.remove(kind, id_)
    await swarm.remove(kind, "neverwasthere")


async def test_what_the_engine_rejects_is_refused_in_its_words(swarm: Swarm, stack: str, image: str) -> None:
    with pytest.raises(Refused, match="name must be valid as a DNS name component"):
        await swarm.create("services", service(stack, "not a name", image))
    with pytest.raises(Refused, match="secret"):
        await swarm.create("secrets", {"Name": f"{stack}_empty", "Labels": {}})


@pytest.mark.parametrize("kind", ["configs", "secrets"])
async def test_labels_of_configs_and_secrets_can_change_their_data_can_not(
    swarm: Swarm, stack: str, image: str, kind: str
) -> None:
    body = object_of(kind, stack, image)
    id_ = await swarm.create(kind, body)
    (found,) = await listed(swarm, kind, stack)
    relabelled = found["Spec"] | {"Labels": {LABEL_STACK: stack, "seen": "yes"}}
    await swarm.update(kind, id_, found["Version"]["Index"], relabelled)
    (after,) = await listed(swarm, kind, stack)
    assert after["Spec"]["Labels"]["seen"] == "yes"
    assert after["Spec"].get("Data") == (body["Data"] if kind == "configs" else None), "secrets stay secret"
    other = relabelled | {"Data": base64.b64encode(b"other").decode()}
    with pytest.raises(Refused):
        await swarm.update(kind, id_, after["Version"]["Index"], other)
    with pytest.raises(SwarmConflict):
        await swarm.update(kind, id_, found["Version"]["Index"], relabelled)


async def test_a_kind_that_does_not_exist_is_a_bug(swarm: Swarm) -> None:
    with pytest.raises(ValueError, match="nodes"):
        await swarm.create("nodes", {})
    with pytest.raises(ValueError, match="network"):
        await swarm.update("networks", "x", 1, {})


# Containers and volumes


async def test_a_container_is_told_with_its_task_and_what_it_mounts(
    swarm: Swarm, stack: str, image: str
) -> None:
    volume = f"{stack}_data"
    await swarm.create("services", with_volume(service(stack, "web", image), stack, volume))
    task = (await converged(swarm, stack)).services[0].tasks[0]
    (found,) = await swarm.containers(stack=stack)
    assert (found.id, found.service, found.task) == (task.container, f"{stack}_web", task.id)
    assert (found.running, found.image, found.volumes, found.health) == (True, image, (volume,), "")
    assert found.started.startswith("20")
    assert await swarm.containers(volume=volume) == [found]
    assert await swarm.containers(volume=volume, stack=stack) == [found]
    assert found in await swarm.containers()
    assert await swarm.containers(volume="/data") == [], "a volume's name is meant, not where it is mounted"
    assert await swarm.containers(volume=f"{stack}_other") == []


async def test_a_container_without_the_stack_s_label_is_found_by_its_name(
    swarm: Swarm, stack: str, image: str
) -> None:
    body = service(stack, "web", image) | {"TaskTemplate": {"ContainerSpec": {"Image": image}}}
    await swarm.create("services", body)
    task = (await converged(swarm, stack)).services[0].tasks[0]
    assert [c.id for c in await swarm.containers(stack=stack)] == [task.container]


async def test_a_stopped_container_is_still_a_container(swarm: Swarm, place: Place, stack: str) -> None:
    once = place.publish("once", ["true"])
    body = service(stack, "job", once)
    body["TaskTemplate"]["RestartPolicy"] = {"Condition": "none"}
    await swarm.create("services", body)

    async def ended() -> bool:
        return [c.running for c in await swarm.containers(stack=stack)] == [False]

    await until("the container to end", ended)


async def test_the_health_of_a_container_is_told(swarm: Swarm, place: Place, stack: str) -> None:
    good = place.publish("healthy", FOREVER, healthcheck=["true"])
    bad = place.publish("unhealthy", FOREVER, healthcheck=["false"])
    await swarm.create("services", service(stack, "good", good))
    await swarm.create("services", service(stack, "bad", bad))
    seen = set[tuple[str, str]]()

    async def told() -> bool:
        seen.update((c.service, c.health) for c in await swarm.containers(stack=stack))
        return {(f"{stack}_good", "healthy"), (f"{stack}_bad", "starting")} <= seen

    await until("both to be told", told)
    assert (f"{stack}_good", "unhealthy") not in seen
    assert (f"{stack}_bad", "healthy") not in seen


async def test_volumes_are_listed_by_stack_and_all_together(swarm: Swarm, stack: str, image: str) -> None:
    volume = f"{stack}_data"
    await swarm.create("services", with_volume(service(stack, "web", image), stack, volume))
    await converged(swarm, stack)
    (found,) = await swarm.volumes(stack)
    assert (found.name, found.driver, found.options) == (volume, "local", {})
    assert found.labels == {LABEL_STACK: stack}
    assert found.mountpoint.startswith("/")
    assert found in await swarm.volumes()
    assert await swarm.volumes(f"{stack}_other") == []


async def test_a_volume_is_made_once_and_never_removed(swarm: Swarm, stack: str) -> None:
    body = {"Name": f"{stack}_thing", "Labels": {LABEL_STACK: stack}}
    assert await swarm.create("volumes", body) == f"{stack}_thing"
    (made,) = await swarm.volumes(stack)
    assert (made.name, made.driver, dict(made.labels)) == (f"{stack}_thing", "local", {LABEL_STACK: stack})
    assert await swarm.create("volumes", body) == f"{stack}_thing"
    assert await swarm.volumes(stack) == [made], "one that exists stays as it is"
    with pytest.raises(ValueError, match="volumes"):
        await swarm.remove("volumes", f"{stack}_thing")


# Images


async def test_a_pull_pins_the_digest_and_keeps_the_tag(swarm: Swarm, place: Place) -> None:
    tag = secrets.token_hex(4)
    image = place.publish(tag, ["true"], volumes=("/state",))
    assert await swarm.image_config(image) is None, "published, not here yet"
    pinned = await swarm.pull(image)
    name, _, digest = pinned.partition("@")
    assert name == image
    assert digest.startswith("sha256:")
    for reference in (image, pinned, image.removesuffix(f":{tag}") + f"@{digest}"):
        config = await swarm.image_config(reference)
        assert config is not None
        assert (config["Volumes"], config["Cmd"]) == ({"/state": {}}, ["true"])
    assert await swarm.pull(image) == pinned
    assert await swarm.pull(pinned) == pinned


async def test_a_tag_that_moved_is_pulled_anew_and_the_old_digest_stays_what_it_was(
    swarm: Swarm, place: Place
) -> None:
    tag = secrets.token_hex(4)
    old = await swarm.pull(place.publish(tag, ["true"]))
    new = await swarm.pull(place.publish(tag, ["false"]))
    assert old.split("@")[0] == new.split("@")[0]
    assert old != new
    assert [(await swarm.image_config(i) or {}).get("Cmd") for i in (old, new)] == [["true"], ["false"]]
    assert await swarm.pull(old) == old


async def test_an_image_that_does_not_exist_is_refused_by_name(swarm: Swarm, place: Place) -> None:
    image = place.publish("here", ["true"])
    pinned = await swarm.pull(image)
    name = image.removesuffix(":here")
    for missing in (f"{name}:nowhere", f"{name}-too:here", pinned[:-8] + "00000000"):
        with pytest.raises(Refused) as refused:
            await swarm.pull(missing)
        assert missing in str(refused.value)
        assert await swarm.image_config(missing) is None


@pytest.mark.parametrize("text", ["", "UPPER", "name:", "name@", "name@sha256:12", "a b", "../x?y=z"])
async def test_what_is_no_image_reference_is_refused(swarm: Swarm, text: str) -> None:
    with pytest.raises(Refused, match="image"):
        await swarm.pull(text)


async def test_a_service_runs_what_was_pulled(swarm: Swarm, image: str, stack: str) -> None:
    pinned = await swarm.pull(image)
    await swarm.create("services", service(stack, "web", pinned))
    seen = await converged(swarm, stack)
    assert seen.services[0].tasks[0].image == pinned
    assert [c.image for c in await swarm.containers(stack=stack)] == [pinned]


# Events


async def test_a_change_is_hinted_at_within_a_second(swarm: Swarm, stack: str, image: str) -> None:
    await swarm.pull(image)
    body = service(stack, "web", image)
    async with aclosing(cast("AsyncGenerator[str, None]", swarm.events())) as events:

        async def hint() -> None:
            with anyio.fail_after(1):
                async for name in events:
                    if name == stack:
                        return

        # Between the call and the first step nothing is lost
        id_ = await swarm.create("services", body)
        await hint()
        await converged(swarm, stack)
        for force in (1, 2):
            await change(swarm, stack, body | {"TaskTemplate": body["TaskTemplate"] | {"ForceUpdate": force}})
            await hint()
        await swarm.remove("services", id_)
        await hint()
