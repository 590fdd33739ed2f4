"""The tasks prober on a real swarm, and its judgement of what a swarm may list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.contracts.probing import until
from tests.lab import Lab
from warmd.adapters.clock import SystemClock
from warmd.adapters.docker import open_swarm
from warmd.core.health import judge
from warmd.core.model import Health, Probe, ServiceSeen, StackSeen, TaskSeen
from warmd.plugins.probers.tasks import TasksProber
from warmd.ports import Container, Swarm

# --- a real swarm --------------------------------------------------------------------------------

FOREVER = ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]


@pytest.fixture
async def swarm(lab: Lab) -> AsyncIterator[Swarm]:
    async with open_swarm(lab.docker_host, SystemClock()) as swarm:
        yield swarm


@pytest.fixture
def prober(swarm: Swarm, stack_name: str) -> TasksProber:
    return TasksProber(swarm, stack_name)


def compose(image: str, deploy: str = "replicas: 1", extra: str = "") -> str:
    """A stack of one service ``app`` that publishes nothing."""
    return f"""\
version: "3.8"
services:
  app:
    image: "{image}"
    stop_grace_period: 1s
    deploy: {{ endpoint_mode: dnsrr, restart_policy: {{ condition: any, delay: 500ms }}, {deploy} }}
{extra}"""


async def test_a_restart_changes_the_identity_and_nothing_else_does(
    prober: TasksProber, lab: Lab, stack_name: str
) -> None:
    lab.deploy(stack_name, compose(lab.image("tasks", "1", {}, FOREVER), "replicas: 2"))
    first = await until(prober, Health.HEALTHY)
    assert first.detail == "2 tasks run"
    assert (await prober.probe()).identity == first.identity
    lab.docker("kill", lab.containers(stack_name)[0]["Id"])
    await until(prober, lambda said: said.identity != first.identity)
    again = await until(prober, Health.HEALTHY)
    kept = set(first.identity.split()) & set(again.identity.split())
    assert len(kept) == 1
    assert len(again.identity.split()) == 2


async def test_an_image_that_does_not_exist_is_said(prober: TasksProber, lab: Lab, stack_name: str) -> None:
    lab.deploy(stack_name, compose(f"{lab.registry}/no-such-image:1"))
    said = await until(prober, lambda said: "No such image" in said.detail)
    assert said.health is Health.UNHEALTHY
    assert said.detail.startswith(f'{stack_name}_app: 0 of 1 running: "No such image: ')


async def test_a_service_that_crashes_is_said(prober: TasksProber, lab: Lab, stack_name: str) -> None:
    lab.deploy(stack_name, compose(lab.image("tasks", "crash", {}, ["/bin/sh", "-c", "exit 3"])))
    said = await until(prober, lambda said: "non-zero exit (3)" in said.detail)
    assert said.health is Health.UNHEALTHY
    assert said.detail.startswith(f"{stack_name}_app: 0 of 1 running: ")


async def test_a_health_check_has_to_pass(prober: TasksProber, lab: Lab, stack_name: str) -> None:
    image = lab.image("tasks", "check", {}, FOREVER, healthcheck=["/bin/test", "-e", "/ok"])
    lab.deploy(stack_name, compose(image))
    said = await until(prober, lambda said: "0 of 1 running (starting)" in said.detail)
    assert said.health is Health.UNHEALTHY
    lab.docker("exec", lab.containers(stack_name)[0]["Id"], "touch", "/ok")
    await until(prober, Health.HEALTHY)
    lab.docker("exec", lab.containers(stack_name)[0]["Id"], "rm", "/ok")
    await until(prober, Health.UNHEALTHY)


async def test_a_global_service_runs_on_its_node(prober: TasksProber, lab: Lab, stack_name: str) -> None:
    lab.deploy(stack_name, compose(lab.image("tasks", "1", {}, FOREVER), "mode: global"))
    assert (await until(prober, Health.HEALTHY)).detail == "1 tasks run"


@pytest.fixture
def job_stack(lab: Lab, stack_name: str) -> Iterator[str]:
    """A stack name for jobs. Engine 20.10 keeps listing a job's tasks when the job was removed, so
    this one can't be waited for to be gone."""
    name = f"{stack_name}job"
    yield name
    for service in ("app", "job"):
        lab.docker("service", "rm", f"{name}_{service}")


async def test_a_job_that_failed_does_not_count(swarm: Swarm, lab: Lab, job_stack: str) -> None:
    image = lab.image("tasks", "1", {}, FOREVER)
    lab.deploy(job_stack, compose(image))
    prober = TasksProber(swarm, job_stack)
    before = await until(prober, Health.HEALTHY)
    job = ["service", "create", "--detach", "--name", f"{job_stack}_job", "--mode", "replicated-job"]
    label = f"com.docker.stack.namespace={job_stack}"
    lab.docker(*job, "--label", label, "--restart-condition", "none", image, "/bin/false")
    lab.wait(lambda: any(t["Status"]["State"] == "failed" for t in lab.tasks(job_stack)), "the job's end")
    assert await prober.probe() == before


async def test_scaled_to_zero_is_unhealthy(prober: TasksProber, lab: Lab, stack_name: str) -> None:
    lab.deploy(stack_name, compose(lab.image("tasks", "1", {}, FOREVER)))
    await until(prober, Health.HEALTHY)
    lab.docker("service", "scale", "--detach", f"{stack_name}_app=0")
    said = await until(prober, lambda said: "wants a task" in said.detail)
    assert said == Probe(Health.UNHEALTHY, f"stack {stack_name}: none of its services wants a task")


async def test_no_stack_of_that_name_is_unhealthy(prober: TasksProber, stack_name: str) -> None:
    assert await prober.probe() == Probe(Health.UNHEALTHY, f"stack {stack_name}: it has no service")


async def test_tasks_of_the_old_image_do_not_count(prober: TasksProber, lab: Lab, stack_name: str) -> None:
    """An update that can't go on: the old task runs, and N of N replicas are running."""
    deploy = "replicas: 1, update_config: { order: start-first }"
    lab.deploy(stack_name, compose(lab.image("tasks", "1", {}, FOREVER), deploy))
    await until(prober, Health.HEALTHY)
    lab.deploy(stack_name, compose(f"{lab.registry}/no-such-image:2", deploy))
    said = await until(prober, lambda said: "No such image" in said.detail)
    assert said.health is Health.UNHEALTHY
    assert f"{stack_name}_app: 0 of 1 running, 1 on another image: " in said.detail


# --- what a swarm may list -----------------------------------------------------------------------

NEW, OLD = "app:2@sha256:22", "app:1@sha256:11"


def task(
    id_: str, state: str = "running", *, desired: str = "running", image: str = NEW, **more: str
) -> TaskSeen:
    return TaskSeen(id_, "s_app", state, desired, image, more.pop("node", "n1"), f"c-{id_}", **more)


def service(*tasks: TaskSeen, replicas: int | None = 1, name: str = "s_app", mode: str = "") -> ServiceSeen:
    kind = {"Global": {}} if replicas is None else {"Replicated": {"Replicas": replicas}}
    spec = {"TaskTemplate": {"ContainerSpec": {"Image": NEW}}, "Mode": {mode: {}} if mode else kind}
    return ServiceSeen(f"id-{name}", name, 1, spec, tasks)


def container(task_id: str, **more: Any) -> Container:
    return replace(Container(f"c-{task_id}", "s_app", task_id, True, f"at-{task_id}", "", NEW), **more)


def judged(services: list[ServiceSeen], containers: list[Container]) -> Probe:
    return judge(StackSeen("s", tuple(services)), containers, node="n1")


RUNS = (service(task("t1")), container("t1"))


@pytest.mark.parametrize(
    ("services", "containers", "expected"),
    [
        pytest.param([], [], "stack s: it has no service", id="nothing there"),
        pytest.param(
            [service(replicas=0)], [], "stack s: none of its services wants a task", id="all at zero"
        ),
        pytest.param([service(mode="ReplicatedJob")], [], "stack s: it has no service", id="only jobs"),
        pytest.param([service()], [], "s_app: 0 of 1 running", id="no task yet"),
        pytest.param(
            [service(task("t1", "preparing"))], [], "s_app: 0 of 1 running (preparing)", id="on its way"
        ),
        pytest.param(
            [service(task("t1", "shutdown", desired="shutdown"), task("t2", "pending"))],
            [],
            "s_app: 0 of 1 running (pending)",
            id="stopped, and the next one pending",
        ),
        pytest.param(
            [service(task("t1", image=OLD))],
            [container("t1")],
            "s_app: 0 of 1 running, 1 on another image",
            id="the old image",
        ),
        pytest.param(
            [
                service(
                    task("t2", "pending"), task("t1", "failed", desired="shutdown", error="task: exit (1)")
                )
            ],
            [],
            's_app: 0 of 1 running: "task: exit (1)"',
            id="the error of this image",
        ),
        pytest.param(
            [
                service(
                    task("t2", "pending"), task("t1", "failed", desired="shutdown", image=OLD, error="old")
                )
            ],
            [],
            "s_app: 0 of 1 running (pending)",
            id="an error of the image before says nothing",
        ),
        pytest.param(
            [service(task("t2", "pending", error="newest"), task("t1", "failed", error="older"))],
            [],
            's_app: 0 of 1 running: "newest"',
            id="the newest error",
        ),
        pytest.param(
            [service(task("t1"), task("t0", desired="shutdown"))],
            [container("t1"), container("t0")],
            "s_app: 1 of 1 running",
            id="the old one still runs",
        ),
        pytest.param(
            [service(task("t1"), replicas=2)], [container("t1")], "s_app: 1 of 2 running", id="one is missing"
        ),
        pytest.param([service(replicas=None)], [], "s_app: 0 running", id="a global one without a task"),
        pytest.param([RUNS[0]], [], "s_app: the container of task t1 is gone", id="no container"),
        pytest.param(
            [RUNS[0]],
            [container("t1", running=False)],
            "s_app: the container of task t1 is gone",
            id="a stopped container",
        ),
        pytest.param(
            [RUNS[0]],
            [container("t1", health="unhealthy")],
            "s_app: its health check says unhealthy",
            id="sick",
        ),
        pytest.param(
            [RUNS[0]],
            [container("t1", health="starting")],
            "s_app: its health check says starting",
            id="starting",
        ),
        pytest.param(
            [RUNS[0], service(name="s_db"), service(name="s_web", replicas=2)],
            [RUNS[1]],
            "s_db: 0 of 1 running; s_web: 0 of 2 running",
            id="all troubles of all services",
        ),
    ],
)
def test_unhealthy(services: list[ServiceSeen], containers: list[Container], expected: str) -> None:
    said = judged(services, containers)
    assert (said.health, said.detail) == (Health.UNHEALTHY, expected)


@pytest.mark.parametrize(
    ("services", "containers"),
    [
        pytest.param([RUNS[0]], [RUNS[1]], id="one of one"),
        pytest.param([RUNS[0]], [container("t1", health="healthy")], id="with a health check"),
        pytest.param([service(task("t1"), replicas=None)], [RUNS[1]], id="global"),
        pytest.param([RUNS[0], service(name="s_off", replicas=0)], [RUNS[1]], id="another one is off"),
        pytest.param([RUNS[0], service(name="s_job", mode="GlobalJob")], [RUNS[1]], id="a job beside it"),
        pytest.param([service(task("t1", node="n2"))], [], id="on another node, where its container is"),
        pytest.param(
            [service(task("t1"), task("t0", "failed", desired="shutdown", error="before"))],
            [RUNS[1]],
            id="a failure that is over",
        ),
    ],
)
def test_healthy(services: list[ServiceSeen], containers: list[Container]) -> None:
    said = judged(services, containers)
    assert (said.health, said.detail) == (Health.HEALTHY, "1 tasks run")


def test_the_identity_is_of_tasks_and_starts_in_any_order() -> None:
    two = service(task("t2"), task("t1"), replicas=2)
    containers = [container("t2"), container("t1")]
    said = judged([two], containers)
    assert said.identity == "t1@at-t1 t2@at-t2"
    assert judged([replace(two, tasks=two.tasks[::-1])], containers[::-1]) == said


@pytest.mark.parametrize(
    ("services", "containers"),
    [
        pytest.param([service(task("t9"))], [container("t9")], id="another task"),
        pytest.param([RUNS[0]], [container("t1", started="later")], id="the same task, started anew"),
    ],
)
def test_a_restart_changes_the_identity(services: list[ServiceSeen], containers: list[Container]) -> None:
    assert judged(services, containers).identity != judged([RUNS[0]], [RUNS[1]]).identity
