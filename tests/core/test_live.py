"""Marks: what a listing alone says about whether anything changed since last good."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.building import NOW
from warmd.core import gate
from warmd.core.gate import View
from warmd.core.history import History
from warmd.core.live import down, mark, marks, moved, running, strange, suspects
from warmd.core.model import Catalog, Health, LastGood, Policy, Probe, ServiceSeen, StackSeen
from warmd.core.versions import Version


def spec(
    image: str = "app:1@sha256:aa", *, labels: dict[str, str] | None = None, **mode: Any
) -> dict[str, Any]:
    return {
        "Name": "web_app",
        "Labels": labels or {"com.docker.stack.namespace": "web"},
        "TaskTemplate": {"ContainerSpec": {"Image": image}},
        "Mode": mode or {"Replicated": {"Replicas": 1}},
    }


def service(name: str = "web_app", **changes: Any) -> ServiceSeen:
    return ServiceSeen(f"id-{name}", name, 1, {**spec(**changes), "Name": name})


def scaled(replicas: int, name: str = "web_app") -> ServiceSeen:
    return service(name, Replicated={"Replicas": replicas})


def stack(*services: ServiceSeen) -> StackSeen:
    return StackSeen("web", services)


WEB = {"com.docker.stack.namespace": "web"}


def test_a_mark_says_the_replicas_or_that_it_is_global() -> None:
    assert mark(scaled(3)).endswith("/3")
    assert mark(service(Global={})).endswith("/global")
    assert len(mark(scaled(1)).partition("/")[0]) == 24


@pytest.mark.parametrize(
    "same",
    [
        service(labels=WEB | {"warmd.run": "r2", "warmd.version": "1.0.0", "warmd.owner": "i"}),
        ServiceSeen("another-id", "web_app", 99, spec()),
    ],
    ids=["warmds-own-labels", "id-and-index"],
)
def test_what_a_mark_leaves_out(same: ServiceSeen) -> None:
    assert mark(same) == mark(service())


@pytest.mark.parametrize(
    "changed",
    [
        service(image="app:2@sha256:bb"),
        service(labels=WEB | {"traefik.enable": "true"}),
        scaled(2),
        service(Global={}),
        service(ReplicatedJob={"TotalCompletions": 1}),
    ],
    ids=["image", "label", "replicas", "mode", "job"],
)
def test_what_a_mark_shows(changed: ServiceSeen) -> None:
    assert mark(changed) != mark(service())


def test_the_digest_does_not_depend_on_the_replicas() -> None:
    assert mark(scaled(1)).partition("/")[0] == mark(scaled(5)).partition("/")[0]
    assert mark(service(Global={})).partition("/")[0] != mark(service(GlobalJob={})).partition("/")[0]


GOOD = marks(
    stack(scaled(1, "web_app"), scaled(2, "web_db"), scaled(0, "web_cron"), service("web_log", Global={}))
)
APP, DB, CRON, LOG = (
    scaled(1, "web_app"),
    scaled(2, "web_db"),
    scaled(0, "web_cron"),
    service("web_log", Global={}),
)

SITUATIONS: list[tuple[str, tuple[ServiceSeen, ...], list[str], list[str]]] = [
    ("as-it-was", (APP, DB, CRON, LOG), [], []),
    ("whole-stack-gone", (), ["web_app", "web_db", "web_log"], ["web_cron"]),
    ("one-missing", (APP, CRON, LOG), ["web_db"], []),
    ("one-at-zero", (APP, scaled(0, "web_db"), CRON, LOG), ["web_db"], []),
    (
        "another-image-at-zero",
        (service("web_app", image="x:2", Replicated={"Replicas": 0}), DB, CRON, LOG),
        ["web_app"],
        ["web_app"],
    ),
    ("two-at-zero", (scaled(0, "web_app"), scaled(0, "web_db"), CRON, LOG), ["web_app", "web_db"], []),
    ("scaled-down-but-up", (APP, scaled(1, "web_db"), CRON, LOG), [], ["web_db"]),
    ("scaled-up-from-zero", (APP, DB, scaled(1, "web_cron"), LOG), [], ["web_cron"]),
    ("was-at-zero-and-is-gone", (APP, DB, LOG), [], ["web_cron"]),
    ("another-image", (service("web_app", image="x:2"), DB, CRON, LOG), [], ["web_app"]),
    ("one-more", (APP, DB, CRON, LOG, scaled(1, "web_new")), [], ["web_new"]),
    ("global-one-missing", (APP, DB, CRON), ["web_log"], []),
    ("one-down-one-changed", (scaled(0, "web_app"), scaled(3, "web_db"), CRON, LOG), ["web_app"], ["web_db"]),
]


@pytest.mark.parametrize(
    ("seen", "is_down", "is_suspect"), [s[1:] for s in SITUATIONS], ids=[s[0] for s in SITUATIONS]
)
def test_down_and_suspect(seen: tuple[ServiceSeen, ...], is_down: list[str], is_suspect: list[str]) -> None:
    assert list(down(GOOD, stack(*seen))) == is_down
    assert list(suspects(GOOD, stack(*seen))) == is_suspect


def test_a_strange_image_is_one_that_last_good_does_not_have() -> None:
    images = {"web_app": service("web_app").image, "web_db": "gone:1"}
    assert strange(images, stack(APP, LOG)) is None
    assert strange(images, stack(service("web_app", image="x:2"), LOG)) == "x:2"


@pytest.mark.parametrize(
    ("good", "labels", "runs"),
    [
        (None, {}, None),
        (None, {"warmd.version": "1.1.0"}, "1.1.0"),
        (None, {"warmd.version": "latest"}, None),
        (("1.0.0", "1.0.0"), {"warmd.version": "1.0.0"}, "1.0.0"),
        (("1.0.0", "1.0.0"), {"warmd.version": "1.1.0"}, "1.1.0"),
        (("1.0.0", "1.0.0"), {}, None),
        (("1.0.0", None), {}, "1.0.0"),
        (("1.0.0", "latest"), {"coop-cloud.web.version": "latest"}, "1.0.0"),
        (("1.0.0", "latest"), {"coop-cloud.web.version": "newest"}, None),
        ((None, None), {}, None),
    ],
    ids=[
        "nothing-known-or-said",
        "found-running",
        "found-with-a-strange-label",
        "as-it-was",
        "moved-by-hand",
        "label-taken-off",
        "adopted-without-a-label",
        "adopted-in-spite-of-its-label",
        "adopted-and-then-moved",
        "adopted-as-no-version",
    ],
)
def test_which_version_runs(
    good: tuple[str | None, str | None] | None, labels: dict[str, str], runs: str | None
) -> None:
    last = None
    if good is not None:
        version, said = good
        last = LastGood(Version.of(version) if version else None, "blob", NOW, "adopted", said=said)
    found = running(last, stack(service(labels=labels)))
    assert (found.text if found else None) == runs
    # Somebody else's deploy, exactly where a version is known and it is not the one that was good.
    there = last is not None and found is not None
    assert moved(last, stack(service(labels=labels))) == (there and runs == "1.1.0")


def test_nothing_runs_where_nothing_is_deployed() -> None:
    good = LastGood(Version.of("1.0.0"), "blob", NOW, "committed")
    assert running(good, stack()) is None
    assert not moved(good, stack())
    assert not moved(good, None)  # nobody looked


def test_without_a_last_good_nothing_is_down_and_everything_is_suspect() -> None:
    assert down({}, stack(APP)) == ()
    assert suspects({}, stack(APP)) == ("web_app",)


@pytest.mark.parametrize(
    ("labelled", "strange", "told", "whose"),
    [
        ("10.7.0+26.6.1", None, None, None),
        ("10.8.0+26.7.0", None, "10.7.0+26.6.1", "10.8.0+26.7.0"),
        ("10.8.0+26.7.0", "x:2", None, "10.8.0+26.7.0"),
        ("10.7.0+26.6.1", "x:2", "10.7.0+26.6.1", "x:2"),
        ("10.7.0+26.6.1", None, "10.9.0+27.0.0", "10.9.0+27.0.0"),
    ],
    ids=["nobody-knows", "moved-by-its-label", "the-label-first", "an-image", "as-the-journal-tells"],
)
def test_whose_the_data_is(labelled: str, strange: str | None, told: str | None, whose: str | None) -> None:
    good = LastGood(Version.of("10.7.0+26.6.1"), "blob", NOW, "committed", said="10.7.0+26.6.1")
    seen = stack(service(labels=WEB | {"warmd.version": labelled}))
    view = View(
        Catalog(()),
        History(last_good=good, data_of=told),
        Policy(),
        NOW,
        deployed=True,
        health=Probe(Health.HEALTHY, "well"),
        running_text=labelled,
        seen=seen,
        strange=strange,
    )
    assert gate.data_of(view) == whose
