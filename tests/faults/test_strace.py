"""System calls that fail, by strace: in a real ``warmd up`` on a real swarm, and in the programs it starts.

After each the service runs the old version on the old data or the new one on migrated data, or is stuck and
the alert says what to type; and once the calls work again, so does everything.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Lab
from tests.size import spread
from tests.swarm.observer import checksum, deployed, replicas
from tests.swarm.world import WARMD, World

GATE = 'health_gate = { deadline = "6s", interval = "100ms", successes = 2, stable = "300ms" }'
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Case:
    """Which call of which program fails how. ``program`` is warmd, or one that it starts with ``argument``
    among its own; ``path`` is below the state folder. ``bad``: the release is, so the way back is what fails.
    ``ends``: what the run may come to."""

    program: str
    calls: str
    error: str
    ends: tuple[str, ...]
    when: str = "1"
    argument: str = ""
    path: str = ""
    bad: bool = False

    @property
    def id(self) -> str:
        back = "rollback" if self.bad else "upgrade"
        what = " ".join(filter(None, (self.program, self.argument, self.path)))
        return f"{back}: {what} {self.calls} {self.error} {self.when}"

    def strace(self, state: Path) -> list[str]:
        where = ["-P", str(state / self.path)] if self.path else []
        inject = f"inject={self.calls}:error={self.error}:when={self.when}"
        return ["strace", "-f", "--kill-on-exit", "-qq", "-o", os.devnull, *where,
                "-e", f"trace={self.calls}", "-e", inject]  # fmt: skip


INTERRUPTED = ("interrupted",)
STUCK = ("stuck",)
ANY = ("committed", "interrupted", "rolled-back", "failed-unchanged", "left")
CASES = (
    Case("tar", "write", "EIO", INTERRUPTED, when="3+", argument="--create"),
    Case("tar", "write", "ENOSPC", STUCK, argument="--extract", bad=True),
    Case("warmd", "fsync", "EIO", ANY, when="2", path="services/app/journal"),
    Case("tar", "read", "EIO", INTERRUPTED, when="20+", argument="--create"),
    Case("tar", "openat", "EMFILE", INTERRUPTED, when="20+", argument="--create"),
    Case("zstd", "write", "ENOSPC", INTERRUPTED, argument="-T0"),
    Case("zstd", "read", "EIO", INTERRUPTED, argument="-T0", when="4+"),
    Case("zstd", "write", "EIO", INTERRUPTED, argument="-dc"),
    Case("tar", "openat", "EDQUOT", STUCK, argument="--extract", when="15+", bad=True),
    Case("tar", "mkdirat", "ENOSPC", ("stuck", "rolled-back"), argument="--extract", bad=True),
    Case("sync", "syncfs", "EIO", STUCK, argument="--file-system", bad=True),
    Case("rm", "unlinkat", "EIO", (*STUCK, "rolled-back"), argument="-rf", bad=True),
    Case("warmd", "write", "ENOSPC", ANY, when="4+", path="services/app/journal"),
    Case("warmd", "rename", "EIO", ANY, when="1+"),
    Case("warmd", "link", "EDQUOT", ANY, when="1+"),
    Case("warmd", "fsync", "EDQUOT", ANY, when="1+", path="alerts", bad=True),
    Case("warmd", "rename", "EIO", (*ANY, "stuck"), when="3+", bad=True),
    Case("warmd", "fsync", "EIO", (*ANY, "stuck"), when="8", bad=True),
)


@dataclass
class Story:
    """One service; each test leaves it healthy."""

    world: World
    number: int = 0
    notes: list[str] = field(default_factory=list)

    def publish(self, *, bad: bool) -> str:
        self.number += 1
        version = f"1.{self.number}.0+1.{self.number}.0"
        self.world.publish(version, bad="never-healthy" if bad else None)
        return version

    def is_good(self) -> None:
        app = deployed(self.world).partition("+")[2]
        assert self.world.serves(app)
        assert self.world.schema == app
        assert len(self.world.running_tasks()) == 1
        assert self.world.notes.split() == ["precious"]

    def afflicted(self, case: Case) -> Any:
        """``warmd up`` with the fault; the row."""
        world = self.world
        shims = world.folder / "shims"
        shutil.rmtree(shims, ignore_errors=True)
        shims.mkdir()
        strace = case.strace(world.state)
        if case.program == "warmd":
            world.command = (*strace, str(WARMD))
        else:
            real = shutil.which(case.program)
            quoted = " ".join(f"'{word}'" for word in strace)
            shim = shims / case.program
            shim.write_text(
                f'#!/bin/sh\ncase " $* " in\n*" {case.argument} "*) exec {quoted} {real} "$@" ;;\nesac\n'
                f'exec {real} "$@"\n'
            )
            shim.chmod(0o755)
        path = os.environ["PATH"]
        os.environ["PATH"] = f"{shims}:{path}"
        try:
            said = world.warmd("up", "--json", check=None)
        finally:
            os.environ["PATH"] = path
            world.command = (str(WARMD),)
        assert "Traceback" not in said.err
        assert ".crashed" not in said.err
        return said.json[0] if said.out else {"ran": None}


@pytest.fixture(scope="module")
def story(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    stack = f"t{secrets.token_hex(4)}"
    story = Story(World(lab, tmp_path_factory.mktemp("strace"), stack, gate=GATE))
    story.publish(bad=False)
    story.world.up()
    story.world.write_note("precious")
    (story.world.volume / "big").write_bytes(secrets.token_bytes(8 * MIB))
    yield story
    lab.remove_stack(stack)


@pytest.mark.crash
@pytest.mark.parametrize("case", spread(CASES, 9), ids=lambda case: case.id)
def test_whatever_call_fails_version_and_data_fit_and_later_all_is_well(story: Story, case: Case) -> None:
    world, before = story.world, deployed(story.world)
    data = checksum(world.volume)
    version = story.publish(bad=case.bad)

    row = story.afflicted(case)
    ran = row["ran"]["state"] if row.get("ran") else "left"
    assert ran in case.ends, row
    if ran in ("interrupted", "rolled-back", "failed-unchanged"):
        assert checksum(world.volume) == data
        assert deployed(world) == before
        story.is_good()
    elif ran == "stuck":
        assert any(line == "warmd retry app" for line in world.alert("stuck")["commands"])
        assert replicas(world) == 0, "whatever the volume holds, nothing writes to it"

    if ran == "stuck":
        world.warmd("retry", "app")
    row = world.warmd("reconcile", "app", "--json", check=None).json[0]
    if row["decision"] == "held-failed-before" and not case.bad:
        world.warmd("retry", "app")
        row = world.up()
    assert row["decision"] == ("held-failed-before" if case.bad else "noop-healthy"), row
    assert deployed(world) == (before if case.bad else version)
    if case.bad:
        assert checksum(world.volume) == data
    story.is_good()
    assert {k for k, _ in world.open_alerts()} <= (
        {"rolled-back", "held-failed-before"} if case.bad else set()
    )
