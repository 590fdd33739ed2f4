"""What every plugin is: a frozen ``Config`` and a ``build(config, context)`` that meets a port.

A plugin is one module with exactly these two public names (docs/architecture.md lists them all);
``table.py`` has one line for each and imports none before it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

from warmd.adapters.reserve import Reserve
from warmd.core import durations
from warmd.ports import Clock, Swarm


def _duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        return durations.parse(value)
    raise ValueError(f'expected a duration such as "90s", "5m" or "1h30m", not {value!r}')


#: A duration in the configuration: ``"5m"`` there, a timedelta here.
Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(durations.format, return_type=str),
    WithJsonSchema(
        {"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|d|h|m|s))+$", "examples": ["5m", "1h30m"]}
    ),
]


class Settings(BaseModel):
    """Base of all configuration models: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True)
class Context:
    """What a plugin may use, beside its own configuration.

    ``folder`` is the service's own (``<state_dir>/services/<id>``), ``mirrors`` is shared by all
    services, ``config_dir`` is what relative paths in the configuration are relative to. ``protected``
    are files and folders of warmd's own that no container may get; ``room`` is what a run may fall back on
    when the disk is full.
    """

    service: str
    stack: str
    folder: Path
    mirrors: Path
    config_dir: Path
    docker_host: str
    swarm: Swarm
    clock: Clock
    protected: tuple[Path, ...] = ()
    room: Reserve | None = None
