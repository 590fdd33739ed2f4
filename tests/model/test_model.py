"""The model beyond what the contract of the swarm's port says: time, faults, what it watches for."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.contracts.stacks import change, only, replicas, service
from tests.model import App, Fault, Model, ModelProcess, Timing, VirtualClock, swarm_of
from warmd.adapters.clock import SystemClock
from warmd.adapters.docker import DockerSwarm, open_swarm
from warmd.core.model import LABEL_STACK
from warmd.errors import DockerUnreachable, Refused, Transient

IMAGE = "r.example/app"
SECOND = 1_000_000_000


class Scene:
    """A model in virtual time, one service ``s_web`` on the volume ``s_data``."""

    def __init__(self, root: Path, seed: int = 1) -> None:
        self.model = Model(root, seed=seed)
        self.clock = VirtualClock(self.model, seed=seed)
        self.swarm = swarm_of(self.model, self.clock)

    def publish(self, version: str, **app: Any) -> str:
        self.model.publish(f"{IMAGE}:{version}", App(version, **app))
        return f"{IMAGE}:{version}"

    def body(self, image: str, *, grace: int = 10, port: int = 0, **changes: Any) -> dict[str, Any]:
        body = service("s", "web", image)
        inner = body["TaskTemplate"]["ContainerSpec"]
        inner["Mounts"] = [{"Type": "volume", "Source": "s_data", "Target": "/data"}]
        inner["StopGracePeriod"] = grace * SECOND
        body["TaskTemplate"]["RestartPolicy"] = {"Condition": "any", "Delay": SECOND}
        if port:
            ports = [{"TargetPort": 80, "PublishedPort": port, "Protocol": "tcp", "PublishMode": "host"}]
            body["EndpointSpec"] = {"Mode": "dnsrr", "Ports": ports}
        return body | changes

    async def run(self, body: Mapping[str, Any], seconds: float = 5) -> None:
        """Make the service, or change it, and let time pass."""
        if (await self.swarm.stack("s")).deployed:
            await change(self.swarm, "s", body)
        else:
            await self.swarm.create("services", body)
        await self.clock.sleep(seconds)

    @property
    def running(self) -> list[str]:
        return [c.app.version for c in self.model.running()]

    @property
    def data(self) -> dict[str, Any]:
        return self.model.volume_facts("s_data")

    @property
    def update_state(self) -> str:
        return str((self.model.service("s_web").update_status or {}).get("State", ""))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


# Data, and what must never happen


async def test_an_application_migrates_its_data_once(scene: Scene) -> None:
    for version in ("1.0.0", "1.1.0", "1.1.0"):
        await scene.run(scene.body(scene.publish(version)), 10)
    assert scene.running == ["1.1.0"]
    assert (scene.data["schema"], scene.data["history"]) == ("1.1.0", ["none -> 1.0.0", "1.0.0 -> 1.1.0"])
    assert scene.model.violations == []


async def test_a_bad_version_damages_what_users_wrote(scene: Scene) -> None:
    await scene.run(scene.body(scene.publish("1.0.0")))
    await scene.run(scene.body(scene.publish("1.1.0", behaviour="crash", after=1)), 10)
    assert scene.data["notes"] == ["damaged by 1.1.0"]


async def test_an_old_version_on_newer_data_is_a_violation(scene: Scene) -> None:
    await scene.run(scene.body(scene.publish("2.0.0")))
    await scene.run(scene.body(scene.publish("1.9.0")), 10)
    assert scene.running == ["1.9.0"], "it runs and looks well, as real ones do"
    assert scene.data["damaged"] == ["damaged by 1.9.0 on 2.0.0"]
    assert [v.split(" ", 1)[1] for v in scene.model.violations] == ["1.9.0 was started on data of 2.0.0"]


async def test_two_writers_on_a_volume_are_a_violation(scene: Scene) -> None:
    await scene.run(scene.body(scene.publish("1.0.0"), UpdateConfig={"Order": "start-first"}))
    await scene.run(scene.body(scene.publish("1.1.0"), UpdateConfig={"Order": "start-first"}))
    (violation,) = scene.model.violations
    assert "two writers on s_data: s_web.1." in violation


async def test_a_volume_that_is_replaced_while_it_is_used_is_a_violation(scene: Scene) -> None:
    await scene.run(scene.body(scene.publish("1.0.0")))
    folder = scene.model.store.volumes["s_data"].folder
    folder.rename(folder.with_name("old"))
    shutil.copytree(folder.with_name("old"), folder)
    (violation,) = scene.model.violations
    assert "s_data was replaced under s_web.1." in violation
    assert scene.model.violations == [violation], "told once"


async def test_without_its_volume_s_folder_a_container_does_not_start(scene: Scene) -> None:
    await scene.run(scene.body(scene.publish("1.0.0")))
    await scene.run(scene.body(scene.publish("1.0.0"), **replicas(0)))
    shutil.rmtree(scene.model.store.volumes["s_data"].folder)
    await scene.run(scene.body(scene.publish("1.0.0")))
    assert scene.running == []
    assert any("no such file" in t.error for t in (await only(scene.swarm, "s")).tasks)


async def test_a_copy_of_a_running_writer_shows(scene: Scene) -> None:
    await scene.run(scene.body(scene.publish("1.0.0", writes=1)))
    seen = set[int]()
    for _ in range(20):
        first, second = scene.data["pair"]
        seen.add(first - second)
        await scene.clock.sleep(0.3)
    assert seen == {0, 1}
    await scene.run(scene.body(scene.publish("1.0.0", writes=1), **replicas(0)))
    first, second = scene.data["pair"]
    assert first == second > 5


# Swarm's traps that take too long on a real engine


async def test_stop_first_waits_a_minute_for_the_old_task_and_no_longer(scene: Scene) -> None:
    slow = scene.publish("1.0.0", behaviour="slow", stop=100)
    await scene.run(scene.body(slow, grace=120))
    await scene.run(scene.body(scene.publish("1.1.0"), grace=120), 55)
    assert scene.running == ["1.0.0"]
    await scene.clock.sleep(10)
    assert sorted(scene.running) == ["1.0.0", "1.1.0"]
    assert "two writers" in scene.model.violations[0]


async def test_a_host_port_keeps_the_new_task_waiting(scene: Scene) -> None:
    slow = scene.publish("1.0.0", behaviour="slow", stop=100)
    await scene.run(scene.body(slow, grace=120, port=8080))
    await scene.run(scene.body(scene.publish("1.1.0"), grace=120, port=8080), 70)
    (new, _) = (await only(scene.swarm, "s")).tasks
    assert (new.state, new.error) == (
        "pending",
        "no suitable node (host-mode port already in use on 1 node)",
    )
    await scene.clock.sleep(40)
    assert scene.running == ["1.1.0"]
    assert scene.model.violations == []


@pytest.mark.parametrize(("crash_at", "told"), [(1, "paused"), (9, "completed")])
async def test_an_update_is_blind_for_what_comes_after_five_seconds(
    scene: Scene, crash_at: float, told: str
) -> None:
    await scene.run(scene.body(scene.publish("1.0.0")))
    bad = scene.publish("1.1.0", behaviour="crash", after=crash_at)
    await scene.run(scene.body(bad, UpdateConfig={"FailureAction": "pause"}), 20)
    assert scene.update_state == told
    assert any(t.state == "failed" for t in (await only(scene.swarm, "s")).tasks)


async def test_a_slot_that_was_updated_is_not_watched_any_more_while_the_next_one_is(scene: Scene) -> None:
    late = {"Parallelism": 1, "Delay": 15 * SECOND, "FailureAction": "pause"}
    await scene.run(scene.body(scene.publish("1.0.0"), UpdateConfig=late, **replicas(2)))
    bad = scene.publish("1.1.0", behaviour="crash", after=9)
    await scene.run(scene.body(bad, UpdateConfig=late, **replicas(2)), 15)
    assert scene.update_state == "updating"
    assert any(t.state == "failed" for t in (await only(scene.swarm, "s")).tasks)
    await scene.clock.sleep(40)
    assert scene.update_state == "completed"


async def test_a_failed_update_rolls_the_spec_back_where_it_is_told_to_but_not_the_data(
    scene: Scene,
) -> None:
    old = scene.publish("1.0.0")
    await scene.run(scene.body(old, UpdateConfig={"FailureAction": "rollback"}))
    bad = scene.publish("1.1.0", behaviour="crash", after=1)
    await scene.run(scene.body(bad, UpdateConfig={"FailureAction": "rollback"}), 30)
    assert (scene.update_state, (await only(scene.swarm, "s")).image) == ("rollback_completed", old)
    assert scene.data["damaged"] == ["damaged by 1.0.0 on 1.1.0"]


async def test_scaled_up_from_nothing_a_missing_image_fails_no_update(scene: Scene) -> None:
    await scene.run(scene.body(scene.publish("1.0.0")))
    await scene.run(scene.body(f"{IMAGE}:1.0.0", **replicas(0)))
    await scene.run(scene.body(f"{IMAGE}:missing", UpdateConfig={"FailureAction": "rollback"}), 70)
    seen = await only(scene.swarm, "s")
    assert (seen.image, scene.update_state) == (f"{IMAGE}:missing", "")
    assert len([t for t in seen.tasks if t.state == "rejected"]) >= 4


async def test_a_restarted_engine_calls_an_update_completed_whose_task_waits(scene: Scene) -> None:
    await scene.run(scene.body(scene.publish("1.0.0")))
    body = scene.body(f"{IMAGE}:1.0.0")
    body["TaskTemplate"]["Placement"] = {"Constraints": ["node.labels.moon==yes"]}
    await scene.run(body, 20)
    assert scene.update_state == "updating"
    scene.model.restart_engine()
    await scene.clock.sleep(10)
    assert scene.update_state == "completed"
    assert (await only(scene.swarm, "s")).tasks[0].state == "pending"


async def test_a_restart_is_first_silence_then_no_leader_then_another_task(scene: Scene) -> None:
    await scene.run(scene.body(scene.publish("1.0.0")))
    (before,) = (await only(scene.swarm, "s")).tasks
    scene.model.restart_engine(seconds=2)
    with pytest.raises(DockerUnreachable, match="does not answer"):
        await scene.swarm.stack("s")
    await scene.clock.sleep(2.1)
    with pytest.raises(Transient, match="not have a leader"):
        await scene.swarm.stack("s")
    await scene.clock.sleep(10)
    (now, was) = (await only(scene.swarm, "s")).tasks
    assert (was.id, was.state, now.state) == (before.id, "failed", "running")
    assert scene.model.violations == []


# Time


async def test_the_same_seed_is_the_same_story(tmp_path: Path) -> None:
    async def story(name: str, seed: int) -> list[tuple[str, str, str]]:
        scene = Scene(tmp_path / name, seed)
        await scene.run(scene.body(scene.publish("1.0.0")))
        await scene.run(scene.body(scene.publish("1.1.0", behaviour="crash")), 20)
        return [(t.id, t.state, t.created) for t in scene.model.store.tasks.values()]

    first = await story("a", 7)
    assert first == await story("b", 7)
    assert first != await story("c", 8)


async def test_time_passes_for_everybody_in_the_order_of_their_ends(scene: Scene) -> None:
    clock, woken = scene.clock, list[tuple[str, float]]()

    async def sleeper(name: str, seconds: float, times: int) -> None:
        for _ in range(times):
            await clock.sleep(seconds)
            woken.append((name, clock.monotonic()))

    async with anyio.create_task_group() as group:
        group.start_soon(sleeper, "slow", 5, 2)
        group.start_soon(sleeper, "fast", 2, 4)
    assert woken == [("fast", 2), ("fast", 4), ("slow", 5), ("fast", 6), ("fast", 8), ("slow", 10)]


async def test_a_sleeper_that_is_cancelled_stops_nobody(scene: Scene) -> None:
    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await scene.clock.sleep(1)
        group.start_soon(scene.clock.sleep, 3)
        group.start_soon(scene.clock.sleep, 2)
    assert scene.clock.monotonic() == 3


async def test_a_step_of_the_wall_clock_is_no_time(scene: Scene) -> None:
    await scene.run(scene.body(scene.publish("1.0.0")))
    wall, passed = scene.clock.now(), scene.clock.monotonic()
    scene.clock.step(-3600)
    assert (scene.clock.now() - wall).total_seconds() == -3600
    assert scene.clock.monotonic() == passed
    await scene.run(scene.body(scene.publish("1.1.0")))
    new = (await only(scene.swarm, "s")).tasks
    assert {t.image for t in new} == {f"{IMAGE}:1.0.0", f"{IMAGE}:1.1.0"}
    assert scene.running == ["1.1.0"]


# Faults, in process and over a socket


@pytest.fixture(params=["in process", "over a socket"])
async def faulty(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[DockerSwarm, Any]]:
    """A swarm whose calls may take half a second, and the hands of its model."""
    if request.param == "in process":
        model = Model(tmp_path)
        yield swarm_of(model, VirtualClock(model), deadline=0.5), model
    else:
        with ModelProcess(timing=Timing(scale=0.02)) as process:
            async with open_swarm(process.docker_host, SystemClock(), deadline=0.5) as swarm:
                yield swarm, process


@pytest.mark.parametrize(
    ("fault", "error", "applied"),
    [
        (Fault("refuse"), DockerUnreachable, False),
        (Fault("hang"), DockerUnreachable, False),
        (Fault("reply-lost"), DockerUnreachable, True),
        (Fault("slow", seconds=2), DockerUnreachable, True),
        (Fault("error", 503, "busy"), DockerUnreachable, False),
        (Fault("error", 500, "broken"), Transient, False),
        (Fault("error", 400, "never"), Refused, False),
    ],
    ids=lambda value: f"{value.kind}-{value.status}" if isinstance(value, Fault) else "",
)
async def test_a_fault_meets_one_call(
    faulty: tuple[DockerSwarm, Any], fault: Fault, error: type[Exception], applied: bool
) -> None:
    swarm, model = faulty
    body = {"Name": "c", "Labels": {LABEL_STACK: "s"}, "Data": "YQ=="}
    model.next("POST /configs/create", fault, skip=1)
    await swarm.create("configs", body)
    with pytest.raises(error):
        await swarm.create("configs", body | {"Name": "d"})
    assert {c["Spec"]["Name"] for c in await swarm.configs()} == ({"c", "d"} if applied else {"c"})
    await swarm.create("configs", body | {"Name": "e"})


@pytest.mark.parametrize("kind", ["refuse", "reply-lost"])
async def test_a_question_that_is_cut_off_is_not_asked_again_unseen(
    faulty: tuple[DockerSwarm, Any], kind: Any
) -> None:
    swarm, model = faulty
    await swarm.configs()
    model.next("GET /configs", Fault(kind))
    with pytest.raises(DockerUnreachable):
        await swarm.configs()
    assert await swarm.configs() == ()


async def test_a_slow_answer_within_the_deadline_is_an_answer(faulty: tuple[DockerSwarm, Any]) -> None:
    swarm, model = faulty
    model.next("GET /configs", Fault("slow", seconds=0.1))
    assert await swarm.configs() == ()
