"""The command line, what every verb shares, ``check-config`` and ``schema``."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

import warmd
from tests.config.samples import SERVICE
from tests.said import Said
from warmd.cli import main
from warmd.cli.verbs import VERBS

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-c", "import sys; from warmd.cli import main; sys.exit(main())"]


def warmd_says(*arguments: str | Path, **env: str) -> Said:
    """Run a command in this process: the program's entry, with an environment and outputs of its own."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.delenv("WARMD_CONFIG", raising=False)
        for name, value in {"COLUMNS": "120", **env}.items():
            patch.setenv(name, value)
        code = main([str(argument) for argument in arguments])
    return Said(code, out.getvalue(), err.getvalue())


def environment() -> dict[str, str]:
    """For what only a process of its own can show."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.toml"
    path.write_text(SERVICE)
    return path


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    path = tmp_path / "wrong.toml"
    path.write_text(SERVICE + "kep = 5\n[services.keycloak.polcy]\n")
    return path


def test_check_config_shows_what_a_right_configuration_says(good: Path) -> None:
    done = warmd_says("check-config", "--config", good)
    assert (done.code, done.err) == (0, "")
    lines = [" ".join(line.split()) for line in done.out.split("\n")]
    assert lines == [
        "SERVICE STACK SOURCE HEALTH SNAPSHOT",
        "keycloak sso git https://git.example.org/keycloak.git tasks archive",
        "",
        f"warning: {good}:1: services.keycloak.health: no health check, only the swarm's tasks are looked at",
        f"OK: {good}, 1 service",
        "",
    ]


def test_every_health_check_is_shown_on_a_line_of_its_own_and_whole(good: Path) -> None:
    address = f"https://sso.example.org/{'long/' * 20}"
    good.write_text(f'{SERVICE}[[services.keycloak.health]]\nkind = "http"\nurl = "{address}"\n')
    lines = [line.split() for line in warmd_says("check-config", "-c", good).out.split("\n")]
    assert lines[1][-2:] == ["tasks", "archive"]
    assert lines[2] == ["http", address]


def test_check_config_says_everything_that_is_wrong_and_exits_2(wrong: Path) -> None:
    done = warmd_says("check-config", "--config", wrong)
    assert (done.code, done.out) == (2, "")
    assert done.err.split("\n") == [
        "warmd: 2 errors in the configuration, nothing was started:",
        f'{wrong}:11: services.keycloak.snapshot.kep: unknown key, did you mean "keep"?',
        f'{wrong}:12: services.keycloak.polcy: unknown key, did you mean "policy"?',
        "",
    ]


def test_check_config_tells_programs_the_same(good: Path, wrong: Path) -> None:
    fine = json.loads(warmd_says("check-config", "--json", "--config", good).out)
    assert fine["ok"] is True
    assert fine["services"] == [
        {
            "service": "keycloak",
            "enabled": True,
            "stack": "sso",
            "source": "git",
            "deploy": "stack",
            "health": ["tasks"],
            "snapshot": "archive",
        }
    ]
    assert [warning["key"] for warning in fine["warnings"]] == ["services.keycloak.health"]
    done = warmd_says("check-config", "--json", "--config", wrong)
    answer = json.loads(done.out)
    assert (done.code, answer["ok"]) == (2, False)
    assert answer["errors"][0] == {
        "path": str(wrong),
        "line": 11,
        "key": "services.keycloak.snapshot.kep",
        "text": 'unknown key, did you mean "keep"?',
    }


def test_a_service_that_is_not_enabled_is_shown_as_such(tmp_path: Path) -> None:
    path = tmp_path / "off.toml"
    path.write_text(SERVICE.replace('stack = "sso"', "enabled = false"))
    assert "keycloak (not enabled)" in warmd_says("check-config", "-c", path).out


def test_a_missing_file_is_said_with_what_to_do(tmp_path: Path) -> None:
    done = warmd_says("check-config", "--config", tmp_path / "none.toml")
    assert done.code == 2
    assert done.err.split("\n")[1:] == [
        f"{tmp_path}/none.toml: there is no such file",
        "  start from config.example.toml, or name another file with --config or $WARMD_CONFIG",
        "",
    ]


def test_config_is_taken_after_the_verb_before_it_from_the_environment_or_from_etc(
    good: Path, wrong: Path
) -> None:
    def used(*arguments: str | Path, **env: str) -> str:
        done = warmd_says(*arguments, "--json", **env)
        return str(json.loads(done.out)["path"])

    assert used("check-config", "--config", good) == str(good)
    assert used("--config", good, "check-config") == str(good)
    assert used("-c", wrong, "check-config", "-c", good) == str(good)
    assert used("check-config", WARMD_CONFIG=str(good)) == str(good)
    assert used("--config", good, "check-config", WARMD_CONFIG=str(wrong)) == str(good)
    assert used("check-config", "--config", good, WARMD_CONFIG=str(wrong)) == str(good)


@pytest.mark.skipif(Path("/etc/warmd/warmd.toml").exists(), reason="this machine has a configuration")
@pytest.mark.parametrize("env", [{}, {"WARMD_CONFIG": ""}], ids=["unset", "empty"])
def test_without_any_of_them_it_is_the_one_in_etc(env: dict[str, str]) -> None:
    assert "/etc/warmd/warmd.toml: there is no such file" in warmd_says("check-config", **env).err


def test_schema_prints_the_published_schema() -> None:
    done = warmd_says("schema")
    assert done.code == 0
    assert done.out == (ROOT / "docs/config.schema.json").read_text()


@pytest.mark.parametrize("arguments", [["--version"], ["--config", "x", "--version"]])
def test_the_version_is_printed(arguments: list[str]) -> None:
    done = warmd_says(*arguments)
    assert (done.code, done.out, done.err) == (0, f"warmd {warmd.__version__}\n", "")


def test_the_version_costs_hardly_more_than_python_itself() -> None:
    def fastest(*command: str) -> float:
        times = []
        for _ in range(7):
            start = time.perf_counter()
            subprocess.run(command, env=environment(), check=True, capture_output=True)
            times.append(time.perf_counter() - start)
        return min(times)

    assert fastest(*PROGRAM, "--version") < fastest(sys.executable, "-c", "pass") + 0.15


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--version"], {"typer", "pydantic", "rich", "httpx", "aiodocker"}),
        (["--help"], {"pydantic", "rich", "httpx", "aiodocker"}),
        (["check-config", "--help"], {"rich", "httpx", "aiodocker", "structlog"}),
    ],
)
def test_a_short_command_imports_only_what_it_needs(arguments: list[str], unwanted: set[str]) -> None:
    script = (
        "import sys; from warmd.cli import main; main(sys.argv[1:]); sys.stderr.write(' '.join(sys.modules))"
    )
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert not unwanted & set(done.stderr.split())


@pytest.mark.parametrize(("verb", "summary"), VERBS.items(), ids=VERBS)
def test_every_verb_has_its_summary_in_the_help_and_in_its_own(verb: str, summary: str) -> None:
    everything = warmd_says("--help").out
    assert summary in " ".join(everything.split())
    own = warmd_says(verb, "--help")
    assert own.code == 0
    assert summary in " ".join(own.out.split())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["chek-config"], "No such command 'chek-config'. Did you mean 'check-config'?"),
        (["check-config", "--jsn"], "No such option: --jsn"),
        (["check-config", "extra"], "Got unexpected extra argument"),
        (["run", "--log-level", "loud"], "'loud' is not one of 'debug', 'info', 'warning', 'error'"),
    ],
)
def test_a_wrong_command_line_is_said_and_exits_2(arguments: list[str], expected: str) -> None:
    done = warmd_says(*arguments)
    assert (done.code, done.out) == (2, "")
    assert expected in done.err


def test_no_arguments_at_all_show_the_help() -> None:
    done = warmd_says()
    assert done.code == 2
    assert "check-config" in done.out + done.err


def test_a_reader_that_goes_away_is_no_trouble(good: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*PROGRAM, "schema"], stdout=writer, stderr=subprocess.PIPE, env=environment(), text=True
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A command that waits: its configuration is a pipe that nobody has written to."""
    os.mkfifo(tmp_path / "pipe.toml")
    process = subprocess.Popen(
        [*PROGRAM, "check-config", "-c", tmp_path / "pipe.toml"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        # Opening the other end succeeds when the command has opened its own, so it is reading by then.
        with (tmp_path / "pipe.toml").open("w"):
            yield process
        process.kill()


def test_an_interrupt_ends_it_without_a_word(waiting: subprocess.Popen[str]) -> None:
    waiting.send_signal(signal.SIGINT)
    out, err = waiting.communicate(timeout=30)
    assert (waiting.returncode, out, err) == (130, "", "")
