"""A registry that asks for a name and a password, beside the lab's own and with the same images."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.lab import Lab, host

_PORT = 5001
#: As the engine sees it.
REGISTRY = f"127.0.0.1:{_PORT}"


def _hashed(password: str) -> str:
    """As the registry wants it; the only standard module that can is deprecated, hence the warning."""
    salt = "crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)"
    script = f"import crypt, sys; print(crypt.crypt(sys.stdin.read(), {salt}))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        input=password,
        text=True,
        capture_output=True,
        check=True,
    )
    return done.stdout.strip()


@contextmanager
def guarded_registry(lab: Lab, folder: Path, user: str, password: str) -> Iterator[None]:
    """Serve the lab's images to whoever knows the password, while the block runs."""
    (folder / "htpasswd").write_text(f"{user}:{_hashed(password)}\n")
    config = folder / "registry.yml"
    config.write_text(
        "version: 0.1\nlog: { level: error, accesslog: { disabled: true } }\n"
        f'storage: {{ filesystem: {{ rootdirectory: "{lab.folder}/registry" }} }}\n'
        f'http: {{ addr: ":{_PORT}" }}\n'
        f'auth: {{ htpasswd: {{ realm: lab, path: "{folder}/htpasswd" }} }}\n'
    )
    with (folder / "registry.log").open("ab") as log:
        process = subprocess.Popen(
            ["nsenter", f"--net={host.NETNS / lab.note.name}", "--", "docker-registry", "serve", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:

            def asks() -> bool:
                try:
                    return httpx.get(f"http://{lab.host}:{_PORT}/v2/", timeout=2).status_code == 401
                except httpx.TransportError:
                    return False

            lab.wait(asks, "the guarded registry")
            yield
        finally:
            process.terminate()
            process.wait(30)


def log_in(folder: Path, user: str, password: str) -> None:
    """What ``docker login`` leaves in a configuration folder."""
    folder.mkdir(exist_ok=True)
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {REGISTRY: {"auth": token}}}))
