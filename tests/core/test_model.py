# ruff: noqa: E501 - a truth table reads best with a case a line
"""What can be read off the nouns: probes as one, convergence, labels, fingerprints."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.building import NOW
from warmd.core.model import (
    Bundle,
    Catalog,
    Health,
    LastGood,
    Note,
    Probe,
    Release,
    ServiceSeen,
    SnapshotHandle,
    StackSeen,
    TaskSeen,
    canonical,
    worst,
)
from warmd.core.versions import Version

GOOD, BAD, BLIND = Health.HEALTHY, Health.UNHEALTHY, Health.INCONCLUSIVE


# --- probes


@pytest.mark.parametrize(
    ("healths", "together"),
    [
        ((GOOD,), GOOD),
        ((GOOD, GOOD), GOOD),
        ((GOOD, BLIND), BLIND),
        ((GOOD, BAD), BAD),
        ((BLIND, BAD), BAD),
        ((GOOD, BLIND, BAD), BAD),
        ((), BLIND),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_probes_together_are_as_good_as_the_worst(healths: tuple[Health, ...], together: Health) -> None:
    for order in itertools.permutations(healths):
        probe = worst(tuple(Probe(health, f"it is {health}") for health in order))
        assert probe.health is together
        assert probe.detail == (
            "; ".join([f"it is {together}"] * order.count(together)) or "no probe is configured"
        )


def test_probes_together_keep_every_identity_and_the_worst_details() -> None:
    probes = (Probe(GOOD, "tasks run", "t1@1"), Probe(BAD, "503"), Probe(BAD, "", "x"), Probe(BAD, "refused"))
    assert worst(probes) == Probe(BAD, "503; refused", "t1@1 x")


# --- releases


NOTES = (Note("release/1", "aa", "read"), Note("releaseNotes/1.md", "bb", None))
RELEASE = Release(Version.of("1.0.0+5.0"), "1.0.0+5.0", "c" * 40, NOW, NOTES, first_commit="c" * 40)


def test_a_tag_moved_where_its_first_commit_was_another() -> None:
    assert not RELEASE.moved
    assert not replace(RELEASE, first_commit=None).moved
    assert replace(RELEASE, first_commit="d" * 40).moved


@pytest.mark.parametrize(
    "other",
    [
        replace(RELEASE, commit="d" * 40),
        replace(RELEASE, notes=NOTES[:1]),
        replace(RELEASE, notes=(replace(NOTES[0], sha256="cc"), NOTES[1])),
        replace(RELEASE, notes=(replace(NOTES[0], path="release/2"), NOTES[1])),
        replace(RELEASE, version=Version.of("1.0.1+5.0")),
    ],
    ids=["commit", "note-gone", "note-changed", "note-renamed", "version"],
)
def test_a_fingerprint_is_another_when_there_is_something_else_to_read(other: Release) -> None:
    assert other.fingerprint != RELEASE.fingerprint


def test_a_fingerprint_is_the_same_whatever_else_changes() -> None:
    later = replace(RELEASE, at=NOW.replace(year=2030), notes=NOTES[::-1], first_commit="d" * 40)
    assert later.fingerprint == RELEASE.fingerprint


def test_a_release_is_found_by_its_version_however_spelled() -> None:
    catalog = Catalog((RELEASE,))
    assert catalog.find(Version.of("v1.0.0+5.0")) is RELEASE
    assert catalog.find(Version.of("1.0.0+5.1")) is None
    assert catalog.find(None) is None


@pytest.mark.parametrize(("pinned", "deploys"), [("blob-p", "blob-p"), (None, "blob")])
def test_what_was_good_is_deployed_by_digest_where_it_was_deployed_by_tag(
    pinned: str | None, deploys: str
) -> None:
    good = LastGood(Version.of("1.0.0"), "blob", NOW, "taken-over", pinned=pinned)
    assert (good.bundle, good.deployable) == ("blob", deploys)


# --- JSON


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abcé", max_size=3), inner, max_size=3)
    ),
)


@given(json_values)
def test_canonical_json_says_the_same_in_the_same_bytes(value: Any) -> None:
    text = canonical(value)
    assert json.loads(text) == value
    assert canonical(json.loads(text)) == text


def test_canonical_json_has_no_order_and_no_spaces() -> None:
    assert canonical({"b": 1, "a": ["é"]}) == '{"a":["é"],"b":1}'.encode()


def test_handles_as_json() -> None:
    assert SnapshotHandle(**SnapshotHandle("n", "i").to_json()) == SnapshotHandle("n", "i")


def test_a_bundle_on_disk_has_no_secret() -> None:
    bundle = Bundle(
        networks=({"Name": "web_net"},),
        configs=({"Name": "web_cfg", "Data": "YQ=="},),
        secrets=({"Name": "web_key", "Data": "aHVzaA==", "Labels": {"a": "b"}},),
        services=({"Name": "web_app", "TaskTemplate": {"ContainerSpec": {"Image": "app:1"}}},),
    )
    written = bundle.to_json()
    assert "aHVzaA==" not in json.dumps(written)
    read = Bundle.from_json(json.loads(json.dumps(written)))
    assert read.secrets == ({"Name": "web_key", "Labels": {"a": "b"}},)
    assert replace(read, secrets=bundle.secrets) == bundle
    assert read.images == {"web_app": "app:1"}


# --- the swarm, as listed


def task(state: str = "running", desired: str = "running", image: str = "app:1") -> TaskSeen:
    return TaskSeen("t", "web_app", state, desired, image, "n1", "c1")


def service(mode: dict[str, Any] | None, *tasks: TaskSeen, labels: dict[str, str] | None = None, name: str = "web_app") -> ServiceSeen:  # fmt: skip
    spec: dict[str, Any] = {"Name": name, "TaskTemplate": {"ContainerSpec": {"Image": "app:1"}}}
    spec |= {"Mode": mode} if mode is not None else {}
    spec |= {"Labels": labels} if labels is not None else {}
    return ServiceSeen("s", name, 1, spec, tasks)


def of(replicas: int) -> dict[str, Any]:
    return {"Replicated": {"Replicas": replicas}}


RUNS, OLD_IMAGE = task(), task(image="app:0")
STARTS, READY = task("starting"), task("ready", "ready")
LEAVING, FAILED = task("running", "shutdown"), task("failed", "shutdown")
GLOBAL: dict[str, Any] = {"Global": {}}

CONVERGED = [
    ("one-of-one", of(1), [RUNS], True),
    ("none-of-one", of(1), [], False),
    ("two-of-one", of(1), [RUNS, RUNS], False),
    ("one-of-two", of(2), [RUNS], False),
    ("none-of-none", of(0), [], True),
    ("stopping", of(0), [LEAVING], False),
    ("starting", of(1), [STARTS], False),
    ("ready-to-replace", of(1), [RUNS, READY], False),
    ("on-the-old-image", of(1), [OLD_IMAGE], False),
    ("old-one-still-leaving", of(1), [RUNS, LEAVING], False),
    ("history-does-not-count", of(1), [RUNS, FAILED, FAILED], True),
    ("replicas-left-out-is-one", {"Replicated": {}}, [RUNS], True),
    ("global", GLOBAL, [RUNS, RUNS], True),
    ("global-nowhere", GLOBAL, [], False),
    ("global-starting-somewhere", GLOBAL, [RUNS, STARTS], False),
    ("global-history-does-not-count", GLOBAL, [RUNS, FAILED], True),
    ("job-is-left-to-itself", {"ReplicatedJob": {}}, [FAILED], True),
    ("global-job-is-left-to-itself", {"GlobalJob": {}}, [], True),
]


@pytest.mark.parametrize(
    ("mode", "tasks", "converged"), [c[1:] for c in CONVERGED], ids=[c[0] for c in CONVERGED]
)
def test_converged(mode: dict[str, Any], tasks: list[TaskSeen], converged: bool) -> None:
    assert service(mode, *tasks).converged == converged


@pytest.mark.parametrize(
    ("mode", "replicas"),
    [(of(3), 3), (of(0), 0), ({"Replicated": {}}, 1), (GLOBAL, None), ({}, None), (None, None)],
)
def test_replicas(mode: dict[str, Any] | None, replicas: int | None) -> None:
    assert service(mode).replicas == replicas


def labelled(*labels: dict[str, str] | None) -> StackSeen:
    return StackSeen("web", tuple(service(of(1), labels=l, name=f"web_{i}") for i, l in enumerate(labels)))  # noqa: E741 - a label


OURS, THEIRS = {"warmd.version": "1.1.0"}, {"coop-cloud.web.version": "1.0.0"}


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        (labelled(), None),
        (labelled(None, {}), None),
        (labelled({}, THEIRS), "1.0.0"),
        (labelled(THEIRS, OURS), "1.1.0"),
        (labelled(OURS | THEIRS), "1.1.0"),
        (labelled({"warmd.version": ""} | THEIRS), "1.0.0"),
        (labelled({"coop-cloud.other.version": "9.9.9"}), None),
        (labelled(OURS, {"warmd.version": "2.0.0"}), "1.1.0"),
    ],
    ids=["no-service", "no-labels", "recipes-on-any-service", "warmds-wins", "on-one-service", "empty-is-none", "another-stacks", "first-service"],
)  # fmt: skip
def test_which_version_a_stack_says_it_is(seen: StackSeen, text: str | None) -> None:
    assert seen.version_text == text


@pytest.mark.parametrize(
    ("seen", "odd"),
    [
        (labelled(OURS, THEIRS), True),
        (labelled(OURS, {"coop-cloud.web.version": "1.1.0"}), False),
        (labelled(OURS), False),
        (labelled(THEIRS), False),
        (labelled(), False),
    ],
    ids=["differ", "agree", "only-warmds", "only-the-recipes", "none"],
)
def test_labels_that_disagree_are_odd(seen: StackSeen, odd: bool) -> None:
    said = "the label warmd.version says 1.1.0, coop-cloud.web.version says 1.0.0"
    assert seen.mismatch == (said if odd else None)


def test_owner_and_deployed() -> None:
    assert not labelled().deployed
    assert labelled({}).deployed
    assert labelled({}).owner is None
    assert labelled({}, {"warmd.owner": "i1"}).owner == "i1"
