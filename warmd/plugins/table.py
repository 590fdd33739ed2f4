"""Every plugin, one line each. A module is imported when a configuration names its kind, not before."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Literal, TypeAlias, cast

from warmd.plugins.base import Context, Settings
from warmd.ports import Alerter, Deployer, Prober, Snapshotter, Source

Port: TypeAlias = Literal["source", "deployer", "snapshotter", "prober", "alerter"]

#: (port, kind as the configuration writes it, module with ``Config`` and ``build``)
TABLE: tuple[tuple[Port, str, str], ...] = (
    ("source", "git", "warmd.plugins.sources.git"),
    ("deployer", "stack", "warmd.plugins.deployers.stack"),
    ("snapshotter", "archive", "warmd.plugins.snapshotters.archive"),
    ("snapshotter", "none", "warmd.plugins.snapshotters.none"),
    ("prober", "http", "warmd.plugins.probers.http"),
    ("alerter", "spool", "warmd.plugins.alerters.spool"),
)


def kinds(port: Port) -> tuple[str, ...]:
    """The kinds a configuration may name for this port, in the table's order."""
    return tuple(kind for of, kind, _ in TABLE if of == port)


def module(port: Port, kind: str) -> ModuleType:
    """The plugin's module, imported now. Raises KeyError where the table has no such kind."""
    for of, name, path in TABLE:
        if (of, name) == (port, kind):
            return importlib.import_module(path)
    raise KeyError(f"no {port} of kind {kind!r}")


def config_class(port: Port, kind: str) -> type[Settings]:
    """The plugin's ``Config``. Raises KeyError where the table has no such kind."""
    return cast(type[Settings], module(port, kind).Config)


def kind_of(config: Settings) -> str:
    """The kind that a plugin's configuration says it is."""
    return str(dict(config)["kind"])


def source(config: Settings, context: Context) -> Source:
    """Build the source that ``config``, the plugin's own, describes. Raises what the plugin raises."""
    return cast(Source, module("source", kind_of(config)).build(config, context))


def deployer(config: Settings, context: Context) -> Deployer:
    """Build the deployer that ``config``, the plugin's own, describes. Raises what the plugin raises."""
    return cast(Deployer, module("deployer", kind_of(config)).build(config, context))


def snapshotter(config: Settings, context: Context) -> Snapshotter:
    """Build the snapshotter that ``config``, the plugin's own, describes. Raises what the plugin raises."""
    return cast(Snapshotter, module("snapshotter", kind_of(config)).build(config, context))


def prober(config: Settings, context: Context) -> Prober:
    """Build the prober that ``config``, the plugin's own, describes. Raises what the plugin raises."""
    return cast(Prober, module("prober", kind_of(config)).build(config, context))


def alerter(config: Settings, context: Context) -> Alerter:
    """Build the alerter that ``config``, the plugin's own, describes. Raises what the plugin raises."""
    return cast(Alerter, module("alerter", kind_of(config)).build(config, context))
