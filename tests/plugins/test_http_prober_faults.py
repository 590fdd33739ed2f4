"""The http prober where it gets no answer, or one from elsewhere: faults, TLS and redirects."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.plugins.web import Authority, Web, serve
from warmd.core.model import Health, Probe
from warmd.plugins.probers.http import Config, HttpProber

HEALTHY, UNHEALTHY, INCONCLUSIVE = Health.HEALTHY, Health.UNHEALTHY, Health.INCONCLUSIVE
NAME = "sso.example.org"


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as web:
        yield web


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


async def probe(url: str, **settings: Any) -> Probe:
    return await HttpProber(Config(url=url, **settings)).probe()


# --- no answer: whose fault is it? ---------------------------------------------------------------


async def test_a_refused_connection_is_the_services_fault() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        assert await probe(f"http://127.0.0.1:{port}/") == Probe(
            UNHEALTHY, f"GET http://127.0.0.1:{port}/: connection refused"
        )


async def test_refused_at_every_address_of_a_name_too() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        seen = await probe(f"http://localhost:{nobody.getsockname()[1]}/")
    assert seen.health is UNHEALTHY


def _breaks_off(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def _half_a_body(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("content-length", "100")
    handler.end_headers()
    handler.wfile.write(b"half")
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)


def _no_http(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")


@pytest.mark.parametrize("page", [_breaks_off, _half_a_body, _no_http], ids=lambda f: f.__name__.strip("_"))
async def test_an_answer_that_breaks_off_or_is_none_is_the_services_fault(web: Web, page: Any) -> None:
    web.pages["/"] = page
    seen = await probe(web.url("/"), body="ok")
    assert seen.health is UNHEALTHY
    assert seen.detail.startswith(f"GET {web.url('/')}: broke off")


async def test_a_name_that_nobody_knows_says_nothing_about_the_service() -> None:
    seen = await probe("http://no-such-host.invalid/")
    assert seen.health is INCONCLUSIVE
    assert "its name could not be looked up" in seen.detail


def probe_where(folder: Path, file: str, content: str, url: str, **settings: Any) -> str:
    """What a probe says where a file of the machine's (by bind mount, for it alone) says this."""
    (folder / "file").write_text(content)
    (folder / "probe.py").write_text(f"""
import anyio
from warmd.plugins.probers.http import Config, HttpProber
print(anyio.run(HttpProber(Config(url={url!r}, **{settings!r})).probe))
""")
    script = f"mount --bind {folder}/file $(readlink -f {file}) && exec {sys.executable} {folder}/probe.py"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    return done.stdout


@pytest.mark.slow
def test_a_name_service_that_keeps_silent_says_nothing_about_the_service(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        # Port 53 of a loopback address of our own: bound, so lookups are neither answered nor refused.
        silent.bind(("127.53.0.53", 53))
        resolver = "nameserver 127.53.0.53\noptions timeout:2 attempts:1\n"
        said = probe_where(tmp_path, "/etc/resolv.conf", resolver, f"http://{NAME}/", timeout="500ms")
    assert "INCONCLUSIVE" in said
    assert "its name could not be looked up within 0.5 s" in said


@pytest.mark.parametrize(
    "other", ["127.0.0.2", "255.255.255.255"], ids=["refused twice", "refused and no route"]
)
def test_one_address_of_several_that_refuses_is_the_services_fault(tmp_path: Path, other: str) -> None:
    with socket.socket() as nobody:
        nobody.bind(("0.0.0.0", 0))
        hosts = f"{other} {NAME}\n127.0.0.1 {NAME}\n"
        said = probe_where(tmp_path, "/etc/hosts", hosts, f"http://{NAME}:{nobody.getsockname()[1]}/")
    assert "UNHEALTHY" in said
    assert "connection refused" in said


async def test_no_route_says_nothing_about_the_service() -> None:
    """The kernel itself refuses to connect there."""
    seen = await probe("http://255.255.255.255/", timeout="5s")
    assert seen.health is INCONCLUSIVE
    assert seen.detail in {
        "GET http://255.255.255.255/: network is unreachable",
        "GET http://255.255.255.255/: permission denied",
    }


async def test_no_file_descriptor_left_says_nothing_about_the_service(web: Web) -> None:
    web.pages["/"] = (200, {}, b"")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert (await probe(web.url("/"))).health is HEALTHY  # everything that is imported lazily is there
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        seen = await probe(web.url("/"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert seen == Probe(INCONCLUSIVE, f"GET {web.url('/')}: too many open files")


# --- TLS -----------------------------------------------------------------------------------------


async def test_a_certificate_by_the_given_ca_for_the_urls_name_is_good(authority: Authority) -> None:
    with serve(tls=authority.certificate(NAME)) as web:
        web.pages["/"] = (200, {}, b"")
        seen = await probe(f"https://{NAME}/", resolve=f"127.0.0.1:{web.port}", ca_file=authority.ca_file)
        assert seen == Probe(HEALTHY, f"GET https://{NAME}/ answered 200")
        assert web.seen[0][1]["host"] == NAME


@pytest.mark.parametrize(
    ("name", "days", "trusted", "says"),
    [
        pytest.param("other.example.org", 1, True, "Hostname mismatch", id="another name"),
        pytest.param(NAME, -1, True, "certificate has expired", id="expired"),
        pytest.param(NAME, 1, False, "unable to get local issuer certificate", id="a CA that nobody trusts"),
    ],
)
async def test_a_certificate_that_users_would_refuse_is_unhealthy(
    authority: Authority, name: str, days: int, trusted: bool, says: str
) -> None:
    with serve(tls=authority.certificate(name, days=days)) as web:
        seen = await probe(
            f"https://{NAME}/",
            resolve=f"127.0.0.1:{web.port}",
            ca_file=authority.ca_file if trusted else None,
        )
        assert web.seen == []
    assert seen.health is UNHEALTHY
    assert seen.detail.startswith(f"GET https://{NAME}/: TLS: ")
    assert says in seen.detail


async def test_a_server_that_does_not_speak_tls_is_unhealthy(web: Web) -> None:
    seen = await probe(f"https://127.0.0.1:{web.port}/")
    assert seen.health is UNHEALTHY


@pytest.mark.parametrize("content", [None, "", "no certificate"])
async def test_a_ca_file_that_can_not_be_used_says_nothing_about_the_service(
    web: Web, tmp_path: Path, content: str | None
) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)
    seen = await probe(web.url("/"), ca_file=ca_file)
    assert seen.health is INCONCLUSIVE
    assert f"the CA file {ca_file} can't be used" in seen.detail


async def test_a_ca_file_that_comes_later_is_taken(authority: Authority, tmp_path: Path) -> None:
    with serve(tls=authority.certificate(NAME)) as web:
        web.pages["/"] = (200, {}, b"")
        config = Config(url=f"https://{NAME}/", resolve=f"127.0.0.1:{web.port}", ca_file=Path("ca.pem"))
        prober = HttpProber(config, tmp_path)
        assert (await prober.probe()).health is INCONCLUSIVE
        (tmp_path / "ca.pem").write_bytes(authority.ca_file.read_bytes())
        assert (await prober.probe()).health is HEALTHY


# --- redirects -----------------------------------------------------------------------------------


def to(url: str, status: int = 302) -> tuple[int, dict[str, str], bytes]:
    return status, {"location": url}, b""


async def test_redirects_are_an_answer_like_any_other_unless_allowed(web: Web) -> None:
    web.pages |= {"/": to("/there"), "/there": (200, {}, b"")}
    assert (await probe(web.url("/"))).detail.endswith("answered 302, expected 200")
    assert (await probe(web.url("/"), status=302)).health is HEALTHY
    assert len(web.seen) == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_to_the_same_host_are_followed_where_allowed(web: Web, status: int) -> None:
    web.pages |= {"/": to("there", status), "/there": (200, {}, b"ok")}
    seen = await probe(web.url("/"), redirects=True, body="ok", headers={"X-Key": "1"})
    assert seen == Probe(HEALTHY, f"GET {web.url('/')} answered 200")
    assert [headers["x-key"] for _, headers in web.seen] == ["1", "1"]


async def test_what_is_wrong_after_a_redirect_says_where(web: Web) -> None:
    web.pages |= {"/": to("/there"), "/there": (500, {}, b"")}
    seen = await probe(web.url("/"), redirects=True)
    assert seen.detail == f"GET {web.url('/')} answered 500, expected 200 (redirected to {web.url('/there')})"


async def test_five_redirects_are_followed_and_not_six(web: Web) -> None:
    web.pages |= {f"/{n}": to(f"/{n + 1}") for n in range(9)}
    web.pages["/9"] = (200, {}, b"")
    assert (await probe(web.url("/4"), redirects=True)).health is HEALTHY
    seen = await probe(web.url("/3"), redirects=True)
    assert (seen.health, seen.detail) == (UNHEALTHY, f"GET {web.url('/3')}: redirects more than 5 times")


async def test_a_redirect_to_itself_ends(web: Web) -> None:
    web.pages["/"] = to("/")
    assert (await probe(web.url("/"), redirects=True)).health is UNHEALTHY
    assert len(web.seen) == 6


async def test_another_host_is_not_asked_unless_it_is_listed(web: Web) -> None:
    with serve(host="127.0.0.2") as other:
        web.pages["/"] = to(other.url("/"))
        other.pages["/"] = (200, {}, b"")
        seen = await probe(web.url("/"), redirects=True)
        assert seen.health is UNHEALTHY
        assert seen.detail == f"GET {web.url('/')}: redirects to 127.0.0.2, which is not in redirect_hosts"
        assert other.seen == []
        listed = {"redirects": True, "redirect_hosts": ("127.0.0.2",)}
        seen = await probe(web.url("/"), **listed, headers={"Authorization": "Bearer x"})
        assert seen.health is HEALTHY
        assert "authorization" not in other.seen[0][1]


async def test_another_port_of_the_host_does_not_get_the_headers(web: Web) -> None:
    with serve() as other:
        web.pages["/"] = to(other.url("/"))
        other.pages["/"] = (200, {}, b"")
        assert (await probe(web.url("/"), redirects=True, headers={"Authorization": "x"})).health is HEALTHY
        assert "authorization" in web.seen[0][1]
        assert "authorization" not in other.seen[0][1]


async def test_a_redirect_from_https_to_http_is_not_followed(authority: Authority, web: Web) -> None:
    with serve(tls=authority.certificate(NAME)) as secure:
        secure.pages["/"] = to(f"http://{NAME}:{web.port}/?token=hunter2")
        settings = {"resolve": f"127.0.0.1:{secure.port}", "ca_file": authority.ca_file, "redirects": True}
        seen = await probe(f"https://{NAME}/", **settings)
    assert (seen.health, web.seen) == (UNHEALTHY, [])
    assert seen.detail == f"GET https://{NAME}/: redirects to http://{NAME}:{web.port}/, which is not https"


@pytest.mark.parametrize("where", ["http://[::1/", "file:///etc/passwd", "http://", "http://a b/"])
async def test_a_redirect_that_leads_nowhere_is_the_services_fault(web: Web, where: str) -> None:
    web.pages["/"] = to(where)
    assert (await probe(web.url("/"), redirects=True)).health is UNHEALTHY
