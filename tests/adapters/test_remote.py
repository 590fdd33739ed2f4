"""Which URLs are let through, what git is told of them, and what is never shown."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from warmd.adapters.remote import Remote, environment

BASE = Path("/etc/warmd")


@pytest.mark.parametrize(
    ("text", "url", "protocol"),
    [
        ("https://git.example.org/recipes/keycloak.git", None, "https"),
        ("HTTPS://Git.Example.org:443/k", "https://git.example.org/k", "https"),
        ("https://git.example.org:8443/k", None, "https"),
        ("http://127.0.0.1:3000/k", None, "http"),
        ("http://localhost/k", None, "http"),
        ("http://[::1]:3000/k", None, "http"),
        ("ssh://git@git.example.org:2222/k.git", None, "ssh"),
        ("git@git.example.org:recipes/k.git", None, "ssh"),
        ("git.example.org:k", None, "ssh"),
        ("/srv/git/k.git", None, "file"),
        ("file:///srv/git/k.git", "/srv/git/k.git", "file"),
        ("file:///srv/with%20space", "/srv/with space", "file"),
        ("../recipes/k", "/etc/recipes/k", "file"),
        ("recipes/k", "/etc/warmd/recipes/k", "file"),
    ],
)
def test_an_allowed_url_is_for_one_protocol(text: str, url: str | None, protocol: str) -> None:
    remote = Remote.parse(text, BASE)
    assert (remote.url, remote.protocol) == (url or text, protocol)
    assert remote.environment()["GIT_ALLOW_PROTOCOL"] == protocol


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-oProxyCommand=touch /tmp/x",
        "--upload-pack=touch",
        "ext::sh -c touch% /tmp/x",
        "ext::touch",
        "fd::17",
        "http://git.example.org/k",
        "http://127.0.0.1.example.org/k",
        "git://git.example.org/k",
        "git+ssh://git.example.org/k",
        "ftp://git.example.org/k",
        "https:///k",
        "https://git.example.org:port/k",
        "ssh://-oProxyCommand=touch/k",
        "ssh://git:secret@git.example.org/k",
        "-oProxyCommand=touch:k",
        "git@-oProxyCommand=touch:k",
        "git@git.example.org:--upload-pack=touch",
        "file://fileserver/share/k",
        "https://git.example.org/k\nhttps://other.example.org/k",
        "https://git.example.org/a b",
        "/srv/\x1b[31m",
        "~/recipes/k",
    ],
)
def test_any_other_url_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|allowed|use https|carries no|no host|Port"):
        Remote.parse(text, BASE)


def test_every_spelling_of_a_place_has_one_folder_and_other_places_others() -> None:
    spellings = (
        "https://git.example.org/recipes/Keycloak.git",
        "https://GIT.example.org:443/recipes/Keycloak.git/",
        "https://bot:token@git.example.org/recipes/Keycloak.git",
        "https://bot@git.example.org/recipes/Keycloak.git",
    )
    others = ("https://git.example.org/recipes/keycloak", "ssh://git.example.org/recipes/Keycloak.git", "/k")
    (folder,) = {Remote.parse(text, BASE).folder for text in spellings}
    assert folder.startswith("keycloak-")
    assert folder.endswith(".git")
    assert len({folder, *(Remote.parse(text, BASE).folder for text in others)}) == 4


@pytest.mark.parametrize(
    "text", ["https://h/..", "https://h/", "/", "h:.", "https://h/" + "x" * 500, "https://h/é/ß"]
)
def test_a_folder_is_a_plain_and_short_name(text: str) -> None:
    folder = Remote.parse(text, BASE).folder
    assert "/" not in folder
    assert not folder.startswith(".")
    assert folder.isascii()
    assert len(folder) < 80


def test_a_password_goes_to_its_host_in_the_environment_and_nowhere_else() -> None:
    remote = Remote.parse("https://bot:s3cr%20t@git.example.org:8443/k", BASE)
    env = remote.environment()
    header = "Authorization: Basic " + base64.b64encode(b"bot:s3cr t").decode()
    number = next(name.rpartition("_")[2] for name, value in env.items() if value == header)
    assert env[f"GIT_CONFIG_KEY_{number}"] == "http.https://git.example.org:8443/.extraHeader"
    for text in (remote.url, remote.shown, remote.identity, remote.folder, repr(remote)):
        assert "s3cr" not in text
        assert "bot" not in text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("fatal: 'https://bot:s3cret@h/k' not found", "fatal: 'https://***@h/k' not found"),
        ("token s3cret was refused", "token *** was refused"),
        ("ssh://git@h/k", "ssh://***@h/k"),
        ("https://h/a@b", "https://h/a@b"),
    ],
)
def test_messages_are_without_secrets(text: str, masked: str) -> None:
    assert Remote.parse("https://bot:s3cret@h/k", BASE).masked(text) == masked


def test_only_what_git_needs_of_the_environment_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "GIT_DIR", "GIT_SSH_COMMAND", "GIT_PROXY_COMMAND", "GIT_EXEC_PATH"):
        monkeypatch.setenv(name, "/tmp/evil")
    monkeypatch.setenv("HOME", "/home/warmd")
    env = environment()
    assert "/tmp/evil" not in env.values()
    assert env["HOME"] == "/home/warmd"
    assert env["GIT_ALLOW_PROTOCOL"] == "none"
