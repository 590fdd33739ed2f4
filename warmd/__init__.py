"""warmd keeps warm services on their latest safe version, and rolls data back with the version."""

__version__ = "0.1.0.dev0"
