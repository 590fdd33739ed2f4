"""``python -m tests.model SOCKET ROOT [--seed N] [--scale 0.02]``: serve a model until told to end."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.model.server import serve
from tests.model.timing import Timing


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.model")
    parser.add_argument("socket", type=Path)
    parser.add_argument("root", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0)
    given = parser.parse_args()
    given.root.mkdir(parents=True, exist_ok=True)
    serve(given.socket, given.root, seed=given.seed, timing=Timing(scale=given.scale))


if __name__ == "__main__":
    main()
