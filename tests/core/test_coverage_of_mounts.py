# ruff: noqa: E501 - a truth table reads best with a case a line
"""Every writable mount is copied, excluded by name, or refused before the stop: nothing falls between."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmd.core.coverage import Cover, cover, names
from warmd.core.model import Mount

VOLUME = Mount("web_app", "volume", "web_data", "/data")
FOREIGN = Mount("web_app", "volume", "shared", "/shared")
BIND = Mount("web_app", "bind", "/srv/data", "/data")
ANONYMOUS = Mount("web_app", "anonymous", "", "/cache")
DRIVER = Mount("web_app", "volume", "web_data", "/data", driver="rexray")
NFS = Mount("web_app", "volume", "web_data", "/data", options={"type": "nfs", "device": ":/x", "o": "addr=h"})


@pytest.mark.parametrize(
    ("mount", "known"),
    [
        (VOLUME, ("data", "web_data", "app:/data")),
        (FOREIGN, ("shared", "app:/shared")),
        (BIND, ("/srv/data", "app:/data")),
        (ANONYMOUS, ("app:/cache",)),
        (Mount("other", "volume", "web_data", "/d"), ("data", "web_data", "other:/d")),
    ],
    ids=["volume", "volume-of-another-name", "bind", "anonymous", "service-of-another-name"],
)
def test_what_a_person_may_call_a_mount(mount: Mount, known: Sequence[str]) -> None:
    assert names(mount, "web") == known


def covered(*mounts: Mount, exclude: Sequence[str] = ()) -> Cover:
    return cover(mounts, stack="web", exclude=exclude)


@pytest.mark.parametrize("mount", [VOLUME, FOREIGN], ids=["of-the-stack", "shared"])
def test_a_plain_local_volume_is_copied(mount: Mount) -> None:
    assert covered(mount) == Cover((mount.source,), (), ())


@pytest.mark.parametrize(
    ("mount", "says"),
    [
        (BIND, "web_app writes to the bind mount /srv/data, which a snapshot doesn't cover: add '/srv/data' to snapshot.exclude to go without it"),
        (ANONYMOUS, "web_app writes to /cache, a volume without a name, which is new with every container: add 'app:/cache' to snapshot.exclude to go without it"),
        (DRIVER, "web_app writes to volume web_data of driver rexray, which can't be copied: add 'data' to snapshot.exclude to go without it"),
        (NFS, "web_app writes to volume web_data with driver options (device=:/x, o=addr=h, type=nfs), which is empty while nobody uses it: add 'data' to snapshot.exclude to go without it"),
    ],
    ids=["bind", "anonymous", "driver", "options"],
)  # fmt: skip
def test_anything_else_is_refused_with_what_to_type(mount: Mount, says: str) -> None:
    assert covered(mount) == Cover((), (), (says,))


@pytest.mark.parametrize("mount", [VOLUME, FOREIGN, BIND, ANONYMOUS, DRIVER, NFS])
def test_any_of_its_names_excludes_a_mount(mount: Mount) -> None:
    for name in names(mount, "web"):
        assert covered(mount, exclude=[name]) == Cover((), (names(mount, "web")[0],), ())


def test_a_name_of_something_else_excludes_nothing() -> None:
    assert covered(VOLUME, exclude=["dat", "web", "db:/data", "/data"]) == Cover(("web_data",), (), ())


def test_a_volume_of_two_services_is_copied_and_refused_once() -> None:
    again = Mount("web_app", "volume", "web_data", "/backup")
    assert covered(VOLUME, again, VOLUME).volumes == ("web_data",)
    assert len(covered(BIND, BIND).refusals) == 1


def test_order_is_that_of_the_mounts() -> None:
    assert covered(FOREIGN, VOLUME).volumes == ("shared", "web_data")


words = st.sampled_from(["data", "web_data", "web_db", "/srv", "/data", "app:/data", "db:/data"])
mounts = st.builds(
    Mount,
    service=st.sampled_from(["web_app", "web_db"]),
    kind=st.sampled_from(["volume", "bind", "anonymous"]),
    source=words,
    target=words,
    driver=st.sampled_from(["local", "local", "nfs"]),
    options=st.dictionaries(words, words, max_size=1),
)


@given(st.lists(mounts, max_size=6), st.lists(words, max_size=3))
def test_law_nothing_falls_between(found: list[Mount], exclude: list[str]) -> None:
    result = covered(*found, exclude=exclude)
    for mount in found:
        alone = covered(mount, exclude=exclude)
        assert len((*alone.volumes, *alone.excluded, *alone.refusals)) == 1
        assert set(alone.volumes) <= set(result.volumes)
        assert set(alone.excluded) <= set(result.excluded)
        assert set(alone.refusals) <= set(result.refusals)
