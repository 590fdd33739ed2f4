"""The stack of the one service: its names, and the body that creates it."""

from __future__ import annotations

from typing import Any

from tests.model import App
from warmd.core.model import LABEL_STACK

STACK = "app"
VOLUME = "app_data"


def service(image: str, app: App) -> dict[str, Any]:
    """The body of the create call of the one service."""
    mount = {
        "Type": "volume",
        "Source": VOLUME,
        "Target": "/data",
        "VolumeOptions": {"Labels": {LABEL_STACK: STACK}},
    }
    labels = {LABEL_STACK: STACK}
    task: dict[str, Any] = {"ContainerSpec": {"Image": image, "Labels": labels, "Mounts": [mount]}}
    if app.behaviour == "crash":
        # So that two days of a crash loop are hundreds of starts and not ten thousands.
        task["RestartPolicy"] = {"Condition": "any", "Delay": 300 * 10**9}
    return {
        "Name": f"{STACK}_app",
        "Labels": labels,
        "TaskTemplate": task,
        "Mode": {"Replicated": {"Replicas": 1}},
        "EndpointSpec": {"Mode": "dnsrr"},
    }
