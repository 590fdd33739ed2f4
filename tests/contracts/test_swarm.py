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
from tests.model import App, Model, ModelProcess, StepClock, swarm_of
from warmd.adapters.clock import SystemClock
from warmd.adapters.docker import open_swarm
from warmd.core.model import LABEL_STACK, ServiceSeen, StackSeen
from warmd.errors import Refused, SwarmConflict, Transient
from warmd.ports import Clock, Swarm

#: Seconds of the model's time that a call takes: nothing depends on how fast this machine is.
STEP = 0.1


class Place(Protocol):
    """A swarm, and a registry that it pulls from."""

    swarm: Swarm
    #: Seconds between looks of those who wait for something.
    pause: float

    def monotonic(self) -> float:
        """The clock that ``not_before`` is of."""

    def publish(
        self, tag: str, cmd: list[str], *, healthcheck: list[str] | None = None, volumes: tuple[str, ...] = ()
    ) -> str:
        """Put an image into the registry, not onto the node; its reference, with the tag."""

    def clear(self, stack: str) -> None:
        """Take a stack's objects away, whatever is left of them."""

    def restart(self) -> None:
        """Restart the engine; returns when the swarm answers again."""


class RealPlace:
    """A real dockerd and a real registry."""

    pause = 0.05

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

    def restart(self) -> None:
        self._lab.restart_dockerd()


@asynccontextmanager
async def real(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    lab: Lab = request.getfixturevalue("lab")
    clock = SystemClock()
    async with open_swarm(lab.docker_host, clock) as swarm:
        yield RealPlace(swarm, lab, clock)


class ModelPlace:
    """The model of a swarm, in whose world only calls take time."""

    pause = 0.002

    def __init__(self, swarm: Swarm, model: Model | ModelProcess, clock: Clock) -> None:
        self.swarm = swarm
        self.monotonic = clock.monotonic
        self._model = model

    def publish(
        self, tag: str, cmd: list[str], *, healthcheck: list[str] | None = None, volumes: tuple[str, ...] = ()
    ) -> str:
        reference = f"model.invalid:5000/contract:{tag}"
        app = App(cmd=tuple(cmd), healthcheck=tuple(healthcheck or ()), volumes=volumes)
        self._model.publish(reference, app)
        return reference

    def clear(self, stack: str) -> None:
        self._model.remove_stack(stack)

    def restart(self) -> None:
        self._model.restart_engine()


@asynccontextmanager
async def model(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    clock = StepClock(step=STEP)
    model = Model(request.getfixturevalue("tmp_path"))
    yield ModelPlace(swarm_of(model, clock), model, clock)


@asynccontextmanager
async def model_over_a_socket(_request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    clock = SystemClock()
    with ModelProcess(step=STEP) as model:
        async with open_swarm(model.docker_host, clock) as swarm:
            yield ModelPlace(swarm, model, clock)


IMPLEMENTATIONS: dict[str, Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Place]]] = {
    "docker": real,
    "model": model,
    "model over a socket": model_over_a_socket,
}


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.swarm] if name == "docker" else []) for name in IMPLEMENTATIONS
    ]
)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with IMPLEMENTATIONS[request.param](request) as place:
        Looks.pause = place.pause
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


class Looks:
    """Of the test that runs now."""

    pause = 0.05


async def until(what: str, look: Callable[[], Awaitable[Any]], deadline: float = 30) -> Any:
    """What ``look`` returns, once that is true."""
    with anyio.move_on_after(deadline):
        while True:
            if found := await look():
                return found
            await anyio.sleep(Looks.pause)
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
    with pytest.raises(SwarmConflict, match="update out of sequence"):
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


# What becomes of tasks: all that the stop, the health gate and the way back rely on

SLOW = ["sh", "-c", "trap 'sleep 1; exit 0' TERM; while :; do sleep 0.1; done"]
SOON = {"RestartPolicy": {"Condition": "any", "Delay": 200_000_000}}


def restarting(stack: str, image: str, **container: Any) -> dict[str, Any]:
    """A service whose tasks are replaced soon after they end."""
    body = service(stack, "web", image)
    inner = body["TaskTemplate"]["ContainerSpec"] | container
    return body | {"TaskTemplate": {"ContainerSpec": inner, **SOON}}


async def test_a_task_that_is_not_wanted_runs_until_its_container_has_ended(
    swarm: Swarm, place: Place, stack: str
) -> None:
    slow = place.publish("slow", SLOW)
    body = service(stack, "web", slow)
    await swarm.create("services", body)
    (task,) = (await converged(swarm, stack)).services[0].tasks
    await change(swarm, stack, body | replicas(0))
    told = set[tuple[str, str, bool]]()

    async def gone() -> bool:
        # In this order: the task is listed at least as long as its container runs
        running = [c.running for c in await swarm.containers(stack=stack) if c.task == task.id]
        tasks = [t for t in (await only(swarm, stack)).tasks if t.id == task.id]
        assert tasks or not any(await running_of(swarm, stack))
        told.update((t.state, t.desired, any(running)) for t in tasks)
        return not tasks and not await swarm.containers(stack=stack)

    await until("the stack to be gone", gone)
    assert ("running", "remove", True) in told
    assert ("shutdown", "remove", True) not in told


async def running_of(swarm: Swarm, stack: str) -> list[str]:
    return [c.image for c in await swarm.containers(stack=stack) if c.running]


async def test_a_missing_image_is_rejected_again_and_again(
    swarm: Swarm, place: Place, stack: str, image: str
) -> None:
    missing = f"{image.removesuffix(':1.0.0')}:missing"
    await swarm.create("services", restarting(stack, missing))

    async def twice() -> list[str] | None:
        tasks = [t for t in (await only(swarm, stack)).tasks if t.state == "rejected"]
        return [t.error for t in tasks] if len(tasks) >= 2 else None

    errors = await until("two rejected tasks", twice)
    assert errors[0] == f"No such image: {missing}"
    assert await swarm.containers(stack=stack) == []
    # The same name, published late, mends it: swarm never stops trying
    place.publish("missing", FOREVER)
    await converged(swarm, stack)


async def test_what_crashes_is_replaced_and_five_tasks_are_remembered(
    swarm: Swarm, place: Place, stack: str
) -> None:
    crashing = place.publish("crash", ["sh", "-c", "exit 7"])
    await swarm.create("services", restarting(stack, crashing))
    seen = set[str]()

    async def many() -> bool:
        tasks = (await only(swarm, stack)).tasks
        seen.update(t.id for t in tasks)
        assert len([t for t in tasks if t.desired in ("running", "ready")]) <= 1
        return len(seen) >= 7

    await until("seven tasks", many)
    await until("the oldest to be forgotten", lambda: _at_most_five(swarm, stack))


async def _at_most_five(swarm: Swarm, stack: str) -> bool:
    return len((await only(swarm, stack)).tasks) <= 5


async def test_a_task_starts_until_it_is_healthy_and_ends_where_it_is_not(
    swarm: Swarm, place: Place, stack: str
) -> None:
    bad = place.publish("never", FOREVER, healthcheck=["false"])
    await swarm.create("services", restarting(stack, bad))
    told = set[tuple[str, str]]()

    async def replaced() -> bool:
        tasks = (await only(swarm, stack)).tasks
        health = {c.task: c.health for c in await swarm.containers(stack=stack)}
        told.update((t.state, health.get(t.id, "")) for t in tasks)
        return len(tasks) > 1

    await until("the first to be replaced", replaced)
    assert ("starting", "starting") in told
    assert not any(state == "running" for state, _ in told)
    first = (await only(swarm, stack)).tasks[-1]
    assert (first.state in ("complete", "failed"), first.desired) == (True, "shutdown")


@pytest.mark.parametrize("order", ["stop-first", "start-first"])
async def test_an_update_ends_the_old_task_first_or_last(
    swarm: Swarm, place: Place, stack: str, order: str
) -> None:
    slow = place.publish("slow", SLOW)
    body = service(stack, "web", slow, UpdateConfig={"Parallelism": 1, "Order": order})
    await swarm.create("services", body)
    (old,) = (await converged(swarm, stack)).services[0].tasks
    new = place.publish("new", FOREVER)
    await change(swarm, stack, body | {"TaskTemplate": {"ContainerSpec": {"Image": new}}})
    together = set[int]()

    async def updated() -> bool:
        together.add(len(await running_of(swarm, stack)))
        seen = await only(swarm, stack)
        assert (seen.previous or {})["TaskTemplate"]["ContainerSpec"]["Image"] == slow
        over = {t.id: t.state for t in seen.tasks}[old.id] == "shutdown"
        return over and [t.state for t in seen.tasks if t.id != old.id] == ["running"]

    await until("the update to be through", updated)
    assert await running_of(swarm, stack) == [new]
    assert (2 in together) == (order == "start-first")
    # The old one stays in the list, and so does its container
    assert old.id in {c.task for c in await swarm.containers(stack=stack)}


@pytest.mark.parametrize(("action", "stays"), [("pause", True), ("continue", False)])
async def test_an_update_that_fails_start_first_keeps_the_old_task_only_where_it_pauses(
    swarm: Swarm, stack: str, image: str, action: str, stays: bool
) -> None:
    config = {"Parallelism": 1, "Order": "start-first", "FailureAction": action}
    body = restarting(stack, image) | {"UpdateConfig": config}
    await swarm.create("services", body)
    (old,) = (await converged(swarm, stack)).services[0].tasks
    missing = f"{image.removesuffix(':1.0.0')}:not-there"
    await change(swarm, stack, body | {"TaskTemplate": {"ContainerSpec": {"Image": missing}, **SOON}})

    async def decided() -> bool:
        states = {t.id: (t.state, t.desired) for t in (await only(swarm, stack)).tasks}
        rejected = [id_ for id_, (state, _) in states.items() if state == "rejected"]
        return len(rejected) >= 2 and states.get(old.id, ("", ""))[0] == ("running" if stays else "shutdown")

    await until("the new task to be rejected twice", decided)
    assert await running_of(swarm, stack) == ([image] if stays else [])


async def test_a_task_that_fits_nowhere_stays_pending_and_the_old_one_is_gone(
    swarm: Swarm, stack: str, image: str
) -> None:
    body = service(stack, "web", image)
    await swarm.create("services", body)
    await converged(swarm, stack)
    nowhere = {**body["TaskTemplate"], "Placement": {"Constraints": ["node.labels.moon == yes"]}}
    await change(swarm, stack, body | {"TaskTemplate": nowhere})

    async def waits() -> ServiceSeen | None:
        seen = await only(swarm, stack)
        states = [(t.state, t.desired) for t in seen.tasks]
        return seen if states == [("pending", "running"), ("shutdown", "shutdown")] else None

    seen: ServiceSeen = await until("the new task to wait", waits)
    assert seen.tasks[0].error == "no suitable node (scheduling constraints not satisfied on 1 node)"
    assert not seen.converged


async def test_scaled_to_nothing_and_back_what_ran_before_is_remembered(
    swarm: Swarm, stack: str, image: str
) -> None:
    body = service(stack, "web", image)
    await swarm.create("services", body)
    (first,) = (await converged(swarm, stack)).services[0].tasks
    await change(swarm, stack, body | {"TaskTemplate": {**body["TaskTemplate"], "ForceUpdate": 1}})
    await until("the new task to run", lambda: _another(swarm, stack, first.id))
    await change(swarm, stack, body | replicas(0))

    async def quiet() -> bool:
        # What the update replaced stays listed: it has ended long ago
        return [(t.id, t.state) for t in (await only(swarm, stack)).tasks] == [(first.id, "shutdown")]

    await until("the list to hold old tasks only", quiet)
    assert await running_of(swarm, stack) == []
    await change(swarm, stack, body)
    seen = (await converged(swarm, stack)).services[0]
    assert (seen.previous or {})["Mode"] == {"Replicated": {"Replicas": 0}}, (
        "swarm's own way back is to nothing"
    )


async def _another(swarm: Swarm, stack: str, than: str) -> bool:
    (task, *_) = (await only(swarm, stack)).tasks
    return task.id != than and task.state == "running"


async def test_of_a_removed_service_the_containers_go_last(swarm: Swarm, place: Place, stack: str) -> None:
    slow = place.publish("slow", SLOW)
    id_ = await swarm.create("services", service(stack, "web", slow))
    await converged(swarm, stack)
    await swarm.remove("services", id_)
    assert await swarm.stack(stack) == StackSeen(stack)
    assert await running_of(swarm, stack) == [slow]

    async def gone() -> bool:
        return not await swarm.containers(stack=stack)

    await until("the container to go", gone)


@pytest.mark.parametrize("kind", ["configs", "secrets", "networks"])
async def test_what_a_service_uses_can_not_be_removed(
    swarm: Swarm, stack: str, image: str, kind: str
) -> None:
    id_ = await swarm.create(kind, object_of(kind, stack, image))
    body = service(stack, "web", image, **replicas(0))
    if kind == "networks":
        body["TaskTemplate"]["Networks"] = [{"Target": f"{stack}_thing"}]
    else:
        key = kind[:-1].capitalize()
        reference = {f"{key}ID": id_, f"{key}Name": f"{stack}_thing"}
        file = {"Name": "thing", "UID": "0", "GID": "0", "Mode": 0o444}
        body["TaskTemplate"]["ContainerSpec"][f"{key}s"] = [{**reference, "File": file}]
    service_id = await swarm.create("services", body)
    with pytest.raises(Refused, match="in use by"):
        await swarm.remove(kind, id_)
    await swarm.remove("services", service_id)
    await swarm.remove(kind, id_)


async def test_a_restart_of_the_engine_replaces_the_task_and_keeps_the_rest(
    swarm: Swarm, place: Place, stack: str, image: str
) -> None:
    volume = f"{stack}_data"
    body = with_volume(service(stack, "web", image), stack, volume)
    body["TaskTemplate"] |= SOON
    await swarm.create("services", body)
    before = (await converged(swarm, stack)).services[0]
    await anyio.to_thread.run_sync(place.restart)

    async def replaced() -> bool:
        try:
            return await _another(swarm, stack, before.tasks[0].id)
        except Transient:  # no leader for a moment
            return False

    await until("the task to be replaced", replaced)
    after = (await converged(swarm, stack)).services[0]
    assert (after.spec, after.replicas) == (before.spec, 1)
    assert after.tasks[-1].id == before.tasks[0].id
    assert after.tasks[-1].state in ("failed", "complete", "shutdown")
    assert [v.name for v in await swarm.volumes(stack)] == [volume]
    assert len(await running_of(swarm, stack)) == 1


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
