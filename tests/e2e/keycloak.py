"""The end-to-end run: the real ``warmd`` keeps a real Keycloak on its latest safe version.

An old Keycloak on a migrated database starts, answers, and only logs that something may be wrong; so
"it answers" proves nothing here. What the database says and what the log does not say are looked at.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.e2e import images
from tests.e2e.stage import NotSeen, Stage, Warmd, diagnose, end_on_sigterm, task_ids, wait_until
from tests.lab import Lab, LabError, Recipe

SERVICE, STACK = "keycloak", "sso"
OLD, NEW = "26.4.7", "26.5.6"
MIXED = "Possibly incorrect state of migration"
NOTES = "The search backend was removed. Export your queries before you go on."

CONFIG = """\
[daemon]
state_dir = "{home}/state"
docker_host = "{docker_host}"

[services.keycloak]
stack = "sso"
health = [{{ kind = "http", url = "{url}/realms/master", status = 200, json = {{ realm = "master" }} }}]
source = {{ kind = "git", url = "{recipe}" }}
deploy = {{ kind = "stack", files = ["compose.yml"], env = {{ PORT = "{port}" }} }}
snapshot = {{ kind = "archive", keep = 3 }}
policy = {{ repair_after = "3s" }}
health_gate = {{ deadline = "{deadline}", interval = "1s", successes = 3, stable = "5s" }}
"""

COMPOSE = """\
version: "3.8"
services:
  app:
    image: "{image}"
    command: ["/opt/keycloak/bin/kc.sh", "start", {arguments}]
    environment:
      KC_HTTP_ENABLED: "true"
      KC_HOSTNAME_STRICT: "false"
      KC_PROXY_HEADERS: xforwarded
      KC_DB_USERNAME: sa
      KC_DB_PASSWORD: for-this-run-only
      KC_BOOTSTRAP_ADMIN_USERNAME: admin
      KC_BOOTSTRAP_ADMIN_PASSWORD: for-this-run-only
    ports: [{{ target: 8080, published: "${{PORT}}", protocol: tcp, mode: host }}]
    volumes: ["data:/opt/keycloak/data"]
    networks: [internal]
    stop_grace_period: 30s
    deploy:
      endpoint_mode: dnsrr
      restart_policy: {{ condition: any, delay: 2s }}
      labels: ["coop-cloud.sso.version={version}"]
networks:
  internal: {{}}
volumes:
  data: {{}}
"""

# The database is open, so a copy of it is asked. The driver is Keycloak's own.
DATABASE = """\
set -e
cp /opt/keycloak/data/h2/keycloakdb.mv.db /tmp/copy.mv.db
jar=$(ls /opt/keycloak/lib/lib/main/com.h2database.h2-*.jar)
java -Xmx128m -cp "$jar" org.h2.tools.Shell -url "jdbc:h2:file:/tmp/copy;ACCESS_MODE_DATA=r" \\
  -user sa -password for-this-run-only -sql "select version from migration_model order by update_time"
"""


class Keycloak:
    """The running Keycloak, as an administrator and a user see it."""

    def __init__(self, url: str) -> None:
        # It insists on https for its administrators unless a proxy says that there was one.
        headers = {"X-Forwarded-Proto": "https"}
        self._http = httpx.Client(base_url=url, timeout=120, headers=headers)

    def create_realm(self, name: str) -> None:
        login = {"grant_type": "password", "client_id": "admin-cli", "username": "admin"}
        token = self._http.post(
            "/realms/master/protocol/openid-connect/token", data={**login, "password": "for-this-run-only"}
        )
        bearer = {"Authorization": f"Bearer {token.raise_for_status().json()['access_token']}"}
        self._http.post(
            "/admin/realms", json={"realm": name, "enabled": True}, headers=bearer
        ).raise_for_status()

    def realm(self, name: str) -> str | None:
        """The realm's public key, which no other realm of that name would have; None if there is none."""
        reply = self._http.get(f"/realms/{name}")
        return str(reply.json()["public_key"]) if reply.is_success else None

    def close(self) -> None:
        self._http.close()


class Logs:
    """Follows the log of every container of the stack; one that is removed has been read to its end."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab, self._folder = lab, folder
        self._followed: dict[str, tuple[str, subprocess.Popen[bytes]]] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._follow)
        folder.mkdir()
        self._thread.start()

    def _follow(self) -> None:
        while not self._end.wait(0.5):
            try:
                found = self._lab.containers(STACK)
            except (httpx.HTTPError, ValueError):
                continue  # dockerd is busy; the next look comes soon
            for container in found:
                if (ident := container["Id"]) not in self._followed:
                    with (self._folder / ident).open("wb") as out:
                        argv = ["docker", "logs", "--follow", ident]
                        child = subprocess.Popen(
                            argv, stdout=out, stderr=subprocess.STDOUT, env=self._lab.docker_env
                        )
                    self._followed[ident] = (container["Image"], child)

    def of(self, version: str, *, apart_from: Collection[str] = ()) -> dict[str, str]:
        """Container id -> log, of the containers that ran that version."""
        return {
            ident: (self._folder / ident).read_text(errors="replace")
            for ident, (image, _) in list(self._followed.items())
            if f"keycloak:{version}" in image and ident not in apart_from
        }

    def stop(self) -> None:
        self._end.set()
        self._thread.join()
        for _, child in self._followed.values():
            child.terminate()
            child.wait()


class Run:
    def __init__(self, stage: Stage, lab: Lab, *, deadline: str) -> None:
        self.stage, self.lab = stage, lab
        self.home = lab.folder / "e2e"
        self.home.mkdir()
        port = lab.free_port()
        url = f"http://{lab.host}:{port}"
        self.recipe = Recipe(self.home / "recipe")
        config = self.home / "warmd.toml"
        text = CONFIG.format(
            home=self.home,
            docker_host=lab.docker_host,
            url=url,
            port=port,
            recipe=self.recipe.url,
            deadline=deadline,
        )
        config.write_text(text)
        self.warmd = Warmd(stage, lab, config, alerts=self.home / "state" / "alerts")
        self.keycloak = Keycloak(url)
        self.logs = Logs(lab, self.home / "logs")
        self.images: dict[str, str] = {}
        self.key: str | None = None

    def close(self) -> None:
        self.logs.stop()
        self.keycloak.close()

    def prepare(self) -> None:
        for version in (OLD, NEW):
            self.images[version] = images.publish(self.lab, version)
            self.stage.say(f"in the registry: {self.images[version]}")

    def publish(self, version: str, *, notes: str | None = None, arguments: str = '"--optimized"') -> None:
        app = version.partition("+")[2]
        image = self.images.get(app, f"{self.lab.registry}/keycloak:{app}")
        compose = COMPOSE.format(image=image, version=version, arguments=arguments)
        self.recipe.publish(version, compose=compose, notes=notes)
        self.stage.say(f"published: {version}" + (" (with release notes)" if notes else ""))

    def database(self) -> list[str]:
        """The versions to which this database has been migrated, oldest first, by the database itself."""
        running = [c["Id"] for c in self.lab.containers(STACK) if c["State"] == "running"]
        said = self.lab.docker("exec", running[0], "sh", "-c", DATABASE).splitlines()
        return [line.strip() for line in said if line.strip()[:1].isdigit()]

    def database_once_new(self) -> list[str]:
        """What the database says when the new version has started. Runs beside ``warmd up``."""
        started = f"Keycloak {NEW} on JVM"
        wait_until(
            lambda: any(started in log for log in self.logs.of(NEW).values()),
            f"the start of Keycloak {NEW}",
            deadline=240,
        )
        return _majors(self.database())

    def last_run(self) -> tuple[str, str, str | None]:
        run = self.warmd.runs(SERVICE)[-1]
        return run["kind"], run["state"], run["to_version"]

    def outage(self) -> None:
        if (seconds := self.warmd.runs(SERVICE)[-1]["outage_seconds"]) is not None:
            self.stage.say(f"outage, by the journal: {seconds:.1f} s")

    # The acts, in order

    def cold_deploy(self) -> None:
        self.stage.act(f"1. cold-deploy of Keycloak {OLD}")
        self.publish(f"10.6.0+{OLD}")
        self.warmd.run("up")
        wanted = ("cold-deploy", "committed", f"10.6.0+{OLD}")
        self.stage.same("cold-deploy, committed", self.last_run(), wanted)
        self.keycloak.create_realm("tenant")
        self.key = self.keycloak.realm("tenant")
        self.stage.saw("a realm is made through the admin API", self.key)
        self.stage.same("the database is at 26.4", _majors(self.database()), ["26.4"])

    def nothing_to_do(self) -> None:
        self.stage.act("2. Nothing new")
        before = task_ids(self.lab, STACK)
        self.warmd.run("up")
        self.stage.same("noop-healthy", self.warmd.status(SERVICE)["decision"], "noop-healthy")
        self.stage.same("not one task was created", task_ids(self.lab, STACK), before)

    def broken_release(self) -> None:
        self.stage.act(f"3. A release that migrates the database to {NEW}, then never gets healthy")
        # Its operator forgot to say that everything moves below /auth, as once happened to many.
        self.publish(f"10.6.1+{NEW}", arguments='"--http-relative-path=/auth"')
        old = set(self.logs.of(OLD))
        with ThreadPoolExecutor(1) as beside:
            migrated = beside.submit(self.database_once_new)
            self.warmd.run("up", codes=(0, 4))
        self.stage.same("meanwhile the database was migrated", migrated.result(), ["26.4", "26.5"])
        self.stage.same("rolled back", self.last_run(), ("upgrade", "rolled-back", f"10.6.1+{NEW}"))
        self.outage()
        self.stage.same("current is the old version", self.warmd.status(SERVICE)["current"], f"10.6.0+{OLD}")
        self.stage.same("the realm is there, with its key", self.keycloak.realm("tenant"), self.key)
        self.stage.same("the database is the one from before", _majors(self.database()), ["26.4"])
        again = self.logs.of(OLD, apart_from=old)
        self.stage.saw(f"{OLD} was started again", any(f"Keycloak {OLD}" in log for log in again.values()))
        self.stage.saw(f'its log is free of "{MIXED}"', not any(MIXED in log for log in again.values()))
        self.warmd.show_alert("rolled-back", f"10.6.1+{NEW}")

    def good_release(self) -> None:
        self.stage.act(f"4. A good release of Keycloak {NEW}")
        self.publish(f"10.7.0+{NEW}")
        self.warmd.run("plan", SERVICE)
        self.warmd.run("up")
        self.stage.same("committed", self.last_run(), ("upgrade", "committed", f"10.7.0+{NEW}"))
        self.outage()
        self.stage.same("the realm is there, with its key", self.keycloak.realm("tenant"), self.key)
        self.stage.same("the database is migrated", _majors(self.database()), ["26.4", "26.5"])

    def holds(self) -> None:
        self.stage.act("5. A recipe major, an application major, and notes")
        before = task_ids(self.lab, STACK)
        for version in (f"11.0.0+{NEW}", "10.7.1+27.0.0"):
            self.publish(version)
            self.warmd.run("up")
            self.stage.same("held-major", self.warmd.status(SERVICE)["decision"], "held-major")
            self.warmd.show_alert("held-major", version)
            self.stage.same("task ids are unchanged", task_ids(self.lab, STACK), before)
            self.recipe.git("tag", "--delete", version)
        self.publish(f"10.8.0+{NEW}", notes=NOTES)
        self.warmd.run("up")
        decision = self.warmd.status(SERVICE)["decision"]
        self.stage.same("held-manual-migration", decision, "held-manual-migration")
        alert = self.warmd.show_alert("held-manual-migration", f"10.8.0+{NEW}")
        self.stage.saw("the alert carries the notes", any(NOTES in (n["text"] or "") for n in alert["notes"]))
        self.stage.same("task ids are unchanged", task_ids(self.lab, STACK), before)

    def removed(self) -> None:
        self.stage.act("6. Somebody removes the stack")
        self.stage.typed(f"docker stack rm {STACK}")
        self.lab.docker("stack", "rm", STACK)
        wait_until(lambda: not self.lab.containers(STACK), "the end of the containers", deadline=60)
        self.warmd.run("up")
        self.warmd.show_alert("drift")
        # The configuration gives somebody who works there three seconds; it is 15 minutes unless set.
        wait_until(self.repaired, "the repair", deadline=120)
        wanted = ("repair", "committed", f"10.7.0+{NEW}")
        self.stage.same("the last good version is back", self.last_run(), wanted)
        self.stage.same("on its data: the realm is there", self.keycloak.realm("tenant"), self.key)
        self.stage.saw("the alert is resolved", self.warmd.alert("drift") is None)

    def repaired(self) -> bool:
        self.warmd.run("up")
        return self.last_run()[0] == "repair"

    def ending(self) -> None:
        self.stage.act("7. How things stand")
        for verb in (("history", SERVICE), ("snapshots", SERVICE), ("alerts",), ("status",)):
            self.warmd.run(*verb)


def _majors(versions: list[str]) -> list[str]:
    """Without patch levels: ``26.4``, ``26.5``."""
    return list(dict.fromkeys(".".join(version.split(".")[:2]) for version in versions))


def main() -> int:
    end_on_sigterm()
    stage = Stage()
    stage.act("Set-up: a private swarm and registry, real Keycloak images, a recipe's repository")
    try:
        lab = Lab()
    except LabError as error:
        stage.say(str(error))
        return 1
    run: Run | None = None
    try:
        run = Run(stage, lab, deadline="120s")
        run.prepare()
        stage.output(run.warmd.config.read_text())
        for act in (
            run.cold_deploy,
            run.nothing_to_do,
            run.broken_release,
            run.good_release,
            run.holds,
            run.removed,
            run.ending,
        ):
            act()
    except (NotSeen, LabError, images.ImageError, httpx.HTTPError, subprocess.TimeoutExpired) as error:
        stage.say(f"FAILED: {error}")
        diagnose(stage, lab, run.warmd if run else None, STACK)
        return 1
    finally:
        if run is not None:
            run.close()
        lab.stop()
    stage.act(f"All {stage.seen} outcomes were seen, in {stage.seconds:.0f} s; nothing is left running")
    return 0


if __name__ == "__main__":
    sys.exit(main())
