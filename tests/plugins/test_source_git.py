"""The settings of the git source: what is let through, and what is said of the rest."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import ValidationError

from warmd.plugins.sources.git import Config


def test_the_url_is_all_that_must_be_given() -> None:
    config = Config.model_validate({"kind": "git", "url": "https://git.example.org/k.git"})
    assert config.branch is None
    assert config.fetch_deadline == timedelta(minutes=2)
    assert config.notes_paths == ("release/{version}", "release/{version}.md", "releaseNotes/{version}.md")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("url", "ext::sh -c id", "expected https://host/path"),
        ("url", "git://git.example.org/k", "use https or ssh"),
        ("url", "http://git.example.org/k", "loopback only"),
        ("branch", "", "at least 1 character"),
        ("fetch_deadline", "0s", "above zero"),
        ("fetch_deadline", 120, "expected a duration"),
        ("notes_paths", ["release/notes.md"], "{version}"),
        ("notes_paths", ["/etc/{version}"], "path in the repository"),
        ("notes_paths", ["../{version}"], "path in the repository"),
        ("notes_paths", ["a\n{version}"], "path in the repository"),
        ("depth", 1, "Extra inputs"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_was_expected(key: str, value: object, said: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Config.model_validate({"kind": "git", "url": "https://git.example.org/k.git", key: value})
    (error,) = raised.value.errors()
    assert error["loc"][0] == key
    assert said in error["msg"]
