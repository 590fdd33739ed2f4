"""One call serves everybody it is fresh enough for."""

from __future__ import annotations

import itertools
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from warmd.adapters.shared import Shared


class Counter:
    """A call that waits to be let through and answers with its own number. Time moves by hand."""

    def __init__(self) -> None:
        self.time = 100.0
        self.calls = 0
        self.gate = anyio.Event()
        self.error: Exception | None = None
        self.shared = Shared(self._call, lambda: self.time)

    async def _call(self) -> int:
        self.calls += 1
        number = self.calls
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return number


async def settle() -> None:
    """Let every other task run until it waits for something."""
    for _ in range(20):
        await checkpoint()


async def collect(counter: Counter, into: list[Any], not_before: float) -> None:
    try:
        into.append(await counter.shared.get(not_before=not_before))
    except OSError as error:
        into.append(error)


async def test_a_thousand_callers_at_once_are_one_call() -> None:
    counter, got = Counter(), list[Any]()
    async with anyio.create_task_group() as group:
        for _ in range(1000):
            group.start_soon(collect, counter, got, 100.0)
        await settle()
        counter.gate.set()
    assert got == [1] * 1000
    assert counter.calls == 1


async def test_an_ended_call_serves_a_late_caller_whose_not_before_is_older() -> None:
    counter = Counter()
    counter.gate.set()
    assert await counter.shared.get(not_before=100.0) == 1
    counter.time = 200.0
    assert await counter.shared.get(not_before=100.0) == 1
    assert await counter.shared.get(not_before=100.5) == 2
    assert await counter.shared.get(not_before=100.0) == 2, "newer than asked for is fine"


async def test_a_caller_with_a_later_not_before_waits_for_the_next_call() -> None:
    counter, early, late = Counter(), list[Any](), list[Any]()
    async with anyio.create_task_group() as group:
        group.start_soon(collect, counter, early, 100.0)
        await settle()
        counter.time = 105.0
        for _ in range(10):
            group.start_soon(collect, counter, late, 105.0)
        await settle()
        assert counter.calls == 1, "never two at once"
        counter.gate.set()
    assert early == [1]
    assert late == [2] * 10


async def test_an_error_goes_to_all_who_waited_and_is_not_kept() -> None:
    counter, got = Counter(), list[Any]()
    counter.error = OSError("no answer")
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(collect, counter, got, 100.0)
        await settle()
        counter.gate.set()
    assert got == [counter.error] * 5
    assert counter.calls == 1
    counter.error = None
    assert await counter.shared.get(not_before=100.0) == 2


async def test_an_error_is_not_for_those_who_wait_for_the_next_call() -> None:
    counter, early, late = Counter(), list[Any](), list[Any]()
    counter.error = OSError("no answer")
    numbers = itertools.count(1)

    async def fail_once() -> int:
        number = next(numbers)
        await counter.gate.wait()
        if number == 1:
            raise OSError("no answer")
        return number

    counter.shared = Shared(fail_once, lambda: counter.time)
    async with anyio.create_task_group() as group:
        group.start_soon(collect, counter, early, 100.0)
        await settle()
        counter.time = 105.0
        group.start_soon(collect, counter, late, 105.0)
        await settle()
        counter.gate.set()
    assert isinstance(early[0], OSError)
    assert late == [2]


async def test_cancelling_one_who_waits_leaves_the_others_alone() -> None:
    counter, got = Counter(), list[Any]()
    async with anyio.create_task_group() as group:
        group.start_soon(collect, counter, got, 100.0)
        await settle()
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as inner:
                inner.start_soon(collect, counter, got, 100.0)
                await settle()
                scope.cancel()
        counter.gate.set()
    assert got == [1]
    assert counter.calls == 1


async def test_where_the_one_who_runs_the_call_is_cancelled_another_takes_over() -> None:
    counter, got = Counter(), list[Any]()
    runner = anyio.CancelScope()

    async def run_the_call() -> None:
        with runner:
            await counter.shared.get(not_before=100.0)

    async with anyio.create_task_group() as group:
        group.start_soon(run_the_call)
        await settle()
        for _ in range(3):
            group.start_soon(collect, counter, got, 100.0)
        await settle()
        assert counter.calls == 1
        runner.cancel()
        await settle()
        counter.gate.set()
    assert got == [2, 2, 2]
    assert counter.calls == 2


async def test_a_not_before_that_lies_ahead_gets_a_call_of_its_own() -> None:
    counter = Counter()
    counter.gate.set()
    with anyio.fail_after(5):
        assert await counter.shared.get(not_before=10_000.0) == 1
        assert await counter.shared.get(not_before=10_000.0) == 2


@pytest.mark.parametrize("answer", [None, 0, ""])
async def test_an_empty_answer_is_an_answer(answer: object) -> None:
    calls = 0

    async def call() -> object:
        nonlocal calls
        calls += 1
        return answer

    shared = Shared(call, lambda: 1.0)
    assert await shared.get(not_before=1.0) == answer
    assert await shared.get(not_before=1.0) == answer
    assert calls == 1
