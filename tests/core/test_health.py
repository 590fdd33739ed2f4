"""Whether tasks are well: from the listing alone, and with the containers of this node beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from warmd.core.health import glance, judge
from warmd.core.model import Container, Health, Probe, ServiceSeen, StackSeen, TaskSeen

NEW, OLD = "app:2@sha256:22", "app:1@sha256:11"


def task(id_: str, state: str = "running", desired: str = "running", **more: str) -> TaskSeen:
    usual = {"image": NEW, "node": "n1", "container": f"c-{id_}"}
    return TaskSeen(id_, "web_app", state, desired, **{**usual, **more})


def service(*tasks: TaskSeen, name: str = "web_app", **mode: Any) -> ServiceSeen:
    spec = {
        "TaskTemplate": {"ContainerSpec": {"Image": NEW}},
        "Mode": mode or {"Replicated": {"Replicas": 1}},
    }
    return ServiceSeen(f"id-{name}", name, 1, spec, tasks)


def stack(*services: ServiceSeen) -> StackSeen:
    return StackSeen("web", services)


def container(task_id: str, **changes: Any) -> Container:
    return replace(Container(f"c-{task_id}", "web_app", task_id, True, f"at-{task_id}", "", NEW), **changes)


TWO: dict[str, Any] = {"Replicated": {"Replicas": 2}}
NONE: dict[str, Any] = {"Replicated": {"Replicas": 0}}

SICK = [
    ("no-service", stack(), "stack web: it has no service"),
    ("only-jobs", stack(service(ReplicatedJob={})), "stack web: it has no service"),
    ("all-at-zero", stack(service(**NONE)), "stack web: none of its services wants a task"),
    ("no-task-yet", stack(service()), "web_app: 0 of 1 running"),
    ("on-its-way", stack(service(task("t1", "preparing"))), "web_app: 0 of 1 running (preparing)"),
    ("one-of-two", stack(service(task("t1"), **TWO)), "web_app: 1 of 2 running"),
    ("global-nowhere", stack(service(Global={})), "web_app: 0 running"),
    (
        "on-the-old-image",
        stack(service(task("t1", image=OLD))),
        "web_app: 0 of 1 running, 1 on another image",
    ),
    (
        "with-the-swarms-words",
        stack(service(task("t1", "rejected", "shutdown", error="No such image"), task("t2", "pending"))),
        'web_app: 0 of 1 running: "No such image"',
    ),
    (
        "but-not-those-about-the-old-image",
        stack(service(task("t1", "failed", "shutdown", error="exit 1", image=OLD), task("t2", "pending"))),
        "web_app: 0 of 1 running (pending)",
    ),
    (
        "every-service-that-is-not-well",
        stack(service(), service(task("t1"), name="web_db"), service(name="web_log")),
        "web_app: 0 of 1 running; web_log: 0 of 1 running",
    ),
]


@pytest.mark.parametrize(("seen", "says"), [c[1:] for c in SICK], ids=[c[0] for c in SICK])
def test_what_a_listing_says_is_not_well(seen: StackSeen, says: str) -> None:
    containers = [container(t.id) for s in seen.services for t in s.tasks]
    for probe in (glance(seen), judge(seen, containers, node="n1")):
        assert (probe.health, probe.detail) == (Health.UNHEALTHY, says)


WELL = stack(service(task("t2"), task("t1"), **TWO), service(**NONE, name="web_cron"), service(GlobalJob={}))


def test_all_is_well() -> None:
    assert glance(WELL) == Probe(Health.HEALTHY, "2 tasks run", "t1@ t2@")
    both = [container("t1"), container("t2", health="healthy")]
    assert judge(WELL, both, node="n1") == Probe(Health.HEALTHY, "2 tasks run", "t1@at-t1 t2@at-t2")


@pytest.mark.parametrize(
    ("containers", "says"),
    [
        ([container("t1")], "web_app: the container of task t2 is gone"),
        ([container("t1"), container("t2", running=False)], "web_app: the container of task t2 is gone"),
        ([container("t1"), container("t2", health="starting")], "web_app: its health check says starting"),
        ([container("t1"), container("t2", health="unhealthy")], "web_app: its health check says unhealthy"),
    ],
    ids=["gone", "exited", "starting", "unhealthy"],
)
def test_containers_of_this_node_have_to_be_well(containers: list[Container], says: str) -> None:
    probe = judge(WELL, containers, node="n1")
    assert (probe.health, probe.detail) == (Health.UNHEALTHY, says)


def test_tasks_of_another_node_are_believed() -> None:
    assert judge(WELL, [], node="n2") == Probe(Health.HEALTHY, "2 tasks run", "t1@ t2@")


def test_a_restarted_container_is_another_identity() -> None:
    before, after = container("t1"), container("t1", started="later")
    seen = stack(service(task("t1")))
    identities = {judge(seen, [c], node="n1").identity for c in (before, after)}
    assert identities == {"t1@at-t1", "t1@later"}
    assert glance(seen).identity == "t1@"
