"""What every test has: asyncio through anyio, no leaked task, and a real swarm for those that ask."""

from __future__ import annotations

import asyncio
import inspect
import io
import logging
import secrets
from collections.abc import AsyncIterator, Iterator

import coverage
import pytest
import structlog

from tests import tiers
from tests.lab import Lab

_COVERAGE = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def no_leaked_task() -> AsyncIterator[None]:
    """Fail a test that leaves a task running: it would go on inside the tests after it."""
    before = asyncio.all_tasks()
    yield
    # anyio's plugin runs each step of a test, this one too, in a task of its own.
    own = "TestRunner._call_in_runner_task"
    left = [t for t in asyncio.all_tasks() - before if getattr(t.get_coro(), "__qualname__", "") != own]
    for task in left:
        task.cancel()
    if left:
        pytest.fail(f"left running: {', '.join(sorted(task.get_name() for task in left))}", pytrace=False)


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """Logging is the process's: other tests get theirs back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """One private swarm for the whole session. An error, never a skip, where it cannot start."""
    with Lab() as lab:
        yield lab


@pytest.fixture
def stack_name(lab: Lab) -> Iterator[str]:
    """A stack name that nobody had before; whatever was deployed under it goes afterwards."""
    name = f"t{secrets.token_hex(4)}"
    yield name
    lab.remove_stack(name)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tiers.choose(config, items)
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        if "lab" in item.fixturenames or "swarm" in item.path.relative_to(item.config.rootpath).parts:
            item.add_marker(pytest.mark.swarm)
        # First in, last out: what a test's own fixtures run is over by then.
        if inspect.iscoroutinefunction(item.obj) and "no_leaked_task" not in item.fixturenames:
            item.fixturenames.insert(0, "no_leaked_task")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    tiers.note(report)


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Under ``coverage run``: the session fails unless everything that is measured is covered."""
    measuring = coverage.Coverage.current()
    if measuring is not None and session.exitstatus == pytest.ExitCode.OK:
        measuring.stop()
        text = io.StringIO()
        percent = measuring.report(file=text, show_missing=True, skip_covered=True)
        session.config.stash[_COVERAGE] = text.getvalue()
        if percent < 100:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
    yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if report := terminalreporter.config.stash.get(_COVERAGE, None):
        terminalreporter.section("coverage")
        terminalreporter.write_line(report)
