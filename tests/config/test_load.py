"""What the rest of warmd gets from a configuration file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import MutableMapping
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from warmd.config import Config, ConfigProblems, HealthGate, Policy, load, parse
from warmd.config.models import NOTES_MARKERS
from warmd.core import model
from warmd.plugins import table

from .samples import HTTP, SERVICE


def loaded(folder: Path, text: str) -> Config:
    path = folder / "warmd.toml"
    path.write_text(text)
    return load(path)


def warnings(folder: Path, text: str) -> list[str]:
    config = loaded(folder, text)
    return [str(warning).removeprefix(f"{config.path}:") for warning in config.warnings]


def test_an_empty_file_has_the_documented_defaults(tmp_path: Path) -> None:
    daemon = loaded(tmp_path, "").daemon
    assert dict(daemon) == {
        "state_dir": Path("/var/lib/warmd"),
        "alert_dir": Path("/var/lib/warmd/alerts"),
        "alert_group": None,
        "docker_host": "unix:///var/run/docker.sock",
        "interval": timedelta(minutes=5),
        "max_parallel": 1,
        "heartbeat": Path("/var/lib/warmd/heartbeat"),
        "control_socket": Path("/var/lib/warmd/control.sock"),
        "log_level": "info",
    }


def test_places_follow_the_state_folder_unless_they_are_set(tmp_path: Path) -> None:
    text = '[daemon]\nstate_dir = "/srv/warmd"\ncontrol_socket = "/run/warmd/control.sock"\n'
    daemon = loaded(tmp_path, text).daemon
    assert daemon.alert_dir == Path("/srv/warmd/alerts")
    assert daemon.heartbeat == Path("/srv/warmd/heartbeat")
    assert daemon.control_socket == Path("/run/warmd/control.sock")


def test_relative_paths_are_relative_to_the_files_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/warmd.toml").write_text('[daemon]\nstate_dir = "state"\nalert_dir = "../alerts"\n')
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = load(Path("../etc/warmd.toml"))
    assert config.folder.samefile(tmp_path / "etc")
    assert config.daemon.state_dir == config.folder / "state"
    assert config.daemon.heartbeat == config.folder / "state/heartbeat"
    assert config.daemon.alert_dir == config.folder / "../alerts"
    assert config.daemon.state_dir.is_absolute()


@pytest.mark.parametrize(("group", "expected"), [('"adm"', "adm"), ("4", 4), ('"4"', "4")])
def test_the_alert_group_is_a_name_or_a_number(tmp_path: Path, group: str, expected: object) -> None:
    assert loaded(tmp_path, f"[daemon]\nalert_group = {group}\n").daemon.alert_group == expected


def test_a_service_has_its_name_as_stack_unless_it_says_otherwise(tmp_path: Path) -> None:
    text = SERVICE + SERVICE.replace("keycloak", "proxy").replace('stack = "sso"\n', "")
    config = loaded(tmp_path, text)
    assert {name: service.stack for name, service in config.services.items()} == {
        "keycloak": "sso",
        "proxy": "proxy",
    }


def test_plugins_tables_are_the_plugins_own_settings(tmp_path: Path) -> None:
    service = loaded(tmp_path, SERVICE + HTTP).services["keycloak"]
    assert isinstance(service.source, table.config_class("source", "git"))
    assert isinstance(service.deploy, table.config_class("deployer", "stack"))
    assert isinstance(service.snapshot, table.config_class("snapshotter", "archive"))
    assert [table.kind_of(probe) for probe in service.health] == ["http"]


def test_nothing_of_it_can_be_changed(tmp_path: Path) -> None:
    config = loaded(tmp_path, SERVICE)
    service = config.services["keycloak"]
    with pytest.raises(ValidationError):
        service.__setattr__("stack", "other")
    assert not isinstance(config.services, MutableMapping)


def test_the_rules_settings_are_the_cores(tmp_path: Path) -> None:
    text = SERVICE + (
        '[services.keycloak.policy]\nrecipe_major = "allow"\nnotes = "hold-marked"\nnotes_markers = ["x"]\n'
        'rollback_horizon = "2h"\nupgrade_unhealthy = true\n'
        '[services.keycloak.health_gate]\nstable = "2m"\n'
    )
    service = loaded(tmp_path, text).services["keycloak"]
    assert service.policy.to_core() == model.Policy(
        recipe_major="allow",
        notes="hold-marked",
        notes_markers=("x",),
        rollback_horizon=timedelta(hours=2),
        upgrade_unhealthy=True,
    )
    assert service.health_gate.to_core() == model.GateRule(stable=timedelta(minutes=2))


def test_the_defaults_are_the_cores_and_the_markers_are_not_empty() -> None:
    assert Policy().to_core() == model.Policy(notes_markers=NOTES_MARKERS)
    assert HealthGate().to_core() == model.GateRule()


@pytest.mark.parametrize(
    "notes",
    [
        "A couple of breaking changes, it is recommended to start your env file from scratch",
        "The search backend was removed, see the wiki",
        "Run the database migration by hand",
        "Please take a backup BEFORE UPGRADING",
    ],
)
def test_the_default_markers_find_notes_that_operators_had_to_act_on(notes: str) -> None:
    assert any(marker in notes.casefold() for marker in NOTES_MARKERS)


def test_the_default_markers_leave_ordinary_notes_alone() -> None:
    notes = "Updates the image to 26.5.6. Fixes two bugs in the login page."
    assert not any(marker in notes.casefold() for marker in NOTES_MARKERS)


def test_a_service_without_health_checks_is_told_of(tmp_path: Path) -> None:
    assert warnings(tmp_path, SERVICE) == [
        "1: services.keycloak.health: no health check, only the swarm's tasks are looked at"
    ]


NOTES = "release notes are not looked at, manual migrations go unnoticed"
NO_DATA = "no snapshot, a rollback puts the version back and no data"
NEVER = "a failed upgrade is never rolled back by itself"
LATE = "shorter than health_gate.deadline (10m): an upgrade that fails late is not rolled back by itself"
OFF = "not enabled, warmd leaves it alone"
TOLD = {
    "nothing": ("", "", []),
    "no snapshot": ('"archive"', '"none"', [f"10: services.keycloak.snapshot.kind: {NO_DATA}"]),
    "notes ignored": (
        'stack = "sso"',
        'policy.notes = "ignore"',
        [f"2: services.keycloak.policy.notes: {NOTES}"],
    ),
    "no rollback": (
        'stack = "sso"',
        'policy.rollback_horizon = "0s"',
        [f"2: services.keycloak.policy.rollback_horizon: {NEVER}"],
    ),
    "short rollback": (
        'stack = "sso"',
        'policy.rollback_horizon = "5m"',
        [f"2: services.keycloak.policy.rollback_horizon: {LATE}"],
    ),
    "not enabled": ('stack = "sso"', "enabled = false", [f"1: services.keycloak: {OFF}"]),
}


@pytest.mark.parametrize(("old", "new", "expected"), TOLD.values(), ids=TOLD)
def test_what_is_allowed_and_still_worth_telling(
    tmp_path: Path, old: str, new: str, expected: list[str]
) -> None:
    assert warnings(tmp_path, SERVICE.replace(old, new) + HTTP) == expected


def test_a_file_without_services_is_told_of(tmp_path: Path) -> None:
    config = loaded(tmp_path, "[daemon]\n")
    assert [str(w) for w in config.warnings] == [
        f"{config.path}: services: no service is configured, warmd has nothing to do"
    ]


def test_a_missing_file_says_where_one_comes_from(tmp_path: Path) -> None:
    with pytest.raises(ConfigProblems) as caught:
        load(tmp_path / "warmd.toml")
    assert caught.value.message.endswith(f"{tmp_path}/warmd.toml: there is no such file")
    assert "config.example.toml" in caught.value.hint
    assert "--config" in caught.value.hint


def test_a_folder_in_the_files_place_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigProblems, match="can't be read: is a directory"):
        load(tmp_path)


def test_bytes_that_are_no_text_have_their_line(tmp_path: Path) -> None:
    (tmp_path / "warmd.toml").write_bytes(b"[daemon]\n# caf\xe9\n")
    with pytest.raises(ConfigProblems, match=r"warmd\.toml:2: not valid UTF-8"):
        load(tmp_path / "warmd.toml")


def test_only_the_plugins_that_are_named_are_imported_and_no_client_library(tmp_path: Path) -> None:
    (tmp_path / "warmd.toml").write_text(SERVICE + HTTP)
    script = (
        "import sys; from pathlib import Path; from warmd.config import load; load(Path('warmd.toml'));"
        "print(*sorted(sys.modules), sep='\\n')"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    modules = set(done.stdout.split())
    named = {path for _, kind, path in table.TABLE if kind in ("git", "stack", "archive", "http")}
    assert named <= modules
    assert "warmd.plugins.snapshotters.none" not in modules
    assert not modules & {"httpx", "aiodocker", "aiohttp", "typer"}


def test_text_that_was_read_already_can_be_parsed() -> None:
    assert parse("", Path("/etc/warmd/warmd.toml")).daemon.state_dir == Path("/var/lib/warmd")
