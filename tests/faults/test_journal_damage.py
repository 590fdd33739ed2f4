"""A journal that is not what was written: found, whatever was changed, and never acted on.

Only a line that nobody was told of may be torn. What to do about the rest is in the alert, and works.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.lab import Lab
from tests.said import Said
from tests.size import size
from tests.swarm.observer import checksum
from tests.swarm.passing import journal, records
from tests.swarm.world import World
from warmd.adapters.journal_file import JournalFiles
from warmd.core.journal import Draft
from warmd.errors import JournalDamaged

AT = datetime(2026, 1, 31, tzinfo=UTC)


async def written(services: Path, count: int) -> tuple[Path, list[bytes]]:
    """A journal of so many records, and what its tip said after each."""
    await anyio.Path(services).mkdir(exist_ok=True)
    store, path, tips = JournalFiles(services), services / "sso" / "journal", []
    for n in range(count):
        await store.append("sso", Draft("t", AT, {"n": n}), expected=n)
        tips.append(tip_of(path).read_bytes())
    return path, tips


def tip_of(path: Path) -> Path:
    return path.with_name("journal.tip")


async def seen(services: Path) -> int | None:
    """How many records a new process finds; None where it refuses to go by them."""
    try:
        return (await JournalFiles(services).load("sso"))[1]
    except JournalDamaged:
        return None


async def test_every_bit_of_a_journal_matters(tmp_path: Path) -> None:
    path, _ = await written(tmp_path, size(2, 6, 20))
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            changed = bytearray(whole)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            assert await seen(tmp_path) is None, f"bit {bit} of byte {place}"


async def test_a_journal_that_was_cut_anywhere_is_not_what_was_written(tmp_path: Path) -> None:
    path, _ = await written(tmp_path, size(3, 10, 30))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert await seen(tmp_path) is None, f"cut after {length} bytes"


async def test_a_line_that_nobody_was_told_of_may_be_torn_anywhere(tmp_path: Path) -> None:
    path, tips = await written(tmp_path, 3)
    whole = path.read_bytes()
    second = len(b"".join(whole.splitlines(keepends=True)[:2]))
    tip_of(path).write_bytes(tips[1])
    for length in range(second, len(whole)):
        path.write_bytes(whole[:length])
        assert await seen(tmp_path) == 2, f"cut after {length} bytes"
    path.write_bytes(whole)
    assert await seen(tmp_path) == 3, "and whole it counts, though its writer died before it could say so"


def _removed(path: Path) -> None:
    path.unlink()


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _garbage(path: Path) -> None:
    path.write_bytes(secrets.token_bytes(path.stat().st_size))


def _last_line_lost(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def _lines_swapped(path: Path) -> None:
    first, second, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([second, first, *rest]))


def _middle_lost(path: Path) -> None:
    first, _, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([first, *rest]))


def _garbage_in_between(path: Path) -> None:
    first, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([first, b"\xff\x00\n", *rest]))


@pytest.mark.parametrize(
    "damage",
    [
        _removed,
        _emptied,
        _zeros,
        _garbage,
        _last_line_lost,
        _lines_swapped,
        _middle_lost,
        _garbage_in_between,
    ],
    ids=lambda damage: damage.__name__.strip("_"),
)
async def test_damage_is_found_and_nothing_is_written_over_it(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path, _ = await written(tmp_path, 3)
    damage(path)
    left = path.read_bytes() if path.exists() else None
    store = JournalFiles(tmp_path)
    with pytest.raises(JournalDamaged) as caught:
        await store.load("sso")
    with pytest.raises(JournalDamaged):
        await store.append("sso", Draft("t", AT, {}), expected=3)
    assert (path.read_bytes() if path.exists() else None) == left
    assert caught.value.hint.endswith("; then, if the service is well: warmd adopt sso")
    await anyio.run_process(["sh", "-c", caught.value.aside])
    assert await seen(tmp_path) == 0
    await JournalFiles(tmp_path).append("sso", Draft("t", AT, {}), expected=0)
    assert await seen(tmp_path) == 1


async def test_another_journal_that_is_whole_is_not_ours(tmp_path: Path) -> None:
    """Brought back from a backup, or copied from a neighbour."""
    path, _ = await written(tmp_path / "a", 3)
    other, _ = await written(tmp_path / "b", 2)
    path.write_bytes(other.read_bytes())
    assert await seen(tmp_path / "a") is None


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(Path.unlink, id="lost"),
        pytest.param(lambda tip: tip.write_bytes(b""), id="emptied"),
        pytest.param(lambda tip: os.truncate(tip, 20), id="torn"),
        pytest.param(lambda tip: tip.write_bytes(secrets.token_bytes(33)), id="garbage"),
        pytest.param(lambda tip: tip.write_bytes(secrets.token_bytes(100_000)), id="much garbage"),
    ],
)
async def test_a_tip_that_says_nothing_is_no_damage_and_comes_back(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path, _ = await written(tmp_path, 3)
    damage(tip_of(path))
    assert await seen(tmp_path) == 3
    await JournalFiles(tmp_path).append("sso", Draft("t", AT, {}), expected=3)
    _last_line_lost(path)
    assert await seen(tmp_path) is None


async def test_an_older_tip_proves_less_and_is_no_damage(tmp_path: Path) -> None:
    path, tips = await written(tmp_path, 3)
    tip_of(path).write_bytes(tips[0])
    assert await seen(tmp_path) == 3
    _last_line_lost(path)
    assert await seen(tmp_path) == 2


async def test_a_tip_that_is_a_folder_is_said(tmp_path: Path) -> None:
    path, _ = await written(tmp_path, 2)
    tip_of(path).unlink()
    tip_of(path).mkdir()
    with pytest.raises(Exception, match="Is a directory"):
        await JournalFiles(tmp_path).load("sso")


# --- on a real swarm ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    stack = f"t{secrets.token_hex(4)}"
    world = World(lab, tmp_path_factory.mktemp("damage"), stack)
    world.publish("1.0.0+1.0.0")
    world.up()
    world.write_note("precious")
    yield world
    lab.remove_stack(stack)


def typed(world: World, alert: dict[str, Any]) -> Said:
    """What the alert says, typed into a shell, in the order in which it stands there."""
    aside, adopt = alert["commands"]
    subprocess.run(["sh", "-c", aside], check=True)
    assert adopt == "warmd adopt app"
    return world.warmd("adopt", "app", check=None)


def test_a_pass_tells_of_a_damaged_journal_and_what_it_says_to_type_mends_it(world: World) -> None:
    file, before = journal(world), len(records(world))
    data, tasks = checksum(world.volume), world.tasks()
    _last_line_lost(file)
    world.publish("1.1.0+1.1.0")

    row = world.warmd("up", "--json", check=7).json[0]
    assert f"{file}: ends with record {before - 1}, though record {before} was written" in row["error"]
    alert = world.alert("journal-damaged")
    assert (alert["severity"], alert["candidate"]) == ("critical", "app")
    names = {f.name for f in (world.state / "alerts").iterdir()}
    world.warmd("up", check=7)
    assert {f.name for f in (world.state / "alerts").iterdir()} == names, "told once"
    assert (world.tasks(), checksum(world.volume)) == (tasks, data), "nothing is done for it"

    assert typed(world, alert).code == 0
    assert world.tasks() == tasks
    row = world.up()
    assert (row["current"], row["decision"]) == ("1.1.0+1.1.0", "noop-healthy")
    assert world.open_alerts() == set()
    assert (world.schema, "precious" in world.notes) == ("1.1.0", True)


@pytest.mark.crash
def test_the_daemon_tells_of_a_journal_that_was_damaged_under_it_and_goes_on_once_it_is_mended(
    world: World,
) -> None:
    with world.running():
        world.wait(lambda: world.told("look.decided", decision="noop-healthy"), "a look")
        tasks = world.tasks()
        _last_line_lost(journal(world))
        version = "1.2.0+1.2.0"
        world.publish(version)
        world.wait(lambda: world.open_alerts() == {("journal-damaged", "app")}, "the alert")
        assert world.tasks() == tasks, "nothing is done for it"

        said = typed(world, world.alert("journal-damaged"))
        # The daemon may have been quicker: what it deployed itself it takes over by itself.
        assert said.code == 0 or "a run is in progress" in said.err, said.err
        world.committed(version)
        world.wait(lambda: not world.open_alerts(), "the alert is over")
    assert (world.schema, "precious" in world.notes) == ("1.2.0", True)


def test_a_pass_tells_that_docker_is_away_and_the_next_that_it_is_back(world: World) -> None:
    tasks = world.tasks()
    world.docker_host = f"unix://{world.folder}/nobody.sock"
    world.write_config()
    world.warmd("up", check=6)
    world.warmd("up", check=6)
    assert world.open_alerts() == {("docker-unreachable", None)}
    files = [a for a in world.alerts() if a["kind"] == "docker-unreachable"]
    assert [a["state"] for a in files] == ["open"], "told once"
    assert "docker info" in files[0]["commands"]

    world.docker_host = ""
    world.write_config()
    world.up()
    assert world.open_alerts() == set()
    assert world.tasks() == tasks


@pytest.mark.parametrize("damage", [_last_line_lost, pytest.param(_garbage, marks=pytest.mark.crash)])
def test_damage_to_the_journal_of_its_own_alerts_keeps_no_alert_back(
    world: World, damage: Callable[[Path], None]
) -> None:
    own = world.state / "services" / "warmd.daemon" / "journal"
    file = journal(world)
    whole = file.read_bytes()
    file.write_bytes(b"")
    world.warmd("up", check=7)
    damage(own)
    world.warmd("up", check=7)
    assert world.open_alerts() == {("journal-damaged", "app"), ("journal-damaged", "warmd.daemon")}
    assert [f.name for f in (own.parent / "damaged").iterdir() if f.name.startswith("journal.1")]
    file.write_bytes(whole)
    world.up()
    assert world.open_alerts() == set()


@pytest.mark.crash
def test_who_asks_for_one_service_says_nothing_about_another(world: World, stack_name: str) -> None:
    other = world.neighbour("other", stack_name)
    other.publish("1.0.0+1.0.0")
    try:
        file = journal(world)
        whole = file.read_bytes()
        file.write_bytes(b"")
        world.warmd("up", check=7)
        assert world.open_alerts() == {("journal-damaged", "app")}
        world.warmd("reconcile", "other")
        assert world.open_alerts() == {("journal-damaged", "app")}
        file.write_bytes(whole)
        world.warmd("reconcile", "app")
        assert world.open_alerts() == set()
    finally:
        world.neighbours.clear()
        world.write_config()
