"""One connection to the Docker Engine: deadlines, streams and errors for every call of the adapter."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import anyio

from warmd.adapters.docker import faults
from warmd.errors import ConfigError, DockerUnreachable

if TYPE_CHECKING:
    import aiodocker
    import aiohttp

#: The newest Engine API that is asked for, so that what later ones change does not change us.
_NEWEST_API = (1, 51)


class EngineAnswer(Exception):
    """The engine answered with an error status. Stays inside this package."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"HTTP {status}: {message}")
        self.status = status
        self.message = message


class Engine:
    """Asks the engine and translates what goes wrong. ``host`` is as configured, for messages.

    ``deadline`` is in seconds, for one whole answer; ``connect`` for a connection to ask on.
    """

    def __init__(self, docker: aiodocker.Docker, host: str, *, connect: float, deadline: float) -> None:
        self._docker = docker
        self.host = host
        self.connect = connect
        self.deadline = deadline

    async def get(
        self, path: str, *, doing: str, filters: Mapping[str, list[str]] | None = None, **params: str
    ) -> Any:
        """The JSON answer of a GET. Raises what ``call`` raises."""
        if filters:
            params["filters"] = json.dumps(filters)
        return await self.call("GET", path, doing=doing, params=params)

    async def call(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        params: Mapping[str, str] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        missing_ok: bool = False,
    ) -> Any:
        """One call; its JSON answer, None where it is empty. ``doing`` says in messages what it is for.

        With ``missing_ok``, what is not there (404) is None too. Raises DockerUnreachable,
        SwarmConflict or Refused; see ``faults``.
        """
        try:
            return await self.ask(method, path, doing=doing, params=params, body=body, headers=headers)
        except EngineAnswer as answer:
            if missing_ok and answer.status == 404:
                return None
            raise faults.translate(self.host, doing, answer.status, answer.message) from None

    async def ask(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        params: Mapping[str, str] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Like ``call``, but an error status is raised as EngineAnswer, for callers that read it."""
        with self.boundary(doing):
            try:
                with anyio.fail_after(self.deadline):
                    async with self._open(
                        method, path, params=params, body=body, headers=headers
                    ) as response:
                        content = await response.read()
            except TimeoutError as error:
                raise self._late(error, doing, self.deadline) from None
            return json.loads(content) if content.strip() else None

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        first: float | None = None,
        late: Exception | None = None,
    ) -> AsyncIterator[JsonLines]:
        """A streamed answer, line by line, closed on exit.

        ``first`` is how many seconds it may take to begin (default: the deadline), ``late`` what is
        raised then (default: DockerUnreachable).
        """
        limit = self.deadline if first is None else first
        async with AsyncExitStack() as stack:
            with self.boundary(doing):
                opened = self._open(method, path, params=params, headers=headers)
                try:
                    with anyio.fail_after(limit):
                        response = await stack.enter_async_context(opened)
                except TimeoutError as error:
                    raise self._late(error, doing, limit, late) from None
            # Closed rather than drained: these streams may never end
            stack.callback(response.close)
            yield JsonLines(self, response, doing)

    def _late(
        self, error: TimeoutError, doing: str, limit: float, otherwise: Exception | None = None
    ) -> Exception:
        """What a deadline that passed is told as: no connection is the engine's fault whatever was asked."""
        import aiohttp

        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return faults.no_connection(self.host, doing, self.connect)
        return otherwise or faults.too_slow(self.host, doing, limit)

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        # aiodocker's typed calls take no deadline, drop fields they do not know (specs have to go in
        # and come out whole) and, for services, update nothing but the image. So everything goes
        # through the function under them; this is the only place that knows its name.
        await self._negotiate()
        async with (
            self._docker._query(
                path,
                method,
                params=dict(params) if params else None,
                data=None if body is None else json.dumps(body),
                headers=dict(headers) if headers else None,
            ) as response,
            response,
        ):
            yield response

    async def _negotiate(self) -> None:
        """Agree on an API version at the first call: the engine's own, ours if that is older."""
        if self._docker.api_version != "auto":
            return
        async with self._docker._query("version", versioned_api=False) as response, response:
            answer = json.loads(await response.read())
        newest, oldest = _version(answer["ApiVersion"]), _version(answer.get("MinAPIVersion") or "1.12")
        chosen = max(min(newest, _NEWEST_API), oldest)
        self._docker.api_version = "v{}.{}".format(*chosen)

    @contextmanager
    def boundary(self, doing: str) -> Iterator[None]:
        """The one place where aiodocker's, aiohttp's and the system's errors become ours.

        So do those of code that reads an answer and finds it is not what the Engine API promises.
        """
        import aiodocker
        import aiohttp

        try:
            yield
        except aiodocker.DockerError as error:
            if error.status == 900:  # aiodocker's own number for "no connection"
                raise faults.unreachable(self.host, doing, error) from error
            if error.status == 400 and "client version" in error.message:
                # The engine was replaced by one that no longer speaks the version agreed on
                self._docker.api_version = "auto"
                raise DockerUnreachable(
                    f"Docker at {self.host} was replaced ({doing}): {error.message}"
                ) from None
            raise EngineAnswer(error.status, error.message) from None
        except (aiohttp.ClientError, OSError) as error:
            raise faults.unreachable(self.host, doing, error) from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise faults.unusable(self.host, doing, error) from error


class JsonLines:
    """The JSON objects of a stream, one a line."""

    def __init__(self, engine: Engine, response: aiohttp.ClientResponse, doing: str) -> None:
        self._engine = engine
        self._response = response
        self._doing = doing
        self._buffer = bytearray()

    async def next(self, *, within: float = math.inf, late: Exception | None = None) -> dict[str, Any] | None:
        """The next object, or None at the end. Raises DockerUnreachable where the connection broke.

        Where no byte comes ``within`` so many seconds, raises ``late``.
        """
        while True:
            try:
                line = await self._line(within)
            except TimeoutError:
                raise late or faults.too_slow(self._engine.host, self._doing, within) from None
            if line is None:
                return None
            if line.strip():
                with self._engine.boundary(self._doing):
                    return dict(json.loads(line))

    async def _line(self, within: float) -> bytes | None:
        while (end := self._buffer.find(b"\n")) < 0:
            with anyio.fail_after(within), self._engine.boundary(self._doing):
                chunk = await self._response.content.readany()
            if not chunk:
                rest, self._buffer = bytes(self._buffer), bytearray()
                return rest or None
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)


@asynccontextmanager
async def connect(docker_host: str, *, connect: float, deadline: float) -> AsyncIterator[Engine]:
    """An engine at ``unix:///path`` or ``tcp://host:port``. Nothing is asked yet, so it may be down.

    ``connect`` and ``deadline`` as ``Engine`` has them. Raises ConfigError where ``docker_host`` is neither.
    """
    # Imported here: aiodocker takes a quarter of a second, which a short command does not need
    import aiodocker
    import aiohttp

    if not docker_host.startswith(("unix:///", "tcp://")):
        raise ConfigError(f"docker_host: expected unix:///path or tcp://host:port, not {docker_host!r}")
    try:
        # The rest of an answer's time is for whoever asks: pulls and events may take longer than calls
        timeout = aiohttp.ClientTimeout(sock_connect=connect)
        docker = aiodocker.Docker(docker_host, timeout=timeout)
    except (ValueError, OSError) as error:  # TLS settings from the environment
        raise ConfigError(f"docker_host {docker_host}: {error}") from error
    async with docker:
        yield Engine(docker, docker_host, connect=connect, deadline=deadline)
