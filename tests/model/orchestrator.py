"""The managers' half: how many tasks, where, which are replaced, and which old ones are forgotten."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.model.store import RANK, RUNNING, Service, Task
from tests.model.updater import Update

if TYPE_CHECKING:
    from tests.model.machine import Machine

#: Tasks kept a slot, the running one among them.
HISTORY = 5

_OFFER = re.compile(r"\s*(?P<key>[\w.-]+)\s*(?P<op>==|!=)\s*(?P<value>.*?)\s*$")


class Orchestrator:
    """Makes tasks for services, restarts what ended, schedules, and reaps."""

    def __init__(self, model: Machine) -> None:
        self._m = model
        #: New tasks that wait for their restart delay -> whether they failed meanwhile.
        self._delayed: dict[str, bool] = {}
        self._ticks: set[str] = set()

    # Services

    def changed(self, service: Service) -> None:
        """A service was made or updated, or a task of it went."""
        self._m.after(self._m.timing.orchestrate, lambda: self.reconcile(service))

    def reconcile(self, service: Service) -> None:
        if service.id not in self._m.store.services:
            return
        slots = self._m.store.slots(service)
        up = {n: tasks for n, ts in slots.items() if (tasks := self._updatable(service, ts))}
        if service.job:
            self._job(service, slots)
            return
        if service.replicas is None:
            # Which nodes it may run on decides, not a number: here it is one node or none
            wanted = {0} if not self.unfit(service.spec["TaskTemplate"]) else set()
        else:
            numbers = sorted(up, key=lambda n: (not _running(up[n]), n))[: service.replicas]
            free = (n for n in range(1, 10_000) if n not in up)
            wanted = {*numbers, *(next(free) for _ in range(service.replicas - len(numbers)))}
        for number in sorted(up.keys() - wanted):
            for task in up[number]:
                self._m.desire(task, "remove")
        kept = sorted(up.keys() & wanted)
        for number in sorted(wanted - up.keys()):
            self._m.make_task(service, number, "running")
        for number in slots.keys() - up.keys():
            # Nobody uses the slot any more: its history goes with the next change
            for task in slots[number]:
                if service.replicas is not None and number not in wanted:
                    self._m.desire(task, "remove")
        self._update(service, [n for n in kept if self._outdated(service, up[n])])

    def _update(self, service: Service, outdated: list[int]) -> None:
        status = service.update_status or {}
        if status.get("State") in ("paused", "rollback_paused"):
            return
        running: Update | None = service.update
        if running is not None and running.spec_version == service.spec_version:
            return
        if running is not None:
            running.cancel()
        if outdated:
            service.update = Update(self._m, service, outdated)
            service.update.begin()
            return
        service.update = None
        if status.get("State") in ("updating", "rollback_started"):
            # As an engine finds it after its restart: nothing is outdated, so it must be through
            done = "completed" if status["State"] == "updating" else "rollback_completed"
            self._m.update_status(service, done, "update completed")

    def _outdated(self, service: Service, tasks: list[Task]) -> bool:
        if len(tasks) > 1:
            return True
        return not self.current(tasks[0])

    def current(self, task: Task) -> bool:
        """Whether a task is what its service's spec says now."""
        service = task.service
        if task.spec_version == service.spec_version:
            return True
        return task.spec == task_spec(service) and task.endpoint == (service.spec.get("EndpointSpec") or {})

    def _updatable(self, service: Service, tasks: list[Task]) -> list[Task]:
        """A slot's tasks that an update is about: the live ones, else one that is not to be restarted."""
        live = [t for t in tasks if t.live]
        if live:
            return live
        if (service.update_status or {}).get("State") == "rollback_started":
            return []
        newest = tasks[-1]
        ended = newest.over and newest.desired == "shutdown"
        return [newest] if ended and not self._restarts(service, newest) else []

    def _job(self, service: Service, slots: dict[int, list[Task]]) -> None:
        mode = service.spec["Mode"].get("ReplicatedJob")
        count = 1 if mode is None else int(mode.get("TotalCompletions") or mode.get("MaxConcurrent") or 1)
        for number in range(count):
            if not any(t.live or t.state == "complete" for t in slots.get(number, ())):
                self._m.make_task(service, number, "running")

    def removed(self, service: Service) -> None:
        if service.update is not None:
            service.update.cancel()
        for task in list(self._m.store.of(service)):
            self._m.desire(task, "remove")

    # Tasks

    def moved(self, task: Task) -> None:
        """A task has a new state or is wanted differently."""
        if task.over:
            if task.live:
                self._m.after(0.01, lambda: self._ended(task))
            self.tick("schedule")
            self.tick("reap")
        elif task.desired == "remove" or (not task.live and RANK[task.state] < RANK["assigned"]):
            self.tick("reap")
            self.tick("schedule")
        if task.service.update is not None:
            task.service.update.moved(task)

    def _ended(self, task: Task) -> None:
        if not task.live or task.id not in self._m.store.tasks:
            return
        if task.id in self._delayed:
            self._delayed[task.id] = True
            return
        service = task.service
        self._m.desire(task, "shutdown")
        if service.id not in self._m.store.services or service.job:
            return
        if not self._restarts(service, task):
            return
        new = self._m.make_task(service, task.slot, "ready")
        policy = service.spec["TaskTemplate"].get("RestartPolicy") or {}
        delay = policy.get("Delay", self._m.timing.restart_delay * 1e9) / 1e9
        self._delayed[new.id] = False
        self._m.after(delay, lambda: self._start_delayed(new), exact=True)

    def _start_delayed(self, task: Task) -> None:
        failed = self._delayed.pop(task.id, None)
        if failed is None:
            return
        if failed:
            self._ended(task)
        elif task.desired == "ready":
            self._m.desire(task, "running")

    def undelay(self, task: Task) -> None:
        """Something else decides now when this task starts."""
        self._delayed.pop(task.id, None)

    def _restarts(self, service: Service, task: Task) -> bool:
        policy = service.spec["TaskTemplate"].get("RestartPolicy") or {}
        condition = policy.get("Condition") or "any"
        if condition == "none" or (condition == "on-failure" and task.state == "complete"):
            return False
        most = policy.get("MaxAttempts") or 0
        same = [t for t in self._m.store.of(service) if t.slot == task.slot and t.over]
        return not most or sum(t.spec_version == task.spec_version for t in same) <= most

    # Scheduling and reaping

    def tick(self, what: str) -> None:
        """Schedule or reap soon, once for all that asked."""
        if what not in self._ticks:
            self._ticks.add(what)
            act = self._schedule if what == "schedule" else self._reap
            self._m.after(
                self._m.timing.schedule if what == "schedule" else self._m.timing.reap, lambda: act()
            )

    def reset(self) -> None:
        """A new manager leads: it knows what is in the store, and nothing of what was planned."""
        self._ticks.clear()
        self._delayed.clear()

    def _schedule(self) -> None:
        self._ticks.discard("schedule")
        for task in list(self._m.store.tasks.values()):
            if task.state != "pending":
                continue
            if not task.live:
                task.err = ""
                self._m.state(task, "shutdown", task.message)
            elif reason := self.unfit(task.spec) or self._port_taken(task):
                if task.err != reason:
                    self._m.state(task, "pending", "pending task scheduling", reason)
            else:
                task.node = self._m.node_id
                self._m.state(task, "assigned", "scheduler assigned task to node")
                self._m.agent.take(task)

    def _port_taken(self, task: Task) -> str:
        if not task.host_ports:
            return ""
        for other in self._m.store.tasks.values():
            if other is not task and other.node and not other.over and other.host_ports & task.host_ports:
                return "no suitable node (host-mode port already in use on 1 node)"
        return ""

    def unfit(self, spec: dict[str, object]) -> str:
        """Why a task can't run on this node, or nothing."""
        placement = spec.get("Placement") or {}
        assert isinstance(placement, dict)
        for constraint in placement.get("Constraints") or ():
            found = _OFFER.match(constraint)
            if found is None:
                return f"invalid constraint: {constraint}"
            is_so = self._m.node_offers().get(found["key"].lower(), "") == found["value"]
            if is_so != (found["op"] == "=="):
                return "no suitable node (scheduling constraints not satisfied on 1 node)"
        return "" if self._m.available else "no suitable node (1 node not available for new tasks)"

    def _reap(self) -> None:
        self._ticks.discard("reap")
        store = self._m.store
        for task in list(store.tasks.values()):
            if task.desired == "remove" and (task.over or RANK[task.state] < RANK["assigned"]):
                self._m.drop_task(task)
        slots: dict[tuple[str, int], list[Task]] = {}
        for task in store.tasks.values():
            slots.setdefault((task.service.id, task.slot), []).append(task)
        for tasks in slots.values():
            spare = len(tasks) - HISTORY
            for task in [t for t in tasks if not t.live and t.over][: max(0, spare)]:
                self._m.drop_task(task)


def _running(tasks: list[Task]) -> bool:
    return any(RANK[t.state] == RUNNING for t in tasks)


def task_spec(service: Service) -> dict[str, object]:
    """A service's template as its tasks carry it."""
    return {k: v for k, v in service.spec["TaskTemplate"].items() if k != "Runtime"}
