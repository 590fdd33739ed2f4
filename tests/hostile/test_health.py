"""A health endpoint that means harm: it takes neither time nor memory, and what it says stays a detail."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.text import HOSTILE, steering
from tests.plugins.web import Web, serve
from warmd.core.journal import Draft, encode
from warmd.core.model import Health, Probe
from warmd.plugins.probers.http import Config, HttpProber

MB = 1024 * 1024


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as web:
        yield web


async def probe(url: str, **settings: Any) -> Probe:
    """One probe that has half a second; it may not take much more."""
    began = time.monotonic()
    seen = await HttpProber(Config(url=url, timeout="500ms", **settings)).probe()
    assert time.monotonic() - began < 10
    return seen


@dataclass
class Flood:
    """A page that sends ``head`` and then ``piece`` for ever, and counts what went out."""

    head: bytes
    piece: bytes
    pause: float = 0
    sent: int = 0
    ended: list[str] = field(default_factory=list)

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        with contextlib.suppress(OSError):
            handler.wfile.write(self.head)
            while self.sent < 500 * MB:
                handler.wfile.write(self.piece)
                self.sent += len(self.piece)
                time.sleep(self.pause)
            self.ended.append("everything was taken")


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
FLOODS: dict[str, Callable[[], Flood]] = {
    "a body without end": lambda: Flood(OK + b"\r\n", b"x" * 65536),
    "chunks without end": lambda: Flood(CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    "empty-looking chunks, one byte each": lambda: Flood(CHUNKED, b"1\r\nx\r\n" * 1000),
    "a chunk whose length never ends": lambda: Flood(CHUNKED, b"0" * 65536),
    "headers without end": lambda: Flood(OK, b"x-more: " + b"y" * 1000 + b"\r\n"),
    "one header without end": lambda: Flood(OK + b"x-long: ", b"y" * 65536),
    "a status line without end": lambda: Flood(b"HTTP/1.1 200 ", b"y" * 65536),
    "interim answers without end": lambda: Flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "headers, a byte at a time": lambda: Flood(OK, b"x", pause=0.05),
    "ten megabytes": lambda: Flood(OK + b"content-length: 10485760\r\n\r\n", b"x" * 65536),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
@pytest.mark.parametrize("asks", [{"json": {"status": "ok"}}, {"body": "ok"}], ids=["json", "body"])
async def test_a_flood_is_left_at_the_limit_or_the_deadline(
    web: Web, flood: Callable[[], Flood], asks: dict[str, Any]
) -> None:
    page = web.pages["/"] = flood()
    seen = await probe(web.url("/"), **asks)
    assert seen.health is Health.UNHEALTHY
    assert page.ended == []
    assert page.sent < 100 * MB, "what half a second holds, where nothing is kept; kept is one megabyte"


BODIES: dict[str, bytes] = {
    "no text": b"\xff\xfe\x00\x80" * 100,
    "invalid UTF-8 in JSON": b'{"status": "\xff"}',
    "half a character": b'{"status": "\\ud800"}',
    "half a character as a key": b'{"\\udfff": 1, "status": 7}',
    "escapes": json.dumps({"status": HOSTILE.encode(errors="replace").decode()}).encode(),
    "raw escapes": b'{"status": "\x1b[31m"}',
    "nested without end": b"[" * 900_000,
    "nested objects": b'{"status":' * 100_000,
    "a number of a million digits": b'{"status": ' + b"9" * 900_000 + b"}",
    "no number": b'{"status": NaN}',
    "an endless number": b'{"status": 1e999}',
    "the key twice": b'{"status": "ok", "status": "down"}',
    "a long text": json.dumps({"status": "x" * 900_000}).encode(),
    "packed": b"\x1f\x8b\x08" + b"\0" * 1000,
    "nothing": b"",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_whatever_it_says_is_a_short_line_that_can_be_journaled_and_shown(
    web: Web, body: bytes
) -> None:
    web.pages["/"] = (200, {"content-type": "application/json"}, body)
    for asks in ({"json": {"status": "ok"}}, {"body": "ok$"}):
        seen = await probe(web.url("/"), **asks)
        assert seen.health is Health.UNHEALTHY
        assert steering(seen.detail) == set()
        assert "\n" not in seen.detail
        assert len(seen.detail) < 400
        assert seen.detail.encode()
        assert encode(Draft("x", datetime.now(UTC), {"detail": seen.detail}), after=None)


def to(url: str) -> tuple[int, dict[str, str], bytes]:
    return 302, {"location": url}, b""


@pytest.mark.parametrize(
    "where",
    [
        pytest.param("file:///etc/passwd", id="a file"),
        pytest.param("//127.0.0.2/", id="another host, the same scheme"),
        pytest.param("http://169.254.169.254/latest/meta-data/", id="a cloud's own address"),
        pytest.param("http://localhost:1/", id="another name of the same host"),
        pytest.param("http://127.0.0.1@127.0.0.2/", id="a host that looks like the own one"),
        pytest.param("http://127.0.0.1.example.org/", id="a name that begins like the own one"),
        pytest.param("unix:///var/run/docker.sock", id="a socket"),
        pytest.param("gopher://127.0.0.1/_", id="another protocol on the own host"),
        pytest.param("http://127.0.0.1:1/%0d%0aHost:%20x", id="a refused port of the own host"),
        pytest.param("http://127.0.0.1:99999/", id="no port"),
        pytest.param("javascript:alert(1)", id="no address at all"),
        pytest.param("http://[::1", id="half an address"),
        pytest.param("/\x1b[31m", id="an escape"),
    ],
)
async def test_a_redirect_leads_nowhere_it_may_not(web: Web, where: str) -> None:
    with serve(host="127.0.0.2") as other:
        web.pages["/"] = to(where.replace("127.0.0.2/", f"127.0.0.2:{other.port}/"))
        web.pages["/x"] = (200, {}, b"ok")
        seen = await probe(web.url("/"), redirects=True, body="ok")
        assert other.seen == []
    assert seen.health is not Health.HEALTHY
    assert steering(seen.detail) == set()


async def test_a_loop_over_many_places_ends(web: Web) -> None:
    web.pages |= {f"/{n}": to(web.url(f"/{(n + 1) % 50}?{n}")) for n in range(50)}
    seen = await probe(web.url("/0"), redirects=True)
    assert "redirects more than 5 times" in seen.detail
    assert len(web.seen) == 6


async def test_a_service_cannot_read_files_of_the_machine_by_its_answers(web: Web, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("canary")
    web.pages["/"] = to(f"file://{tmp_path}/secret")
    seen = await probe(web.url("/"), redirects=True, redirect_hosts=("", "localhost"), body="canary")
    assert seen.health is not Health.HEALTHY
    assert "canary" not in seen.detail
