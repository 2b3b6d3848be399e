"""`sgdp` with faults in it: python -m tests.support.variants.faultyagent agent --config FILE

Owns the faults. Which one, and where, is what the file SGDP_TEST_FAULT holds then, e.g. "switch killed-before"; it is
removed as the fault begins, so that each happens once. Must not know what is expected of it.

    stage, switch, sweep    of a change of rules: the next commit of that name that isn't empty
        killed-before           the process dies (SIGKILL) in place of it
        killed-during           at some moment of it
        killed-after            just after it
        refused                 nothing is committed: the kernel had no room for the request
        unheard                 it is committed, but the kernel's answer is lost, and that is taken for a refusal
    reading, telling        of a cycle: the state, and what was done
        no-memory               MemoryError
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from sgdataplane.cli.main import main
from sgdataplane.daemon import source
from sgdataplane.daemon.status import Status
from sgdataplane.enforce import steps
from sgdataplane.enforce.run import Ran, run
from sgdataplane.errors import KernelError
from sgdataplane.nft.delta import Plan
from sgdataplane.nft.kernel import Kernel
from sgdataplane.nft.transaction import Transaction
from sgdataplane.statefile import load_owned

FAULT_VARIABLE = "SGDP_TEST_FAULT"
STEPS = ("stage", "switch", "sweep")
KILLS = ("killed-before", "killed-during", "killed-after")
REFUSALS = ("refused", "unheard")
LONGEST_S = 0.003  # a commit takes about as long


def fault_at(place: str) -> str:
    """The fault that begins there, or ""."""
    path = Path(os.environ[FAULT_VARIABLE])
    try:
        where, fault = path.read_text("ascii").split()
    except FileNotFoundError:
        return ""
    if where != place:
        return ""
    path.unlink()
    return fault


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_soon() -> None:
    time.sleep(random.uniform(0, LONGEST_S))
    die()


class FaultyKernel:
    """A kernel for some plans."""

    def __init__(self, kernel: Kernel, plans: Iterable[Plan]) -> None:
        self._kernel = kernel
        changes = [change for plan in plans for change in plan.changes]
        self._places = {id(getattr(change, step)): step for change in changes for step in STEPS}

    def __getattr__(self, name: str) -> object:
        return getattr(self._kernel, name)

    def run(self, *transactions: Transaction) -> None:
        places = [self._places.get(id(entry), "stage") for entry in transactions if len(entry)]
        fault = next(filter(None, map(fault_at, places)), "")
        if fault == "killed-before":
            die()
        if fault == "refused":
            raise KernelError("Could not process rule: No buffer space available")
        killer = threading.Thread(target=die_soon)
        if fault == "killed-during":
            killer.start()
        self._kernel.run(*transactions)
        if fault == "killed-during":
            killer.join()
        if fault == "killed-after":
            die()
        if fault == "unheard":
            raise KernelError("Could not process rule: Interrupted system call")

    def run_each(self, commits: Sequence[tuple[Transaction, ...]]) -> Iterator[tuple[Transaction, ...]]:
        for commit in commits:
            self.run(*commit)
            yield commit


def with_faults() -> None:
    """From here on."""

    def faulty_run(kernel: Kernel, *plans: Plan, is_live: bool) -> Ran:
        return run(FaultyKernel(kernel, plans), *plans, is_live=is_live)  # type: ignore[arg-type]

    def failing(place: str, call: Callable[..., object]) -> Callable[..., object]:
        def called(*arguments: object, **named: object) -> object:
            if fault_at(place) == "no-memory":
                raise MemoryError
            return call(*arguments, **named)

        return called

    for owner, name, call in (
        (steps, "run", faulty_run),
        (source, "load_owned", failing("reading", load_owned)),
        (Status, "note_cycle", failing("telling", Status.note_cycle)),
    ):
        setattr(owner, name, call)


if __name__ == "__main__":
    with_faults()
    sys.exit(main(sys.argv[1:]))
