"""A rolling update as swarm does it: slot by slot, and blind for what comes after its monitoring time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.store import Service, Task

if TYPE_CHECKING:
    from tests.model.machine import Machine


class Update:
    """One update of one service to its spec of now."""

    def __init__(self, model: Machine, service: Service, slots: list[int]) -> None:
        self._m = model
        self._service = service
        self.spec_version = service.spec_version
        self._status = (service.update_status or {}).get("State", "")
        back = self._status == "rollback_started"
        config = service.spec.get("RollbackConfig" if back else "UpdateConfig") or {}
        self._start_first = config.get("Order") == "start-first"
        self._delay = config.get("Delay", 0) / 1e9
        self._monitor = (config.get("Monitor") or model.timing.monitor * 1e9) / 1e9
        self._action = config.get("FailureAction") or "pause"
        self._ratio = config.get("MaxFailureRatio") or 0.0
        self._workers = config.get("Parallelism", 1) or len(slots)
        self._rollback = back
        self._left = list(slots)
        self._total = len(slots)
        self._busy: dict[str, Task] = {}
        #: Tasks that this update made and still watches, the time of their start (0: not yet)
        self._watched: dict[str, float] = {}
        self._failed: set[str] = set()
        self._waiting: list[tuple[Task, Task]] = []
        self._over = False

    def cancel(self) -> None:
        """A newer spec is there, or the service is gone."""
        self._over = True

    def begin(self) -> None:
        if not self._status:
            self._m.update_status(self._service, "updating", "update in progress")
        for _ in range(self._workers):
            self._next()

    def _next(self) -> None:
        if self._over:
            return
        if self._left:
            self._replace(self._left.pop(0))
        elif not self._busy:
            self._m.after(self._monitor, self._complete, exact=True)

    def _replace(self, slot: int) -> None:
        old = [t for t in self._m.store.of(self._service) if t.slot == slot and t.live]
        if existing := [t for t in old if self._m.orchestrator.current(t)]:
            # One of this spec is there already, as after a failed try: it alone stays
            for task in old:
                if task is not existing[-1]:
                    self._m.orchestrator.undelay(task)
                    self._m.desire(task, "shutdown")
            self._m.after(self._delay, self._next, exact=True)
            return
        for task in old:
            self._m.orchestrator.undelay(task)
        if self._start_first:
            new = self._m.make_task(self._service, slot, "running")
            self._busy[new.id] = new
            self._waiting += [(task, new) for task in old]
            self._watched[new.id] = 0.0
            return
        going = [t for t in old if not t.over]
        new = self._m.make_task(self._service, slot, "ready" if going else "running")
        self._busy[new.id] = new
        self._watched[new.id] = 0.0
        for task in old:
            self._m.desire(task, "shutdown")
        if going:
            self._waiting.append((going[0], new))
            # It waits so long and no longer: then both run
            self._m.after(self._m.timing.old_task, lambda: self._go(new), exact=True)

    def _go(self, new: Task) -> None:
        self._waiting = [(old, n) for old, n in self._waiting if n is not new]
        if not self._over and new.desired == "ready":
            self._m.desire(new, "running")

    def moved(self, task: Task) -> None:
        """A task of the service has a new state."""
        if self._over:
            return
        if task.id in self._watched and not self._goes_on_after(task):
            return
        for old, new in list(self._waiting):
            if self._start_first:
                if new is task and task.state == "running":
                    self._waiting.remove((old, new))
                    self._m.desire(old, "shutdown")
            elif old is task and task.over:
                self._go(new)

    def _goes_on_after(self, task: Task) -> bool:
        """Whether what became of a task of this update lets it go on."""
        since = self._watched[task.id]
        if task.state == "running" and not since:
            self._watched[task.id] = self._m.now
            if self._busy.pop(task.id, None) is not None:
                self._m.after(self._delay, self._next, exact=True)
        elif task.over:
            del self._watched[task.id]
            late = since and self._m.now - since > self._monitor * self._m.timing.scale
            if not late and task.desired != "remove":
                self._failed.add(task.id)
                if len(self._failed) / self._total > self._ratio and self._fail(task):
                    return False
            if self._busy.pop(task.id, None) is not None:
                self._m.after(self._delay, self._next, exact=True)
        return True

    def _fail(self, task: Task) -> bool:
        """Whether this ends the update."""
        why = f"due to failure or early termination of task {task.id}"
        if self._action == "continue":
            return False
        self._over = True
        self._service.update = None
        if self._action == "rollback" and not self._rollback and self._service.previous is not None:
            self._m.roll_back(self._service, f"update rolled back {why}", by_itself=True)
        else:
            state = "rollback_paused" if self._rollback else "paused"
            self._m.update_status(self._service, state, f"update paused {why}")
        return True

    def _complete(self) -> None:
        if self._over or self._busy or self._left:
            return
        self._over = True
        self._service.update = None
        state, said = ("rollback_completed", "rollback") if self._rollback else ("completed", "update")
        self._m.update_status(self._service, state, f"{said} completed")
