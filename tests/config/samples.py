"""Configurations that several tests begin with."""

#: A service with only what has no default.
SERVICE = """\
[services.keycloak]
stack = "sso"
[services.keycloak.source]
kind = "git"
url = "https://git.example.org/keycloak.git"
[services.keycloak.deploy]
kind = "stack"
files = ["compose.yml"]
[services.keycloak.snapshot]
kind = "archive"
"""

#: A health check for it.
HTTP = """\
[[services.keycloak.health]]
kind = "http"
url = "https://sso.example.org/"
"""
