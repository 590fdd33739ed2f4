"""What a git URL of the configuration means: which protocol, which mirror, and nothing of secrets.

git runs helpers for many forms of URL (``ext::`` runs any command), so only the forms below are
let through, and git itself is told the one protocol that may be used.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

Protocol = Literal["https", "http", "ssh", "file"]

_EXPECTED = "expected https://host/path, ssh://user@host/path, user@host:path or a local path"
_SCP = re.compile(r"(?:(?P<user>[^@/:]+)@)?(?P<host>[^@/:\[\]]+|\[[0-9a-fA-F:]+\]):(?P<path>.+)", re.DOTALL)
_USERINFO = re.compile(r"(?<=://)[^/@\s'\"]*@")
_PORTS = {"https": 443, "http": 80, "ssh": 22}

# What git, ssh and curl may see of our environment; everything else stays here.
_PASSED = (
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "SSH_AUTH_SOCK", "XDG_RUNTIME_DIR", "KRB5CCNAME"),
    *("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH"),
)

# Old and harmless slips that well-known hosts accept; whatever could do harm stays an error.
_FSCK_TOLERATED = ("zeroPaddedFilemode", "missingSpaceBeforeDate", "badTimezone", "missingEmail", "badEmail")

_CONFIG: tuple[tuple[str, str], ...] = (
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("credential.helper", ""),  # empty: forget all helpers
    ("fetch.fsckObjects", "true"),
    *((f"fetch.fsck.{name}", "warn") for name in _FSCK_TOLERATED),
    ("fetch.recurseSubmodules", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("protocol.version", "2"),
)


def environment(config: tuple[tuple[str, str], ...] = (), *, protocol: str = "") -> dict[str, str]:
    """The whole environment of a git command that reads no configuration but ours and never asks.

    ``protocol`` is the one that it may use; none for a command that needs no remote.
    """
    env = {name: os.environ[name] for name in _PASSED if name in os.environ}
    env |= {
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "false",
        "SSH_ASKPASS": "false",
        "SSH_ASKPASS_REQUIRE": "never",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=30",
        "GIT_SSH_VARIANT": "ssh",
        "GIT_ALLOW_PROTOCOL": protocol or "none",
    }
    pairs = _CONFIG + config
    env["GIT_CONFIG_COUNT"] = str(len(pairs))
    for number, (key, value) in enumerate(pairs):
        env[f"GIT_CONFIG_KEY_{number}"] = key
        env[f"GIT_CONFIG_VALUE_{number}"] = value
    return env


@dataclass(frozen=True, slots=True)
class Remote:
    """A repository that may be fetched from.

    ``url`` is what git gets, without a password; ``shown`` is for messages; ``identity`` is the same
    for every spelling of the same place; ``config`` carries the password, if there is one.
    """

    url: str
    shown: str
    protocol: Protocol
    identity: str
    config: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def parse(cls, text: str, base: Path) -> Remote:
        """The remote that ``text`` names; relative paths are relative to ``base``. Raises ValueError."""
        if not text or any(c.isspace() or not c.isprintable() for c in text):
            raise ValueError(f"{_EXPECTED}, without spaces or control characters")
        if text.startswith("~"):
            raise ValueError("expected a whole path: ~ is not expanded")
        if text.startswith("-") or re.match(r"[\w+.-]+::", text):
            raise ValueError(_EXPECTED)
        if "://" in text:
            return cls._from_url(urlsplit(text), base)
        scp = None if text.startswith(("/", ".")) else _SCP.fullmatch(text)
        return cls._from_scp(text, scp) if scp is not None else cls._local(text, base)

    @classmethod
    def _from_url(cls, parts: SplitResult, base: Path) -> Remote:
        scheme, host = parts.scheme.lower(), parts.hostname or ""
        if scheme == "file":
            if host not in ("", "localhost"):
                raise ValueError("a file:// URL has no host: expected file:///path")
            return cls._local(unquote(parts.path), base)
        if not host or host.startswith("-") or (parts.username or "").startswith("-"):
            raise ValueError(_EXPECTED)
        if scheme == "http" and not _loopback(host):
            raise ValueError(
                "http is neither encrypted nor authenticated and allowed for loopback only: use https"
            )
        if scheme == "git":
            raise ValueError("git:// is neither encrypted nor authenticated: use https or ssh")
        if scheme not in ("https", "http", "ssh"):
            raise ValueError(f"the protocol {scheme} is not allowed: {_EXPECTED}")
        protocol: Protocol = "https" if scheme == "https" else "http" if scheme == "http" else "ssh"
        place = f"[{host}]" if ":" in host else host
        if parts.port is not None and parts.port != _PORTS[scheme]:
            place += f":{parts.port}"
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if protocol == "ssh":
            if password:
                raise ValueError("an ssh URL carries no password: use a key")
            netloc = f"{quote(user)}@{place}" if user else place
            url = urlunsplit(("ssh", netloc, parts.path, "", ""))
            return cls(url, url, "ssh", url.rstrip("/"))
        bare = urlunsplit((scheme, place, parts.path, parts.query, ""))
        identity = bare.rstrip("/")
        if not user and not password:
            return cls(bare, bare, protocol, identity)
        if not password:  # ~/.netrc may know the password of this user
            url = urlunsplit((scheme, f"{quote(user, safe='')}@{place}", parts.path, parts.query, ""))
            return cls(url, bare, protocol, identity, secrets=(user,))
        # Not in the URL: git's own helpers would show it in the list of processes.
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        header = (f"http.{scheme}://{place}/.extraHeader", f"Authorization: Basic {token}")
        return cls(bare, bare, protocol, identity, (header,), (password, token))

    @classmethod
    def _from_scp(cls, text: str, scp: re.Match[str]) -> Remote:
        if scp["host"].startswith("-") or (scp["user"] or "").startswith("-") or scp["path"].startswith("-"):
            raise ValueError(_EXPECTED)
        return cls(text, text, "ssh", text.rstrip("/"))

    @classmethod
    def _local(cls, text: str, base: Path) -> Remote:
        path = os.path.normpath(base / text)
        return cls(path, path, "file", path)

    @property
    def folder(self) -> str:
        """A folder name for the mirror: readable, and different for different places."""
        last = re.split(r"[/:]", self.identity)[-1].removesuffix(".git").lower()
        readable = re.sub(r"[^a-z0-9_-]+", "-", last).strip("-")[:40] or "repository"
        return f"{readable}-{hashlib.sha256(self.identity.encode()).hexdigest()[:16]}.git"

    def environment(self) -> Mapping[str, str]:
        # git would send the password on to wherever it is redirected.
        redirects = ("http.followRedirects", "false" if self.config else "initial")
        return environment((*self.config, redirects), protocol=self.protocol)

    def masked(self, text: str) -> str:
        """``text`` without the password, and without user information in any URL."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return _USERINFO.sub("***@", text)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
