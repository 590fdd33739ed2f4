"""Logins are found where docker's client keeps them, and never shown."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from warmd.adapters.docker.credentials import Credentials

AUTH = base64.b64encode(b"me:s3:cret").decode()


async def ask(folder: Path, config: object, registry: str) -> dict[str, Any] | None:
    """What would be sent to the engine, decoded. Nothing of it may have been logged."""
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    with capture_logs() as logs:
        header = await Credentials(folder).header(registry)
    assert "s3:cret" not in str(logs)
    assert AUTH not in str(logs)
    return None if header is None else dict(json.loads(base64.urlsafe_b64decode(header)))


def helper(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = folder / "docker-credential-mine"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("registry.test", "registry.test"),
        ("registry.test:5000", "registry.test:5000"),
        ("https://registry.test/v1/", "registry.test"),
    ],
)
async def test_a_plain_login_is_found_by_its_host(tmp_path: Path, key: str, registry: str) -> None:
    found = await ask(tmp_path, {"auths": {"other.test": {}, key: {"auth": AUTH}}}, registry)
    assert found == {"username": "me", "password": "s3:cret", "serveraddress": key}


async def test_a_port_is_part_of_the_host(tmp_path: Path) -> None:
    assert await ask(tmp_path, {"auths": {"registry.test:5000": {"auth": AUTH}}}, "registry.test") is None


async def test_an_identity_token_is_sent_as_such(tmp_path: Path) -> None:
    found = await ask(tmp_path, {"auths": {"r.test": {"auth": AUTH, "identitytoken": "tok"}}}, "r.test")
    assert found == {"identitytoken": "tok", "serveraddress": "r.test"}


@pytest.mark.parametrize("config", ["", "{", "[]", {"auths": None}, {"auths": {"r.test": None}}, {}])
async def test_a_file_that_says_nothing_is_no_login(tmp_path: Path, config: object) -> None:
    assert await ask(tmp_path, config, "r.test") is None


async def test_no_file_is_no_login(tmp_path: Path) -> None:
    assert await Credentials(tmp_path / "none").header("r.test") is None


async def test_a_login_that_can_not_be_read_is_logged_without_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"r.test": {"auth": "s3cret?"}}}))
    with capture_logs() as logs:
        assert await Credentials(tmp_path).header("r.test") is None
    assert [entry["event"] for entry in logs] == ["registry.credentials-unreadable"]
    assert "s3cret" not in str(logs)


async def test_docker_config_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"r.test": {"auth": AUTH}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert await Credentials().header("r.test") is not None


@pytest.mark.parametrize("config", [{"credsStore": "mine"}, {"credHelpers": {"docker.io": "mine"}}])
async def test_a_helper_is_asked_by_docker_io_s_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]
) -> None:
    answer = json.dumps({"Username": "me", "Secret": "s3:cret"})
    helper(
        tmp_path,
        monkeypatch,
        f"[ \"$1 $(cat)\" = 'get https://index.docker.io/v1/' ] || exit 9\necho '{answer}'",
    )
    found = await ask(tmp_path, config, "docker.io")
    assert found == {
        "username": "me",
        "password": "s3:cret",
        "serveraddress": "https://index.docker.io/v1/",
    }


async def test_a_helper_s_token_is_an_identity_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, """echo '{"Username": "<token>", "Secret": "tok"}'""")
    found = await ask(tmp_path, {"credHelpers": {"r.test": "mine"}}, "r.test")
    assert found == {"identitytoken": "tok", "serveraddress": "r.test"}


@pytest.mark.parametrize("script", ["echo s3:cret; exit 1", "echo s3:cret", "echo '{}'", "echo '[]'"])
async def test_a_helper_that_fails_leaves_the_plain_logins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    helper(tmp_path, monkeypatch, script)
    config = {"credsStore": "mine", "auths": {"r.test": {"auth": AUTH}}}
    assert await ask(tmp_path, config, "r.test") is not None
    assert await ask(tmp_path, config, "public.test") is None


async def test_a_helper_that_is_not_installed_is_no_login(tmp_path: Path) -> None:
    assert await ask(tmp_path, {"credsStore": "not-installed-anywhere"}, "r.test") is None
