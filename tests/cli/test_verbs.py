"""The verbs: each is there and documented, asks for the right thing, and ends with the right exit code."""

from __future__ import annotations

import importlib
import io
import logging
import os
import pty
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest
import structlog

from tests.cli.test_show import HELD, NOW, SNAPSHOT, alert, history, plan, run, service
from tests.said import Said
from warmd.adapters.state_dir import StateDir
from warmd.cli import main
from warmd.cli.verbs import VERBS
from warmd.engine import control
from warmd.engine.desk import Answer, Request
from warmd.errors import NotFound, Refused, Transient, WarmdError

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "commands.md").read_text()


@dataclass
class Daemon:
    """Answers at a real control socket what is laid out for it, and remembers what it was asked."""

    answers: dict[str, Answer | WarmdError] = field(default_factory=dict)
    asked: list[tuple[str, str | None, dict[str, Any]]] = field(default_factory=list)

    async def answer(self, request: Request) -> Answer:
        self.asked.append((request.verb, request.service, dict(request.args)))
        found = self.answers[request.verb]
        if isinstance(found, WarmdError):
            raise found
        return found

    @contextmanager
    def serving(self, path: Path) -> Iterator[None]:
        async def serve(ready: threading.Event) -> None:
            async with anyio.create_task_group() as tasks:
                await tasks.start(control.serve, self, path)
                ready.set()
                await over.wait()
                tasks.cancel_scope.cancel()

        with anyio.from_thread.start_blocking_portal() as portal:
            over = portal.call(anyio.Event)
            ready = threading.Event()
            done = portal.start_task_soon(serve, ready)
            assert ready.wait(10)
            yield
            portal.call(over.set)
            done.result(10)


@dataclass
class Host:
    """A place with a configuration, where ``warmd`` is typed."""

    folder: Path
    daemon: Daemon = field(default_factory=Daemon)

    @property
    def config(self) -> Path:
        return self.folder / "warmd.toml"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def socket(self) -> Path:
        return self.folder / "control.sock"

    def types(self, *arguments: str, **env: str) -> Said:
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr("sys.stdin", io.StringIO("y\n"))
            for name, value in {"COLUMNS": "100", "WARMD_CONFIG": str(self.config), **env}.items():
                patch.setenv(name, value)
            code = main(arguments)
        return Said(code, out.getvalue(), err.getvalue())


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command sets up logging for its whole process, which here is the tests' own."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []  # or setting up would close them
    yield
    root.handlers, root.level = handlers, level
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.fixture
def host() -> Iterator[Host]:
    # Short: the path of a socket may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="warmd-") as folder:
        made = Host(Path(folder))
        made.config.write_text(f"""\
[daemon]
state_dir = "{made.state}"
control_socket = "{made.socket}"
docker_host = "unix://{folder}/no-docker.sock"
[services.keycloak]
stack = "sso"
source = {{ kind = "git", url = "{folder}/no-recipe" }}
deploy = {{ kind = "stack", files = ["compose.yml"] }}
snapshot = {{ kind = "archive" }}
""")
        yield made


@pytest.fixture
def served(host: Host) -> Iterator[Host]:
    with host.daemon.serving(host.socket):
        yield host


def section(verb: str) -> str:
    """What the document says about a verb, heading included."""
    found = re.search(rf"^### `warmd {verb}[ `].*?(?=^##)", DOCUMENT, re.DOTALL | re.MULTILINE)
    return found.group() if found else ""


# --- every verb ----------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_module_and_is_documented(verb: str) -> None:
    module = importlib.import_module(f"warmd.cli.{verb.replace('-', '_')}")
    assert (module.verb.__doc__ or "").startswith(VERBS[verb])
    assert section(verb)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_a_verb_is_documented_where_the_verb_is(verb: str, host: Host) -> None:
    text = host.types(verb, "--help").out
    options = set(re.findall(r"--[a-z-]+", text.partition("Options:")[2]))
    assert options >= {"--help"}
    for option in options - {"--config", "--json", "--help"}:  # said once for all of them
        assert re.search(rf"[` ]{option}[ `]", section(verb)), option


def test_no_summary_is_cut_off_in_the_help(host: Host) -> None:
    assert "..." not in host.types("--help").out.partition("Commands:")[2]


# --- what is asked, what is shown, how it ends ---------------------------------------------------

DONE: Answer = {"run": run(state="committed"), "code": 0}
BACK: Answer = {"run": run(), "code": 4}
STUCK: Answer = {"run": run(state="stuck"), "code": 5}

ASKED = [
    ("status", {"services": [HELD]}, ("status", None, {}), "1 service: 1 healthy"),
    ("status keycloak", {"services": [HELD]}, ("status", "keycloak", {}), "held-manual-migration"),
    ("plan keycloak", {"plans": [plan()]}, ("plan", "keycloak", {}), "What would happen"),
    ("reconcile", {"looks": [HELD | {"code": 0}]}, ("reconcile", None, {}), "1 service: 1 healthy"),
    (
        "up --log-level error",  # the daemon of these tests would log here too
        {"looks": [HELD | {"code": 0}]},
        ("reconcile", None, {"patient": True}),
        "1 service: 1 healthy",
    ),
    ("history keycloak", history(), ("history", "keycloak", {}), "Last run, 0a1b2c3d4e5f"),
    ("alerts", {"alerts": [alert()]}, ("alerts", None, {}), "1 alert open"),
    ("alerts keycloak", {"alerts": [alert()]}, ("alerts", "keycloak", {}), "| Export the index."),
    ("snapshots keycloak", {"snapshots": [SNAPSHOT]}, ("snapshots", "keycloak", {}), "1 snapshot. "),
    ("deploy keycloak", DONE, ("deploy", "keycloak", {"why": ""}), "committed"),
    (
        "deploy keycloak --version 1.2.3 --why because",
        DONE,
        ("deploy", "keycloak", {"version": "1.2.3", "why": "because"}),
        "committed",
    ),
    (
        "approve keycloak 1.2.3 --why read",
        {"approved": "1.2.3", "commit": "0123456789abcdef"},
        ("approve", "keycloak", {"version": "1.2.3", "why": "read"}),
        "1.2.3 (commit 0123456789ab) may be deployed once",
    ),
    ("retry keycloak", {"retry": "keycloak"}, ("retry", "keycloak", {}), "may be tried again"),
    ("retry keycloak 1.2.3", {}, ("retry", "keycloak", {"version": "1.2.3"}), "1.2.3 may be tried again"),
    ("adopt keycloak", {"adopted": "1.2.3"}, ("adopt", "keycloak", {}), "is good, as 1.2.3"),
    (
        "adopt keycloak --version 1.2.3",
        {"adopted": "1.2.3"},
        ("adopt", "keycloak", {"version": "1.2.3"}),
        "is good, as 1.2.3",
    ),
    ("pause", {"paused": ["a", "b"]}, ("pause", None, {"why": ""}), "Paused: a, b."),
    ("pause a --why x", {"paused": ["a"]}, ("pause", "a", {"why": "x"}), "To go on: warmd resume a"),
    ("resume a", {"resumed": ["a"]}, ("resume", "a", {}), "Resumed: a."),
    ("abort keycloak --yes", BACK, ("abort", "keycloak", {}), "version and data are the old ones again"),
    ("snapshot keycloak --yes", DONE, ("snapshot", "keycloak", {"why": ""}), "committed"),
    (
        "restore keycloak 0a1b --yes --why x",
        {"run": run(kind="restore"), "code": 0},
        ("restore", "keycloak", {"snapshot": "0a1b", "why": "x"}),
        "the snapshot's data and version are back",
    ),
]


@pytest.mark.parametrize(("line", "answer", "asks", "shows"), ASKED, ids=[a[0] for a in ASKED])
def test_a_verb_asks_the_daemon_and_shows_the_answer(
    served: Host, line: str, answer: Answer, asks: Any, shows: str
) -> None:
    served.daemon.answers[asks[0]] = answer
    said = served.types(*line.split())
    assert (said.code, said.err) == (0, "")
    assert shows in said.out
    assert served.daemon.asked == [asks]


@pytest.mark.parametrize(("line", "answer", "asks", "shows"), ASKED, ids=[a[0] for a in ASKED])
def test_a_program_gets_the_answer_as_it_is(
    served: Host, line: str, answer: Answer, asks: Any, shows: str
) -> None:
    served.daemon.answers[asks[0]] = answer
    said = served.types(*line.split(), "--json")
    lists = ("services", "plans", "looks", "alerts", "snapshots")
    assert said.json == next((answer[key] for key in lists if key in answer), answer)


@pytest.mark.parametrize(
    ("line", "answer", "code"),
    [
        ("deploy keycloak", BACK, 4),
        ("deploy keycloak", STUCK, 5),
        ("snapshot keycloak --yes", {"run": run(state="failed-unchanged"), "code": 7}, 7),
        ("restore keycloak x --yes", STUCK, 5),
        ("abort keycloak --yes", BACK, 0),
        ("abort keycloak --yes", STUCK, 5),
        ("reconcile", {"looks": [HELD | {"code": 0}, HELD | {"code": 4}]}, 4),
        ("reconcile --strict", {"looks": [HELD | {"code": 0}]}, 3),
        ("reconcile --strict", {"looks": [service() | {"code": 0}]}, 0),
        ("up --strict", {"looks": [HELD | {"code": 0}, service() | {"code": 0}]}, 3),
        ("up --strict", {"looks": [HELD | {"code": 5}]}, 5),
        ("up", {"looks": [{"service": "keycloak", "error": "no answer", "code": 6}]}, 6),
        ("up", {"looks": []}, 0),
        ("plan", {"plans": [plan(), {"service": "b", "error": "no answer", "code": 6}]}, 6),
        ("status", {"services": [HELD | {"decision": "stuck", "run_state": "stuck"}]}, 0),
        ("status --strict", {"services": [HELD | {"decision": "stuck", "run_state": "stuck"}]}, 5),
        ("status --strict", {"services": [HELD]}, 3),
        ("status --strict", {"services": [service()]}, 0),
    ],
)
def test_how_it_ended_is_the_exit_code(served: Host, line: str, answer: Answer, code: int) -> None:
    verb = line.split()[0]
    served.daemon.answers["reconcile" if verb == "up" else verb] = answer
    assert served.types(*line.split()).code == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFound("no service 'x' in the configuration", hint="known: keycloak"), 7),
        (Refused("uid 1000 may look but not act", hint="use sudo"), 7),
        (Transient("the registry did not answer"), 6),
    ],
)
def test_what_the_daemon_refuses_is_said_with_what_to_do(served: Host, error: WarmdError, code: int) -> None:
    served.daemon.answers["pause"] = error
    said = served.types("pause", "x")
    assert (said.code, said.out) == (code, "")
    assert said.err == f"warmd: {error.message}\n" + (f"  {error.hint}\n" if error.hint else "")


def test_an_approval_needs_a_reason(served: Host) -> None:
    said = served.types("approve", "keycloak", "1.2.3")
    assert said.code == 2
    assert "Missing option '--why'" in said.err
    assert served.daemon.asked == []


# --- verbs that ask first ------------------------------------------------------------------------

PREVIEW: Answer = {
    "service": "keycloak",
    "stack": "sso",
    "kind": "restore",
    "current": "10.7.2+26.5.6",
    "steps": ["stop sso"],
    "outage": "about 9s",
    "snapshot": SNAPSHOT,
}
GOING: Answer = history(runs=[run(state="capturing", ended=None)])
DESTROYING = {
    "snapshot keycloak": ("preview", PREVIEW | {"kind": "snapshot", "snapshot": None}),
    "restore keycloak 0a1b": ("preview", PREVIEW),
    "abort keycloak": ("history", GOING),
}


@pytest.mark.parametrize("line", DESTROYING)
def test_where_nobody_can_be_asked_nothing_is_done(served: Host, line: str) -> None:
    asks, answer = DESTROYING[line]
    served.daemon.answers[asks] = answer
    said = served.types(*line.split())
    assert (said.code, said.out) == (2, "")
    assert said.err.endswith("no terminal to ask on\n  add --yes\n")
    assert [verb for verb, *_ in served.daemon.asked] == [asks]


def on_a_terminal(host: Host, line: str, typed: str) -> Said:
    """Run a command whose input is a terminal, at which somebody types."""
    ours, theirs = pty.openpty()
    program = "import sys; from warmd.cli import main; sys.exit(main())"
    with subprocess.Popen(
        [sys.executable, "-c", program, *line.split()],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "WARMD_CONFIG": str(host.config)},
        text=True,
    ) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        out, err = process.communicate(timeout=60)
    os.close(ours)
    return Said(process.returncode, out, err)


def test_no_means_no(served: Host) -> None:
    served.daemon.answers = {"preview": PREVIEW}
    said = on_a_terminal(served, "restore keycloak 0a1b", "\n")
    assert (said.code, said.out) == (1, "")
    assert "lost:" in said.err
    assert said.err.endswith("Replace the data of keycloak? [y/N] warmd: nothing was done\n")
    assert [verb for verb, *_ in served.daemon.asked] == ["preview"]


def test_yes_goes_on_with_exactly_what_was_shown(served: Host) -> None:
    served.daemon.answers = {"preview": PREVIEW, "restore": {"run": run(kind="restore"), "code": 0}}
    said = on_a_terminal(served, "restore keycloak 0a1b --json", "y\n")
    assert said.code == 0
    assert said.json["run"]["kind"] == "restore"  # what is asked goes to the other output
    # The beginning of an id might mean another snapshot by now: the whole one is restored.
    assert served.daemon.asked[1][2]["snapshot"] == SNAPSHOT["id"]


@pytest.mark.parametrize(
    ("going", "follows"),
    [
        (run(state="capturing", ended=None), "10.7.1+26.5.6 goes on, on its untouched data."),
        (
            run(state="gating", ended=None, states=[["deploying", NOW.isoformat()]]),
            "The data of snapshot 0a1b2c3d4e5f and 10.7.1+26.5.6 go back; what was written since is lost.",
        ),
        (
            run(state="gating", ended=None, snapshot=None, states=[["deploying", NOW.isoformat()]]),
            "10.7.1+26.5.6 goes back.",
        ),
    ],
)
def test_before_an_abort_it_says_what_follows(served: Host, going: Answer, follows: str) -> None:
    states = [["planned", NOW.isoformat()]] if going["state"] == "capturing" else going["states"]
    served.daemon.answers["history"] = history(runs=[going | {"states": states}])
    assert follows in served.types("abort", "keycloak").err


def test_without_a_run_there_is_nothing_to_abort(served: Host) -> None:
    served.daemon.answers["history"] = history()
    said = served.types("abort", "keycloak")
    assert (said.code, said.err) == (7, "warmd: keycloak: no run is in progress\n  warmd status keycloak\n")


# --- without a daemon ----------------------------------------------------------------------------


def test_without_a_daemon_a_verb_does_the_work_itself(host: Host) -> None:
    assert host.types("history", "keycloak").out == (
        "keycloak: no version is known to be good yet\n  No run yet.\n"
    )
    assert host.types("pause", "keycloak", "--why", "inventory").code == 0
    said = host.types("deploy", "keycloak")
    assert said.code == 6  # there is no Docker here
    assert host.types("alerts").out == "No alert is open.\n"


def test_while_another_warmd_holds_the_lock_only_looking_is_possible(host: Host) -> None:
    host.types("history", "keycloak")
    with StateDir.open(host.state).lock():
        said = host.types("pause")
        assert said.code == 8
        assert f"another warmd (pid {os.getpid()}) holds {host.state}" in said.err
        assert host.types("history", "keycloak").code == 0


def test_an_unknown_service_is_named_with_those_that_are_known(host: Host) -> None:
    said = host.types("history", "keyclaok")
    assert said.code == 7
    assert said.err == "warmd: no service 'keyclaok' in the configuration\n  known: keycloak\n"


def test_what_can_not_be_looked_at_is_an_error_of_its_row_alone(host: Host) -> None:
    said = host.types("up", "--json")
    assert said.code == 6
    (row,) = said.json
    assert row["service"] == "keycloak"
    assert "no-docker.sock" in row["error"]


def test_a_wrong_configuration_is_said_before_anybody_is_asked(served: Host) -> None:
    served.config.write_text(served.config.read_text() + "kep = 1\n")
    said = served.types("status")
    assert said.code == 2
    assert "unknown key" in said.err
    assert served.daemon.asked == []
