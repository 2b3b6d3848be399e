"""The total hits of each rule, and when they came: sums of counters that outlive the counters.

Owns the sums. Is given readings of the kernel's counters. Must not know the kernel, files, or what a counter stands
for.

A scope is what the kernel counts together: one of our routers, by its name, or the ENIs of a workload's namespace, by
their ids. It outlives namespaces: a container that is restarted continues with the sums of its ENIs. A base is the last
reading of one namespace, so that only what came since is added. A counter that was made anew begins at zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from sys import intern

from sgdataplane.nft.counters import Counted

MAX_ROWS = 200_000  # of sums; first go those without a counter, then those never hit, the longest unused first
NOTHING = Counted(0, 0)  # one object for all counters at zero, which are most of them


@dataclass(frozen=True, slots=True)
class Sum:
    """The sum of one counter of one scope. Times are those of the readings, as text."""

    packets: int
    bytes: int
    since: str
    """When the sum began."""
    first: str = ""
    """The first reading that found it increased; empty for never. The hit came since the reading before."""
    last: str = ""
    """The last reading that found it increased; empty for never."""

    def plus(self, packets: int, size: int, at: str) -> Sum:
        """Return the sum with packets and bytes added that a reading at that time has found."""
        if not packets:
            return self
        return replace(self, packets=self.packets + packets, bytes=self.bytes + size, first=self.first or at, last=at)


@dataclass(frozen=True, slots=True)
class Base:
    """The last reading of one namespace's counters, and the scope for which they count."""

    scope: str
    counters: Mapping[str, Counted]


@dataclass(slots=True)
class Ledger:
    """The sums of all scopes."""

    scopes: dict[str, dict[str, Sum]] = field(default_factory=dict)
    """Sums by scope and counter."""
    bases: dict[int, Base] = field(default_factory=dict)
    """The last readings, by the namespace's cookie, which is valid for one boot."""

    def note(
        self, cookie: int, scope: str, counters: Mapping[str, Counted], at: str, *, is_settled: bool = False
    ) -> None:
        """Add a reading of all counters of a namespace.

        A counter that isn't there any more may have a last value that comes by `note_last`. So its base is kept, and
        forgotten by a reading that is settled: by then, all last values have come.
        """
        base = self.bases.get(cookie) or Base(scope, {})
        self._add(base, counters, at)
        sums, fresh = self._sums(scope), Sum(0, 0, at)
        for name in counters:
            sums.setdefault(name, fresh)
        gone = {} if is_settled else {name: c for name, c in base.counters.items() if name not in counters}
        read = {intern(name): c if c.packets else NOTHING for name, c in counters.items()}
        self.bases[cookie] = Base(scope, {**gone, **read})

    def note_last(self, cookie: int, scope: str, counters: Mapping[str, Counted], at: str) -> None:
        """Add the last values of counters that were removed."""
        base = self.bases.get(cookie) or Base(scope, {})
        self._add(base, counters, at)
        kept = {name: counted for name, counted in base.counters.items() if name not in counters}
        self.bases[cookie] = Base(base.scope, kept)

    def _add(self, base: Base, counters: Mapping[str, Counted], at: str) -> None:
        """Add to the sums what counters have counted since the base."""
        sums, fresh = self._sums(base.scope), Sum(0, 0, at)
        for name, now in counters.items():
            sums[intern(name)] = sums.get(name, fresh).plus(*_more(base.counters.get(name, NOTHING), now), at)

    def _sums(self, scope: str) -> dict[str, Sum]:
        return self.scopes.setdefault(scope, {})

    def keep_only(self, cookies: frozenset[int]) -> None:
        """Forget the bases of all other namespaces, which have ended."""
        for cookie in self.bases.keys() - cookies:
            del self.bases[cookie]

    def trim(self, most: int = MAX_ROWS) -> int:
        """Forget sums beyond that number; return how many."""
        excess = sum(map(len, self.scopes.values())) - most
        if excess <= 0:
            return 0
        counted = {(base.scope, name) for base in self.bases.values() for name in base.counters}
        rows = [(scope, name, known) for scope, sums in self.scopes.items() for name, known in sums.items()]
        rows.sort(key=lambda row: ((row[0], row[1]) in counted, row[2].packets > 0, row[2].last or row[2].since))
        for scope, name, _ in rows[:excess]:
            del self.scopes[scope][name]
            if not self.scopes[scope]:
                del self.scopes[scope]
        return excess


def _more(previous: Counted, now: Counted) -> tuple[int, int]:
    """Return packets and bytes since the previous reading.

    That is all of them if the counter was made anew or reset since.
    """
    if previous.made != now.made or now.packets < previous.packets:
        return now.packets, now.bytes
    return now.packets - previous.packets, max(0, now.bytes - previous.bytes)
