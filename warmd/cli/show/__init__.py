"""What people and programs see: every table and every line that the verbs print, and JSON.

All data is shown as it is, never read as markup; control characters in it are made visible, because
notes and tags are written by others. Colours only on a terminal.
"""

from warmd.cli.show.base import as_json, console, lines, stderr
from warmd.cli.show.history import history
from warmd.cli.show.lists import alerts, snapshots
from warmd.cli.show.plan import plan, plans
from warmd.cli.show.runs import preview, ran, runs_of
from warmd.cli.show.services import services

__all__ = [
    "alerts",
    "as_json",
    "console",
    "history",
    "lines",
    "plan",
    "plans",
    "preview",
    "ran",
    "runs_of",
    "services",
    "snapshots",
    "stderr",
]
