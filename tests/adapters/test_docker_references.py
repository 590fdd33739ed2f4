"""Image references mean what docker's own client takes them for."""

from __future__ import annotations

import pytest

from warmd.adapters.docker.references import Reference
from warmd.errors import Refused

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tagged"),
    [
        ("nginx", "docker.io", "docker.io/library/nginx", "nginx:latest"),
        ("nginx:1.25", "docker.io", "docker.io/library/nginx", "nginx:1.25"),
        ("user/app:1", "docker.io", "docker.io/user/app", "user/app:1"),
        ("docker.io/nginx:1", "docker.io", "docker.io/library/nginx", "docker.io/nginx:1"),
        ("index.docker.io/user/app", "docker.io", "docker.io/user/app", "index.docker.io/user/app:latest"),
        ("quay.io/a/b:2", "quay.io", "quay.io/a/b", "quay.io/a/b:2"),
        ("localhost/app", "localhost", "localhost/app", "localhost/app:latest"),
        ("127.0.0.1:5000/app", "127.0.0.1:5000", "127.0.0.1:5000/app", "127.0.0.1:5000/app:latest"),
        ("host:5000/a/b:1", "host:5000", "host:5000/a/b", "host:5000/a/b:1"),
        ("Host/app:1", "Host", "Host/app", "Host/app:1"),
        (f"nginx:1@{DIGEST}", "docker.io", "docker.io/library/nginx", "nginx:1"),
    ],
)
def test_parts(text: str, registry: str, repository: str, tagged: str) -> None:
    found = Reference.parse(text)
    assert (found.registry, found.repository, found.tagged) == (registry, repository, tagged)


@pytest.mark.parametrize(
    ("text", "pinned", "local"),
    [
        ("app", f"app:latest@{DIGEST}", "app:latest"),
        ("h:5/app:1", f"h:5/app:1@{DIGEST}", "h:5/app:1"),
        (f"h:5/app:1@{DIGEST}", f"h:5/app:1@{DIGEST}", f"h:5/app@{DIGEST}"),
        (f"h:5/app@{DIGEST}", f"h:5/app@{DIGEST}", f"h:5/app@{DIGEST}"),
    ],
)
def test_pinning_keeps_the_tag_and_a_digest_alone_decides(text: str, pinned: str, local: str) -> None:
    found = Reference.parse(text)
    assert (found.pinned(DIGEST), found.local) == (pinned, local)


@pytest.mark.parametrize(
    "text",
    ["", ":1", "app:", "app@", "app@sha256:zz", "app:1@", "a b", "app?x=1", "app#x", "../app", "-a"],
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="not an image reference"):
        Reference.parse(text)
