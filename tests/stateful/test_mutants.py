"""The model test sees what it is for: each rule of warmd that is broken here on purpose makes it fail.

Broken are: the rollback horizon (a restore whenever a version is bad), the restore (the old version starts on
what the new one made of the data), the memory of what failed, the proof that a service has stopped, and
the order of an alert (file first, journal second).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.stateful.machine import WarmService
from warmd.adapters.stacks import StackOps
from warmd.core import alerts, runs
from warmd.core.machine import Event
from warmd.core.runs import Run
from warmd.engine import notify, perform, runner
from warmd.engine.ledger import Ledger
from warmd.engine.service import Shop

pytestmark = [pytest.mark.slow, pytest.mark.crash]

Patch = Callable[[pytest.MonkeyPatch], None]


def without_horizon(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(runs, "_lost_by_a_restore", lambda run, now: "")
    patch.setattr(runner, "too_late", lambda run, now: "")


def without_restore(patch: pytest.MonkeyPatch) -> None:
    async def restore(self: perform.Effects, run: Run) -> perform.Done:
        return perform.Done(Event.DONE)

    patch.setattr(perform.Effects, "_restore", restore)


def without_memory(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Run, "blames", None)


def without_proof(patch: pytest.MonkeyPatch) -> None:
    async def stop(self: StackOps, **more: Any) -> None:
        await self._retried(lambda: self._scale_down(set(), None))

    patch.setattr(StackOps, "stop", stop)


def file_first(patch: pytest.MonkeyPatch) -> None:
    write = Ledger.write

    async def open_(ledger: Ledger, shop: Shop, notice: Any, **more: Any) -> None:
        async def deliver_and_write(self: Ledger, draft: Any) -> Any:
            body = draft.data.get("body")
            if body is not None and draft.type == "alert.opened":
                await shop.alerter.deliver(alerts.Alert.from_json(body).file_name, body)
            return await write(self, draft)

        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Ledger, "write", deliver_and_write)
            await _open(ledger, shop, notice, **more)

    _open = notify._open
    patch.setattr(notify, "_open", open_)


@pytest.mark.parametrize(
    ("broken", "seen"),
    [
        pytest.param(without_horizon, "past the horizon", id="horizon-ignored"),
        pytest.param(without_restore, "a mixture|lost its data", id="restore-skipped"),
        pytest.param(without_memory, "was tried again by itself", id="failures-forgotten"),
        pytest.param(without_proof, "while somebody wrote to it|two writers", id="stop-not-proved"),
        pytest.param(file_first, "times opened|disagree about what is open", id="alert-before-journal"),
    ],
)
def test_a_broken_rule_is_found(broken: Patch, seen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch)

    @seed(0)
    class Seeded(WarmService):
        pass

    # As many as the quick share has; the first that fails is enough, however long it is.
    wanted = settings(
        max_examples=500,
        stateful_step_count=50,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    with pytest.raises(AssertionError, match=seen):
        run_state_machine_as_test(Seeded, settings=wanted)
