"""One GET for a health check: bounded in time and size, no proxies, no redirects but allowed ones.

The answer is data, also where there is none: ``NoAnswer`` tells a service that does not answer from
a question that could not be asked. Only the first says anything about the service.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio
from anyio import to_thread

if TYPE_CHECKING:
    import httpx

MAX_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))

#: Where connecting fails like this, something at the other end said no, or kept silent.
_THEIRS: Final = frozenset(
    (errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ETIMEDOUT)
)


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask. ``url`` is http or https without user and password; ``headers`` go only to its
    own origin.

    ``resolve`` is ``ip``, ``ip:port`` or ``[ip]:port`` to connect to instead of the URL's host; the
    Host header and the name in the certificate stay the URL's. ``ca_file`` is trusted instead of the
    system's. ``redirect_hosts`` may be redirected to beside the URL's own host, if ``redirects``.
    ``max_body`` is in bytes; 0 reads none. ``timeout`` is in seconds, for everything together.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    ca_file: Path | None = None
    resolve: str | None = None
    redirects: bool = False
    redirect_hosts: frozenset[str] = frozenset()
    max_body: int = 1024 * 1024
    timeout: float = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from ``url``, the last one after redirects. ``whole`` is False where the body
    was longer than ``max_body``."""

    url: str
    status: int
    body: bytes
    whole: bool


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """No usable answer, in a few words. ``asked`` is False where the question could not be put: no
    name service, no route, no file descriptor left, no CA file."""

    why: str
    asked: bool


def shown(url: str) -> str:
    """A URL for messages: without its query, where tokens are."""
    return url.partition("#")[0].partition("?")[0]


async def get(request: Request) -> Answer | NoAnswer:
    """Ask once. Raises nothing but cancellation."""
    try:
        # In a thread: it reads files. Made anew each time: certificates change while a daemon runs.
        context = await to_thread.run_sync(_context, request.ca_file)
    except OSError as error:
        what = f"the CA file {request.ca_file}" if request.ca_file else "the system's certificates"
        return NoAnswer(f"{what} can't be used: {error.strerror or error}", False)
    asked = False  # a name service that keeps silent is not the service's fault
    try:
        with anyio.move_on_after(request.timeout):
            async with _client(context) as client:
                if not request.resolve:
                    await _find(client.build_request("GET", request.url).url)
                asked = True
                return await _follow(client, request)
    except Exception as error:
        return _classify(error)
    what = "did not answer" if asked else "its name could not be looked up"
    return NoAnswer(f"{what} within {request.timeout:g} s", asked)


@asynccontextmanager
async def _client(context: ssl.SSLContext) -> AsyncIterator[httpx.AsyncClient]:
    import httpx

    async with httpx.AsyncClient(verify=context, trust_env=False, timeout=None) as client:  # noqa: S113 - get() has one for all
        yield client


def _context(ca_file: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))


async def _find(url: httpx.URL) -> None:
    """Look the host up before it is asked, to tell whose fault a silence is."""
    if not _is_ip(url.host):
        await anyio.getaddrinfo(url.raw_host, url.port or url.scheme, type=socket.SOCK_STREAM)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


_Step: TypeAlias = "Answer | NoAnswer | httpx.URL"


async def _follow(client: httpx.AsyncClient, request: Request) -> Answer | NoAnswer:
    import httpx

    first = url = httpx.URL(request.url)
    for _ in range(MAX_REDIRECTS + 1):
        step = await _ask(client, request, first, url)
        if not isinstance(step, httpx.URL):
            return step
        if step.host != first.host and step.host not in request.redirect_hosts:
            return NoAnswer(f"redirects to {step.host}, which is not in redirect_hosts", True)
        if step.scheme != "https" and step.scheme != first.scheme:
            return NoAnswer(f"redirects to {shown(str(step))}, which is not https", True)
        url = step
    return NoAnswer(f"redirects more than {MAX_REDIRECTS} times", True)


async def _ask(client: httpx.AsyncClient, request: Request, first: httpx.URL, url: httpx.URL) -> _Step:
    headers, extensions = {"accept-encoding": "identity", "user-agent": "warmd"}, {}
    own = _origin(url) == _origin(first)
    if own or (url.host == first.host and url.scheme == "https" and first.scheme == "http"):
        headers |= {key.lower(): value for key, value in request.headers.items()}
    target = url
    if request.resolve and url.host == first.host:
        ip, port = split_address(request.resolve)
        # The certificate is checked against the URL's name, and the service sees the URL's host.
        extensions["sni_hostname"] = url.raw_host.decode("ascii")
        headers.setdefault("host", url.netloc.decode("ascii"))
        target = url.copy_with(host=ip, port=port if port and own else url.port)
    async with client.stream("GET", target, headers=headers, extensions=extensions) as response:
        if request.redirects and response.status_code in _REDIRECTS and "location" in response.headers:
            return url.join(response.headers["location"])  # the client has refused what is no URL
        body, whole = await _read(response, request.max_body)
        return Answer(str(url), response.status_code, body, whole)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return (url.scheme, url.host, url.port)


async def _read(response: httpx.Response, limit: int) -> tuple[bytes, bool]:
    """At most ``limit`` bytes, as they were sent: nothing is unpacked, so nothing can blow up."""
    body = bytearray()
    if limit:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > limit:
                return bytes(body[:limit]), False
    return bytes(body), True


def split_address(text: str) -> tuple[str, int | None]:
    """``ip``, ``ip:port`` or ``[ip]:port`` as (ip, port). Raises ValueError for anything else."""
    host, port = text, ""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
        if rest and not rest.startswith(":"):
            host = ""
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not _is_ip(host) or not (port == "" or (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
        raise ValueError(
            f'expected an address such as "192.0.2.1", "192.0.2.1:8443" or "[::1]:8443", not {text!r}'
        )
    return host, int(port) if port else None


def _classify(error: Exception) -> NoAnswer:
    """Whose fault it is: the service's, or that of the way to it and of this machine."""
    import httpx

    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            why = getattr(cause, "verify_message", "") or cause.reason or "TLS failed"
            return NoAnswer(f"TLS: {why}", True)
        if isinstance(cause, socket.gaierror):
            return NoAnswer(f"its name could not be looked up: {cause.strerror}", False)
    numbers = [c.errno for c in causes if isinstance(c, OSError) and c.errno]
    if numbers:
        # With several addresses one that said no counts more than one without a route.
        theirs = [number for number in numbers if number in _THEIRS]
        return NoAnswer(os.strerror((theirs or numbers)[0]).lower(), bool(theirs))
    if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError):
        return NoAnswer(f"broke off: {error}" if str(error) else "broke off the connection", True)
    return NoAnswer(f"could not be asked: {type(error).__name__}: {error}", False)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                yield from _causes(inner)
        # httpcore raises "from None", and the errno is in what it hides.
        error = error.__cause__ or error.__context__
