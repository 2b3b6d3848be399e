"""Clearing: make sure that no session of a namespace carries certain epochs, so that these can be used again.

Owns how often the sessions are looked through, and when that is given up. Its input is epochs that the rules in force
don't write. Must not know which epoch comes next.

A packet reads a mark and writes it again. So a packet on its way may put back what was cleared meanwhile, and only a
pass that finds nothing shows that nothing is left. Before each pass, all packets leave that were on their way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

from sgdataplane.contract.marks import MarkLayout
from sgdataplane.host import netns, quiet
from sgdataplane.host.marks import MarkPass, count_tracked

MAX_PASSES = 4  # the second mostly finds nothing; root of a namespace could put marks back without end
Place = Callable[[], AbstractContextManager[str | None]]  # a path to the namespace, held meanwhile; None: it has ended


def at(namespace: str) -> Place:
    """Return the place of a namespace with that name or path, which lasts."""
    return partial(nullcontext, namespace)


@dataclass
class Clearing:
    """One clearing of a namespace's sessions, which `slices` does.

    A clearing that ends half-way has only done some of the work of the next one.
    """

    place: Place
    marks: MarkLayout
    epochs: Collection[int]
    """Those to clear, which nobody writes."""
    settle: Callable[[], None] = field(default_factory=lambda: quiet.wait)
    """Waits until all packets have left that were on their way."""
    seen: int = field(default=0, init=False)
    """How many sessions were looked at."""
    passes: int = field(default=0, init=False)
    """How many passes were made."""
    is_clear: bool = field(default=False, init=False)
    """Whether no session carries one of the epochs, as long as nobody writes them."""

    def slices(self) -> Generator[None, None, None]:
        """Clear, and yield between two slices.

        Raises:
            HostError: The kernel refuses.
            KernelError: The kernel refuses.
        """
        while self.passes < MAX_PASSES:
            found = self._begin_pass()
            if found is None:
                return
            self.passes += 1
            with found:
                while found.step():
                    yield
                self.seen += found.seen
            self.is_clear = not found.cleared and not found.is_endless
            if self.is_clear or found.is_endless:
                return

    def run(self) -> bool:
        """Clear to the end; return whether it is clear."""
        for _ in self.slices():
            pass
        return self.is_clear

    def _begin_pass(self) -> MarkPass | None:
        """Begin the next pass, and return it; None if there is no namespace any more."""
        with self.place() as place:
            if place is None:
                return None
            with netns.inside(place):
                if count_tracked():
                    self.settle()
                return MarkPass(self.marks.epoch_fields, self.epochs)
