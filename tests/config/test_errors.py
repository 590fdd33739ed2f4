"""Everything that is wrong is said at once, with its place, in words that need no knowledge of Python."""

from __future__ import annotations

import enum
import re
import tomllib
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from warmd.config import ConfigProblems, parse
from warmd.config.models import SERVICE_NAME, STACK_NAME, File
from warmd.config.problems import dotted, explain
from warmd.errors import ConfigError
from warmd.plugins.base import Duration

from .samples import SERVICE

PATH = Path("/etc/warmd/warmd.toml")


def errors(text: str, path: Path = PATH) -> list[str]:
    """What is said of a configuration, one line an error, without the file's name."""
    with pytest.raises(ConfigProblems) as caught:
        parse(text, path)
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


def only(text: str) -> str:
    found = errors(text)
    assert len(found) == 1, found
    return found[0]


def test_a_right_configuration_has_no_errors() -> None:
    assert list(parse(SERVICE, PATH).services) == ["keycloak"]


def test_the_message_has_every_error_with_file_line_key_and_what_was_expected() -> None:
    text = '[daemon]\ninterval = 5\nmax_parallel = 0\n\n[services.keycloak]\npolcy.notes = "ignore"\n'
    with pytest.raises(ConfigError) as caught:
        parse(text, PATH)
    assert caught.value.exit_code == 2
    assert caught.value.message.split("\n") == [
        "6 errors in the configuration, nothing was started:",
        '/etc/warmd/warmd.toml:2: daemon.interval: expected a duration such as "90s", "5m" or "1h30m", not 5',
        "/etc/warmd/warmd.toml:3: daemon.max_parallel: must be at least 1",
        '/etc/warmd/warmd.toml:5: services.keycloak.source: missing, expected a table with kind = "git"',
        '/etc/warmd/warmd.toml:5: services.keycloak.deploy: missing, expected a table with kind = "stack"',
        "/etc/warmd/warmd.toml:5: services.keycloak.snapshot: missing, expected a table with kind = "
        '"archive" or "none"',
        '/etc/warmd/warmd.toml:6: services.keycloak.polcy: unknown key, did you mean "policy"?',
    ]


UNKNOWN = {
    "[deamon]\n": '1: deamon: unknown key, did you mean "daemon"?',
    '[daemon]\nheart_beat = "x"\n': '2: daemon.heart_beat: unknown key, did you mean "heartbeat"?',
    SERVICE + '[services.keycloak.policy]\nnote = "ignore"\n': (
        '12: services.keycloak.policy.note: unknown key, did you mean "notes"?'
    ),
    SERVICE
    + "zzz = 1\n": "11: services.keycloak.snapshot.zzz: unknown key, known here: kind, exclude, keep, level",
    SERVICE + "kep = 1\n": '11: services.keycloak.snapshot.kep: unknown key, did you mean "keep"?',
    SERVICE + '[[services.keycloak.health]]\nkind = "http"\nurl = "https://x.example.org/"\nstaus = 200\n': (
        '14: services.keycloak.health[1].staus: unknown key, did you mean "status"?'
    ),
}


@pytest.mark.parametrize(
    ("text", "expected"), UNKNOWN.items(), ids=[v.split(":")[1] for v in UNKNOWN.values()]
)
def test_an_unknown_key_is_an_error_that_names_the_nearest_known_one(text: str, expected: str) -> None:
    assert only(text) == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ('kind = "gti"', 'source.kind: expected "git", not "gti", did you mean "git"?'),
        ('kind = "svn"', 'source.kind: expected "git", not "svn"'),
        ("kind = 5", 'source.kind: expected "git"'),
        ("", 'source.kind: missing, expected "git"'),
    ],
)
def test_a_kind_that_no_plugin_has_names_those_there_are(kind: str, expected: str) -> None:
    line = 4 if kind else 3
    assert only(SERVICE.replace('kind = "git"', kind)) == f"{line}: services.keycloak.{expected}"


def test_a_plugins_own_errors_have_their_place_too() -> None:
    text = SERVICE.replace('url = "https://git.example.org/keycloak.git"', "branch = 5")
    found = errors(text)
    assert [line.split(": ")[:2] for line in found] == [
        ["3", "services.keycloak.source.url"],
        ["5", "services.keycloak.source.branch"],
    ]
    assert "missing" in found[0]
    assert "expected text, not a whole number" in found[1]


def test_two_services_with_one_stack_are_both_named() -> None:
    text = SERVICE + SERVICE.replace("services.keycloak", "services.login")
    assert (
        only(text)
        == '12: services.login.stack: the services "keycloak" and "login" have the same stack "sso"'
    )


def test_a_stack_that_another_services_name_stands_for_counts_too() -> None:
    other = SERVICE.replace("services.keycloak", "services.sso").replace('stack = "sso"\n', "")
    assert (
        only(SERVICE + other)
        == '11: services.sso.stack: the services "keycloak" and "sso" have the same stack "sso"'
    )


@pytest.mark.parametrize("name", ["Keycloak", "-a", "a" * 42, '"a b"', '""', "a_b"])
def test_a_services_name_is_short_and_plain(name: str) -> None:
    found = errors(f"[services.{name}]\n")
    assert "a service's name is made of a-z, 0-9 and -" in found[0]
    assert found[0].startswith(f"1: services.{name}: ")


@pytest.mark.parametrize("name", ["a", "0", "keycloak-2", "a" * 41])
def test_names_up_to_41_characters_are_fine(name: str) -> None:
    assert re.fullmatch(SERVICE_NAME, name)
    assert name in parse(SERVICE.replace("keycloak", name), PATH).services


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('state_dir = "~/warmd"', '"~" is not expanded here, write the whole path'),
        ('alert_dir = "$HOME/alerts"', "variables are not expanded here, write the whole path"),
        ('heartbeat = ""', "must not be empty"),
        ("control_socket = 5", "expected text, not a whole number"),
        ("alert_group = true", "expected a group's name or number"),
        ('alert_group = ""', "expected a group's name or number"),
        ('docker_host = "/var/run/docker.sock"', "expected unix:///path or tcp://host:port"),
        (
            'docker_host = "unix://var/run/docker.sock"',
            "expected three slashes, as in unix:///var/run/docker.sock",
        ),
        ('interval = "0s"', 'must be longer than "0s"'),
        ('interval = "5"', 'expected a duration such as "90s", "5m" or "1h30m", not \'5\''),
        ("max_parallel = 1.5", "expected a whole number, not a number"),
        ("max_parallel = true", "expected a whole number, not true or false"),
        (
            'log_level = "verbose"',
            'expected "debug", "info", "warning" or "error", not "verbose"',
        ),
        ('log_level = ["info"]', 'expected "debug", "info", "warning" or "error", not a list'),
    ],
)
def test_each_key_of_the_daemon_says_what_it_expects(line: str, expected: str) -> None:
    assert only(f"[daemon]\n{line}\n") == f"2: daemon.{line.split(' ')[0]}: {expected}"


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ('policy.notes = "hold-mark"', 'policy.notes: expected "hold-any", "hold-marked" or "ignore", not '
         '"hold-mark", did you mean "hold-marked"?'),
        ('policy.require_approval = "no"', "policy.require_approval: expected true or false, not text"),
        ("policy.notes_markers = [\"x\", 1]", "policy.notes_markers[2]: expected text, not a whole number"),
        ('policy.notes_markers = ""', "policy.notes_markers: expected a list, not text"),
        ("policy = 1", "policy: expected a table, not a whole number"),
        ("policy = { notes = \"hold-marked\", notes_markers = [] }",
         'policy: notes = "hold-marked" would hold nothing, because notes_markers is empty'),
        ('health_gate.deadline = "1m"', "health_gate: can never pass: 3 successes every 5s and 1m stable "
         "take 1m10s, the deadline is 1m"),
        ("health_gate.successes = 0", "health_gate.successes: must be at least 1"),
        ("health = { kind = \"http\" }", "health: expected a list, not a table"),
        ("health = [1]", "health[1]: expected a table, not a whole number"),
        ('stack = "a b"', f"stack: expected text of the form {STACK_NAME}"),
    ],
)  # fmt: skip
def test_each_key_of_a_service_says_what_it_expects(table: str, expected: str) -> None:
    text = SERVICE.replace('stack = "sso"', table)
    assert only(text) == f"2: services.keycloak.{expected}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1\nb 2\n", "2: not valid TOML: expected '=' after a key in a key/value pair (column 3)"),
        ("[daemon]\n[daemon]\n", "2: not valid TOML: cannot declare ('daemon',) twice (column 8)"),
        ('x = 1\na = """\n\n', "4: not valid TOML: unterminated string"),
        ("daemon = 1\n", "1: daemon: expected a table, not a whole number"),
        ("services = []\n", "1: services: expected a table, not a list"),
        ("[services]\na = 1\n", "2: services.a: expected a table, not a whole number"),
    ],
)
def test_a_file_that_is_no_configuration_at_all(text: str, expected: str) -> None:
    assert only(text) == expected


def test_a_value_that_may_be_a_password_is_not_repeated() -> None:
    text = SERVICE.replace(
        'files = ["compose.yml"]', 'env = { PASSWORD = ["hunter2"] }\nenv_file = ["hunter2"]'
    )
    assert "hunter2" not in "\n".join(errors(text))


class Colour(enum.StrEnum):
    RED = "red"


class Sort(BaseModel):
    kind: Literal["a"]


class Everything(BaseModel):
    """A field for each thing that a plugin's configuration may ask for."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field("x", min_length=1, max_length=3, pattern="^[a-z]*$")
    count: int = Field(1, gt=0, lt=10)
    share: float = Field(0.5, ge=0, le=1)
    yes: bool = False
    when: Duration | None = None
    place: Path = Path()
    entries: list[int] = Field([], max_length=2)
    some: list[int] = Field([1], min_length=1)
    table: dict[str, str] = {}
    either: Annotated[int, Field(le=3)] | list[Annotated[int, Field(ge=3)]] = 1
    colour: Colour = Colour.RED
    nested: Sort | None = None
    both: tuple[int, str] = (1, "")
    at_least: Annotated[int, Field(ge=3)] = 3


SAID: list[tuple[str, object, list[str]]] = [
    ("text", 1, ["text: expected text, not a whole number"]),
    ("text", "", ["text: must not be empty"]),
    ("text", "abcd", ["text: must have at most 3 characters"]),
    ("text", "A", ["text: expected text of the form ^[a-z]*$"]),
    ("count", "many", ["count: expected a whole number, not text"]),
    ("count", 1.5, ["count: expected a whole number, not a number"]),
    ("count", 0, ["count: must be more than 0"]),
    ("count", 10, ["count: must be less than 10"]),
    ("share", [], ["share: expected a number, not a list"]),
    ("share", 2, ["share: must be at most 1.0"]),
    ("share", -1, ["share: must be at least 0.0"]),
    ("yes", "perhaps", ["yes: expected true or false, not text"]),
    ("yes", {}, ["yes: expected true or false, not a table"]),
    ("when", 5, ['when: expected a duration such as "90s", "5m" or "1h30m", not 5']),
    ("place", 5, ["place: expected text, not a whole number"]),
    ("entries", 5, ["entries: expected a list, not a whole number"]),
    ("entries", ["x", 1], ["entries[1]: expected a whole number, not text"]),
    ("entries", [1, 2, 3], ["entries: must have at most 2 entries"]),
    ("some", [], ["some: must not be empty"]),
    ("table", 5, ["table: expected a table, not a whole number"]),
    ("table", {"a b": 1}, ['table."a b": expected text, not a whole number']),
    ("either", "x", ["either: expected a whole number or a list, not text"]),
    ("either", 4, ["either: must be at most 3"]),
    ("either", [2], ["either: must be at least 3"]),
    ("colour", "blue", ['colour: expected "red", not "blue"']),
    ("nested", 5, ["nested: expected a table, not a whole number"]),
    ("nested", {}, ["nested.kind: missing"]),
    ("both", [1], ["both[2]: missing"]),
    ("at_least", 1, ["at_least: must be at least 3"]),
]


@pytest.mark.parametrize(
    ("key", "value", "expected"), SAID, ids=[f"{key}={value!r}" for key, value, _ in SAID]
)
def test_what_a_plugin_may_ask_for_is_said_in_plain_words(
    key: str, value: object, expected: list[str]
) -> None:
    with pytest.raises(ValidationError) as caught:
        Everything.model_validate({key: value})
    assert [
        f"{dotted(loc)}: {text}" for loc, text in explain(caught.value.errors(), {key: value})
    ] == expected


@pytest.mark.parametrize(
    ("loc", "text"),
    [
        (("a", "b-c", 0, "d"), "a.b-c[1].d"),
        (("a", "b c"), 'a."b c"'),
        (('q"q',), '"q\\"q"'),
        ((), ""),
    ],
)
def test_key_paths_are_written_as_toml_writes_them(loc: tuple[str | int, ...], text: str) -> None:
    assert dotted(loc) == text


EXAMPLE = tomllib.loads((Path(__file__).parents[2] / "config.example.toml").read_text())
JARGON = re.compile(
    r"[Ii]nput|pydantic|validation|NoneType|timedelta|\b(?:str|int|dict|tuple|class)\b|_type|Value error"
)
JUNK = st.one_of(
    st.none().map(lambda _: {}),
    st.integers(-2, 2),
    st.floats(allow_nan=False),
    st.booleans(),
    st.text(max_size=3),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.sampled_from(["kind", "x"]), st.text(max_size=2), max_size=2),
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [path, *(place for part, child in children for place in places(child, (*path, part)))]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(places(EXAMPLE)[1:]), JUNK), min_size=1, max_size=4))
def test_whatever_is_in_the_file_the_answer_is_in_plain_words(changes: list[tuple[Any, Any]]) -> None:
    raw = deepcopy(EXAMPLE)
    for path, junk in changes:
        here: Any = raw
        try:
            for part in path[:-1]:
                here = here[part]
            here[path[-1]] = junk
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took this place away
    try:
        File.model_validate(raw, context={"folder": Path("/etc/warmd")})
    except ValidationError as error:
        found = explain(error.errors(), raw)
        assert found
        for loc, text in found:
            assert loc
            assert not JARGON.search(text), text
