"""In a virtual machine with two processors: members change their groups under a flood, each on a processor of its own,
for a debugger outside to hold them (tests/vm/races.py).

    python -m tests.vm.racing CONSOLE in-place|by-a-detour|as-it-is SWITCHES MEMBERS

Owns what is said on the console: where functions are, and what came of the flood.
"""

from __future__ import annotations

import os
import sys
import tempfile
from itertools import count
from pathlib import Path

from sgdataplane.enforce import Settings
from sgdataplane.net.values import Address
from sgdataplane.nft.faults import looks_again
from sgdataplane.nft.kernel import NetlinkKernel
from tests.support.events.regrouping import both_turns, flood_at
from tests.support.inputs.building import enforce
from tests.support.probes import flood as flooding
from tests.support.probes.flood import wait_for_packets
from tests.support.scenes.pair import HERE, made_pair

LAST_S = 20.0
SYMBOLS = ("nft_rhash_deactivate", "nft_rhash_lookup", "nft_rhash_activate")


def main() -> None:
    console, way, switches, members = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if way != "as-it-is":
        NetlinkKernel.may_miss = lambda _: way == "by-a-detour"  # type: ignore[method-assign, assignment]
    numbers = count()
    with made_pair(lambda: f"racing-{next(numbers)}") as pair, tempfile.TemporaryDirectory() as folder:
        turns, settings = both_turns(pair, members), Settings(adoption_window=0, fence=False)
        enforce(pair["policy"], turns[0], settings=settings)
        os.sched_setaffinity(0, {1})  # of the flood, which inherits it
        with flood_at(pair, Path(folder)) as flood:
            os.sched_setaffinity(0, {0})
            enforce(pair["policy"], turns[0], turns[0], settings)
            say(console, f"begin {places()} key={Address.parse(HERE['peer'][0]).value:08x}")
            for number in range(switches):
                enforce(pair["policy"], turns[(number + 1) % 2], turns[number % 2], settings)
                wait_for_packets([flood], 10)
            flooding.DEADLINE = LAST_S  # what is lost never comes
        lost = flood.allowed.sent - flood.allowed.received
        came = f"lost={lost} leaked={flood.denied.received} sent={flood.allowed.sent}"
        say(console, f"end way={way} switches={switches} may_miss={not looks_again()} {came}")


def places() -> str:
    found = {}
    for line in Path("/proc/kallsyms").read_text("ascii").splitlines():
        address, _, name, *_ = line.split()
        if name in SYMBOLS:
            found[name] = address
    return " ".join(f"{name}={found[name]}" for name in SYMBOLS)


def say(console: str, words: str) -> None:
    print(f"racing: {words}", flush=True)
    with open(console, "a", encoding="ascii") as file:
        file.write(f"\nracing: {words}\n")


if __name__ == "__main__":
    main()
