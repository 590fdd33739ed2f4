"""Where requests come in: one table of verbs, the same for the control socket and for a lone command.

Requests and answers are JSON values; ``docs/commands.md`` describes the verbs. Reading is for
everybody who can open the socket, acting for root and warmd's own user.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio
import structlog

from warmd.core import status
from warmd.core.household import Trouble
from warmd.core.model import Json
from warmd.core.runs import Run
from warmd.engine.household import Household
from warmd.engine.ledger import Ledger
from warmd.engine.operations import Operations, outcome_code
from warmd.engine.previews import Previews
from warmd.engine.reconcile import Look, Reconciler
from warmd.errors import NotFound, Refused, WarmdError

log = structlog.get_logger("warmd.control")

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One request: who (``uid``), what (``verb``), about which service (None: all), and how."""

    verb: str
    service: str | None
    args: Json
    uid: int


#: Seconds that ``status`` waits for a first look that is under way.
PATIENCE = 2.0


class Desk:
    """Answers requests.

    ``troubles`` tells a service's trouble at its last look, where one is known; ``own`` is the ledger
    of the daemon's own alerts; ``ready`` is called with a service's name (None: all) after a word of
    a person that may let something through, so that nobody waits for the next look. ``household`` is
    told how looks went, where no daemon does that.
    """

    def __init__(
        self,
        reconcilers: Mapping[str, Reconciler],
        *,
        owners: frozenset[int],
        troubles: Callable[[str], str | None] = lambda name: None,
        own: Ledger | None = None,
        ready: Callable[[str | None], None] = lambda name: None,
        household: Household | None = None,
    ) -> None:
        self._reconcilers = reconcilers
        self._owners = owners
        self._troubles = troubles
        self._own = own
        self._ready = ready
        self._household = household

    async def answer(self, request: Request) -> Answer:
        """The answer as JSON. Raises WarmdError."""
        if request.verb in _READING:
            return await _READING[request.verb](self, request)
        if request.verb not in _ACTING:
            raise Refused(f"no such verb: {request.verb}")
        if request.uid not in self._owners:
            raise Refused(f"uid {request.uid} may look but not act", hint="use sudo")
        answer = await _ACTING[request.verb](self, request)
        if request.verb in _LETS_THROUGH:
            self._ready(request.service)
        return answer

    # --- reading ---------------------------------------------------------------------------------

    async def status(self, request: Request) -> Answer:
        """Every service at its last look; a service that was not looked at yet is looked at now."""
        rows = await self._each(self._some(request), self._status_row)
        return {"services": rows}

    async def plan(self, request: Request) -> Answer:
        async def one(reconciler: Reconciler) -> Answer:
            try:
                return (await Previews(reconciler).plan()).model_dump(mode="json")
            except WarmdError as error:
                return {"service": reconciler.service.name, "error": str(error), "code": error.exit_code}
            except Exception as error:
                # A bug at one service must not cut the others' runs short.
                log.exception("look.crashed", service=reconciler.service.name)
                text = f"unexpected {type(error).__name__}: {error}"
                return {"service": reconciler.service.name, "error": text, "code": WarmdError.exit_code}

        return {"plans": await self._each(self._some(request), one)}

    async def history(self, request: Request) -> Answer:
        reconciler = self._one(request)
        history = await reconciler.ledger.load()
        runs = (*history.runs, *((history.unfinished,) if history.unfinished else ()))
        good = history.last_good
        return {
            "service": reconciler.service.name,
            "last_good": {
                "version": good.version.text if good.version else None,
                "at": good.at.isoformat(),
                "how": good.how,
                "commit": good.commit,
            }
            if good
            else None,
            "runs": [status.of_run(run).model_dump(mode="json") for run in runs],
            "taken_over": [
                {"version": t.version, "how": t.how, "at": t.at.isoformat(), "uid": t.uid}
                for t in history.handovers
            ],
            "failures": [
                {"version": f.version, "outcome": f.outcome.value, "detail": f.detail, "run": f.run}
                for f in history.failures.values()
            ],
            "approvals": [
                {"version": a.version, "uid": a.uid, "why": a.why, "at": a.at.isoformat()}
                for a in history.approvals.values()
            ],
        }

    async def snapshots(self, request: Request) -> Answer:
        known = await Operations(self._one(request)).snapshots()
        return {"snapshots": [status.of_snapshot(info).model_dump(mode="json") for info in known]}

    async def preview(self, request: Request) -> Answer:
        """What ``snapshot`` or ``restore`` would do, for whoever has to say yes to it."""
        if _text(request, "of") == "restore":
            snapshot = _text(request, "snapshot")
            shown = await Previews(self._one(request)).restore(snapshot)
        else:
            shown = await Previews(self._one(request)).snapshot()
        return shown.model_dump(mode="json")

    async def alerts(self, request: Request) -> Answer:
        bodies: list[Json] = []
        own = [self._own] if self._own is not None and request.service is None else []
        for ledger in (*own, *(reconciler.ledger for reconciler in self._some(request))):
            bodies += [alert.body for alert in (await ledger.load()).alerts.values()]
        return {"alerts": bodies}

    # --- acting ----------------------------------------------------------------------------------

    async def reconcile(self, request: Request) -> Answer:
        looks: dict[str, Trouble | None] = {}

        async def one(reconciler: Reconciler) -> Answer:
            name = reconciler.service.name
            try:
                look = await Operations(reconciler).reconcile(patient=bool(request.args.get("patient")))
            except WarmdError as error:
                looks[name] = Trouble(error, alone=True)
                return {"service": reconciler.service.name, "error": str(error), "code": error.exit_code}
            except Exception as error:
                # A bug at one service must not cut the others' runs short.
                log.exception("look.crashed", service=reconciler.service.name)
                text = f"unexpected {type(error).__name__}: {error}"
                return {"service": reconciler.service.name, "error": text, "code": WarmdError.exit_code}
            looks[name] = None
            return _looked(reconciler, look)

        rows = await self._each(self._some(request), one)
        if self._household is not None:
            await self._household.settle(looks, services=self._reconcilers)
        return {"looks": rows}

    async def deploy(self, request: Request) -> Answer:
        return _ran(
            await self._of(request).deploy(
                uid=request.uid, version=_maybe(request, "version"), why=_why(request)
            )
        )

    async def approve(self, request: Request) -> Answer:
        version, why = _text(request, "version"), _text(request, "why")
        release = await self._of(request).approve(version, uid=request.uid, why=why)
        return {"approved": release.version.text, "commit": release.commit}

    async def retry(self, request: Request) -> Answer:
        await self._of(request).retry(uid=request.uid, version=_maybe(request, "version"))
        return {"retry": request.service}

    async def abort(self, request: Request) -> Answer:
        return _ran(await self._of(request).abort(uid=request.uid))

    async def adopt(self, request: Request) -> Answer:
        version = await self._of(request).adopt(uid=request.uid, version=_maybe(request, "version"))
        return {"adopted": version}

    async def pause(self, request: Request) -> Answer:
        for reconciler in self._some(request):
            await Operations(reconciler).pause(uid=request.uid, why=_why(request))
        return {"paused": [r.service.name for r in self._some(request)]}

    async def resume(self, request: Request) -> Answer:
        for reconciler in self._some(request):
            await Operations(reconciler).resume(uid=request.uid)
        return {"resumed": [r.service.name for r in self._some(request)]}

    async def snapshot(self, request: Request) -> Answer:
        return _ran(await self._of(request).snapshot(uid=request.uid, why=_why(request)))

    async def restore(self, request: Request) -> Answer:
        snapshot = _text(request, "snapshot")
        return _ran(await self._of(request).restore(snapshot, uid=request.uid, why=_why(request)))

    # --- shared ----------------------------------------------------------------------------------

    def _one(self, request: Request) -> Reconciler:
        found = self._reconcilers.get(request.service or "")
        if found is None:
            known = ", ".join(sorted(self._reconcilers)) or "none"
            raise NotFound(f"no service {request.service!r} in the configuration", hint=f"known: {known}")
        return found

    def _some(self, request: Request) -> list[Reconciler]:
        # Not a bare truth test: an empty name, from a script's empty variable, is not everything.
        return [self._one(request)] if request.service is not None else list(self._reconcilers.values())

    def _of(self, request: Request) -> Operations:
        return Operations(self._one(request))

    async def _status_row(self, reconciler: Reconciler) -> Answer:
        name = reconciler.service.name
        trouble = self._troubles(name)
        try:
            history = await reconciler.ledger.load()
            if reconciler.seen is None and trouble is None and history.unfinished is None:
                await self._peek(reconciler)
            trouble = self._troubles(name)
        except WarmdError as error:
            trouble, history = str(error), reconciler.ledger.history
        # While a run is made, the last look is of a time before it.
        look = None if reconciler.runner.active else reconciler.seen
        return status.of_service(
            name,
            reconciler.service.stack,
            history,
            decision=look.decision if look else None,
            view=look.view if look else None,
            trouble=trouble,
        ).model_dump(mode="json")

    async def _peek(self, reconciler: Reconciler) -> None:
        """Look for ``status``, unless somebody does already: who may be at it as long as a source takes."""
        try:
            with anyio.fail_after(PATIENCE):
                await reconciler.turn.acquire()
        except TimeoutError:
            return
        try:
            if reconciler.seen is None and self._troubles(reconciler.service.name) is None:
                await reconciler.peek()
        finally:
            reconciler.turn.release()

    @staticmethod
    async def _each(
        reconcilers: list[Reconciler], ask: Callable[[Reconciler], Awaitable[Answer]]
    ) -> list[Answer]:
        """Ask all at once; answers in the order of the configuration."""
        found: dict[int, Answer] = {}

        async def one(place: int, reconciler: Reconciler) -> None:
            found[place] = await ask(reconciler)

        async with anyio.create_task_group() as tasks:
            for place, reconciler in enumerate(reconcilers):
                tasks.start_soon(one, place, reconciler)
        return [found[place] for place in sorted(found)]


def _maybe(request: Request, name: str) -> str | None:
    """An argument that may be left out. Raises Refused where it is no text."""
    value = request.args.get(name)
    if value is not None and not isinstance(value, str):
        raise Refused(f"{request.verb}: {name} must be text, not {value!r}")
    return value


def _text(request: Request, name: str) -> str:
    """An argument that must be there. Raises Refused."""
    value = _maybe(request, name)
    if not value:
        raise Refused(f"{request.verb}: {name} is missing")
    return value


def _why(request: Request) -> str:
    return _maybe(request, "why") or ""


def _ran(run: Run) -> Answer:
    return {"run": status.of_run(run).model_dump(mode="json"), "code": outcome_code(run)}


def _looked(reconciler: Reconciler, look: Look) -> Answer:
    row = status.of_service(
        reconciler.service.name,
        reconciler.service.stack,
        reconciler.ledger.history,
        decision=look.decision,
        view=look.view,
    )
    stuck = reconciler.ledger.history.stuck
    code = 5 if stuck else outcome_code(look.run)
    return row.model_dump(mode="json") | {
        "code": code,
        "ran": status.of_run(look.run).model_dump(mode="json") if look.run else None,
    }


_Verb = Callable[[Desk, Request], Awaitable[Answer]]

_READING: Mapping[str, _Verb] = {
    "status": Desk.status,
    "plan": Desk.plan,
    "history": Desk.history,
    "snapshots": Desk.snapshots,
    "preview": Desk.preview,
    "alerts": Desk.alerts,
}
_ACTING: Mapping[str, _Verb] = {
    "reconcile": Desk.reconcile,
    "deploy": Desk.deploy,
    "approve": Desk.approve,
    "retry": Desk.retry,
    "abort": Desk.abort,
    "adopt": Desk.adopt,
    "pause": Desk.pause,
    "resume": Desk.resume,
    "snapshot": Desk.snapshot,
    "restore": Desk.restore,
}
#: Verbs after which something may be done that had to wait.
_LETS_THROUGH = frozenset(("approve", "retry", "adopt", "resume"))
READING = frozenset(_READING)
