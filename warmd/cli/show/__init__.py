"""What people and programs see: every table and every line that the verbs print, and JSON.

All data is shown as it is, never read as markup; control characters in it are made visible, because
notes and tags are written by others. Colours only on a terminal.
"""

from warmd.cli.show.base import as_json, console
from warmd.cli.show.history import history
from warmd.cli.show.lists import alerts, snapshots
from warmd.cli.show.plan import plan
from warmd.cli.show.runs import asked, ran
from warmd.cli.show.services import services

__all__ = ["alerts", "as_json", "asked", "console", "history", "plan", "ran", "services", "snapshots"]
