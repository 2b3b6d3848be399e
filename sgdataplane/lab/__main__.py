"""`python -m sgdataplane.lab run FOLDER`: a scenario as a demo.

Owns the arguments. Must not know how a scenario runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from sgdataplane.lab.demo import show


def main() -> int:
    """Run the scenario that the command line names; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sgdataplane.lab", description="the lab's scenarios")
    run = parser.add_subparsers(metavar="COMMAND", required=True).add_parser("run", help="run a scenario and show it")
    run.add_argument("folder", type=Path, metavar="FOLDER", help="e.g. netns-lab/scenarios/20-three-tier")
    arguments = parser.parse_args()
    return show(arguments.folder, f"demo{os.getpid()}")


if __name__ == "__main__":
    sys.exit(main())
