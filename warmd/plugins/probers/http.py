"""Prober: one HTTP GET, judged by its status, its JSON and its text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StrictBool, StrictInt

from warmd.adapters import http
from warmd.core.model import Health, Probe
from warmd.plugins.base import Context, Duration, Settings

_Status = Annotated[StrictInt, Field(ge=100, le=599)]


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host or not value.isprintable() or " " in value:
        raise ValueError("expected a URL such as https://sso.example.org/health")
    if parts.username is not None or parts.password is not None:
        raise ValueError("user and password don't belong into the URL: write an authorization header")
    return value


def _regex(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return value


def _address(value: str) -> str:
    http.split_address(value)
    return value


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("expected more than no time")
    return value


class Config(Settings):
    """Healthy when a GET of `url` is answered as expected. Proxies of the environment are not used."""

    kind: Literal["http"] = "http"

    url: Annotated[str, AfterValidator(_url)]
    """What to ask, http or https."""

    status: _Status | Annotated[tuple[_Status, ...], Field(min_length=1)] = 200
    """The status, or several of which one is enough."""

    json_: dict[str, Any] | None = Field(default=None, alias="json")
    """What the answer, as JSON, must contain at least: every key here, with an equal value. Tables are
    compared the same way; arrays must be equal."""

    body: Annotated[str, AfterValidator(_regex)] | None = None
    """A regular expression that must be found somewhere in the answer."""

    headers: dict[str, str] = Field(default_factory=dict)
    """Headers to send, never to another origin."""

    ca_file: Path | None = None
    """Certificates (PEM) to trust instead of the system's."""

    resolve: Annotated[str, AfterValidator(_address)] | None = None
    """Connect to this `ip` or `ip:port` instead of the URL's host. Its name is still asked for, and checked
    in the certificate."""

    redirects: StrictBool = False
    """Follow redirects (5 at most), to the URL's own host and to `redirect_hosts`."""

    redirect_hosts: tuple[str, ...] = ()
    """Other hosts that a redirect may lead to."""

    timeout: Annotated[Duration, AfterValidator(_positive)] = timedelta(seconds=10)
    """How long one probe may take, everything together."""

    max_body: Annotated[StrictInt, Field(ge=1, le=64 * 1024 * 1024)] = 1024 * 1024
    """How many bytes of the answer are read."""


def build(config: Config, context: Context) -> HttpProber:
    """The prober; a relative `ca_file` is relative to the configuration's folder."""
    return HttpProber(config, context.config_dir)


class HttpProber:
    """The Prober port over one URL. Every probe has a connection of its own."""

    def __init__(self, config: Config, config_dir: Path = Path()) -> None:
        self._status = config.status if isinstance(config.status, tuple) else (config.status,)
        self._json = config.json_
        self._body = re.compile(config.body) if config.body is not None else None
        self._asks = f"GET {http.shown(config.url)}"
        self._request = http.Request(
            config.url,
            headers=config.headers,
            ca_file=None if config.ca_file is None else config_dir / config.ca_file,
            resolve=config.resolve,
            redirects=config.redirects,
            redirect_hosts=frozenset(config.redirect_hosts),
            max_body=config.max_body if config.json_ is not None or config.body is not None else 0,
            timeout=config.timeout.total_seconds(),
        )

    async def probe(self) -> Probe:
        """One GET. A service that is not there, hangs, or shows a certificate that is not valid is
        unhealthy; a question that could not be asked is inconclusive."""
        answer = await http.get(self._request)
        if isinstance(answer, http.NoAnswer):
            health = Health.UNHEALTHY if answer.asked else Health.INCONCLUSIVE
            return Probe(health, f"{self._asks}: {answer.why}")
        wrong = self._wrong(answer)
        if wrong:
            at = "" if answer.url == self._request.url else f" (redirected to {http.shown(answer.url)})"
            return Probe(Health.UNHEALTHY, f"{self._asks} answered {wrong}{at}")
        return Probe(Health.HEALTHY, f"{self._asks} answered {answer.status}")

    def _wrong(self, answer: http.Answer) -> str:
        """What is not as expected, or nothing."""
        if answer.status not in self._status:
            return f"{answer.status}, expected {' or '.join(map(str, self._status))}"
        if self._json is not None:
            if not answer.whole:
                return (
                    f"{answer.status} with more than {self._request.max_body} bytes, too many to read as JSON"
                )
            try:
                found = json.loads(answer.body)
            except (ValueError, RecursionError):
                return f"{answer.status} with something that is not JSON"
            difference = _difference(self._json, found, "")
            if difference:
                return f"{answer.status} with JSON in which {difference}"
        if self._body is not None and not self._body.search(answer.body.decode(errors="replace")):
            return f"{answer.status} with a body in which {self._body.pattern!r} is not found"
        return ""


def _difference(expected: Any, found: Any, path: str) -> str:
    """The first place where ``found`` does not contain ``expected``, or nothing."""
    if isinstance(expected, Mapping):
        if not isinstance(found, Mapping):
            return f"{path or 'the top'} is {_short(found)}, expected an object"
        for key, value in expected.items():
            inner = f"{path}.{key}" if path else key
            if key not in found:
                return f"{inner} is missing"
            difference = _difference(value, found[key], inner)
            if difference:
                return difference
        return ""
    if _typed(expected) == _typed(found):
        return ""
    return f"{path} is {_short(found)}, expected {_short(expected)}"


def _typed(value: Any) -> Any:
    """For comparing: true is not 1, but 1 is 1.0."""
    if isinstance(value, list):
        return [_typed(v) for v in value]
    if isinstance(value, dict):
        return {k: _typed(v) for k, v in value.items()}
    return (isinstance(value, bool), value)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
