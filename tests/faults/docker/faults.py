"""What may go wrong between warmd and the engine, and when."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import unquote, urlsplit


class Fault(StrEnum):
    """What goes wrong. The values are the ids of tests."""

    REFUSED = "refused"  # closed at accept, for a moment
    HANGS = "hangs"  # asked, and never answered; nothing was done
    CUT = "cut"  # done, and the answer breaks off half-way
    LOST = "lost"  # done, and nothing of the answer comes
    FAILS = "500"
    UNAVAILABLE = "503"
    NO_LEADER = "no-leader"
    NO_MANAGER = "no-manager"
    STALE = "stale"  # "update out of sequence", and so it was not done
    STALE_DONE = "stale-done"  # the same answer, though it was done
    GARBAGE = "garbage"  # 200, and what is no answer of an engine
    SLOW = "slow"  # answered rightly, in small pieces
    HELD = "asked"  # passed on once it is let go
    HELD_ANSWER = "answered"  # done, and the answer lost once it is let go


#: What the engine says in these cases, word for word (dockerd 20.10).
_NO_LEADER = (
    "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers"
    " are online. Make sure more than half of the managers are online."
)
_NO_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node'
    " to swarm and try again."
)
_STALE = {"message": "rpc error: code = Unknown desc = update out of sequence"}
SAYS: dict[Fault | None, tuple[int, object]] = {
    Fault.FAILS: (500, {"message": "rpc error: code = Unknown desc = raft: failed to process the request"}),
    Fault.UNAVAILABLE: (503, {"message": "service unavailable"}),
    Fault.NO_LEADER: (503, {"message": _NO_LEADER}),
    Fault.NO_MANAGER: (503, {"message": _NO_MANAGER}),
    Fault.STALE: (500, _STALE),
    Fault.STALE_DONE: (500, _STALE),
    Fault.GARBAGE: (200, "<html>It works!</html>"),
}
#: While it is so, the engine goes on answering for itself.
OF_SWARM = (Fault.NO_LEADER, Fault.NO_MANAGER)


@dataclass(frozen=True, slots=True, order=True)
class Call:
    """One kind of request: in which state of a run, by what method, of which path (``{}`` for names)."""

    state: str
    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.state} {self.method} {self.path}"

    @classmethod
    def parse(cls, text: str) -> Call:
        state, method, path = text.split()
        return cls(state, method, path)

    @property
    def of_swarm(self) -> bool:
        """Whether only a manager can answer it."""
        return self.path.partition("/")[0] in ("services", "tasks", "networks", "configs", "secrets")

    @property
    def of_networks(self) -> bool:
        """Whether the engine answers it for itself where nobody answers for the swarm."""
        return self.method == "GET" and self.path.startswith("networks")

    @property
    def writes(self) -> bool:
        return self.method in ("POST", "DELETE")


@dataclass(slots=True)
class Rule:
    """Let the first request of one kind fail, and for ``lasts`` seconds all that follow, or all that
    are ``alike``.

    ``hits`` counts those that did, ``reached`` is set at the first. One that is held waits for ``let_go``.
    """

    call: Call
    fault: Fault
    lasts: float = 0.0
    alike: bool = False
    hits: int = 0
    until: float = 0.0
    reached: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)

    def takes(self, call: Call) -> bool:
        if self.hits and self.alike:
            hit = call == self.call and time.monotonic() < self.until
        elif self.hits:
            hit = time.monotonic() < self.until and (call.of_swarm or self.fault not in OF_SWARM)
        else:
            hit = call == self.call
            self.until = time.monotonic() + self.lasts
        self.hits += hit
        if hit and self.fault is not Fault.HELD_ANSWER:
            self.reached.set()
        return hit

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.until

    def hold(self) -> None:
        self.reached.set()
        self.let_go.wait(120)

    def happens(self) -> None:
        """Wait until it does."""
        assert self.reached.wait(120), f"{self.call} never came"


def template(target: str) -> str:
    """The path without version, query and names."""
    path = unquote(re.sub(r"^/v\d+\.\d+", "", urlsplit(target).path)).strip("/")
    path = re.sub(r"^images/(?!create$).+/json$", "images/{}/json", path)
    path = re.sub(r"^(containers|services)/(?!create$|json$)[^/]+", r"\1/{}", path)
    return re.sub(
        r"^(networks|configs|secrets|volumes|tasks|nodes)/(?!create$|bridge$|host$)[^/]+", r"\1/{}", path
    )
