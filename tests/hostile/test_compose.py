"""Compose files that mean harm: what they name stays where it is, what they ask for is refused in time."""

from __future__ import annotations

import base64
import time
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.deployer_site import CLIENTS, RELEASE, Site
from tests.lab import Lab
from tests.size import tier
from warmd.adapters.clock import SystemClock
from warmd.adapters.docker import open_swarm
from warmd.adapters.render import confine
from warmd.core.model import Bundle
from warmd.errors import Refused

CANARY = "canary-7f3a9b"


@pytest.fixture(params=CLIENTS)
async def site(
    lab: Lab, stack_name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Site]:
    """Each docker client of the machine in turn; the release's tree is a folder of its own."""
    (tmp_path / "tree").mkdir()
    async with open_swarm(lab.docker_host, SystemClock()) as swarm:
        yield Site(lab, swarm, stack_name, tmp_path / "tree", request.param)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A secret of the machine's, beside the release."""
    path = tmp_path / "outside"
    path.write_text(f"KEY={CANARY}\n{CANARY}=1\n")
    return path


def of(services: str, top: str = "") -> str:
    return f'version: "3.8"\nservices: {services}\n{top}\n'


async def render(site: Site, compose: str, **settings: Any) -> Bundle:
    site.write(compose)
    return (await site.deployer(**settings).render(RELEASE, site.tree)).bundle


def everything(bundle: Bundle) -> str:
    """All that a bundle holds, contents in plain."""
    contents = [base64.b64decode(b.get("Data") or "").decode() for b in (*bundle.configs, *bundle.secrets)]
    return str(bundle) + "".join(contents)


# --- files of the machine ------------------------------------------------------------------------

TAKES = {
    "env_file": "services: { app: { image: a, env_file: '{path}' } }",
    "env_file, a list": "services: { app: { image: a, env_file: ['./mine.env', '{path}'] } }",
    "env_file, an escaped key": 'services: { app: { image: a, "env\\x5ffile": "{path}" } }',
    "env_file, by a merge": "x-a: &a { env_file: '{path}' }\nservices: { app: { <<: *a, image: a } }",
    "a config": "services: { app: { image: a, configs: [c] } }\nconfigs: { c: { file: '{path}' } }",
    "a config, by a default": (
        "services: { app: { image: a, configs: [c] } }\nconfigs: { c: { file: '${NOT_SET:-{path}}' } }"
    ),
    "a secret": "services: { app: { image: a, secrets: [c] } }\nsecrets: { c: { file: '{path}' } }",
}
PATHS = {
    "absolute": lambda site, outside: str(outside),
    "dots": lambda site, outside: "../outside",
    "dots in the middle": lambda site, outside: "./sub/../../outside",
    "a link": lambda site, outside: "./link",
    "a linked folder": lambda site, outside: "./up/outside",
    "the kernel's way round": lambda site, outside: f"/proc/self/root{outside}",
}


#: Each way in with one path, and each path with one way in; in the bigger shares all of each.
PAIRS = [
    pytest.param(take, path, id=f"{way}-{where}")
    for way, take in TAKES.items()
    for where, path in PATHS.items()
    if tier() != "quick" or where == "absolute" or way == "a config"
]


@pytest.mark.crash_too
@pytest.mark.parametrize(("takes", "where"), PAIRS)
@pytest.mark.parametrize("kernel", ["with Landlock", "without"])
async def test_a_file_outside_of_the_release_gets_into_no_stack_and_no_message(
    site: Site, outside: Path, takes: str, where: Any, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel == "without":
        monkeypatch.setattr(confine, "available", lambda: False)
    (site.tree / "sub").mkdir()
    (site.tree / "mine.env").write_text("MINE=1\n")
    # As if the export of the release had let them through.
    (site.tree / "link").symlink_to(outside)
    (site.tree / "up").symlink_to(site.tree.parent)
    with pytest.raises(Refused) as refused:
        await render(site, 'version: "3.8"\n' + takes.replace("{path}", where(site, outside)))
    assert CANARY not in str(refused.value)
    assert "Landlock" in str(refused.value) or refused.value.hint.startswith("a compose file may only take")


@pytest.mark.parametrize("kernel", ["with Landlock", "without"])
async def test_files_of_the_release_and_those_that_are_allowed_do(
    site: Site, outside: Path, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel == "without":
        monkeypatch.setattr(confine, "available", lambda: False)
    (site.tree / "mine").write_text("own")
    (site.tree / "link").symlink_to("mine")
    tops = f"configs: {{ c: {{ file: ./link }}, d: {{ file: {outside} }} }}"
    tops += f"\nsecrets: {{ s: {{ file: {outside} }} }}"
    compose = of("{ app: { image: a, configs: [c, d], secrets: [s] } }", tops)
    bundle = await render(site, compose, allow={"files": [str(outside)]})
    assert (everything(bundle).count(CANARY), "own" in everything(bundle)) == (4, True)


async def test_nothing_is_written_by_the_client(site: Site) -> None:
    before = files(site)
    await render(site, of("{ app: { image: a } }"))
    assert files(site) == [*before, site.tree / "compose.yml"]


def files(site: Site) -> list[Path]:
    return sorted(site.tree.parent.rglob("*"))


def _other(place: Path) -> None:
    place.write_text(of(f"{{ base: {{ image: {CANARY} }} }}"))


async def test_another_services_file_can_not_be_extended(site: Site, outside: Path) -> None:
    _other(outside)
    with pytest.raises(Refused) as refused:
        await render(site, of("{ app: { extends: { file: ../outside, service: base }, image: a } }"))
    assert CANARY not in str(refused.value)


async def test_a_file_that_includes_another_takes_nothing_of_it(site: Site, outside: Path) -> None:
    _other(outside)
    with pytest.raises(Refused) as refused:
        await render(site, f"include: [../outside]\n{of('{ app: { image: a } }')}")
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize("part", ["resources: { limits: { memory: '${SIZE}' } }", "mode: '${SIZE}'"])
async def test_what_is_quoted_of_the_env_file_is_not_shown_not_even_in_part(site: Site, part: str) -> None:
    """docker's client shows the number that it could not read up to where it gave up."""
    site.write("", **{"my.env": f"SIZE='{CANARY}/\"x'\n"})
    with pytest.raises(Refused) as refused:
        await render(site, of(f"{{ app: {{ image: a, deploy: {{ {part} }} }} }}"), env_file="my.env")
    assert CANARY not in str(refused.value)
    assert "***" in str(refused.value)


# --- too much ------------------------------------------------------------------------------------


def _laughs() -> str:
    """A billion of them, in ten lines."""
    lines = ['x-0: &a0 ["lol"]']
    lines += [f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join([*lines, 'version: "3.8"', "services: { app: { image: a, labels: *a9 } }"])


BOMBS = {
    "a billion laughs": _laughs(),
    "ten megabytes": of("{ app: { image: a } }") + "# " + "x" * 10_000_000,
    "deep lists": of("{ app: { image: a } }", "x-deep: " + "[" * 100_000),
    "many services": of("{" + ", ".join(f"a{n}: {{ imag: a }}" for n in range(5_000)) + "}"),
    "many variables": of(
        "{ app: { image: a, command: ['" + "".join(f"${{V{n}:-}}" for n in range(50_000)) + "'] } ]"
    ),
    "no text": "\x00\x01",
}


@pytest.mark.parametrize("compose", BOMBS.values(), ids=BOMBS.keys())
async def test_what_is_too_much_is_refused_soon_and_in_a_few_words(site: Site, compose: str) -> None:
    began = time.monotonic()
    with pytest.raises(Refused) as refused:
        await render(site, compose)
    assert time.monotonic() - began < 30
    assert len(str(refused.value)) < 3000


# --- more than it may ----------------------------------------------------------------------------

ASKS: dict[str, tuple[str, str, str]] = {
    "a bind of the root": ("volumes: ['/:/host']", "", "mounts / of the machine"),
    "read-only": ("volumes: ['/:/host:ro']", "", "mounts / of the machine (read-only)"),
    "docker's socket": (
        "volumes: ['/var/run/docker.sock:/s']",
        "",
        "mounts /var/run/docker.sock of the machine",
    ),
    "a bind by driver": (
        "volumes: ['data:/x']",
        "volumes: { data: { driver_opts: { type: none, o: bind, device: /etc } } }",
        "mounts /etc of the machine",
    ),
    "a template": (
        "volumes: ['/srv/{{ .Task.Slot }}:/x']",
        "",
        "mounts /srv/{{ .Task.Slot }} of the machine",
    ),
    "a capability": ("cap_add: [SYS_ADMIN]", "", "asks for the capability SYS_ADMIN"),
    "the machine's network": (
        "networks: [h]",
        "networks: { h: { external: true, name: host } }",
        "uses the machine's network",
    ),
}


@pytest.mark.parametrize(("part", "top", "words"), ASKS.values(), ids=ASKS.keys())
async def test_what_gives_it_the_machine_is_refused_with_the_line_that_would_allow_it(
    site: Site, part: str, top: str, words: str
) -> None:
    compose = of(f"{{ app: {{ image: a, {part} }} }}", top)
    with pytest.raises(Refused) as refused:
        await render(site, compose)
    assert words in refused.value.message
    assert refused.value.message.endswith("refused unless allowed")
    allow = refused.value.hint.partition("in deploy: allow = ")[2]
    assert allow
    await render(site, compose, allow=tomllib.loads(f"a = {allow}")["a"])
    with pytest.raises(Refused, match=r"not in deploy\.allow"):
        await render(site, compose, allow={"binds": ["/srv/app"]})


IGNORED = (
    "privileged: true, devices: ['/dev/sda'], pid: host, ipc: host, security_opt: ['seccomp:unconfined']"
)


async def test_privileged_and_the_like_are_a_warning_and_with_a_list_refused(site: Site) -> None:
    site.write(of(f"{{ app: {{ image: a, {IGNORED} }} }}"))
    rendered = await site.deployer().render(RELEASE, site.tree)
    assert rendered.warnings == ("Ignoring unsupported options: devices, ipc, pid, privileged, security_opt",)
    for what in ("privileged", "devices", "pid", "ipc", "security_opt"):
        with pytest.raises(Refused, match=f"asks for {what}, which a swarm does not do"):
            await site.deployer(allow={}).render(RELEASE, site.tree)
    await site.deployer(allow={"privileged": True}).render(RELEASE, site.tree)


async def test_another_stacks_secret_is_refused_under_its_own_name_too(site: Site) -> None:
    name = f"{site.stack}x_key"
    label = f"com.docker.stack.namespace={site.stack}x"
    site.lab.docker("secret", "create", "--label", label, name, "-", stdin=b"hidden")
    try:
        (site.tree / "mine").write_text("x")
        for top in (
            f"secrets: {{ s: {{ external: true, name: {name} }} }}",
            f"secrets: {{ s: {{ file: ./mine, name: {name} }} }}",
        ):
            with pytest.raises(Refused, match=f"uses the secret {name} of somebody else"):
                await render(site, of("{ app: { image: a, secrets: [s] } }", top))
    finally:
        site.lab.docker("secret", "rm", name)


async def test_a_link_in_an_allowed_folder_leads_nowhere_else(site: Site, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/inner").mkdir()
    (tmp_path / "data/link").symlink_to("/etc")
    allow = {"binds": [str(tmp_path / "data")]}
    await render(site, of(f"{{ app: {{ image: a, volumes: ['{tmp_path}/data/inner:/x'] }} }}"), allow=allow)
    with pytest.raises(Refused, match="data/link of the machine"):
        await render(
            site, of(f"{{ app: {{ image: a, volumes: ['{tmp_path}/data/link:/x'] }} }}"), allow=allow
        )
