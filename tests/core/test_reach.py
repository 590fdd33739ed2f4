"""What a stack may get at outside of itself: by default, as it runs already, and by a list."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from warmd.core.model import Bundle
from warmd.core.reach import Allow, Here, Reach, line_to_allow, reaches, refusals, said

HERE = Here(protected=("/srv/warmd",))


def bundle(
    *, networks: list[str] | None = None, own: list[dict[str, Any]] | None = None, **inner: Any
) -> Bundle:
    task: dict[str, Any] = {"ContainerSpec": {"Image": "a", **inner}}
    if networks:
        task["Networks"] = [{"Target": name} for name in networks]
    return Bundle(networks=tuple(own or ()), services=({"Name": "app_web", "TaskTemplate": task},))


def bind(source: str, *, read_only: bool = False) -> dict[str, Any]:
    return {"Type": "bind", "Source": source, "Target": "/x"} | ({"ReadOnly": True} if read_only else {})


def volume(source: str, **driver: Any) -> dict[str, Any]:
    options = {"VolumeOptions": {"DriverConfig": driver}} if driver else {}
    return {"Type": "volume", "Source": source, "Target": "/x", **options}


def refused(
    found: Bundle, allow: Allow | None = None, here: Here = HERE, *, warnings: tuple[str, ...] = ()
) -> bool:
    return bool(refusals(reaches(found, stack="app", warnings=warnings), allow, here))


# --- by default ----------------------------------------------------------------------------------

BINDS = {
    "/": True,
    "//": True,
    "/.": True,
    "/srv/..": True,
    "/srv/../etc/shadow": True,
    "/etc": True,
    "/etc/cron.d": True,
    "/etcetera": False,
    "/proc": True,
    "/sys/fs/cgroup": True,
    "/dev/mem": True,
    "/root/.ssh": True,
    "/run": True,
    "/var/run": True,
    "/var/run/docker.sock": True,
    "/run/docker.sock": True,
    "/run/postgresql": False,
    "/var": True,
    "/var/lib": True,
    "/var/lib/docker/volumes/other_data/_data": True,
    "/var/lib/app": False,
    "/usr/local/bin": True,
    "/srv": True,  # warmd's own folder lies in it
    "/srv/warmd": True,
    "/srv/warmd/blobs": True,
    "/srv/app": False,
    "/srv/{{ .Task.Slot }}": True,
    "/mnt/data": False,
}


@pytest.mark.parametrize(("source", "bad"), BINDS.items(), ids=BINDS.keys())
def test_what_gives_a_container_the_machine_is_refused(source: str, bad: bool) -> None:
    assert refused(bundle(Mounts=[bind(source)])) is bad


@pytest.mark.parametrize(
    ("source", "bad"),
    [
        ("/etc/localtime", False),
        ("/etc/ssl/certs", False),
        ("/usr/share/zoneinfo", False),
        ("/etc/shadow", True),
        ("/", True),
        ("/var/run/docker.sock", True),
    ],
)
def test_what_is_only_read_is_refused_where_reading_is_harm(source: str, bad: bool) -> None:
    assert refused(bundle(Mounts=[bind(source, read_only=True)])) is bad
    assert refused(bundle(Mounts=[bind(source)]))


def test_a_bind_by_any_other_name_is_a_bind() -> None:
    assert refused(bundle(Mounts=[volume("app_x", Options={"type": "none", "o": "bind", "device": "/etc"})]))
    assert refused(bundle(Mounts=[volume("app_x", Options={"type": "ext4", "device": "/dev/sda1"})]))
    assert refused(bundle(Mounts=[volume("app_x", Options={"device": "{{ .Node.ID }}"})]))
    assert refused(bundle(Mounts=[{"Type": "image", "Source": "/etc", "Target": "/x"}]))
    assert not refused(bundle(Mounts=[volume("app_x", Options={"type": "nfs", "device": ":/export"})]))
    assert not refused(bundle(Mounts=[volume("app_x"), volume(""), {"Type": "tmpfs", "Target": "/t"}]))


def test_a_link_counts_by_where_it_leads() -> None:
    here = Here(leads_to={"/srv/app/link": "/etc"})
    assert refused(bundle(Mounts=[bind("/srv/app/link")]), here=here)
    assert refused(bundle(Mounts=[bind("/srv/app/link")]), Allow(binds=("/srv/app",)), here)


@pytest.mark.parametrize(
    ("inner", "bad"),
    [
        ({"CapabilityAdd": ["CAP_SYS_ADMIN"]}, True),
        ({"CapabilityAdd": ["all"]}, True),
        ({"CapabilityAdd": ["CAP_NET_ADMIN"]}, False),
        ({"Privileges": {"Seccomp": {"Mode": "unconfined"}}}, True),
        ({"Privileges": {"NoNewPrivileges": True, "SELinuxContext": None}}, False),
        ({"networks": ["host"]}, True),
        ({"networks": ["mine"], "own": [{"Name": "mine", "Driver": "host"}]}, True),
        ({"networks": ["proxy", "bridge"]}, False),
        ({"networks": ["mine"], "own": [{"Name": "mine", "Driver": "overlay"}]}, False),
    ],
    ids=str,
)
def test_capabilities_privileges_and_the_machines_network(inner: dict[str, Any], bad: bool) -> None:
    assert refused(bundle(**inner)) is bad


@pytest.mark.parametrize("kind", ["secret", "config", "volume"])
def test_what_is_another_stacks_is_refused_and_what_is_nobodys_is_not(kind: str) -> None:
    inner: dict[str, Any] = {
        "secret": {"Secrets": [{"SecretName": "other_key"}]},
        "config": {"Configs": [{"ConfigName": "other_key"}]},
        "volume": {"Mounts": [volume("other_key")]},
    }[kind]
    assert refused(bundle(**inner), here=Here(foreign=frozenset({(kind, "other_key")})))
    assert not refused(bundle(**inner), here=Here(foreign=frozenset({("x", "other_key")})))


def test_what_a_swarm_does_not_do_is_no_reason_by_default() -> None:
    assert not refused(bundle(), warnings=("Ignoring unsupported options: privileged, restart",))


# --- what runs already ---------------------------------------------------------------------------


def test_what_the_stack_has_as_it_runs_it_may_keep() -> None:
    socket = bundle(Mounts=[bind("/var/run/docker.sock")], CapabilityAdd=["CAP_SYS_ADMIN"], networks=["host"])
    here = Here(runs=reaches(socket, stack="app"))
    assert not refused(socket, here=here)
    assert refused(bundle(Mounts=[bind("/etc")]), here=here)


def test_but_get_no_more_of_it() -> None:
    reads = bundle(Mounts=[bind("/etc", read_only=True)])
    assert refused(bundle(Mounts=[bind("/etc")]), here=Here(runs=reaches(reads, stack="app")))
    writes = Here(runs=reaches(bundle(Mounts=[bind("/etc")]), stack="app"))
    assert not refused(reads, here=writes)


def test_a_link_that_was_turned_since_is_no_longer_what_it_had() -> None:
    found = bundle(Mounts=[bind("/srv/app/link")])
    here = Here(leads_to={"/srv/app/link": "/"}, runs=reaches(found, stack="app"))
    assert refused(found, here=here)


# --- by a list -----------------------------------------------------------------------------------

EVERYTHING = bundle(
    Mounts=[bind("/srv/data/x"), bind("/var/run/docker.sock"), volume("shared"), volume("app_own")],
    CapabilityAdd=["CAP_NET_ADMIN"],
    Privileges={"CredentialSpec": {"Config": "c"}},
    Secrets=[{"SecretName": "ldap"}, {"SecretName": "app_key_v1"}],
    Configs=[{"ConfigName": "motd"}],
    networks=["host", "proxy"],
)
WARNED = ("Ignoring unsupported options: build, devices, privileged", "something else")
LISTED = Allow(
    binds=("/srv/data", "/run/docker.sock"),
    capabilities=("net_admin",),
    host_network=True,
    privileged=True,
    external=("shared", "ldap", "motd", "proxy"),
)


def test_with_a_list_everything_on_it_goes_through() -> None:
    assert refusals(reaches(EVERYTHING, stack="app", warnings=WARNED), LISTED, HERE) == ()


def test_and_nothing_else_not_even_what_runs() -> None:
    found = reaches(EVERYTHING, stack="app", warnings=WARNED)
    assert refusals(found, Allow(), Here(runs=found)) == found
    assert [r.value for r in found if r.kind == "ignored"] == ["devices", "privileged"]


@pytest.mark.parametrize(
    ("source", "listed", "bad"),
    [
        ("/srv/data", "/srv/data", False),
        ("/srv/data/", "/srv/data", False),
        ("/srv/data", "/srv/data/", False),
        ("/srv/database", "/srv/data", True),
        ("/srv/data/../other", "/srv/data", True),
        ("/srv", "/srv/data", True),
        ("/anything", "/", False),
        ("/srv/{{ .X }}", "/srv", True),
        ("/srv/{{ .X }}", "/srv/{{ .X }}", False),
    ],
)
def test_a_listed_folder_means_all_below_it_and_no_more(source: str, listed: str, bad: bool) -> None:
    assert refused(bundle(Mounts=[bind(source)]), Allow(binds=(listed,))) is bad


# --- in words ------------------------------------------------------------------------------------


def test_a_refusal_says_which_service_wants_what() -> None:
    assert [said(r) for r in reaches(EVERYTHING, stack="app", warnings=WARNED)] == [
        "service app_web mounts /srv/data/x of the machine",
        "service app_web mounts /var/run/docker.sock of the machine",
        "service app_web uses the volume shared of somebody else",
        "service app_web asks for the capability NET_ADMIN",
        "service app_web asks for privileges (CredentialSpec)",
        "service app_web uses the machine's network",
        "service app_web uses the network proxy of somebody else",
        "service app_web uses the config motd of somebody else",
        "service app_web uses the secret ldap of somebody else",
        "a service asks for devices, which a swarm does not do",
        "a service asks for privileged, which a swarm does not do",
    ]
    assert (
        said(Reach("w", "bind", "/etc", writable=False)) == "service w mounts /etc of the machine (read-only)"
    )


def test_and_the_line_to_type_lets_exactly_that_through() -> None:
    found = reaches(EVERYTHING, stack="app", warnings=WARNED)
    line = tomllib.loads(line_to_allow(found))["allow"]
    allow = Allow(
        tuple(line["binds"]),
        tuple(line["capabilities"]),
        line["host_network"],
        line["privileged"],
        tuple(line["external"]),
    )
    assert refusals(found, allow, HERE) == ()
    odd = 'a"b\\c'
    assert tomllib.loads(line_to_allow([Reach("w", "bind", odd)]))["allow"]["binds"] == [odd]
