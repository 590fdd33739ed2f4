"""Registry credentials, from where ``docker login`` left them. They are passed on and never logged."""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import anyio
import structlog

from warmd.adapters import process
from warmd.errors import WarmdError

log = structlog.get_logger(__name__)

#: docker.io's key in the file, which is not the host it is asked at.
_DOCKER_IO = "https://index.docker.io/v1/"

#: Seconds for a credential helper: it may have to ask a keychain, never a person.
_HELPER_DEADLINE = 30.0

#: What a helper says as user where its secret is an identity token.
_TOKEN_USER = "<token>"  # noqa: S105 - a marker of the helpers' protocol, no secret


class Credentials:
    """Reads ``$DOCKER_CONFIG/config.json`` (else ``~/.docker/config.json``) anew at each question.

    Someone may log in while the daemon runs. Trouble with the file or a helper is logged, without
    contents, and counts as "none": public images must not depend on it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    async def header(self, registry: str) -> str | None:
        """The value of ``X-Registry-Auth`` for a registry's host, or None where nobody logged in."""
        config = await anyio.to_thread.run_sync(self._read)
        helper = _of(config, "credHelpers").get(registry) or config.get("credsStore")
        found = await self._ask_helper(str(helper), registry) if helper else None
        found = found or _plain(_of(config, "auths"), registry)
        if found is None:
            return None
        return base64.urlsafe_b64encode(json.dumps(found).encode()).decode()

    def _read(self) -> Mapping[str, Any]:
        folder = self._folder or Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
        path = folder / "config.json"
        try:
            config = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.warning("registry.credentials-unreadable", path=str(path), reason=type(error).__name__)
            return {}
        return config if isinstance(config, dict) else {}

    async def _ask_helper(self, helper: str, registry: str) -> dict[str, str] | None:
        server = _DOCKER_IO if registry == "docker.io" else registry
        name = f"docker-credential-{helper}"
        try:
            with TemporaryFile() as question:
                question.write(server.encode())
                question.seek(0)
                answer = await process.run(
                    [name, "get"], env=None, deadline=_HELPER_DEADLINE, stdin=question, name=name
                )
            if answer.code != 0:
                # This is how helpers say that they know nothing of a registry, too
                log.debug("registry.no-credentials", helper=name, registry=registry, code=answer.code)
                return None
            found = json.loads(answer.stdout)
            return _credential(found["Username"], found["Secret"], server)
        except (WarmdError, OSError, ValueError, LookupError, TypeError) as error:
            log.warning("registry.helper-failed", helper=name, registry=registry, reason=type(error).__name__)
            return None


def _of(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def _host(key: str) -> str:
    """The host that a key of ``auths`` means: with or without a scheme and a path."""
    host = key.split("://", 1)[-1].split("/", 1)[0]
    return "docker.io" if host in ("index.docker.io", "registry-1.docker.io") else host


def _plain(auths: Mapping[str, Any], registry: str) -> dict[str, str] | None:
    for key, entry in auths.items():
        if _host(key) != registry or not isinstance(entry, dict):
            continue
        if entry.get("identitytoken"):
            return {"identitytoken": str(entry["identitytoken"]), "serveraddress": key}
        if entry.get("auth"):
            try:
                user, _, secret = base64.b64decode(entry["auth"]).decode().partition(":")
            except (binascii.Error, ValueError, TypeError) as error:
                log.warning("registry.credentials-unreadable", key=key, reason=type(error).__name__)
                continue
            return _credential(user, secret.rstrip("\0"), key)
        if entry.get("username"):
            return _credential(str(entry["username"]), str(entry.get("password") or ""), key)
    return None


def _credential(user: str, secret: str, server: str) -> dict[str, str]:
    if user == _TOKEN_USER:
        return {"identitytoken": secret, "serveraddress": server}
    return {"username": user, "password": secret, "serveraddress": server}
