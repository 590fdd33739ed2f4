"""What a lab and its model say of stacks in the same words: through docker's client and the Engine API."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any

import httpx

STACK = "com.docker.stack.namespace"


class Stacks(ABC):
    """Deploying and listing stacks; ``api`` is an HTTP client for the Engine API."""

    api: httpx.Client

    @abstractmethod
    def docker(self, *args: str, stdin: bytes | None = None) -> str:
        """Run docker's client; its output."""

    def deploy(self, stack: str, compose: str) -> None:
        """``docker stack deploy`` of a compose text, without waiting."""
        self.docker("stack", "deploy", "--compose-file", "-", stack, stdin=compose.encode())

    def containers(self, stack: str) -> list[dict[str, Any]]:
        return self._listed("/containers/json", stack, all="true")

    def tasks(self, stack: str) -> list[dict[str, Any]]:
        return self._listed("/tasks", stack)

    def volumes(self, stack: str) -> list[str]:
        """Names of the stack's volumes, by label or by name."""
        found = self.api.get("/volumes").raise_for_status().json()["Volumes"] or []
        return [
            v["Name"]
            for v in found
            if (v.get("Labels") or {}).get(STACK) == stack or v["Name"].startswith(f"{stack}_")
        ]

    def _listed(self, path: str, stack: str, **params: str) -> list[dict[str, Any]]:
        query = {**params, "filters": json.dumps({"label": [f"{STACK}={stack}"]})}
        found: list[dict[str, Any]] = self.api.get(path, params=query).raise_for_status().json() or []
        return found
