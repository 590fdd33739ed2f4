"""The example configuration and the documentation know every key, and no others."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from warmd.config import Config, load, parse
from warmd.config.models import NOTES_MARKERS, PORTS, Daemon, HealthGate, Policy, Service
from warmd.config.schema import document
from warmd.plugins import table

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config.example.toml"
SCHEMA = ROOT / "docs/config.schema.json"
DOCUMENTATION = ROOT / "docs/configuration.md"

HEADER = re.compile(r"(?:# )?\[\[?(?P<name>[a-z_.-]+)\]\]?$")
KEY = re.compile(r"(?:# )?(?P<name>[a-z_]+) = (?P<value>.+)$")


def keys(model: type[BaseModel]) -> list[str]:
    """A model's keys as the file writes them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def models() -> dict[str, type[BaseModel]]:
    """Every model that a file can have a table of."""
    own: dict[str, type[BaseModel]] = {
        "daemon": Daemon,
        "service": Service,
        "policy": Policy,
        "health_gate": HealthGate,
    }
    plugins = {f"{p} {k}": table.config_class(p, k) for p in PORTS.values() for k in table.kinds(p)}
    return own | plugins


def tables(text: str) -> list[tuple[str, dict[str, str]]]:
    """The example's tables, active or commented out, in order: (model's name, key -> value as written)."""
    found: list[tuple[str, dict[str, str]]] = []
    for line in text.split("\n"):
        if header := HEADER.match(line):
            found.append((header["name"].rpartition(".")[2], {}))
        elif key := KEY.match(line):
            assert key["name"] not in found[-1][1], f"{key['name']} stands twice in [{found[-1][0]}]"
            found[-1][1][key["name"]] = key["value"]
    return [(_model(name, entries), entries) for name, entries in found]


def _model(name: str, entries: dict[str, str]) -> str:
    if name in PORTS:
        return f"{PORTS[name]} {json.loads(entries['kind'])}"
    return "service" if name == "keycloak" else name


def uncommented(text: str, *, without: str = "") -> Config:
    """The example with every commented-out key active, and one of its tables left out."""
    lines: list[str] = []
    leave_out = False
    for line in text.split("\n"):
        if HEADER.match(line):
            leave_out = line == without
        if not leave_out:
            lines.append(line.removeprefix("# ") if KEY.match(line) or HEADER.match(line) else line)
    return parse("\n".join(lines), ROOT / "warmd.toml")


def test_it_loads_as_it_is_and_has_nothing_to_warn_of() -> None:
    config = load(EXAMPLE)
    assert list(config.services) == ["keycloak"]
    assert config.warnings == ()


def test_every_key_stands_in_it_exactly_once_and_no_other() -> None:
    found = Counter((model, key) for model, entries in tables(EXAMPLE.read_text()) for key in entries)
    # A service's own tables have a header instead.
    inner = {*PORTS, "policy", "health_gate"}
    expected = {(name, key) for name, model in models().items() for key in keys(model)}
    assert set(found) == expected - {("service", key) for key in inner}
    assert set(found.values()) == {1}


def test_every_key_has_a_comment_before_it() -> None:
    lines = EXAMPLE.read_text().split("\n")
    for number, line in enumerate(lines):
        if (key := KEY.match(line)) and key["name"] != "kind":
            before = lines[number - 1]
            assert before.startswith("# "), f"line {number + 1}: {line}"
            assert not KEY.match(before), f"line {number + 1}: {line}"


def test_it_loads_with_every_key_that_is_commented_out_too() -> None:
    text = EXAMPLE.read_text()
    archive = uncommented(text, without="# [services.keycloak.snapshot]")
    assert table.kind_of(archive.services["keycloak"].snapshot) == "archive"
    assert archive.daemon.alert_group == "adm"
    none = uncommented(text, without="[services.keycloak.snapshot]")
    assert table.kind_of(none.services["keycloak"].snapshot) == "none"


def test_no_line_is_too_long_to_read() -> None:
    assert max(map(len, EXAMPLE.read_text().split("\n"))) <= 120


def test_the_published_schema_is_what_the_models_say() -> None:
    assert json.loads(SCHEMA.read_text()) == document(), "run: warmd schema > docs/config.schema.json"


def test_the_schema_describes_every_key() -> None:
    schema = document()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    named = {name: entry["properties"] for name, entry in schema["$defs"].items() if "properties" in entry}
    for port in PORTS.values():
        for kind in table.kinds(port):
            assert set(named[f"{port}-{kind}"]) == set(keys(table.config_class(port, kind)))
            assert schema["$defs"][f"{port}-{kind}"]["required"][0] == "kind"
    for model in (Daemon, Service, Policy, HealthGate):
        assert set(named[model.__name__]) == set(keys(model))
    undescribed = [
        f"{name}.{key}"
        for name, properties in named.items()
        for key, entry in properties.items()
        if "description" not in entry and key != "kind"
    ]
    assert undescribed == []


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        inner = {found for value in node.values() for found in references(value)}
        return inner | ({node["$ref"]} if "$ref" in node else set())
    return {found for item in node for found in references(item)} if isinstance(node, list) else set()


def test_whatever_the_schema_refers_to_is_in_it() -> None:
    schema = document()
    assert references(schema) == {f"#/$defs/{name}" for name in schema["$defs"]}


def test_the_schema_lets_services_have_each_kind_of_plugin_and_unknown_keys_nowhere() -> None:
    schema = document()
    properties = schema["$defs"]["Service"]["properties"]
    assert properties["snapshot"]["oneOf"] == [
        {"$ref": "#/$defs/snapshotter-archive"},
        {"$ref": "#/$defs/snapshotter-none"},
    ]
    assert properties["health"]["items"]["oneOf"] == [{"$ref": "#/$defs/prober-http"}]
    assert schema["properties"]["services"]["additionalProperties"] is False
    for name, entry in {"": schema, **schema["$defs"]}.items():
        if "properties" in entry:
            assert entry["additionalProperties"] is False, name


def sections() -> dict[str, str]:
    """The documentation's sections by heading."""
    parts = re.split(r"^#{2,3} (.+)$", DOCUMENTATION.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_documentation_has_a_row_for_every_key_and_for_no_other() -> None:
    headings = {
        "daemon": "`[daemon]`",
        "service": "`[services.NAME]`",
        "policy": "`[services.NAME.policy]`",
        "health_gate": "`[services.NAME.health_gate]`",
        "source git": "`[services.NAME.source]`, kind `git`",
        "deployer stack": "`[services.NAME.deploy]`, kind `stack`",
        "snapshotter archive": "`[services.NAME.snapshot]`, kind `archive`",
        "snapshotter none": "`[services.NAME.snapshot]`, kind `none`",
        "prober http": "`[[services.NAME.health]]`, kind `http`",
    }
    assert set(headings) == set(models())
    for name, model in models().items():
        rows = re.findall(r"^\| `([a-z_]+)` \|", sections()[headings[name]], flags=re.MULTILINE)
        assert rows == keys(model), headings[name]


def test_the_documentation_shows_the_default_of_every_key_that_has_one() -> None:
    schema = document()
    for name, heading in (
        ("Daemon", "`[daemon]`"),
        ("Policy", "`[services.NAME.policy]`"),
        ("HealthGate", "`[services.NAME.health_gate]`"),
    ):
        for key, entry in schema["$defs"][name]["properties"].items():
            if key != "notes_markers" and entry.get("default") is not None:
                row = next(r for r in sections()[heading].split("\n") if r.startswith(f"| `{key}` |"))
                assert f"| `{json.dumps(entry['default'])}` |" in row


def test_the_documentation_lists_the_default_markers() -> None:
    listed = re.findall(r"`([^`]+)`", sections()["The words that `hold-marked` looks for"])
    assert tuple(listed) == NOTES_MARKERS
