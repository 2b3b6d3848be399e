"""`python -m bench.hostcost`: what a full host costs: 1,000 ENIs in 50 combinations of groups, 65,536 addresses.

Owns the measuring. It is given a number of ENIs. Must not know how a policy is compiled, nor how the kernel is told of
it.

    python -m bench.hostcost            takes some minutes and 2.5 GB
    python -m bench.hostcost -n 100

Prints a line of JSON for each step: seconds to compile, with the most memory that the process had until then in MB;
then seconds to program the kernel.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Iterator

from sgdataplane.enforce import Desired, Settings
from sgdataplane.host import netns
from sgdataplane.model.options import Placement
from tests.support.building import enforce, table_of
from tests.support.hardpolicies import host, targets


def measured(namespace: str, enis: int) -> Iterator[dict[str, float]]:
    """The figures of each step, as the command prints them."""
    state = host(0, enis)
    interfaces = {eni.network_interface_id: f"h{number}" for number, eni in enumerate(targets(state))}
    desired = Desired(state, interfaces, placement=Placement.HOST)
    began = time.perf_counter()
    table_of(desired)
    compiled = time.perf_counter()
    yield {"compile": compiled - began, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    enforce(namespace, desired, None, Settings(prove=False, adoption_window=0))
    yield {"program": time.perf_counter() - compiled}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.hostcost")
    parser.add_argument("-n", "--enis", type=int, default=1000)
    asked = parser.parse_args()
    namespace = f"host{os.getpid()}"
    netns.create(namespace)
    try:
        for step in measured(namespace, asked.enis):
            print(json.dumps(step), flush=True)
    finally:
        netns.remove(namespace)


if __name__ == "__main__":
    main()
