"""The JSON Schema of a whole configuration file, plugins' tables included."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter

from warmd.config.models import PORTS, SCHEMA_PORT, File
from warmd.core import durations
from warmd.plugins import table
from warmd.plugins.base import Duration

_TIMEDELTA = TypeAdapter(timedelta)
_DURATION = TypeAdapter(Duration).json_schema()

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def document() -> dict[str, Any]:
    """JSON Schema 2020-12. Imports every plugin."""
    schema = File.model_json_schema()
    definitions = schema.pop("$defs")
    plugins: dict[str, Any] = {}
    for port in PORTS.values():
        for kind in table.kinds(port):
            plugins |= _plugin(port, kind)
    filled = _fill({**schema, "$defs": {**definitions, **plugins}})
    return {"$schema": DIALECT, **filled, "title": "Configuration of warmd"}


def plugin_name(port: table.Port, kind: str) -> str:
    """The name of a plugin's definition."""
    return f"{port}-{kind}"


def _plugin(port: table.Port, kind: str) -> dict[str, Any]:
    """One plugin's definition and those it refers to, under names that no other plugin has."""
    name = plugin_name(port, kind)
    schema = table.config_class(port, kind).model_json_schema(ref_template=f"#/$defs/{name}-{{model}}")
    inner = {f"{name}-{key}": value for key, value in schema.pop("$defs", {}).items()}
    # The kind chooses the plugin, so it has to be there even where the plugin's model has a default.
    schema["required"] = ["kind", *(key for key in schema.get("required", []) if key != "kind")]
    schema["properties"]["kind"] = {"const": kind}
    return {name: {**schema, "title": f"{port} {kind}"}, **inner}


def _fill(node: Any) -> Any:
    """Puts "one of the port's plugins" wherever a model left the port's name."""
    if isinstance(node, list):
        return [_fill(item) for item in node]
    if not isinstance(node, dict):
        return node
    if SCHEMA_PORT in node:
        rest = {key: value for key, value in node.items() if key != SCHEMA_PORT}
        port = node[SCHEMA_PORT]
        return {**rest, "oneOf": [{"$ref": f"#/$defs/{plugin_name(port, k)}"} for k in table.kinds(port)]}
    filled = {key: _fill(value) for key, value in node.items()}
    if "patternProperties" in node:
        filled["additionalProperties"] = False
    if node.get("pattern") == _DURATION["pattern"] and "default" in node:
        # pydantic writes some defaults as ISO 8601 has them, which the file does not accept.
        filled["default"] = durations.format(_TIMEDELTA.validate_python(node["default"]))
    return filled
