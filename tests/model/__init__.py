"""A one-node Docker Swarm in Python: warmd's adapter runs on it without Docker. A pure state machine of time.

In process, virtual time (a whole upgrade takes milliseconds; nothing sleeps):

    model = Model(tmp_path, seed=1)  # Timing(scale=…, jitter=…) if need be
    clock = VirtualClock(model, seed=1)  # sleep() moves time; elapse(s), step(s): only the wall clock
    swarm = swarm_of(model, clock)  # the real DockerSwarm on ModelEngine
    model.publish("r.example/app:1.0.0", App("1.0.0"))  # behaviour="crash", after=9: see apps.App
    AppProber(model, clock, port)  # the Prober port: what /health would say

Model: ``call(method, path, query, body) -> Answer``, ``advance(now, wall)``, ``due()``, ``now``.
Outside hands: ``scale(service, n)``, ``update_by_hand(service, image=, force=, **spec)``,
``remove_stack(stack)``, ``kill_task(service)``, ``restart_engine(kill=, seconds=)``, ``stop_engine()``,
``images.registry_down``, ``images.withdraw(ref)``, ``images.remove(ref)``, ``set_node(available=, labels=)``.
Faults: ``next("POST /services/.*/update", Fault("reply-lost"), skip=0, times=1)``; kinds refuse, hang,
reply-lost, error(status, text), slow(seconds). ``faults.clear()``.
Observers: ``violations`` (two writers on a volume, a version on newer data), ``calls``,
``store``, ``running(service)``, ``volume_facts(name)`` (schema, history, notes, damaged, sha256, pair),
``health(port)``.

Over a socket, in real time x scale, in a process of its own:

    with ModelProcess(seed=1, timing=Timing(scale=0.02)) as model:  # model.docker_host, the same hands
        model.publish(…); model.violations; model.calls; model.reset(); model.ask("running")

Published ports answer on 127.0.0.1 as tests/lab/warmapp.py does. ``tests.model.lab.ModelLab`` is that with
the face of tests.lab.Lab (so that World runs on it). In a shell: python -m tests.model SOCKET ROOT.
"""

from tests.model.apps import App
from tests.model.client import AppProber, ModelEngine, swarm_of
from tests.model.clocks import StepClock, VirtualClock
from tests.model.engine import Model
from tests.model.faults import Answer, Cut, Fault, Hang
from tests.model.process import ModelProcess
from tests.model.timing import Timing

__all__ = [
    "Answer",
    "App",
    "AppProber",
    "Cut",
    "Fault",
    "Hang",
    "Model",
    "ModelEngine",
    "ModelProcess",
    "StepClock",
    "Timing",
    "VirtualClock",
    "swarm_of",
]
