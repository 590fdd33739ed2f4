"""Rendering compose files with docker's own client: what comes out, what is refused, what is not touched."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

from tests.contracts.deployer_site import CLIENTS, NAMESPACE, RELEASE, Site
from tests.lab import Lab
from warmd.adapters import process
from warmd.adapters.clock import SystemClock
from warmd.adapters.docker import open_swarm
from warmd.adapters.render import record, variables
from warmd.core.model import Bundle
from warmd.errors import DockerUnreachable, Refused
from warmd.plugins.deployers import stack as stack_plugin


@pytest.fixture(params=CLIENTS)
async def site(
    lab: Lab, stack_name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Site]:
    """Each docker client of the machine in turn."""
    async with open_swarm(lab.docker_host, SystemClock()) as swarm:
        yield Site(lab, swarm, stack_name, tmp_path, request.param)


async def render(site: Site, compose: str, **settings: Any) -> Bundle:
    site.write(compose)
    return (await site.deployer(**settings).render(RELEASE, site.tree)).bundle


def of(services: str, top: str = "") -> str:
    return f'version: "3.8"\nservices: {services}\n{top}\n'


FULL = of(
    """
  app:
    image: app:1.0
    environment: { SET: "${SET}", OR: "${NOT_SET:-default}", EMPTY: "${NOT_SET-}", PRICE: "$$5", PASSED: }
    configs: [one]
    secrets: [two]
    networks: [inner, default]
    volumes: ["data:/data"]
  db:
    image: db:2
    deploy: { mode: global, update_config: { failure_action: rollback, parallelism: 2 } }
""",
    """
networks: { inner: { attachable: true, driver_opts: { encrypted: "" } } }
configs: { one: { file: ./files/one.txt } }
secrets: { two: { file: files/two.txt } }
volumes: { data: {} }
""",
)


def full(site: Site) -> str:
    (site.tree / "files").mkdir()
    site.write("", **{"files/one.txt": "shown", "files/two.txt": "hidden"})
    return FULL


class TestWhatComesOut:
    async def test_is_the_stack_with_references_by_name(self, site: Site) -> None:
        name = site.stack
        bundle = await render(site, full(site), env={"SET": "a b", "PASSED": "on"})
        labels = {NAMESPACE: name}
        assert bundle.networks == (
            {"Name": f"{name}_default", "Driver": "overlay", "Labels": labels},
            {
                "Name": f"{name}_inner",
                "Driver": "overlay",
                "Labels": labels,
                "Attachable": True,
                "Options": {"encrypted": ""},
            },
        )
        assert bundle.configs == ({"Name": f"{name}_one", "Labels": labels, "Data": "c2hvd24="},)
        (secret,) = bundle.secrets
        assert (secret["Name"], secret["Data"]) == (f"{name}_two", "aGlkZGVu")
        app, db = bundle.services
        inner = app["TaskTemplate"]["ContainerSpec"]
        assert inner["Env"] == ["EMPTY=", "OR=default", "PASSED=on", "PRICE=$5", "SET=a b"]
        assert (inner["Configs"][0]["ConfigName"], inner["Configs"][0]["ConfigID"]) == (f"{name}_one", "")
        assert (inner["Secrets"][0]["SecretName"], inner["Secrets"][0]["SecretID"]) == (f"{name}_two", "")
        assert [n["Target"] for n in app["TaskTemplate"]["Networks"]] == [f"{name}_default", f"{name}_inner"]
        assert db["Mode"] == {"Global": {}}
        assert db["UpdateConfig"]["FailureAction"] == "pause"
        assert db["UpdateConfig"]["Parallelism"] == 2

    async def test_touches_neither_the_swarm_nor_the_release(self, site: Site) -> None:
        compose = full(site)
        before = {*site.tree.rglob("*"), site.tree / "compose.yml"}
        await render(site, compose, env={"SET": "1"})
        assert set(site.tree.rglob("*")) == before
        back = await site.deployer().read_back()
        assert back == Bundle()

    async def test_is_the_same_though_the_stack_is_there(self, site: Site) -> None:
        image = site.lab.image("idle", "1", {}, ["sleep", "1000"])
        compose = full(site).replace("app:1.0", image).replace("db:2", image)
        compose = compose.replace("networks: [inner", "deploy: { replicas: 0 }\n    networks: [inner")
        compose = compose.replace("mode: global,", "replicas: 0,")
        first = await render(site, compose, env={"SET": "1"})
        await site.deployer().deploy(first, labels={})
        assert set(await site.services()) == {"app", "db"}
        assert await render(site, compose, env={"SET": "1"}) == first

    async def test_later_files_are_merged_over_earlier_ones(self, site: Site) -> None:
        site.write("", **{"more.yml": of("{ app: { environment: { B: two } } }")})
        compose = of("{ app: { image: 'app:1', environment: { A: one, B: one } } }")
        bundle = await render(site, compose, files=["compose.yml", "more.yml"])
        assert bundle.services[0]["TaskTemplate"]["ContainerSpec"]["Env"] == ["A=one", "B=two"]

    async def test_what_was_ignored_is_told(self, site: Site) -> None:
        site.write(of("{ app: { image: 'app:1', build: ., restart: always } }"))
        rendered = await site.deployer().render(RELEASE, site.tree)
        assert rendered.warnings == ("Ignoring unsupported options: build, restart",)


@pytest.mark.skipif(len(CLIENTS) < 2, reason="only one docker client is installed")
async def test_every_client_renders_the_same(lab: Lab, stack_name: str, tmp_path: Path) -> None:
    async with open_swarm(lab.docker_host, SystemClock()) as swarm:
        sites = [Site(lab, swarm, stack_name, tmp_path, client) for client in CLIENTS]
        compose = full(sites[0])
        bundles = [await render(site, compose, env={"SET": "1"}) for site in sites]
    assert bundles[0] == bundles[-1]


class TestEnvironment:
    APP = of("{ app: { image: 'app:1', environment: { A: '$A' } } }")

    async def env_of(self, site: Site, **settings: Any) -> list[str]:
        bundle = await render(site, self.APP, **settings)
        found: list[str] = bundle.services[0]["TaskTemplate"]["ContainerSpec"]["Env"]
        return found

    async def test_env_wins_over_env_file_which_is_beside_the_configuration(self, site: Site) -> None:
        site.write("", **{"my.env": "A='from # file'\nB=2\n"})
        assert await self.env_of(site, env_file="my.env") == ["A=from # file"]
        assert await self.env_of(site, env_file="my.env", env={"A": "own"}) == ["A=own"]

    async def test_a_missing_env_file_is_named(self, site: Site) -> None:
        with pytest.raises(Refused, match=r"env_file .*my\.env does not exist"):
            await self.env_of(site, env_file="my.env")

    async def test_the_daemons_own_environment_plays_no_part(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("A", "leaked")
        assert {"HOME", "PATH"} <= os.environ.keys()
        for name in ("A", "HOME", "PATH"):
            with pytest.raises(Refused, match=f"{name} is not set"):
                await render(site, self.APP.replace("$A", f"${{{name}}}"))

    async def test_what_the_client_itself_would_read_is_refused(self, site: Site) -> None:
        with pytest.raises(Refused, match="DOCKER_HOST"):
            await self.env_of(site, env={"A": "1", "DOCKER_HOST": "tcp://elsewhere"})

    async def test_every_variable_that_is_not_set_is_named(self, site: Site) -> None:
        compose = of(
            """
  app:
    image: "app:$ONE-${TWO}"
    command: ["$$NOT ${SET} ${FINE:-} ${FINE-} $THREE"]  # ${COMMENT}
    labels: ["x=${FOUR}$SET"]
"""
        )
        with pytest.raises(Refused, match=r"compose\.yml: FOUR, ONE, THREE, TWO are not set") as refused:
            await render(site, compose, env={"SET": "1"})
        assert "write ${FOUR:-} where empty is fine" in refused.value.hint
        assert [p.name for p in site.tree.iterdir()] == ["compose.yml"]

    async def test_of_several_files_too(self, site: Site) -> None:
        site.write("", **{"more.yml": of("{ app: { environment: { A: '$MORE' } } }")})
        with pytest.raises(Refused, match="MORE is not set"):
            await render(site, of("{ app: { image: 'app:1' } }"), files=["compose.yml", "more.yml"])

    async def test_set_but_empty_is_set(self, site: Site) -> None:
        assert await self.env_of(site, env={"A": ""}) == ["A="]

    async def test_the_files_own_message_is_shown(self, site: Site) -> None:
        with pytest.raises(Refused, match="required variable A is missing a value: choose a name"):
            await render(site, self.APP.replace("$A", "${A:?choose a name}"))


REFUSED = {
    "not yaml": ("services: {app: {image: a\n", r"yaml: line \d"),
    "no mapping": ("- a\n", "op-level object must be a mapping"),
    "unknown key": (
        of("{ app: { image: a, imag: b } }"),
        "services.app Additional property imag is not allowed",
    ),
    "old version": (
        'version: "2.4"\nservices: { app: { image: a } }',
        "unsupported Compose file version: 2.4",
    ),
    "bad reference": (of("{ app: { image: 'a${' } }"), "invalid interpolation format for services.app.image"),
    "no image": (of("{ app: { build: . } }"), "no image"),
    "no service": (of("{}"), "no service|services"),
    "external network": (
        of("{ app: { image: a, networks: [out] } }", "networks: { out: { external: true, name: nowhere } }"),
        'network "nowhere" is declared as external, but could not be found',
    ),
    "external secret": (
        of("{ app: { image: a, secrets: [out] } }", "secrets: { out: { external: true, name: nowhere } }"),
        "secret not found: nowhere",
    ),
    "external config": (
        of("{ app: { image: a, configs: [out] } }", "configs: { out: { external: true, name: nowhere } }"),
        "config not found: nowhere",
    ),
    "missing config file": (
        of("{ app: { image: a, configs: [c] } }", "configs: { c: { file: ./none.txt } }"),
        r"none\.txt: no such file",
    ),
    "relative bind": (
        of("{ app: { image: a, volumes: ['./data:/data'] } }"),
        "mounts a relative path at /data, and the release's files are not kept",
    ),
}


@pytest.mark.parametrize(("compose", "words"), REFUSED.values(), ids=REFUSED.keys())
async def test_is_refused_with_the_file_and_the_clients_words(site: Site, compose: str, words: str) -> None:
    with pytest.raises(Refused, match=words) as refused:
        await render(site, compose)
    assert refused.value.message.startswith("compose.yml: ")
    assert await site.deployer().read_back() == Bundle()


class TestFiles:
    async def test_one_that_is_not_in_the_release(self, site: Site) -> None:
        with pytest.raises(Refused, match=r"other\.yml is not in this release"):
            await render(site, "", files=["other.yml"])

    async def test_one_that_is_a_link_out_of_it(self, site: Site) -> None:
        (site.tree / "out.yml").symlink_to("/etc/hostname")
        with pytest.raises(Refused, match=r"out\.yml leads out of the release's tree"):
            await render(site, "", files=["out.yml"])

    async def test_one_that_is_no_text(self, site: Site) -> None:
        (site.tree / "bin.yml").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(Refused, match=r"bin\.yml can't be read"):
            await render(site, "", files=["bin.yml"])

    @pytest.mark.parametrize("files", [[], ["/etc/compose.yml"], ["../compose.yml"], ["a/../../b.yml"], [""]])
    def test_none_outside_can_be_configured(self, files: list[str]) -> None:
        with pytest.raises(ValidationError):
            stack_plugin.Config.model_validate({"files": files})


class TestTrouble:
    async def test_docker_is_down(self, site: Site) -> None:
        site.write(of("{ app: { image: a } }"))
        nowhere = f"unix://{site.tree}/none.sock"
        with pytest.raises(DockerUnreachable, match=re.escape(nowhere)):
            await record(nowhere, site.client, site.stack, ["compose.yml"], site.tree, {})

    async def test_there_is_no_client(self, site: Site) -> None:
        with pytest.raises(Refused, match="docker's client 'no-such-docker' was not found"):
            await render(replace(site, client="no-such-docker"), of("{ app: { image: a } }"))

    async def test_a_client_that_hangs_is_ended_with_its_caller(self, site: Site) -> None:
        """The pipe blocks the client at a file that it reads, as a dead network file system would."""
        os.mkfifo(site.tree / "never.env")
        site.write(of("{ app: { image: a, env_file: ./never.env } }"))
        with anyio.move_on_after(1) as scope:
            await site.deployer().render(RELEASE, site.tree)
        assert scope.cancelled_caught
        listed = await process.run(["ps", "-eo", "args"], env=None, deadline=10)
        assert str(site.stack) not in listed.stdout.decode()


class TestInputs:
    async def test_are_the_same_for_the_same_and_known_without_rendering(self, site: Site) -> None:
        site.write(TestEnvironment.APP)
        deployer = site.deployer(env={"A": "1"})
        rendered = await deployer.render(RELEASE, site.tree)
        assert rendered.inputs == await deployer.inputs(RELEASE)
        assert rendered.inputs == await site.deployer(env={"A": "1"}).inputs(RELEASE)

    async def test_change_with_whatever_is_rendered_from(self, site: Site) -> None:
        site.write("", **{"a.env": "A=1", "b.env": "A=2", "same.env": "# with a comment\nA=1"})
        hashes = [
            await site.deployer(**settings).inputs(release)
            for settings, release in (
                ({}, RELEASE),
                ({}, replace(RELEASE, commit="other")),
                ({"files": ["compose.yml", "b.yml"]}, RELEASE),
                ({"env_file": "a.env"}, RELEASE),
                ({"env_file": "b.env"}, RELEASE),
            )
        ]
        assert len(set(hashes)) == len(hashes)
        assert await site.deployer(env_file="same.env").inputs(RELEASE) == hashes[3]
        assert await site.deployer(env={"A": "1"}).inputs(RELEASE) == hashes[3]


class TestVariables:
    @pytest.mark.parametrize(
        ("text", "names"),
        [
            ("$A ${B}", ["A", "B"]),
            ("$$A $${B}", []),
            ("$$$A", ["A"]),
            ("${A-x} ${A:-} ${A?x} ${A:?x}", []),
            ("${A:-${B}}", []),
            ("$A-x", ["A"]),
            ("$1 $ ${", []),
        ],
    )
    def test_without_a_default_are_found(self, text: str, names: list[str]) -> None:
        assert variables.unset([text], {}) == names
        assert variables.unset([text], dict.fromkeys(names, "")) == []

    def test_are_insisted_on_one_at_a_time(self) -> None:
        assert variables.insist("$A ${A}-${A:-x} $B $$A", "A") == "${A?unset} ${A?unset}-0 0 $$A"


def test_the_configuration_is_described() -> None:
    schema = json.dumps(stack_plugin.Config.model_json_schema())
    assert "relative to the release" in schema
