"""What the engine's failures mean: its statuses and texts as warmd's errors, in one place."""

from __future__ import annotations

import errno
import re

from warmd.errors import DockerUnreachable, Refused, RegistryUnreachable, SwarmConflict, Transient, WarmdError

_NOT_RUNNING = "is Docker running? try: docker -H {host} info"
_DENIED = "this user may not use Docker's socket: run warmd as root or in the group docker"
_HANGS = "Docker may hang: see journalctl -u docker, then systemctl restart docker"
_LOGIN = "docker login {registry}"


def unreachable(host: str, doing: str, error: BaseException) -> DockerUnreachable:
    """No connection, or one that broke."""
    cause = _system_error(error)
    reason = (cause.strerror if cause else None) or str(error) or type(error).__name__
    denied = cause is not None and cause.errno in (errno.EACCES, errno.EPERM)
    hint = _DENIED if denied else _NOT_RUNNING.format(host=host)
    return DockerUnreachable(f"Docker does not answer at {host} ({doing}): {reason}", hint=hint)


def no_connection(host: str, doing: str, seconds: float) -> DockerUnreachable:
    """Nobody took the connection in time."""
    return DockerUnreachable(
        f"Docker took no connection at {host} within {seconds:g} s ({doing})", hint=_HANGS
    )


def too_slow(host: str, doing: str, seconds: float) -> DockerUnreachable:
    """The deadline passed without a whole answer."""
    return DockerUnreachable(f"Docker did not answer at {host} within {seconds:g} s ({doing})", hint=_HANGS)


def unusable(host: str, doing: str, error: BaseException) -> DockerUnreachable:
    """An answer that is not what the Engine API promises."""
    detail = f"{type(error).__name__}: {error}"
    return DockerUnreachable(f"what answers at {host} does not speak the Engine API ({doing}): {detail}")


def _system_error(error: BaseException | None) -> OSError | None:
    """The operating system's own error behind a library's, which says it best."""
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return error
        error = error.__cause__ or error.__context__
    return None


def translate(host: str, doing: str, status: int, message: str) -> WarmdError:
    """An answer with an error status as the error that the caller should see."""
    text = message.strip() or f"HTTP {status}"
    lower = text.lower()
    # swarmkit tells a stale index by text alone: the status is 500
    if "update out of sequence" in lower or status == 409:
        return SwarmConflict(f"{doing}: {text}")
    if "not a swarm manager" in lower and "being prepared" not in lower:
        return _no_manager(host, doing, text, lower)
    if "swarm is encrypted" in lower:
        return DockerUnreachable(f"{doing}: the swarm at {host} is locked", hint="docker swarm unlock")
    if 400 <= status < 500:
        return Refused(f"{doing}: {text}")
    failed = f"Docker failed at {host} ({doing}): HTTP {status}: {text}"
    # With 502 to 504, and while the swarm has no leader, nobody answers for the swarm. A plain 500 is an
    # answer: the same call may go on failing, and whoever waits must not wait for ever.
    if status > 500 or "leader" in lower or "being prepared" in lower:
        return DockerUnreachable(failed)
    return Transient(failed)


def _no_manager(host: str, doing: str, text: str, lower: str) -> DockerUnreachable:
    """Not Refused: nobody asked for what the swarm won't have, and a run goes on once it is mended."""
    if "worker nodes" in lower:
        return DockerUnreachable(
            f"{doing}: the node at {host} is a worker, and only managers show the swarm",
            hint="run warmd on a manager, or on one: docker node promote NODE",
        )
    return DockerUnreachable(f"{doing}: {text.split('. ')[0]} ({host})", hint="docker swarm init")


_MISSING = re.compile(
    r"manifest unknown|name unknown|manifest for \S+ not found|repository \S+ not found"
    r"|no matching manifest|no match for platform|invalid reference format|: not found$",
    re.IGNORECASE,
)
_FORBIDDEN = re.compile(
    r"pull access denied|unauthorized|no basic auth credentials|authentication required|denied: ",
    re.IGNORECASE,
)
_FULL = re.compile("no space left on device", re.IGNORECASE)


def pull_failed(image: str, registry: str, status: int, message: str) -> WarmdError:
    """Why an image could not be pulled: a status before the stream, or an error line (status 0) in it."""
    text = " ".join(message.split()) or f"HTTP {status}"
    if _FORBIDDEN.search(text):
        return Refused(
            f"image {image} does not exist or may not be read: {text}", hint=_LOGIN.format(registry=registry)
        )
    if _MISSING.search(text) or status in (400, 404):
        return Refused(f"image {image} does not exist: {text}", hint=f"docker pull {image}")
    if _FULL.search(text):
        return RegistryUnreachable(f"image {image} could not be pulled: {text}", hint="docker image prune")
    return RegistryUnreachable(
        f"image {image} could not be pulled from {registry}: {text}", hint=f"docker pull {image}"
    )
