"""Whatever others wrote comes out as text: in tables, messages, JSON, logs and alert files."""

from __future__ import annotations

import ast
import io
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

import warmd.cli.verbs
from tests.hostile.text import HOSTILE, posing, steering
from warmd import cli, log
from warmd.cli import show
from warmd.core import alerts
from warmd.core.model import Note
from warmd.engine import control
from warmd.engine.desk import Answer, Request
from warmd.errors import ConfigError, Refused, WarmdError
from warmd.plugins.alerters.spool import Spool

ROOT = Path(__file__).parents[2]
AT = "2026-01-31T12:00:00+00:00"


def run() -> dict[str, Any]:
    return {
        **dict.fromkeys(("id", "kind", "from_version", "to_version", "state", "snapshot"), HOSTILE),
        **dict.fromkeys(("detail", "asked_by", "why"), HOSTILE),
        "started": AT,
        "ended": AT,
        "outage_seconds": 1.5,
        "states": [[HOSTILE, AT]],
    }


#: Half characters end where a detail or a reason begins.
WHOLE = HOSTILE.replace("\udcff", "")
STATUS: dict[str, Any] = {
    **dict.fromkeys(("service", "stack", "current", "target", "decision", "reason"), WHOLE),
    "health": "healthy",
    **dict.fromkeys(("detail", "run", "run_state", "last_good", "paused_why", "trouble"), WHOLE),
    "last_good_at": AT,
    "looked_at": AT,
    "alerts": [WHOLE],
    "warnings": [WHOLE],
    "paused": True,
}
RELEASE: dict[str, Any] = {
    **dict.fromkeys(("version", "commit", "hold", "crossed"), HOSTILE),
    "published": AT,
    "passes": False,
    "approved": True,
    "notes": [HOSTILE],
    "verdicts": [{"rule": HOSTILE, "passed": passed, "reason": HOSTILE} for passed in (True, False)],
}
PLAN: dict[str, Any] = {
    **dict.fromkeys(("service", "stack", "current", "target", "decision", "reason", "health"), HOSTILE),
    **{key: [HOSTILE] for key in ("held", "warnings", "changes", "steps", "commands")},
    "releases": [RELEASE],
    "ignored_tags": 2,
    "outage": HOSTILE,
}
HISTORY: dict[str, Any] = {
    "service": HOSTILE,
    "last_good": {"version": HOSTILE, "at": AT, "how": HOSTILE, "commit": HOSTILE},
    "runs": [run()],
    "taken_over": [{"version": HOSTILE, "how": "adopted", "at": AT, "uid": 7}],
    "failures": [{"version": HOSTILE, "outcome": HOSTILE, "detail": HOSTILE, "run": HOSTILE}],
    "approvals": [{"version": HOSTILE, "uid": 7, "why": HOSTILE, "at": AT}],
}
ALERT: dict[str, Any] = {
    **dict.fromkeys(("severity", "summary", "detail"), HOSTILE),
    "opened_at": AT,
    "commands": [HOSTILE],
    "notes": [{"path": HOSTILE, "sha256": "00", "text": HOSTILE}],
}
SNAPSHOT: dict[str, Any] = {
    "id": HOSTILE,
    "at": AT,
    "version": HOSTILE,
    "volumes": [HOSTILE],
    "files": 1,
    "sealed": True,
    "data_bytes": 1,
    "archive_bytes": 1,
}
PREVIEW: dict[str, Any] = {
    **dict.fromkeys(("service", "stack", "kind", "current", "outage"), HOSTILE),
    "snapshot": SNAPSHOT,
    "steps": [HOSTILE],
}
DRAWN: dict[str, Callable[[], None]] = {
    "status": lambda: show.services([STATUS, {"service": HOSTILE, "error": HOSTILE, "code": 1}]),
    "runs after a look": lambda: show.runs_of([{"service": HOSTILE, "ran": run()}]),
    "plan": lambda: show.plan(PLAN),
    "a plan that failed": lambda: show.plans([{"service": HOSTILE, "error": HOSTILE, "code": 1}]),
    "history": lambda: show.history(HISTORY),
    "alerts": lambda: show.alerts([ALERT], texts=True),
    "snapshots": lambda: show.snapshots([SNAPSHOT], HOSTILE),
    "preview": lambda: show.preview(PREVIEW, quarantine=HOSTILE),
    "a line": lambda: show.lines(HOSTILE),
    "json": lambda: show.as_json({"rows": [HOSTILE], HOSTILE: HOSTILE}),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN.keys())
@pytest.mark.parametrize("columns", ["40", "5000"])
def test_what_is_printed_neither_steers_the_terminal_nor_poses_as_a_line_of_ours(
    draw: Callable[[], None], columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # as stdout is: half a character is an error
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setenv("COLUMNS", columns)
    draw()
    out.flush()
    printed = out.buffer.getvalue()
    assert b"FAKE" in printed
    assert steering(printed) == set()
    if columns == "5000":  # in a narrow window a long text is folded anywhere, under its own first line
        assert posing(printed) == []


def test_json_says_what_it_was_given_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    show.as_json({"text": HOSTILE})
    assert json.loads(capsys.readouterr().out) == {"text": HOSTILE}


@pytest.mark.parametrize("kind", [Refused, WarmdError])
def test_an_error_is_one_line_and_a_hint(
    kind: type[WarmdError], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: list[str]) -> int:
        raise kind(HOSTILE, hint=HOSTILE)

    monkeypatch.setattr(warmd.cli.verbs, "run", fail)
    assert cli.main(["status"]) == kind.exit_code
    said = capsys.readouterr().err
    assert (steering(said), posing(said), said.count("\n")) == (set(), [], 2)


def test_what_is_wrong_with_the_configuration_keeps_its_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: list[str]) -> int:
        raise ConfigError(f"one\x1b\ntwo{HOSTILE}")

    monkeypatch.setattr(warmd.cli.verbs, "run", fail)
    cli.main(["status"])
    said = capsys.readouterr().err
    assert said.startswith("warmd: one\N{REPLACEMENT CHARACTER}\ntwo")
    assert steering(said) == set()


@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize("as_json", [True, False], ids=["json", "for people"])
def test_a_log_line_stays_one_line_and_steers_nothing(as_json: bool) -> None:
    out = io.StringIO()
    log.setup(stream=out, json_lines=as_json)
    with log.bound(service=HOSTILE):
        log.get_logger().info("x.y", reason=HOSTILE, rows=[HOSTILE, {HOSTILE: HOSTILE}], **{HOSTILE: 1})
    said = out.getvalue()
    assert (steering(said), posing(said), said.count("\n")) == (set(), [], 1)


@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize("as_json", [True, False], ids=["json", "for people"])
def test_nor_does_an_exception_in_the_log(as_json: bool) -> None:
    out = io.StringIO()
    log.setup(stream=out, json_lines=as_json)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        log.get_logger().exception("x.crashed")
    said = out.getvalue()
    assert "ValueError" in said
    assert (steering(said), posing(said)) == (set(), [])
    ours = [line for line in said.splitlines() if line and not line.startswith("    | ")]
    assert len(ours) == 1, "only what is indented is the traceback's"


async def test_an_alert_file_steers_neither_cat_nor_whoever_prints_its_fields(tmp_path: Path) -> None:
    opened = alerts.open_alert(
        installation="i",
        host="h",
        seq=1,
        kind="stuck",
        severity="critical",
        service="app",
        stack="app",
        summary=HOSTILE,
        at=datetime.fromisoformat(AT),
        detail=HOSTILE,
        notes=[Note("release/1", "00", "read \u200b me")],
    )
    body = opened.resolve(at=opened.opened_at, resolution=HOSTILE, seq=2).to_json()
    await Spool(tmp_path).deliver("a.json", body)
    written = (tmp_path / "a.json").read_bytes()
    assert steering(written) == set()
    assert json.loads(written)["notes"][0]["text"] == "read \u200b me", "notes are what was committed"
    for field in ("summary", "detail", "resolution"):
        assert steering(body[field]) == set()
    assert "\n" not in body["summary"] + body["resolution"]


class Parrot:
    """A desk that answers, and refuses, with a text of others."""

    async def answer(self, request: Request) -> Answer:
        if request.verb == "refuse":
            raise Refused(HOSTILE, hint=HOSTILE)
        return {"text": HOSTILE, HOSTILE: [HOSTILE]}


@pytest.mark.parametrize("verb", ["answer", "refuse"])
async def test_what_the_control_socket_answers_is_one_line_of_ascii(verb: str, tmp_path: Path) -> None:
    place = tmp_path / "s"
    async with anyio.create_task_group() as tasks:
        await tasks.start(control.serve, Parrot(), place)
        async with await anyio.connect_unix(place) as stream:
            await stream.send(json.dumps({"verb": verb}).encode() + b"\n")
            received = b""
            while not received.endswith(b"\n"):
                received += await stream.receive()
        tasks.cancel_scope.cancel()
    assert received.isascii()
    assert steering(received) == set()
    assert received.count(b"\n") == 1


#: Where text becomes output, and the only places that may do that: each uses core/text.py, or prints
#: nothing but words of its own.
EDGES = {
    "warmd/adapters/render/confine.py",  # a program of its own: what it says is read by warmd
    "warmd/cli/__init__.py",
    "warmd/cli/asking.py",
    "warmd/cli/check_config.py",
    "warmd/cli/schema.py",
    "warmd/cli/show/base.py",
    "warmd/cli/verbs.py",
    "warmd/log.py",
}


def test_nothing_is_printed_anywhere_else() -> None:
    found = set()
    for path in (ROOT / "warmd").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            written = isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr")
            system = written and isinstance(node.value, ast.Name) and node.value.id == "sys"  # type: ignore[attr-defined]  # as `written` says
            if system or (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"):
                found.add(str(path.relative_to(ROOT)))
    assert found == EDGES
