"""A private, real one-node swarm with a real registry, for tests, the demo and the end-to-end run."""

from tests.lab.lab import Lab
from tests.lab.note import LabError
from tests.lab.recipe import Recipe
from tests.lab.warmapp import Bad, warm_compose

__all__ = ["Bad", "Lab", "LabError", "Recipe", "warm_compose"]
