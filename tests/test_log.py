"""The log: one event a line, in the form that its reader can use, and no secrets."""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
from typing import Any

import anyio
import pytest
from anyio import to_thread
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from warmd import log

pytestmark = pytest.mark.usefixtures("logging_as_before")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    log.setup("debug", stream=stream)
    return stream


def test_off_a_terminal_a_line_is_json(stream: io.StringIO) -> None:
    log.get_logger().info("run.started", service="sso", version="10.7.2", text="größer\nzwei")
    (line,) = lines(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("at"))
    assert line == {
        "event": "run.started",
        "level": "info",
        "service": "sso",
        "version": "10.7.2",
        "text": "größer\nzwei",
    }
    assert "größer" in stream.getvalue()


def test_on_a_terminal_a_line_is_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    log.setup(stream=terminal)
    log.get_logger().info("run.started", service="sso")
    assert "\x1b[" in terminal.getvalue()
    assert "run.started" in terminal.getvalue()
    assert terminal.getvalue().count("\n") == 1


def test_who_wants_no_colours_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    log.setup(stream=terminal)
    log.get_logger().info("run.started", service="sso")
    assert "\x1b[" not in terminal.getvalue()
    assert "service=sso" in terminal.getvalue()


@pytest.mark.parametrize(("as_json", "kind"), [(True, Terminal), (False, io.StringIO)])
def test_the_form_can_be_asked_for(as_json: bool, kind: type[io.StringIO]) -> None:
    stream = kind()
    log.setup(stream=stream, json_lines=as_json)
    log.get_logger().info("x.y")
    assert stream.getvalue().startswith("{") == as_json


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_less_than_the_level_is_not_logged(level: str, seen: list[str]) -> None:
    stream = io.StringIO()
    log.setup(level, stream=stream)
    for name in log.LEVELS:
        getattr(log.get_logger(), name)("x.y")
    assert [line["level"] for line in lines(stream)] == seen


def test_a_logger_made_before_the_set_up_obeys_it() -> None:
    early = log.get_logger()
    stream = io.StringIO()
    log.setup(stream=stream)
    early.info("x.y")
    assert [line["event"] for line in lines(stream)] == ["x.y"]


async def test_service_and_run_go_along_into_tasks_and_threads(stream: io.StringIO) -> None:
    async def work() -> None:
        log.get_logger().info("in.task")
        await to_thread.run_sync(lambda: log.get_logger().info("in.thread"))

    with log.bound(service="sso", run=None):
        async with anyio.create_task_group() as tasks:
            with log.bound(run="r1"):
                tasks.start_soon(work)
            log.get_logger().info("outside.run")
    log.get_logger().info("outside")
    seen = {line["event"]: (line.get("service"), line.get("run")) for line in lines(stream)}
    assert seen == {
        "in.task": ("sso", "r1"),
        "in.thread": ("sso", "r1"),
        "outside.run": ("sso", None),
        "outside": (None, None),
    }


def test_tests_can_capture_it() -> None:
    with capture_logs(processors=[merge_contextvars]) as logs, log.bound(service="sso"):
        log.get_logger().warning("x.y", n=1)
    assert logs == [{"event": "x.y", "n": 1, "service": "sso", "log_level": "warning"}]


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"password": "hunter2"}, {"password": log.STRUCK_OUT}),
        ({"db_password": "hunter2"}, {"db_password": log.STRUCK_OUT}),
        ({"Authorization": "Bearer hunter2"}, {"Authorization": log.STRUCK_OUT}),
        ({"env": {"A": "hunter2"}}, {"env": log.STRUCK_OUT}),
        (
            {"request": {"headers": {"cookie": "hunter2"}}},
            {"request": {"headers": {"cookie": log.STRUCK_OUT}}},
        ),
        ({"list": [{"api_key": "hunter2"}]}, {"list": [{"api_key": log.STRUCK_OUT}]}),
        ({"url": "https://me:hunter2@a/b"}, {"url": "https://***@a/b"}),
        ({"text": "fatal: 'ssh://me:hunter2@a/' it said"}, {"text": "fatal: 'ssh://***@a/' it said"}),
        ({"urls": ["https://:hunter2@a"]}, {"urls": ["https://***@a"]}),
        ({"token": 42, "secret": None}, {"token": 42, "secret": None}),
        ({"passed": "yes", "environment_file": "/etc/x"}, {"passed": "yes", "environment_file": "/etc/x"}),
        ({"url": "https://me@a/b:c@d"}, {"url": "https://me@a/b:c@d"}),
    ],
    ids=lambda value: next(iter(value)),
)
def test_secrets_are_struck_out(stream: io.StringIO, fields: dict[str, Any], shown: dict[str, Any]) -> None:
    log.get_logger().info("x.y", **fields)
    (line,) = lines(stream)
    assert {key: line[key] for key in fields} == shown


@pytest.mark.parametrize("as_json", [True, False])
def test_a_traceback_says_where_and_not_what_the_variables_held(as_json: bool) -> None:
    stream = io.StringIO()
    log.setup(stream=stream, json_lines=as_json)

    def fails() -> None:
        held = "".join(("hunt", "er2"))
        raise ValueError(f"of length {len(held)}")

    try:
        fails()
    except ValueError:
        log.get_logger().exception("worker.failed")
    assert "of length 7" in stream.getvalue()
    assert "in fails" in stream.getvalue() or '"fails"' in stream.getvalue()
    assert "hunter2" not in stream.getvalue()
    if as_json:
        assert lines(stream)[0]["exception"][0]["exc_type"] == "ValueError"


def test_what_libraries_say_comes_the_same_way_from_warning_up(stream: io.StringIO) -> None:
    library = logging.getLogger("httpx")
    library.info("HTTP Request: GET https://a/?token=hunter2")
    library.warning("%s is late at %s", "a", "https://me:hunter2@a/")
    try:
        raise RuntimeError("lost")
    except RuntimeError:
        library.exception("failed")
    first, second = lines(stream)
    assert (first["event"], first["level"], first["library"]) == ("library.message", "warning", "httpx")
    assert first["message"] == "a is late at https://***@a/"
    assert "exception" not in first
    assert second["exception"][0]["exc_value"] == "lost"


def test_warnings_of_python_come_the_same_way(stream: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        log.setup(stream=stream)
        warnings.warn("old thing", DeprecationWarning, stacklevel=1)
    (line,) = lines(stream)
    assert line["library"] == "py.warnings"
    assert "old thing" in line["message"]


def test_a_value_that_is_no_json_is_shown_as_text(stream: io.StringIO) -> None:
    log.get_logger().info("x.y", path=io, when={1: {2}})
    assert "module 'io'" in lines(stream)[0]["path"]


def test_setting_up_again_replaces_the_first(stream: io.StringIO) -> None:
    second = io.StringIO()
    log.setup(stream=second)
    log.get_logger().info("x.y")
    logging.getLogger("lib").warning("once")
    assert stream.getvalue() == ""
    assert len(lines(second)) == 2
