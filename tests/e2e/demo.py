"""The demo: what warmd does for one small service that keeps data, on a real swarm of its own.

``KEEP=1`` leaves everything running at the end. See scripts/demo.
"""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.stage import NotSeen, Stage, Warmd, diagnose, end_on_sigterm, task_ids
from tests.lab import Lab, LabError, Recipe, warm_compose

SERVICE = STACK = "notebook"
NOTES = "Before you upgrade, tell everybody who writes in the notebook.\nA manual migration follows."

CONFIG = """\
[daemon]
state_dir = "{home}/state"
docker_host = "{docker_host}"

[services.{service}]
stack = "{stack}"
health = [{{ kind = "http", url = "http://{host}:{port}/health", status = 200, json = {{ status = "ok" }} }}]
source = {{ kind = "git", url = "{recipe}" }}
deploy = {{ kind = "stack", files = ["compose.yml"], env = {{ PORT = "{port}" }} }}
snapshot = {{ kind = "archive", keep = 3 }}
policy = {{ recipe_major = "hold", app_major = "hold", notes = "hold-any", rollback_horizon = "1h" }}
# Short, because the application is tiny. A database migration wants minutes.
health_gate = {{ deadline = "15s", interval = "500ms", successes = 3, stable = "3s" }}
"""


class Demo:
    def __init__(self, stage: Stage, lab: Lab) -> None:
        self.stage = stage
        self.lab = lab
        self.home = lab.folder / "demo"
        self.home.mkdir()
        self.port = lab.free_port()
        self.url = f"http://{lab.host}:{self.port}"
        self.recipe = Recipe(self.home / "recipe")
        config = self.home / "warmd.toml"
        config.write_text(
            CONFIG.format(
                home=self.home,
                docker_host=lab.docker_host,
                service=SERVICE,
                stack=STACK,
                host=lab.host,
                port=self.port,
                recipe=self.recipe.url,
            )
        )
        self.warmd = Warmd(stage, lab, config, alerts=self.home / "state" / "alerts")

    def publish(self, version: str, *, notes: str | None = None, bad: bool = False) -> None:
        app = version.partition("+")[2]
        image = self.lab.warm_app(app, repo=SERVICE, bad="never-healthy" if bad else None)
        label = {"version": version, "stack": STACK}
        self.recipe.publish(
            version, compose=warm_compose(image, "${PORT}", network="overlay", **label), notes=notes
        )
        self.stage.say(f"published: {version}" + (" (with release notes)" if notes else ""))

    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/data", timeout=5).json()
        return found

    def write(self, text: str) -> None:
        httpx.post(f"{self.url}/notes", content=text.encode(), timeout=5).raise_for_status()

    def running(self) -> str | None:
        try:
            version = httpx.get(f"{self.url}/health", timeout=5).json()["version"]
        except (httpx.TransportError, ValueError):
            return None
        return str(version)

    # The acts, in order

    def cold_deploy(self) -> None:
        self.stage.act("1. Nothing runs yet: cold-deploy")
        self.publish("1.0.0+1.0.0")
        self.warmd.run("up")
        row = self.warmd.status(SERVICE)
        run = self.warmd.runs(SERVICE)[-1]
        self.stage.same(
            "the run is a cold-deploy and ended committed", _run(run), ("cold-deploy", "committed")
        )
        self.stage.same("1.0.0+1.0.0 is current", row["current"], "1.0.0+1.0.0")
        self.stage.same("the application answers", self.running(), "1.0.0")
        for text in ("milk", "a better way to upgrade", "water the plants"):
            self.write(text)
        self.stage.same("somebody writes three notes into its volume", self.data()["notes"], 3)

    def nothing_to_do(self) -> None:
        self.stage.act("2. Nothing new: noop-healthy")
        before = task_ids(self.lab, STACK)
        self.warmd.run("up")
        self.stage.same(
            "the decision is noop-healthy", self.warmd.status(SERVICE)["decision"], "noop-healthy"
        )
        self.stage.same("not one task was created", task_ids(self.lab, STACK), before)

    def minor_upgrade(self) -> None:
        self.stage.act("3. A minor release: upgrade, the data kept")
        self.publish("1.1.0+1.1.0")
        self.warmd.run("plan", SERVICE)
        self.warmd.run("up")
        self.stage.same("it is committed", _run(self.warmd.runs(SERVICE)[-1]), ("upgrade", "committed"))
        self.stage.same("1.1.0 answers", self.running(), "1.1.0")
        data = self.data()
        self.stage.same("it migrated the data", data["schema"], "1.1.0")
        self.stage.same("the three notes are there", data["notes"], 3)

    def major_held(self) -> None:
        self.stage.act("4. A major release: held for a person")
        before = task_ids(self.lab, STACK)
        self.publish("2.0.0+2.0.0")
        self.warmd.run("up")
        self.warmd.show_alert("held-major", "2.0.0+2.0.0")
        self.stage.same("1.1.0 still answers", self.running(), "1.1.0")
        self.stage.same("not one task was created", task_ids(self.lab, STACK), before)

    def notes_held(self) -> None:
        self.stage.act("5. A minor release with notes: held until somebody has read them")
        before = task_ids(self.lab, STACK)
        self.publish("1.2.0+1.2.0", notes=NOTES)
        self.warmd.run("up")
        alert = self.warmd.show_alert("held-manual-migration", "1.2.0+1.2.0")
        self.stage.saw("the alert carries the notes", any(NOTES in (n["text"] or "") for n in alert["notes"]))
        self.stage.same("not one task was created", task_ids(self.lab, STACK), before)

    def approve(self) -> None:
        self.stage.act("6. Somebody has read them: approve")
        self.warmd.run("approve", SERVICE, "1.2.0+1.2.0", "--why", "read the notes, told everybody")
        self.warmd.run("up")
        self.stage.same("it is committed", _run(self.warmd.runs(SERVICE)[-1]), ("upgrade", "committed"))
        self.stage.same("1.2.0 answers", self.running(), "1.2.0")
        self.stage.same("the three notes are there", self.data()["notes"], 3)
        kinds = [alert["kind"] for alert in self.warmd.alerts(state="resolved")]
        self.stage.saw("the alert about the notes is resolved", "held-manual-migration" in kinds, kinds)

    def bad_release(self) -> None:
        self.stage.act("7. A bad release: it damages the data and never gets healthy")
        self.write("do not lose me")
        before = self.data()
        self.stage.say(f"checksum of the volume before: {before['sha256']}")
        self.publish("1.2.1+1.2.1", bad=True)
        self.warmd.run("up", codes=(0, 4))
        self.stage.same("it is rolled back", _run(self.warmd.runs(SERVICE)[-1]), ("upgrade", "rolled-back"))
        self.stage.same("1.2.0 answers again", self.running(), "1.2.0")
        after = self.data()
        self.stage.say(f"checksum of the volume after:  {after['sha256']}")
        self.stage.same("the data is what it was, to the last bit", after, before)
        self.warmd.show_alert("rolled-back", "1.2.1+1.2.1")

        before_tasks = task_ids(self.lab, STACK)
        self.warmd.run("up", show=False)
        decision = self.warmd.status(SERVICE)["decision"]
        self.stage.same("it is not tried again: held-failed-before", decision, "held-failed-before")
        self.stage.same("not one task was created", task_ids(self.lab, STACK), before_tasks)
        self.stage.same("and 1.2.0 still answers", self.running(), "1.2.0")

    def ending(self) -> None:
        self.stage.act("8. How things stand")
        self.warmd.run("history", SERVICE)
        self.warmd.run("snapshots", SERVICE)
        self.warmd.run("alerts")
        self.warmd.run("status")


def _run(run: dict[str, Any]) -> tuple[str, str]:
    return run["kind"], run["state"]


def keep(demo: Demo) -> None:
    lab, project = demo.lab, Path.cwd()
    lab.keep()
    demo.stage.act("It stays (KEEP=1)")
    text = f"""
        cd {project}
        export DOCKER_HOST={lab.docker_host} WARMD_CONFIG={demo.warmd.config}
        .venv/bin/warmd status
        .venv/bin/warmd plan {SERVICE}
        curl {demo.url}/data
        docker service ls
        git -C {demo.recipe.path} log --oneline

    and when you have seen enough:

        {project}/scripts/demo stop {lab.note.id}
    """
    for line in textwrap.dedent(text).strip("\n").splitlines():
        demo.stage.say(line)


def main() -> int:
    end_on_sigterm()
    stage = Stage()
    stage.act("Set-up: a private swarm, a registry and a recipe's repository in a temporary folder")
    try:
        lab = Lab()
    except LabError as error:
        stage.say(str(error))
        return 1
    demo = None
    kept = False
    try:
        demo = Demo(stage, lab)
        stage.say(f"swarm: {lab.docker_host}")
        stage.say(f"recipe: {demo.recipe.url}")
        stage.output(demo.warmd.config.read_text())
        for act in (
            demo.cold_deploy,
            demo.nothing_to_do,
            demo.minor_upgrade,
            demo.major_held,
            demo.notes_held,
            demo.approve,
            demo.bad_release,
            demo.ending,
        ):
            act()
        if os.environ.get("KEEP") == "1":
            keep(demo)
            kept = True
    except (NotSeen, LabError, httpx.HTTPError) as error:
        stage.say(f"FAILED: {error}")
        diagnose(stage, lab, demo.warmd if demo else None, STACK)
        return 1
    finally:
        if not kept:
            lab.stop()
    stage.act(
        f"All {stage.seen} outcomes were seen, in {stage.seconds:.0f} s"
        + ("" if kept else "; nothing is left running")
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
