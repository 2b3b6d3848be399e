"""The numbers that are read from namespaces when somebody asks for metrics: drops and sessions.

Owns the last readings, and how long a reading may take. Its input is the namespaces of a report. Must not know how
numbers are shown. Only the thread that serves metrics calls it, so no cycle waits for it.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from sgdataplane.attach.report import Key, NamespaceReport
from sgdataplane.contract.counters import name_fenced_counter
from sgdataplane.enforce import Desired
from sgdataplane.errors import HostError
from sgdataplane.host import netns
from sgdataplane.host.identity import find_namespace
from sgdataplane.observe.capacity import TableUse, read_table_use
from sgdataplane.observe.drops import OfEni, Reason, Tally, WouldDrop, of_audited, of_enis, of_rules
from sgdataplane.observe.hits import FIXED, read_own

T = TypeVar("T")

MAX_S = 2.0  # namespaces that aren't read by then keep their numbers, and are first the next time

Read = Callable[[NamespaceReport], tuple[Mapping[str, int], TableUse]]


@dataclass(slots=True)
class NamespaceReading:
    """One namespace's numbers."""

    tally: Tally = field(default_factory=Tally)
    use: TableUse | None = None  # the use of the conntrack table; None until the first reading
    at: float = float("-inf")  # the time of the last reading, by the clock
    _desired: Callable[[], Desired | None] = lambda: None
    _rules: Mapping[str, Reason] = field(default_factory=dict)
    _enis: Mapping[str, OfEni] = field(default_factory=dict)
    _audited: Mapping[str, WouldDrop] = field(default_factory=dict)

    def note(self, entry: NamespaceReport, counters: Mapping[str, int], use: TableUse, at: float) -> None:
        """Add a reading: the values of counters, and the use of the conntrack table."""
        if entry.desired is not None and self._desired() is not entry.desired:
            self._rules = of_rules(entry.desired.state, entry.desired.interfaces)
            self._enis = of_enis(entry.desired.interfaces)
            self._audited = of_audited(entry.desired.state, entry.desired.interfaces)
            self._desired = weakref.ref(entry.desired)  # it is large, so we don't keep it alive
        self.tally.note(counters, self._rules, self._enis, self._audited)
        self.use, self.at = use, at


def read_while_time(
    entries: Iterable[NamespaceReport],
    read: Callable[[NamespaceReport], T],
    age: Callable[[NamespaceReport], float],
    is_time: Callable[[], bool],
) -> Iterator[tuple[NamespaceReport, T]]:
    """Read namespaces while it `is_time`, those read longest ago first. `age` returns when one was read.

    One that can't be read is left out: it has ended, or the kernel refuses or sends nonsense, and a cycle reports why.
    """
    for entry in sorted(entries, key=age):
        if not is_time():
            return
        try:
            found = read(entry)
        except Exception:  # noqa: BLE001  # as above
            continue
        yield entry, found


class Readings:
    """The last reading of each namespace."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, read: Read | None = None) -> None:
        self._clock, self._read = clock, read or read_namespace
        self._known: dict[Key, NamespaceReading] = {}

    def refresh(self, namespaces: Sequence[NamespaceReport]) -> tuple[dict[Key, NamespaceReading], int]:
        """Read these namespaces, and forget all others.

        Return their readings, and how many of these are old because the namespace could not be read, or not in time.
        """
        self._known = {entry.key: self._known.get(entry.key) or NamespaceReading() for entry in namespaces}
        until = self._clock() + MAX_S
        found = read_while_time(
            namespaces, self._read, lambda entry: self._known[entry.key].at, lambda: self._clock() < until
        )
        old = len(namespaces)
        for entry, (counters, use) in found:
            self._known[entry.key].note(entry, counters, use, self._clock())
            old -= 1
        return self._known, old


def read_namespace(entry: NamespaceReport) -> tuple[Mapping[str, int], TableUse]:
    """Return the namespace's counters, and its conntrack table.

    Raises:
        HostError: The namespace has ended.
        OSError: The kernel refuses.
    """
    with place_of(entry) as place:
        counters = {name: counted.packets for name, counted in read_own(place, own_counters(entry)).items()}
        with netns.inside(place):
            return counters, read_table_use()


def own_counters(entry: NamespaceReport) -> frozenset[str]:
    """Return the names of all counters of our tables there."""
    if entry.proven is None:
        return frozenset()
    fenced = (name_fenced_counter(ifname) for ifname in entry.proven.desired.interfaces.values())
    return frozenset((*entry.proven.summary.counters, *FIXED, *fenced))


@contextmanager
def place_of(entry: NamespaceReport) -> Iterator[str]:
    """Yield a router's name, or a path to the namespace that is held while the block runs.

    Raises:
        HostError: The namespace has ended.
    """
    if isinstance(entry.key, str):
        yield entry.key
        return
    with find_namespace(entry.key, entry.enis[0].binding.path) as place:
        if place is None:
            raise HostError(entry.named, "it has ended")
        yield place
