"""What a configuration file may say, as frozen models. The docstrings below the keys are documentation:
``warmd schema`` prints them.

Plugins' tables are checked by the plugin that their ``kind`` names, and stay its own ``Config``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    StrictBool,
    StrictInt,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from warmd.core import durations, model
from warmd.plugins import table
from warmd.plugins.base import Duration, Settings

#: The type of the error that carries a plugin's own errors, to be unpacked by ``problems``.
PLUGIN_ERROR = "plugin_config"
KIND_ERROR = "plugin_kind"
#: The keys of a service whose tables belong to plugins, and the plugins' port.
PORTS: dict[str, table.Port] = {
    "health": "prober",
    "source": "source",
    "deploy": "deployer",
    "snapshot": "snapshotter",
}
#: The key under which these name their port in the JSON Schema, until ``schema`` fills them in.
SCHEMA_PORT = "x-port"

SERVICE_NAME = r"^[a-z0-9][a-z0-9-]{0,40}$"
# The names that a swarm accepts, short enough to leave room for the services' own.
STACK_NAME = r"^[A-Za-z0-9](?:[A-Za-z0-9_-]{0,43}[A-Za-z0-9])?$"

#: Words that people write into notes when an operator has something to do.
NOTES_MARKERS = (
    "action required",
    "back up",
    "backup",
    "before deploy",
    "before updat",
    "before upgrad",
    "before you",
    "breaking",
    "by hand",
    "deprecat",
    "downtime",
    "env file",
    "from scratch",
    "incompatib",
    "manual",
    "migrat",
    "must",
    "no longer",
    "removed",
    "renam",
    "run the following",
    "you need to",
)


def known_kinds(port: table.Port) -> str:
    """``"a" or "b"``, for messages."""
    return " or ".join(f'"{kind}"' for kind in table.kinds(port))


def _plugin(port: table.Port) -> Callable[[Any], Settings]:
    def check(value: Any) -> Settings:
        if isinstance(value, Settings):
            return value
        if not isinstance(value, dict):
            raise PydanticCustomError("dict_type", "expected a table")
        if "kind" not in value:
            _raise(value, f"missing, expected {known_kinds(port)}", missing=True)
        kind = value["kind"]
        if kind not in table.kinds(port):
            near = get_close_matches(str(kind), table.kinds(port), n=1)
            hint = f', did you mean "{near[0]}"?' if near else ""
            given = f', not "{kind}"' if isinstance(kind, str) else ""
            _raise(value, f"expected {known_kinds(port)}{given}{hint}")
        plugin = table.config_class(port, kind)
        try:
            return plugin.model_validate(value)
        except ValidationError as error:
            raise PydanticCustomError(
                PLUGIN_ERROR, "not valid", {"errors": error.errors(), "model": plugin}
            ) from None

    return check


def _raise(value: object, message: str, *, missing: bool = False) -> None:
    error = {"type": KIND_ERROR, "loc": ("kind",), "msg": message, "input": value, "missing": missing}
    raise PydanticCustomError(PLUGIN_ERROR, "not valid", {"errors": [error], "model": None})


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError('must be longer than "0s"')
    return value


def _text(value: Any, handler: Callable[[Any], Any]) -> Any:
    """Only text becomes a path."""
    if not isinstance(value, str | Path):
        raise PydanticCustomError("string_type", "expected text")
    return handler(value)


def _place(value: Path, info: ValidationInfo) -> Path:
    """A path that is absolute from here on: relative ones are relative to the configuration's folder."""
    if not value.parts:
        raise ValueError("must not be empty")
    if value.parts[0].startswith("~"):
        raise ValueError('"~" is not expanded here, write the whole path')
    if "$" in str(value):
        raise ValueError("variables are not expanded here, write the whole path")
    return Path((info.context or {}).get("folder", ".")) / value


def _in_state(name: str) -> Callable[[dict[str, Any]], Path]:
    """A default that follows ``state_dir``, so that nobody has to say twice where things are."""
    return lambda daemon: daemon["state_dir"] / name


def _group(value: Any, handler: Callable[[Any], Any]) -> Any:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return handler(value)
    if isinstance(value, str) and value.strip():
        return handler(value)
    raise ValueError("expected a group's name or number")


def _name(value: str) -> str:
    if not re.fullmatch(SERVICE_NAME, value):
        raise ValueError(
            "a service's name is made of a-z, 0-9 and -, begins with a letter or digit and has at most 41"
        )
    return value


LongerThanNothing = Annotated[Duration, AfterValidator(_positive)]
ServiceName = Annotated[
    str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": SERVICE_NAME})
]
Place = Annotated[Path, WrapValidator(_text), AfterValidator(_place)]


class Daemon(Settings):
    """The daemon itself: where it keeps things, how often it looks."""

    state_dir: Place = Path("/var/lib/warmd")
    """Where the journal, the snapshots, the git mirrors and the last good versions are kept.
    Snapshots are made here too, so it needs room for copies of the services' data."""

    alert_dir: Place = Field(default_factory=_in_state("alerts"))
    """Where alert files are written. Default: `alerts` in `state_dir`."""

    alert_group: Annotated[str | int | None, WrapValidator(_group)] = None
    """The group, by name or number, that may read alert files (mode 0640). Default: the daemon's own."""

    docker_host: Annotated[str, StringConstraints(strict=True)] = "unix:///var/run/docker.sock"
    """Where the Docker Engine listens: `unix:///path` or `tcp://host:port`. `$DOCKER_HOST` is not read."""

    interval: LongerThanNothing = timedelta(minutes=5)
    """How often every service is looked at. Docker's events and `warmd reconcile` wake it earlier."""

    max_parallel: Annotated[StrictInt, Field(ge=1)] = 1
    """How many services may be changing at once. The others wait for their turn."""

    heartbeat: Place = Field(default_factory=_in_state("heartbeat"))
    """A file that is touched at every look, for a watchdog outside. Default: `heartbeat` in `state_dir`."""

    control_socket: Place = Field(default_factory=_in_state("control.sock"))
    """The socket over which commands reach the running daemon. Default: `control.sock` in `state_dir`."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important messages that are logged. `--log-level` wins."""

    @field_validator("docker_host")
    @classmethod
    def _reachable(cls, value: str) -> str:
        scheme, _, rest = value.partition("://")
        if scheme not in ("unix", "tcp", "http", "https") or not rest:
            raise ValueError("expected unix:///path or tcp://host:port")
        if scheme == "unix" and not rest.startswith("/"):
            raise ValueError("expected three slashes, as in unix:///var/run/docker.sock")
        return value


class Policy(Settings):
    """The rules that decide whether a published version is safe to move to."""

    recipe_major: Literal["hold", "allow"] = "hold"
    """A new first number of the recipe's version: `hold` it for a person, or `allow` it."""

    app_major: Literal["hold", "allow"] = "hold"
    """A new first number of the application's version: `hold` it for a person, or `allow` it."""

    notes: Literal["hold-any", "hold-marked", "ignore"] = "hold-any"
    """Releases with notes: `hold-any` holds every one, `hold-marked` those with one of `notes_markers`
    in them (or that can't be read), `ignore` reads none."""

    notes_markers: tuple[Annotated[str, StringConstraints(strict=True, min_length=1)], ...] = NOTES_MARKERS
    """What `hold-marked` looks for, anywhere in the notes, in upper or lower case. Replaces the default."""

    require_approval: StrictBool = False
    """Every upgrade waits for `warmd approve`."""

    upgrade_unhealthy: StrictBool = False
    """Upgrade although the running version is unhealthy, where a new version is the cure."""

    rollback_horizon: Duration = timedelta(hours=1)
    """How long after a deploy warmd may put the old data back by itself. Later that would lose too much of
    what was written since, and a person decides."""

    repair_after: Duration = timedelta(minutes=15)
    """How long a service may be scaled to zero or missing before it is put back.
    Somebody may be working there."""

    @model_validator(mode="after")
    def _marked_by_something(self) -> Self:
        if self.notes == "hold-marked" and not self.notes_markers:
            raise ValueError('notes = "hold-marked" would hold nothing, because notes_markers is empty')
        return self

    def to_core(self) -> model.Policy:
        """As the rules take it."""
        return model.Policy(**dict(self))


class HealthGate(Settings):
    """When a service counts as healthy after a deploy."""

    deadline: LongerThanNothing = timedelta(minutes=10)
    """How long it may take altogether. A cold start with a database migration takes long."""

    interval: LongerThanNothing = timedelta(seconds=5)
    """How long to wait between two rounds of checks."""

    successes: Annotated[StrictInt, Field(ge=1)] = 3
    """How many rounds in a row must be good."""

    stable: Duration = timedelta(seconds=60)
    """How long it must then stay good, without a restart."""

    @model_validator(mode="after")
    def _can_pass(self) -> Self:
        least = self.interval * (self.successes - 1) + self.stable
        if least >= self.deadline:
            raise ValueError(
                f"can never pass: {self.successes} successes every {durations.format(self.interval)} and "
                f"{durations.format(self.stable)} stable take {durations.format(least)}, "
                f"the deadline is {durations.format(self.deadline)}"
            )
        return self

    def to_core(self) -> model.GateRule:
        """As the gate takes it."""
        return model.GateRule(**dict(self))


def _schema(port: table.Port) -> WithJsonSchema:
    return WithJsonSchema({SCHEMA_PORT: port})


class Service(Settings):
    """One warm service: a stack, where its versions come from, how it is deployed, copied and checked."""

    enabled: StrictBool = True
    """`false`: warmd leaves the service alone, and `warmd status` does not list it."""

    stack: Annotated[
        str,
        StringConstraints(strict=True, pattern=STACK_NAME),
        Field(json_schema_extra=lambda schema: schema.pop("default")),
    ] = ""
    """The stack's name in the swarm. Default: the service's name."""

    health: tuple[Annotated[Settings, PlainValidator(_plugin("prober")), _schema("prober")], ...] = ()
    """Health checks, all of which must be good. That the swarm's tasks run is checked anyway."""

    source: Annotated[Settings, PlainValidator(_plugin("source")), _schema("source")]
    """Where versions are published."""

    deploy: Annotated[Settings, PlainValidator(_plugin("deployer")), _schema("deployer")]
    """How a version becomes a running stack."""

    snapshot: Annotated[Settings, PlainValidator(_plugin("snapshotter")), _schema("snapshotter")]
    """How the data is copied before an upgrade."""

    policy: Policy = Policy()
    """The rules that decide whether a version is safe."""

    health_gate: HealthGate = HealthGate()
    """When the service counts as healthy after a deploy."""


class File(Settings):
    """A whole configuration file of warmd."""

    daemon: Daemon = Field(default_factory=lambda: Daemon.model_validate({}))
    """The daemon itself."""

    services: Mapping[ServiceName, Service] = {}
    """The services to keep, one table each. The name is yours; it appears in commands, logs and alerts."""

    @model_validator(mode="before")
    @classmethod
    def _stacks(cls, value: Any) -> Any:
        services = value.get("services") if isinstance(value, dict) else None
        if not isinstance(services, dict):
            return value
        named = {k: {"stack": k, **v} if isinstance(v, dict) else v for k, v in services.items()}
        return {**value, "services": named}
