"""A volume comes back exactly, whatever is in it, both by renaming its folder and inside a mount point."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.adapters.archive_support import Place, mounted
from tests.size import size
from tests.snapshots.sight import allocated, differences, sight
from tests.snapshots.trees import KINDS, Thing, build, plans

#: How long a file with holes is. Its holes are read and hashed four times, which takes long.
LENGTH = size(256, 4096, 4096) * 2**20


@contextmanager
def two_volumes() -> Iterator[tuple[Place, Path, Path]]:
    """A volume whose folder can be renamed, and one whose folder is a mount point, which can't."""
    with TemporaryDirectory() as folder:
        place = Place(Path(folder))
        plain, mount = place.data("plain"), place.data("mount")
        try:
            with mounted(mount, "--bind", str(mount)):
                yield place, plain, mount
        finally:  # deeper than Python's own way of removing can go
            subprocess.run(["rm", "-rf", *place.root.iterdir()], check=True)


def spoil(volume: Path) -> None:
    """What a newer version makes of the data: something gone, something new, something else."""
    for number, path in enumerate(sorted(volume.iterdir())):
        if path.name != ".warmd-quarantine" and number % 2:
            path.rename(volume / f"moved {number}")
    (volume / "of the newer version").write_text("x")
    volume.chmod(0o700)


def comes_back(place: Place, *volumes: Path) -> None:
    """Capture, seal, spoil, restore: each volume is afterwards what it was before."""
    before = [sight(volume) for volume in volumes]
    place.sealed("r1", *(volume.parent.name for volume in volumes))
    for volume, was in zip(volumes, before, strict=True):
        assert differences(was, sight(volume)) == [], "a capture changes nothing"
        spoil(volume)
    done = place.restore("r1", "r2")
    assert [(move.volume, move.how) for move in done.moves] == [
        (volume.parent.name, "inside" if volume.parent.name == "mount" else "rename") for volume in volumes
    ]
    for volume, was in zip(volumes, before, strict=True):
        assert differences(was, sight(volume)) == []


@pytest.mark.slow
@pytest.mark.crash_too
def test_any_tree_comes_back() -> None:
    made: Counter[str] = Counter()

    @settings(
        max_examples=size(25, 200, 1000),
        deadline=None,
        database=None,
        phases=[Phase.generate],  # a smaller tree takes minutes to find and says little more
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(plan=plans)
    def tree(plan: list[Thing]) -> None:
        with two_volumes() as (place, plain, mount):
            made.update(build(plain, plan))
            build(mount, plan)
            comes_back(place, plain, mount)

    tree()
    assert made.keys() >= KINDS, "some sort of thing was in no tree"


@pytest.mark.slow
@pytest.mark.crash_too
@pytest.mark.parametrize("number", range(size(1, 3, 3)))
def test_gibibytes_of_holes_stay_holes(number: int) -> None:
    """One with data in the middle, one with data at both ends, one all hole; quickly only the first."""
    with two_volumes() as (place, plain, mount):
        islands = ((LENGTH // 2 + 12_345,), (0, LENGTH - 10), ())[number]
        volume = mount if number == 1 else plain
        with (volume / "sparse").open("wb") as file:
            file.truncate(LENGTH)
            for at in islands:
                file.seek(at)
                file.write(b"an island")
        (volume / "the same").hardlink_to(volume / "sparse")
        comes_back(place, volume)
        assert (volume / "sparse").stat().st_size == LENGTH
        assert allocated(volume / "sparse") <= 64 * 1024
        packed = sum(file.stat().st_size for file in place.snapshot("r1").iterdir())
        assert packed < 2**20, "an archive of nothing is small"
