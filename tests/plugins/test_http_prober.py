"""The http prober against real servers: what it calls healthy, unhealthy, and not to be known."""

from __future__ import annotations

import contextlib
import gzip
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

from tests.plugins.web import Web, serve
from warmd.core.model import Health, Probe
from warmd.plugins.probers.http import Config, HttpProber

HEALTHY, UNHEALTHY, INCONCLUSIVE = Health.HEALTHY, Health.UNHEALTHY, Health.INCONCLUSIVE
NAME = "sso.example.org"


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as web:
        yield web


async def probe(url: str, **settings: Any) -> Probe:
    return await HttpProber(Config(url=url, **settings)).probe()


# --- what is compared ----------------------------------------------------------------------------

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("settings", "answer", "health", "says"),
    [
        pytest.param({}, (200, b""), HEALTHY, "answered 200", id="200 is what is expected"),
        pytest.param({}, (204, b""), UNHEALTHY, "answered 204, expected 200", id="and nothing else"),
        pytest.param({}, (503, b""), UNHEALTHY, "answered 503, expected 200", id="an error"),
        pytest.param({"status": 401}, (401, b""), HEALTHY, "answered 401", id="another status if asked for"),
        pytest.param({"status": (200, 204)}, (204, b""), HEALTHY, "answered 204", id="one of several"),
        pytest.param(
            {"status": (200, 204)}, (500, b""), UNHEALTHY, "500, expected 200 or 204", id="none of several"
        ),
        pytest.param(
            {"json": {"realm": "master"}},
            (200, b'{"realm":"master","x":1}'),
            HEALTHY,
            "200",
            id="JSON with more in it",
        ),
        pytest.param(
            {"json": {"realm": "master"}},
            (200, b'{"realm":"dev"}'),
            UNHEALTHY,
            'realm is "dev", expected "master"',
            id="another value",
        ),
        pytest.param(
            {"json": {"realm": "master"}}, (200, b"{}"), UNHEALTHY, "realm is missing", id="a key is missing"
        ),
        pytest.param({"json": {"a": {"b": 1}}}, (200, b'{"a":{"b":1,"c":2}}'), HEALTHY, "200", id="nested"),
        pytest.param(
            {"json": {"a": {"b": 1}}},
            (200, b'{"a":{"b":2}}'),
            UNHEALTHY,
            "a.b is 2, expected 1",
            id="nested, another value",
        ),
        pytest.param(
            {"json": {"a": {"b": 1}}},
            (200, b'{"a":[]}'),
            UNHEALTHY,
            "a is [], expected an object",
            id="no object",
        ),
        pytest.param({"json": {"a": [1, 2]}}, (200, b'{"a":[1,2]}'), HEALTHY, "200", id="an equal array"),
        pytest.param(
            {"json": {"a": [1]}},
            (200, b'{"a":[1,2]}'),
            UNHEALTHY,
            "a is [1, 2], expected [1]",
            id="an array is no subset",
        ),
        pytest.param(
            {"json": {"a": [{"b": 1}]}},
            (200, b'{"a":[{"b":1,"c":2}]}'),
            UNHEALTHY,
            "a is",
            id="nor is what is in it",
        ),
        pytest.param(
            {"json": {"up": True}},
            (200, b'{"up":1}'),
            UNHEALTHY,
            "up is 1, expected true",
            id="true is not 1",
        ),
        pytest.param({"json": {"n": 1}}, (200, b'{"n":1.0}'), HEALTHY, "200", id="1 is 1.0"),
        pytest.param(
            {"json": {}}, (200, b"[]"), UNHEALTHY, "the top is [], expected an object", id="some object"
        ),
        pytest.param({"json": {}}, (200, b"<html>"), UNHEALTHY, "something that is not JSON", id="no JSON"),
        pytest.param(
            {"json": {}},
            (200, b"[" * 200_000),
            UNHEALTHY,
            "something that is not JSON",
            id="JSON nested without end",
        ),
        pytest.param(
            {"json": {}}, (500, b"{}"), UNHEALTHY, "500, expected 200", id="right JSON with a wrong status"
        ),
        pytest.param({"body": "^ok$"}, (200, b"ok"), HEALTHY, "200", id="a body that matches"),
        pytest.param({"body": "o+k"}, (200, b"it is ook."), HEALTHY, "200", id="somewhere in it"),
        pytest.param(
            {"body": "^ok$"}, (200, b"not ok"), UNHEALTHY, "'^ok$' is not found", id="a body that doesn't"
        ),
        pytest.param({"body": "größer"}, (200, "größer".encode()), HEALTHY, "200", id="UTF-8"),
        pytest.param({"body": "ok"}, (200, b"\xff\xfe ok"), HEALTHY, "200", id="bytes that are no text"),
        pytest.param(
            {"body": "ok", "json": {}}, (200, b'"ok"'), UNHEALTHY, "the top is", id="both have to be right"
        ),
    ],
)
async def test_an_answer_is_judged(
    web: Web, settings: dict[str, Any], answer: tuple[int, bytes], health: Health, says: str
) -> None:
    web.pages["/health"] = (answer[0], JSON, answer[1]) if answer[0] != 204 else (204, {}, b"")
    seen = await probe(web.url("/health"), **settings)
    assert (seen.health, seen.identity) == (health, "")
    assert seen.detail.startswith(f"GET {web.url('/health')} answered ")
    assert says in seen.detail


async def test_details_do_not_show_the_query_where_tokens_are(web: Web) -> None:
    seen = await probe(web.url("/health?token=hunter2"))
    assert seen.detail == f"GET {web.url('/health')} answered 404, expected 200"


async def test_details_stay_short(web: Web) -> None:
    web.pages["/"] = (200, {}, b'{"a":"%s"}' % (b"x" * 10_000))
    seen = await probe(web.url("/"), json={"a": "y"})
    assert len(seen.detail) < 300


# --- what is sent --------------------------------------------------------------------------------


async def test_headers_are_sent(web: Web) -> None:
    web.pages["/"] = (200, {}, b"")
    await probe(web.url("/?a=b"), headers={"Authorization": "Bearer x", "X-Other": "1"})
    path, headers = web.seen[0]
    assert path == "/?a=b"
    assert (headers["authorization"], headers["x-other"]) == ("Bearer x", "1")
    assert headers["host"] == f"127.0.0.1:{web.port}"
    assert headers["user-agent"] == "warmd"


async def test_the_host_header_can_be_set(web: Web) -> None:
    web.pages["/"] = (200, {}, b"")
    assert (await probe(web.url("/"), headers={"Host": "other.example.org"})).health is HEALTHY
    assert web.seen[0][1]["host"] == "other.example.org"


async def test_proxies_of_the_environment_are_not_asked(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    web.pages["/"] = (200, {}, b"")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{nobody.getsockname()[1]}")
        assert (await probe(web.url("/"))).health is HEALTHY


async def test_resolve_asks_another_address_for_the_same_name(web: Web) -> None:
    web.pages["/"] = (200, {}, b"")
    seen = await probe(f"http://{NAME}/", resolve=f"127.0.0.1:{web.port}")
    assert seen.health is HEALTHY
    assert web.seen[0][1]["host"] == NAME


async def test_resolve_without_a_port_keeps_the_urls(web: Web) -> None:
    web.pages["/"] = (200, {}, b"")
    assert (await probe(f"http://{NAME}:{web.port}/", resolve="127.0.0.1")).health is HEALTHY
    assert web.seen[0][1]["host"] == f"{NAME}:{web.port}"


async def test_resolve_to_an_ipv6_address() -> None:
    with socket.socket(socket.AF_INET6) as listener:
        listener.bind(("::1", 0))
        port = listener.getsockname()[1]
        seen = await probe(f"http://{NAME}/", resolve=f"[::1]:{port}")
    assert seen == Probe(UNHEALTHY, f"GET http://{NAME}/: connection refused")


# --- bounds --------------------------------------------------------------------------------------


def _endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b"x" * 65536)


async def test_no_more_than_max_body_is_read(web: Web) -> None:
    web.pages["/"] = _endless
    assert (await probe(web.url("/"), body="^x+$", max_body=1000)).health is HEALTHY
    seen = await probe(web.url("/"), json={}, max_body=1000)
    assert seen.health is UNHEALTHY
    assert "more than 1000 bytes" in seen.detail


async def test_without_need_no_body_is_read_at_all(web: Web) -> None:
    web.pages["/"] = _endless
    assert (await probe(web.url("/"))).health is HEALTHY


async def test_nothing_is_unpacked(web: Web) -> None:
    """A megabyte of zeros packs into a kilobyte; so would a gigabyte."""
    packed = gzip.compress(b"\0" * 1_000_000)
    web.pages["/"] = (200, {"content-encoding": "gzip"}, packed)
    seen = await probe(web.url("/"), json={})
    assert seen.health is UNHEALTHY
    assert web.seen[0][1]["accept-encoding"] == "identity"


def _silent(web: Web) -> Any:
    return lambda handler: web.let_go.wait(60)


def _dripping(web: Web) -> Any:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not web.let_go.wait(0.05):
            try:
                handler.wfile.write(b"x")
            except OSError:
                return

    return drip


@pytest.mark.parametrize("page", [_silent, _dripping], ids=["never answers", "never ends"])
async def test_a_service_that_hangs_is_unhealthy_when_the_time_is_up(web: Web, page: Any) -> None:
    web.pages["/"] = page(web)
    began = time.monotonic()
    seen = await probe(web.url("/"), timeout="300ms", body="y")
    assert seen == Probe(UNHEALTHY, f"GET {web.url('/')}: did not answer within 0.3 s")
    assert 0.3 <= time.monotonic() - began < 5


async def test_a_port_that_takes_connections_and_nothing_more_is_unhealthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        seen = await probe(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout="300ms")
    assert seen.health is UNHEALTHY
    assert "did not answer within 0.3 s" in seen.detail


async def test_a_probe_that_is_cancelled_ends_at_once(web: Web) -> None:
    web.pages["/"] = _silent(web)
    with anyio.move_on_after(0.2) as scope:
        await probe(web.url("/"), timeout="60s")
    assert scope.cancelled_caught


# --- configuration -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        pytest.param({"url": "ftp://a/"}, "expected a URL such as", id="another scheme"),
        pytest.param({"url": "sso.example.org/health"}, "expected a URL such as", id="no scheme"),
        pytest.param({"url": "https:///health"}, "expected a URL such as", id="no host"),
        pytest.param({"url": "https://a:99999/"}, "not a URL", id="no such port"),
        pytest.param({"url": "https://a/ b"}, "expected a URL such as", id="a space"),
        pytest.param({"url": "https://me:pw@a/"}, "don't belong into the URL", id="a password"),
        pytest.param({"status": 99}, "greater than or equal to 100", id="no status"),
        pytest.param({"status": ()}, "at least 1 item", id="no status at all"),
        pytest.param({"body": "("}, "not a regular expression", id="a broken regular expression"),
        pytest.param({"resolve": "sso.example.org"}, "expected an address", id="a name to connect to"),
        pytest.param({"resolve": "127.0.0.1:0"}, "expected an address", id="port 0"),
        pytest.param({"resolve": "[::1]8443"}, "expected an address", id="no colon"),
        pytest.param({"timeout": "0s"}, "expected more than no time", id="no time"),
        pytest.param({"timeout": 5}, "expected a duration", id="a bare number"),
        pytest.param({"max_body": 0}, "greater than or equal to 1", id="no body"),
        pytest.param({"statsu": 200}, "Extra inputs are not permitted", id="an unknown key"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({"url": "https://a/"} | settings)
    assert says in str(caught.value)


def test_what_a_configuration_says_is_understood() -> None:
    config = Config.model_validate(
        {"url": "https://a/", "status": [200, 204], "json": {"a": 1}, "timeout": "1m30s", "resolve": "::1"}
    )
    assert (config.kind, config.status, config.json_) == ("http", (200, 204), {"a": 1})
    assert config.timeout == timedelta(seconds=90)
    assert Config.model_validate(config.model_dump(by_alias=True)) == config


def test_a_command_that_probes_nothing_does_not_import_the_client() -> None:
    code = """
import sys
from warmd.plugins.probers.http import Config, HttpProber
HttpProber(Config(url="http://a/"))
assert "httpx" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
