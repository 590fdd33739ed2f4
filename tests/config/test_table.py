"""The table of plugins: every line leads to a module that keeps the plugins' contract."""

from __future__ import annotations

import inspect
from typing import get_args

import pytest

from warmd.plugins import table
from warmd.plugins.base import Settings


@pytest.mark.parametrize(
    ("port", "kind"), [(p, k) for p, k, _ in table.TABLE], ids=[f"{p}-{k}" for p, k, _ in table.TABLE]
)
def test_every_line_is_a_frozen_config_of_its_kind_and_a_build(port: table.Port, kind: str) -> None:
    config = table.config_class(port, kind)
    assert issubclass(config, Settings)
    assert config.model_config["frozen"] is True
    assert config.model_config["extra"] == "forbid"
    assert get_args(config.model_fields["kind"].annotation) == (kind,)
    assert list(inspect.signature(table.module(port, kind).build).parameters) == ["config", "context"]


def test_no_port_has_a_kind_twice() -> None:
    names = [(port, kind) for port, kind, _ in table.TABLE]
    assert len(set(names)) == len(names)


def test_every_port_has_a_plugin() -> None:
    assert {port for port, _, _ in table.TABLE} == set(get_args(table.Port))


def test_a_kind_that_is_not_there_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="no source of kind 'svn'"):
        table.module("source", "svn")
