"""The configuration: TOML in, frozen settings out, or every error at once.

``load(path) -> Config``; docs/configuration.md and config.example.toml explain the keys.
"""

from warmd.config.loading import Config, load, parse
from warmd.config.models import Daemon, HealthGate, Policy, Service
from warmd.config.problems import ConfigProblems, Problem

__all__ = [
    "Config",
    "ConfigProblems",
    "Daemon",
    "HealthGate",
    "Policy",
    "Problem",
    "Service",
    "load",
    "parse",
]
