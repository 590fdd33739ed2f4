"""Too much asked of it, and a neighbour that hangs: a daemon that is pressed works once, and in time."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Callable
from datetime import datetime
from http.server import BaseHTTPRequestHandler

from tests.plugins.web import serve as serve_pages
from tests.swarm.world import World
from tests.upstream import Served, serve

#: Looks that are timed with a neighbour that answers, and with one that hangs.
ROUNDS = 7
#: How many times somebody presses the bell in the middle of an upgrade.
RINGS = 200


def test_two_hundred_signals_in_an_upgrade_are_one_look_after_it(world: World) -> None:
    """Nothing but the signals wakes the daemon here, and every look fetches: fetches count the looks."""
    world.interval = "1h"
    with serve(world.folder) as git:
        here = f"http://127.0.0.1:{git.port}/recipe/.git"
        world.write_config()
        world.config.write_text(world.config.read_text().replace(world.recipe.url, here))
        world.publish("1.0.0+1.0.0")
        with world.running("--log-level", "debug") as daemon:
            world.committed("1.0.0+1.0.0")
            world.wait(lambda: world.told("look.decided", decision="noop-healthy"), "the look after it")
            tasks = world.tasks()
            world.publish("1.1.0+1.1.0", delay=3)
            before = git.fetches
            daemon.send_signal(signal.SIGHUP)
            world.wait(lambda: world.told("run.gating", version="1.1.0+1.1.0"), "the gate")
            during = git.fetches
            assert during - before >= 1
            for _ in range(RINGS):
                daemon.send_signal(signal.SIGHUP)
                time.sleep(0.002)
            rung = len(world.told("daemon.signal", signal="SIGHUP"))
            assert not world.told("run.committed", version="1.1.0+1.1.0"), "they came in the middle"
            world.committed("1.1.0+1.1.0")
            after = settled_fetches(world, git)
            assert [run["state"] for run in world.history()["runs"]] == ["committed", "committed"]
            assert len(world.tasks() - tasks) == 1, "the upgrade's own task and no other"
        # One look ends the upgrade and sees that nothing is left to do; one more answers the signals.
        assert rung > RINGS / 4, "so many reached it apart from each other"
        assert 1 <= after - during <= 2, (before, during, after)
    assert world.serves("1.1.0")


def settled_fetches(world: World, git: Served) -> int:
    """How often the source was asked, once it is asked no more."""
    counted = [-1, -1, -1]

    def quiet() -> bool:
        counted.append(git.fetches)
        return len(set(counted[-4:])) == 1

    world.wait(quiet, "an end of the looks", 60, pause=0.5)
    return counted[-1]


def test_a_neighbour_whose_probe_hangs_for_ever_delays_a_look_by_less_than_a_second(
    world: World, another: Callable[[], str]
) -> None:
    world.interval = "1h"
    hangs = False

    def page(handler: BaseHTTPRequestHandler) -> None:
        if hangs:
            web.let_go.wait()
        else:
            handler.send_response(200)
            handler.end_headers()

    with serve_pages() as web:
        web.pages["/"] = page
        health = f'{{ kind = "http", url = "{web.url()}", timeout = "600s" }}'
        other = world.neighbour("other", another(), health=health)
        for each in (world, other):
            each.publish("1.0.0+1.0.0")
        with world.running("--log-level", "debug") as daemon:
            for each in (world, other):
                world.committed("1.0.0+1.0.0", of=each)
                world.wait(lambda s=each.name: decided(world, s), "the look after it")  # type: ignore[misc]  # a default binds it now

            def looks() -> float:
                """Seconds from a signal to what a look of the first service came to: the median."""
                taken = []
                for _ in range(ROUNDS):
                    seen = len(decided(world, "app"))
                    daemon.send_signal(signal.SIGHUP)
                    world.wait(lambda: len(decided(world, "app")) > seen, "the look", pause=0.02)  # noqa: B023 - at once
                    taken.append(at(decided(world, "app")[-1]) - at(world.told("daemon.signal")[-1]))
                return statistics.median(taken)

            alone = looks()
            before = len(decided(world, "other"))
            hangs = True
            beside = looks()
            assert len(decided(world, "other")) - before <= 1, "the neighbour hangs"
            world.publish("1.1.0+1.1.0")
            daemon.send_signal(signal.SIGHUP)
            world.committed("1.1.0+1.1.0")
            assert len(decided(world, "other")) - before <= 1, "still"
    assert beside - alone < 1.0, (alone, beside)


def decided(world: World, service: str) -> list[dict[str, object]]:
    return world.told("look.decided", service=service, decision="noop-healthy")


def at(line: dict[str, object]) -> float:
    """When a line was logged, in seconds since the epoch."""
    return datetime.fromisoformat(str(line["at"])).timestamp()
