"""The daemon as those around it see it: it works by itself, tells what it does, and listens."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.swarm.world import WARMD, World
from tests.upstream import silent

#: Somebody who is neither root nor warmd.
NOBODY = 65534


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may look into; pytest's own are closed."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def at(line: dict[str, Any]) -> float:
    """When a line was logged, in seconds since the epoch."""
    return datetime.fromisoformat(line["at"]).timestamp()


# --- by itself -----------------------------------------------------------------------------------


def test_deploys_and_upgrades_by_itself_and_logs_json(world: World) -> None:
    world.publish("1.0.0+1.0.0")
    with world.running():
        world.committed("1.0.0+1.0.0")
        world.write_note("kept")
        world.publish("1.1.0+1.1.0")
        world.committed("1.1.0+1.1.0")
        seen = (world.state / "heartbeat").stat().st_mtime_ns
        world.wait(lambda: (world.state / "heartbeat").stat().st_mtime_ns > seen, "the next look's heartbeat")
    assert "kept" in world.notes
    lines = (world.folder / "daemon.log").read_text().splitlines()
    told = [json.loads(line) for line in lines]
    assert all("." in line["event"] and {"at", "level"} <= line.keys() for line in told)
    runs = [line for line in told if line["event"].startswith("run.")]
    assert {line["service"] for line in runs} == {"app"}
    assert len({line["run"] for line in runs}) == 2
    assert (told[0]["event"], told[-1]["event"]) == ("daemon.started", "daemon.stopped")
    assert len(world.told("look.decided", decision="noop-healthy", level="info")) <= 2, "not one a look"


def test_a_terminal_gets_colours_and_ctrl_c_ends_it(world: World) -> None:
    main, terminal = pty.openpty()
    command = [str(WARMD), "run", "--config", str(world.config)]
    with subprocess.Popen(
        command,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=world.environment | {"TERM": "xterm-256color"},
        start_new_session=True,
        preexec_fn=lambda: os.close(main),
    ) as process:
        os.close(terminal)
        seen = b""
        while b"held-nothing-published" not in seen:
            seen += os.read(main, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    os.close(main)
    assert b"\x1b[" in seen
    assert b"daemon.started" in seen
    assert b'{"' not in seen


def test_a_hangup_looks_at_everything_now(world: World) -> None:
    world.interval = "1h"
    world.write_config()
    world.publish("1.0.0+1.0.0")
    with world.running() as daemon:
        world.committed("1.0.0+1.0.0")
        world.publish("1.1.0+1.1.0")
        asked = time.time()
        daemon.send_signal(signal.SIGHUP)
        world.wait(lambda: world.told("run.planned", target="1.1.0+1.1.0"), "the upgrade begins")
        took = at(world.told("run.planned", target="1.1.0+1.1.0")[0]) - asked
        world.committed("1.1.0+1.1.0")
    assert took < 5, f"{took:.2f} s"


def test_an_event_of_docker_wakes_the_worker(world: World) -> None:
    world.interval, world.policy = "1h", 'repair_after = "1h"'
    world.write_config()
    world.publish("1.0.0+1.0.0")
    with world.running():
        world.committed("1.0.0+1.0.0")
        world.wait(lambda: quiet_for(world, 3.0), "the events of the deploy are over")
        world.lab.docker("service", "scale", "--detach", f"{world.stack}_app=0")
        changed = world.lab.api.get(f"/services/{world.stack}_app").raise_for_status().json()["UpdatedAt"]
        world.wait(lambda: world.told("look.decided", decision="drift"), "somebody's scaling is seen")
        seen = world.told("look.decided", decision="drift")[0]
        took = at(seen) - datetime.fromisoformat(changed).timestamp()
        world.wait(lambda: world.open_alerts() == {("drift", None)}, "and told")
    assert took < 1.0, f"{took:.2f} s"


def quiet_for(world: World, seconds: float) -> bool:
    """Whether no look was made for so long."""
    heartbeat = world.state / "heartbeat"
    return heartbeat.exists() and time.time() - heartbeat.stat().st_mtime > seconds


# --- one at a time -------------------------------------------------------------------------------


def test_only_one_daemon_a_state_dir_and_one_installation_a_stack(world: World) -> None:
    world.publish("1.0.0+1.0.0")
    with world.running() as daemon:
        world.committed("1.0.0+1.0.0")
        second = world.warmd("run", check=8)
        assert f"pid {daemon.pid}" in second.err
        assert str(world.state) in second.err
        assert "Traceback" not in second.err
        assert world.status()["decision"] == "noop-healthy", "the first one still answers"

        stranger = World(world.lab, world.folder / "stranger", world.stack, port=world.port)
        stranger.publish("1.1.0+1.1.0")
        before = world.tasks()
        with stranger.running():
            stranger.wait(lambda: stranger.open_alerts() == {("owned-elsewhere", None)}, "it says so")
            assert stranger.status()["decision"] == "owned-elsewhere"
        assert world.tasks() == before
        assert (world.state / "installation").read_text().strip() in stranger.alerts()[0]["detail"]


# --- over the socket -----------------------------------------------------------------------------


def test_verbs_talk_to_the_daemon(world: World) -> None:
    world.interval = "1h"
    world.write_config()
    world.publish("1.0.0+1.0.0")
    with world.running():
        world.committed("1.0.0+1.0.0")
        world.wait(lambda: world.told("look.decided", decision="noop-healthy"), "the look after the run")
        world.publish("1.1.0+1.1.0", notes="Do read this.")
        held = world.warmd("reconcile", "app", "--json").json[0]
        assert held["decision"] == "held-manual-migration"
        assert world.status()["decision"] == "held-manual-migration"
        assert "read this" in world.warmd("alerts", "--json").out
        plan = world.plan()
        assert [r["version"] for r in plan["releases"]] == ["1.1.0+1.1.0"]

        world.warmd("pause", "app", "--why", "a demonstration")
        world.warmd("approve", "app", "1.1.0+1.1.0", "--why", "read it")
        paused = world.warmd("reconcile", "app", "--json").json[0]
        assert (paused["decision"], paused["paused"], paused["ran"]) == ("held-paused", True, None)
        world.warmd("resume", "app")
        world.committed("1.1.0+1.1.0")  # by itself: nobody should have to wait for the next look
        assert world.history()["approvals"] == [], "the approval is used up"
        assert [r["to_version"] for r in world.history()["runs"]] == ["1.0.0+1.0.0", "1.1.0+1.1.0"]
        assert len(world.warmd("snapshots", "app", "--json").json) == 1
        assert world.warmd("abort", "app", check=7).err
        assert world.warmd("status", "nobody", check=7).err
        verbs = {e["verb"] for e in world.told("control.answered")}
    assert {"status", "plan", "approve", "pause", "resume", "reconcile", "history", "alerts"} <= verbs


def test_another_user_may_look_but_not_act(world: World, open_folder: Path) -> None:
    world.publish("1.0.0+1.0.0")
    config = open_folder / "warmd.toml"
    config.write_text(world.config.read_text())
    config.chmod(0o644)

    def as_nobody(*verb: str) -> subprocess.CompletedProcess[str]:
        # Reads this installation, wherever it lies; that opens no socket.
        who = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        reads = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        return subprocess.run(
            [*who, *reads, WARMD, *verb, "--config", config],
            capture_output=True,
            text=True,
            check=False,
            env=world.environment | {"HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"},
        )

    with world.running():
        world.committed("1.0.0+1.0.0")
        denied = as_nobody("status")
        assert (denied.returncode, "sudo" in denied.stderr) == (7, True), denied
        os.chown(world.state / "control.sock", -1, NOBODY)
        assert as_nobody("status").returncode == 0
        assert as_nobody("history", "app").returncode == 0
        before = len(world.log)
        for verb in (("pause", "app"), ("reconcile",), ("deploy", "app"), ("retry", "app")):
            refused = as_nobody(*verb)
            assert refused.returncode == 7
            assert f"uid {NOBODY} may look but not act" in refused.stderr
        assert not [e for e in world.log[before:] if e["event"] == "control.answered"]
        assert not world.status()["paused"]


def test_verbs_during_a_run(world: World) -> None:
    world.gate = world.gate.replace("15s", "5m")
    world.write_config()
    world.publish("1.0.0+1.0.0")
    with world.running():
        world.committed("1.0.0+1.0.0")
        world.write_note("precious")
        before = world.get("/data")
        world.publish("1.1.0+1.1.0", delay=300)
        world.wait(lambda: world.told("run.gating", version="1.1.0+1.1.0"), "the gate")

        row = world.status()
        assert (row["run_state"], row["current"]) == ("gating", "1.0.0+1.0.0")
        assert world.history()["runs"][-1]["state"] == "gating"
        world.warmd("pause", "app", "--why", "no more after this")
        assert "gating" in world.warmd("status").out
        for verb in ("adopt", "deploy"):
            assert "in progress" in world.warmd(verb, "app", check=7).err
        assert world.history()["runs"][-1]["state"] == "gating", "nobody waited for the run's end"

        ended = world.warmd("abort", "app", "--yes")
        assert "rolled-back" in ended.out
        world.publish("1.2.0+1.2.0")
        world.wait(lambda: world.told("look.decided", decision="held-paused"), "nothing more is begun")
    assert world.get("/data") == before
    assert world.serves("1.0.0")


# --- side by side --------------------------------------------------------------------------------


def test_one_that_hangs_or_fails_delays_nobody(world: World, another: Callable[[], str]) -> None:
    with silent() as port:
        health = f'{{ kind = "http", url = "http://127.0.0.1:{port}/health", timeout = "60s" }}'
        sick = world.neighbour("sick", another(), health=health)
        sick.by_hand(sick.labelled("1.0.0+1.0.0"))
        sick.publish("1.0.0+1.0.0")
        deaf = world.neighbour("deaf", another())
        gone = world.neighbour("gone", another())
        gone.recipe.path.rename(gone.recipe.path.with_name("elsewhere"))
        told = world.config.read_text().replace(deaf.recipe.url, f"http://127.0.0.1:{port}/recipe.git")
        world.config.write_text(told)
        world.publish("1.0.0+1.0.0")
        with world.running() as daemon:
            world.committed("1.0.0+1.0.0")
            world.publish("1.1.0+1.1.0")
            world.committed("1.1.0+1.1.0")
            began = time.monotonic()
            rows = {row["service"]: row for row in world.warmd("status", "--json").json}
            assert time.monotonic() - began < 10, "nobody waits for what hangs"
            assert rows["app"]["current"] == "1.1.0+1.1.0"
            assert {rows["sick"]["decision"], rows["deaf"]["decision"]} == {"not-looked-yet"}
            assert "source-unreachable" in rows["gone"]["alerts"]
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(5) == 0, "nor does leaving"


@pytest.mark.parametrize("slots", [1, 2])
def test_no_more_services_change_at_once_than_allowed(
    world: World, another: Callable[[], str], slots: int
) -> None:
    world.interval, world.daemon = "1h", f"max_parallel = {slots}"
    other = world.neighbour("other", another())
    for each in (world, other):
        each.publish("1.0.0+1.0.0")
    with world.running() as daemon:
        for each in (world, other):
            world.committed("1.0.0+1.0.0", of=each)
        for each in (world, other):
            each.publish("1.1.0+1.1.0")
        daemon.send_signal(signal.SIGHUP)
        for each in (world, other):
            world.committed("1.1.0+1.1.0", of=each)
        runs = [world.warmd("history", each.name, "--json").json["runs"][-1] for each in (world, other)]
    first, second = sorted(
        (datetime.fromisoformat(run["started"]), datetime.fromisoformat(run["ended"])) for run in runs
    )
    assert (first[1] <= second[0]) == (slots == 1), (first, second)
