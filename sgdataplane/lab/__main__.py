"""`python -m sgdataplane.lab run FOLDER`: a scenario as a demo.

Owns the arguments. Must not know how a scenario runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from sgdataplane.lab.demo import show
from sgdataplane.lab.manage import default_record
from sgdataplane.lab.routers import MAX_HOSTS
from sgdataplane.model.options import Placement


def main() -> int:
    """Run the scenario that the command line names; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sgdataplane.lab", description="the lab's scenarios")
    run = parser.add_subparsers(metavar="COMMAND", required=True).add_parser("run", help="run a scenario and show it")
    run.add_argument("folder", type=Path, metavar="FOLDER", help="e.g. netns-lab/scenarios/20-three-tier")
    run.add_argument("--placement", choices=[placement.value for placement in Placement], default="instance")
    run.add_argument("--hosts", type=int, choices=range(1, MAX_HOSTS + 1), default=1, metavar="N")
    arguments = parser.parse_args()
    record = default_record(f"demo{os.getpid()}")
    choices = replace(record.choices, placement=Placement(arguments.placement))
    return show(arguments.folder, replace(record, choices=choices, hosts=arguments.hosts))


if __name__ == "__main__":
    sys.exit(main())
