"""The contract of every ``Deployer``, against a real swarm and against the model of one."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from tests.contracts.deployer_site import CLIENTS, NAMESPACE, Site
from tests.lab import Lab
from tests.model import Timing
from tests.model.lab import ModelLab
from warmd.adapters.clock import SystemClock
from warmd.adapters.docker import open_swarm
from warmd.core import specs
from warmd.core.model import LABEL_OWNER, LABEL_RUN, LABEL_VERSION, Bundle, Json, Mount
from warmd.core.specdiff import diff
from warmd.errors import Refused
from warmd.ports import Swarm

LABELS = {LABEL_OWNER: "installation-1", LABEL_RUN: "run-1", LABEL_VERSION: "1.0.0+1.0"}

#: Of the model's time.
FAST = 0.1

#: Ends at once when asked to, as a good service does.
IDLE = ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]


@pytest.fixture(scope="session", params=[pytest.param("docker", marks=pytest.mark.swarm), "model"])
def place(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """An engine with a registry."""
    if request.param == "docker":
        yield request.getfixturevalue("lab")
    else:
        with ModelLab(timing=Timing(scale=FAST)) as model:
            yield cast(Lab, model)


@pytest.fixture(scope="session")
def image(place: Lab) -> str:
    return place.image("idle", "1", {}, IDLE)


@pytest.fixture
def stack_name(place: Lab) -> Iterator[str]:
    name = f"t{secrets.token_hex(4)}"
    yield name
    place.remove_stack(name)


@pytest.fixture
async def site(place: Lab, stack_name: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_swarm(place.docker_host, SystemClock()) as swarm:
        yield Site(place, swarm, stack_name, tmp_path, CLIENTS[-1], getattr(place, "second", 1.0))


@pytest.fixture(scope="session")
def external(place: Lab) -> str:
    """Name of a network, a config and a secret that are no stack's."""
    name = "outside"
    place.docker("network", "create", "--driver", "overlay", "--attachable", name)
    for kind in ("config", "secret"):
        place.docker(kind, "create", name, "-", stdin=b"theirs")
    return name


def rich(image: str, external: str = "outside") -> str:
    """A compose file that says nearly all that one can say, also to the engine's defaults."""
    return f"""
version: "3.8"
x-idle: &idle
  image: {image}
  stop_grace_period: 3s
services:
  app:
    <<: *idle
    environment: {{ DOMAIN: example.org, EMPTY: "", UNSET: }}
    ports: [{{ target: 80, published: {{PORT}}, mode: host }}]
    volumes: ["data:/data", "data:/again:ro", {{ type: tmpfs, target: /scratch }}]
    networks: {{ inner: {{ aliases: [other] }}, fixed: {{}}, out: {{}} }}
    configs: [{{ source: ours, target: /etc/ours, mode: 0440 }}, theirs]
    secrets: [{{ source: theirs, target: password }}]
    healthcheck: {{ test: ["CMD", "true"], interval: 1s }}
    init: false
    logging: {{ driver: json-file, options: {{ max-size: 1m }} }}
    sysctls: {{ net.core.somaxconn: 1024 }}
    deploy:
      endpoint_mode: dnsrr
      labels: ["coop-cloud.example.version=1.0.0"]
      update_config: {{ parallelism: 0, order: start-first, failure_action: rollback }}
      rollback_config: {{ parallelism: 1 }}
      restart_policy: {{ condition: any, delay: 0s }}
      resources: {{ limits: {{ cpus: "0.5", memory: 50M }} }}
      placement: {{ constraints: [node.role == manager] }}
  everywhere:
    <<: *idle
    deploy: {{ mode: global, endpoint_mode: dnsrr }}
networks:
  inner: {{}}
  fixed: {{ attachable: true, internal: true, ipam: {{ config: [{{ subnet: 10.217.31.0/24 }}] }} }}
  out: {{ external: true, name: {external} }}
volumes:
  data: {{}}
configs:
  ours: {{ file: ./ours.txt, template_driver: golang }}
  theirs: {{ external: true, name: {external} }}
secrets:
  theirs: {{ external: true, name: {external} }}
""".replace("{PORT}", "28080")


def simple(image: str, *, more: str = "", top: str = "", deploy: str = "") -> str:
    return f"""
version: "3.8"
services:
  app:
    image: {image}
    stop_grace_period: 3s
    {more}
    deploy: {{ endpoint_mode: dnsrr, {deploy} }}
{top}
"""


def asleep(image: str, **more: str) -> str:
    """``simple`` for tests that need no task: scaled to 0, it is set up and gone at once."""
    return simple(image, deploy="replicas: 0", **more)


def service(name: str, image: str, deploy: str = "") -> str:
    return f"""
  {name}:
    image: {image}
    stop_grace_period: 3s
    deploy: {{ endpoint_mode: dnsrr, {deploy} }}"""


class TestDeploying:
    async def test_makes_the_swarm_want_exactly_the_bundle(
        self, site: Site, image: str, external: str
    ) -> None:
        (site.tree / "ours.txt").write_text("ours\n")
        bundle = await site.bundle(rich(image))
        await site.deployer().check(bundle)
        await site.deployer().deploy(bundle, labels=LABELS)
        await site.running("app", "everywhere")

        services = await site.services()
        assert {n: s.labels[LABEL_RUN] for n, s in services.items()} == {
            "app": "run-1",
            "everywhere": "run-1",
        }
        # "all at once" stays, the way back becomes warmd's
        assert services["app"].spec["UpdateConfig"]["FailureAction"] == "pause"
        assert services["app"].spec["UpdateConfig"].get("Parallelism", 0) == 0
        assert "@sha256:" in services["app"].image
        back = await site.deployer().read_back()
        assert diff(bundle, back) == ()
        assert specs.same_running(bundle, back)

    async def test_again_changes_nothing_at_all(self, site: Site, image: str, external: str) -> None:
        (site.tree / "ours.txt").write_text("ours\n")
        bundle = await site.bundle(rich(image))
        await site.deployer().deploy(bundle, labels=LABELS)
        await site.running("app", "everywhere")
        tasks, indexes = site.task_ids(), await site.indexes()

        await site.deployer().deploy(bundle, labels=LABELS)

        assert await site.indexes() == indexes
        assert await site.settled_task_ids() == tasks

    async def test_other_labels_start_no_task(self, site: Site, image: str) -> None:
        bundle = await site.bundle(simple(image))
        await site.deployer().deploy(bundle, labels=LABELS)
        await site.running("app")
        tasks = site.task_ids()

        await site.deployer().deploy(bundle, labels={**LABELS, LABEL_RUN: "run-2"})

        services = await site.services()
        assert services["app"].labels[LABEL_RUN] == "run-2"
        assert await site.settled_task_ids() == tasks

    @pytest.mark.parametrize("network", ["host", "bridge"])
    async def test_the_nodes_own_networks_go_back_as_they_came(
        self, site: Site, image: str, network: str
    ) -> None:
        compose = f"""
version: "3.8"
services:
  app: {{ image: {image}, networks: [node], deploy: {{ replicas: 0 }} }}
networks:
  node: {{ external: true, name: {network} }}
"""
        bundle = await site.bundle(compose, allow={"host_network": True, "external": [network]})
        await site.deployer().deploy(bundle, labels=LABELS)
        back = await site.deployer().read_back()
        assert diff(bundle, back) == ()
        await site.deployer().check(back)
        await site.deployer().deploy(back, labels={**LABELS, LABEL_RUN: "run-2"})
        assert (await site.services())["app"].labels[LABEL_RUN] == "run-2"

    async def test_a_label_that_is_not_given_again_goes(self, site: Site, image: str) -> None:
        bundle = await site.bundle(asleep(image))
        await site.deployer().deploy(bundle, labels=LABELS)
        await site.deployer().deploy(bundle, labels={LABEL_OWNER: "installation-1"})
        assert LABEL_RUN not in (await site.services())["app"].labels

    async def test_services_that_the_bundle_lacks_are_removed(self, site: Site, image: str) -> None:
        two = asleep(image, top="").replace("services:", f"services:{service('old', image, 'replicas: 0')}")
        await site.deployer().deploy(await site.bundle(two), labels=LABELS)
        assert set(await site.services()) == {"app", "old"}
        await site.deployer().deploy(await site.bundle(asleep(image)), labels=LABELS)
        assert set(await site.services()) == {"app"}

    async def test_a_service_may_become_global(self, site: Site, image: str) -> None:
        await site.deployer().deploy(await site.bundle(simple(image)), labels=LABELS)
        await site.deployer().deploy(await site.bundle(simple(image, deploy="mode: global")), labels=LABELS)
        assert (await site.services())["app"].replicas is None
        await site.running("app")

    async def test_a_change_by_somebody_else_in_between_is_met_by_reading_again(
        self, site: Site, image: str
    ) -> None:
        bundle = await site.bundle(asleep(image))
        await site.deployer().deploy(bundle, labels=LABELS)
        meddled = Meddled(site.swarm, times=3)
        await site.deployer(cast(Swarm, meddled)).deploy(bundle, labels={**LABELS, LABEL_RUN: "run-2"})
        assert meddled.times == 0
        assert (await site.services())["app"].labels[LABEL_RUN] == "run-2"

    async def test_a_stack_of_another_installation_is_left_alone(self, site: Site, image: str) -> None:
        bundle = await site.bundle(asleep(image))
        await site.deployer().deploy(bundle, labels=LABELS)
        indexes = await site.indexes()
        with pytest.raises(Refused, match="another installation"):
            await site.deployer().deploy(bundle, labels={**LABELS, LABEL_OWNER: "installation-2"})
        assert await site.indexes() == indexes

    async def test_a_secret_is_made_and_its_content_recognised(self, site: Site, image: str) -> None:
        compose = asleep(image, more="secrets: [key]", top="secrets: { key: { file: key.txt } }")
        (site.tree / "key.txt").write_text("first")
        await site.deployer().deploy(await site.bundle(compose), labels=LABELS)
        await site.deployer().check(await site.bundle(compose))

        (site.tree / "key.txt").write_text("second")
        changed = await site.bundle(compose)
        with pytest.raises(Refused, match=f"secret {site.stack}_key has other content"):
            await site.deployer().check(changed)


class TestReadingBack:
    async def test_what_docker_itself_deployed_round_trips_without_a_new_task(
        self, site: Site, image: str, external: str
    ) -> None:
        (site.tree / "ours.txt").write_text("ours\n")
        site.write(rich(image))
        site.lab.docker("stack", "deploy", "-c", str(site.tree / "compose.yml"), site.stack)
        await site.running("app", "everywhere")
        tasks = site.task_ids()

        back = await site.deployer().read_back()
        await site.deployer().deploy(back, labels=LABELS)

        assert (await site.services())["app"].labels[LABEL_OWNER] == "installation-1"
        assert await site.settled_task_ids() == tasks

        # and so does what we would render for it, though the client looked platforms up and we don't
        rendered = await site.bundle(rich(image))
        assert specs.same_running(rendered, back)
        await site.deployer().deploy(rendered, labels=LABELS)
        assert await site.settled_task_ids() == tasks

    async def test_a_forced_update_is_not_done_again(self, site: Site, image: str) -> None:
        bundle = await site.bundle(simple(image))
        await site.deployer().deploy(bundle, labels=LABELS)
        await site.running("app")
        site.lab.docker("service", "update", "--force", "--detach=true", f"{site.stack}_app")
        await site.until(lambda _: len(site.task_ids()) == 2)
        await site.running("app")
        await site.deployer().deploy(bundle, labels={**LABELS, LABEL_RUN: "run-2"})
        assert len(await site.settled_task_ids()) == 2

    async def test_a_removed_stack_comes_back(self, site: Site, image: str, external: str) -> None:
        (site.tree / "ours.txt").write_text("ours\n")
        await site.deployer().deploy(await site.bundle(rich(image)), labels=LABELS)
        await site.running("app", "everywhere")
        before = await site.deployer().read_back()
        site.lab.remove_stack(site.stack, volumes=False)
        assert before.configs[0]["Templating"] == {"Name": "golang"}
        gone = await site.deployer().read_back()
        assert (gone.services, gone.networks, gone.configs) == ((), (), ())

        kept = Bundle.from_json(before.to_json())
        await site.deployer().check(kept)
        await site.deployer().deploy(kept, labels=LABELS)
        await site.running("app", "everywhere")

        assert await site.deployer().read_back() == before

    async def test_secrets_that_are_gone_are_named(self, site: Site, image: str) -> None:
        (site.tree / "key.txt").write_text("hidden")
        compose = asleep(image, more="secrets: [key]", top="secrets: { key: { file: key.txt } }")
        await site.deployer().deploy(await site.bundle(compose), labels=LABELS)
        back = await site.deployer().read_back()
        assert "Data" not in back.secrets[0]
        site.lab.remove_stack(site.stack)
        for act in (site.deployer().check(back), site.deployer().deploy(back, labels=LABELS)):
            with pytest.raises(Refused, match=f"secret {site.stack}_key is gone"):
                await act
        assert await site.services() == {}

    async def test_warmds_labels_are_left_out_and_all_else_is_kept(self, site: Site, image: str) -> None:
        bundle = await site.bundle(
            simple(image, deploy='replicas: 0, labels: ["coop-cloud.x.version=1.0.0"]')
        )
        await site.deployer().deploy(bundle, labels=LABELS)
        labels = (await site.deployer().read_back()).services[0]["Labels"]
        assert set(labels) == {NAMESPACE, "com.docker.stack.image", "coop-cloud.x.version"}


class TestStopping:
    async def test_leaves_no_task_and_no_container_and_deploy_brings_all_back(
        self, site: Site, image: str, external: str
    ) -> None:
        (site.tree / "ours.txt").write_text("ours\n")
        bundle = await site.bundle(rich(image))
        await site.deployer().deploy(bundle, labels=LABELS)
        await site.running("app", "everywhere")

        await site.deployer().stop()

        assert [c for c in site.lab.containers(site.stack) if c["State"] == "running"] == []
        assert {n: s.replicas for n, s in (await site.services()).items()} == {"app": 0}
        await site.deployer().stop()

        await site.deployer().deploy(bundle, labels=LABELS)
        await site.running("app", "everywhere")

    @pytest.mark.parametrize("mode", ["replicated", "global"])
    async def test_waits_for_the_slowest(self, site: Site, mode: str) -> None:
        script = "trap 'sleep 2; exit 0' TERM; touch /ready; while :; do sleep 0.1; done"
        slow = site.lab.image(
            "slow", "1", {}, ["/bin/sh", "-c", script], healthcheck=["test", "-e", "/ready"]
        )
        await site.deployer().deploy(await site.bundle(simple(slow, deploy=f"mode: {mode}")), labels=LABELS)
        await site.running("app")
        await site.deployer().stop()
        assert [c for c in site.lab.containers(site.stack) if c["State"] == "running"] == []

    async def test_waits_for_what_is_only_about_to_start(self, site: Site, image: str) -> None:
        await site.deployer().deploy(await site.bundle(simple(image, deploy="replicas: 3")), labels=LABELS)
        await site.until(lambda seen: len(seen["app"].tasks) == 3)
        await site.deployer().stop()
        over = {"complete", "shutdown", "failed", "rejected", "remove", "orphaned"}
        assert {task["Status"]["State"] for task in site.lab.tasks(site.stack)} <= over
        assert [c for c in site.lab.containers(site.stack) if c["State"] == "running"] == []

    async def test_gives_up_when_cancelled(self, site: Site) -> None:
        script = "trap '' TERM; touch /ready; while :; do sleep 0.1; done"
        deaf = site.lab.image(
            "deaf", "1", {}, ["/bin/sh", "-c", script], healthcheck=["test", "-e", "/ready"]
        )
        compose = simple(deaf).replace("3s", "5s")
        await site.deployer().deploy(await site.bundle(compose), labels=LABELS)
        await site.running("app")
        with anyio.move_on_after(site.second) as scope:
            await site.deployer().stop()
        assert scope.cancelled_caught
        await site.deployer().stop()
        assert [c for c in site.lab.containers(site.stack) if c["State"] == "running"] == []

    async def test_of_nothing_is_fine(self, site: Site) -> None:
        await site.deployer().stop()


class TestChecking:
    async def test_a_missing_external_is_named_and_nothing_is_made(
        self, site: Site, image: str, external: str
    ) -> None:
        (site.tree / "ours.txt").write_text("ours\n")
        bundle = await site.bundle(rich(image))
        renamed = Bundle.from_json(_renamed(bundle.to_json(), external, "nowhere"))
        with pytest.raises(Refused) as refused:
            await site.deployer().check(renamed)
        for kind in ("network", "config", "secret"):
            assert f"{kind} nowhere does not exist (used by {site.stack}_app)" in str(refused.value)
        with pytest.raises(Refused, match="nowhere"):
            await site.deployer().deploy(renamed, labels=LABELS)
        back = await site.deployer().read_back()
        assert (back.networks, back.configs, back.services) == ((), (), ())

    async def test_a_config_that_changed_under_its_old_name(self, site: Site, image: str) -> None:
        compose = asleep(image, more="configs: [a]", top="configs: { a: { file: a.txt } }")
        (site.tree / "a.txt").write_text("first")
        await site.deployer().deploy(await site.bundle(compose), labels=LABELS)
        indexes = await site.indexes()
        (site.tree / "a.txt").write_text("second")
        changed = await site.bundle(compose)
        for act in (site.deployer().check(changed), site.deployer().deploy(changed, labels=LABELS)):
            with pytest.raises(Refused, match=f"config {site.stack}_a has other content"):
                await act
        assert await site.indexes() == indexes

    async def test_a_network_of_somebody_else(self, site: Site, image: str) -> None:
        bundle = await site.bundle(simple(image))
        name = f"{site.stack}_default"
        site.lab.docker("network", "create", "--driver", "overlay", name)
        try:
            with pytest.raises(Refused, match=f"network {name} exists and belongs to no stack"):
                await site.deployer().check(bundle)
        finally:
            site.lab.docker("network", "rm", name)

    async def test_addresses_that_are_taken(self, site: Site, image: str) -> None:
        site.lab.docker("network", "create", "--driver", "overlay", "--subnet", "10.218.0.0/16", "taken")
        try:
            top = "networks: { default: { ipam: { config: [ { subnet: 10.218.7.0/24 } ] } } }"
            bundle = await site.bundle(simple(image, top=top))
            with pytest.raises(Refused, match=r"asks for 10.218.7.0/24, but network taken has 10.218.0.0/16"):
                await site.deployer().check(bundle)
        finally:
            site.lab.docker("network", "rm", "taken")

    async def test_tells_everything_that_can_be_written_to(self, site: Site) -> None:
        declares = site.lab.image("declares", "1", {}, IDLE, volumes=["/declared", "/data"])
        volumes = (
            '["data:/data", "data:/again:ro", "/nameless", "/tmp:/host", "/etc:/conf:ro", "nfs:/nfs",'
            " { type: tmpfs, target: /scratch }]"
        )
        top = 'volumes: { data: {}, nfs: { driver_opts: { type: tmpfs, device: tmpfs, o: "size=1m" } } }'
        compose = asleep(declares, more=f"volumes: {volumes}", top=top)
        bundle = await site.bundle(compose, allow={"binds": ["/tmp", "/etc"]})
        app = f"{site.stack}_app"
        options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}
        found = await site.deployer().check(bundle)
        assert sorted(found, key=lambda m: m.target) == [
            Mount(app, "volume", f"{site.stack}_data", "/data"),
            Mount(app, "anonymous", "", "/declared"),
            Mount(app, "bind", "/tmp", "/host"),
            Mount(app, "anonymous", "", "/nameless"),
            Mount(app, "volume", f"{site.stack}_nfs", "/nfs", options=options),
        ]
        await site.deployer().deploy(bundle, labels=LABELS)
        assert await site.deployer().writable() == found


class TestPinning:
    async def test_every_image_is_here_and_named_by_digest(self, site: Site) -> None:
        first, second = (site.lab.image("pin", tag, {"v": tag}, IDLE) for tag in ("1", "2"))
        bundle = await site.bundle(simple(first).replace("services:", f"services:{service('b', second)}"))
        for short, written in (("app", first), ("b", second)):
            image = bundle.images[f"{site.stack}_{short}"]
            assert image.startswith(f"{written}@sha256:")
            assert await site.swarm.image_config(image) is not None
        assert await site.deployer().pin(bundle) == bundle

    async def test_an_image_that_does_not_exist(self, site: Site) -> None:
        missing = f"{site.lab.registry}/nothing:1"
        with pytest.raises(Refused, match=missing):
            await site.bundle(simple(missing))


async def test_seen_is_the_stack_now_or_from_the_shared_listing(site: Site, image: str) -> None:
    deployer = site.deployer()
    assert not (await deployer.seen()).deployed
    await deployer.deploy(await site.bundle(asleep(image)), labels=LABELS)
    for seen in (await deployer.seen(), await deployer.seen(not_before=SystemClock().monotonic())):
        assert (seen.stack, seen.owner, seen.version_text) == (site.stack, "installation-1", "1.0.0+1.0")


class Meddled:
    """The real swarm, where somebody else really changes a service just before each of our updates."""

    def __init__(self, swarm: Swarm, times: int) -> None:
        self._swarm = swarm
        self.times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._swarm, name)

    async def update(self, kind: str, id_: str, index: int, body: Json) -> None:
        if self.times:
            self.times -= 1
            spec = {**body, "Labels": {**body["Labels"], "somebody.else": str(self.times)}}
            await self._swarm.update(kind, id_, index, spec)
        await self._swarm.update(kind, id_, index, body)


def _renamed(value: object, old: str, new: str) -> dict[str, object]:
    """The bundle's JSON with one name replaced wherever it stands."""
    found: dict[str, object] = json.loads(json.dumps(value).replace(f'"{old}"', f'"{new}"'))
    return found
