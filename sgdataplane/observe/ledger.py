"""How often each rule was hit in all, and when: what counters have counted, kept over their ends.

Owns the sums. Is given what the kernel's counters say now and then. Must not know the kernel, files, or what a counter
stands for.

A scope is what the kernel counts together: a router of ours by its name, or the ENIs of a workload's namespace by their
ids. It outlives namespaces: a container that is started anew goes on with the sums of its ENIs. A base is what one
namespace's counters said last, so that only what came since is added. A counter that was made anew, in a namespace that
was, begins with nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from sys import intern

from sgdataplane.nft.counters import Counted

MAX_ROWS = 200_000  # of sums; what is counted no more goes first, then what was never hit, the longest unused before
NOTHING = Counted(0, 0)  # whichever counter has counted nothing: most have, in a thousand namespaces


@dataclass(frozen=True, slots=True)
class Sum:
    """What one counter of one scope has counted since `since`. `first`, `last`: when it was first and last found to
    have counted something more, so hits are from between the reading before and that one; "": never."""

    packets: int
    bytes: int
    since: str
    first: str = ""
    last: str = ""

    def plus(self, packets: int, size: int, at: str) -> Sum:
        if not packets:
            return self
        return replace(self, packets=self.packets + packets, bytes=self.bytes + size, first=self.first or at, last=at)


@dataclass(frozen=True, slots=True)
class Base:
    """What one namespace's counters said last, and which scope they were counted for."""

    scope: str
    counters: Mapping[str, Counted]


@dataclass(slots=True)
class Ledger:
    """`scopes`: by scope and counter. `bases`: by namespace, as its cookie says, which holds for one boot only."""

    scopes: dict[str, dict[str, Sum]] = field(default_factory=dict)
    bases: dict[int, Base] = field(default_factory=dict)

    def note(self, cookie: int, scope: str, counters: Mapping[str, Counted], at: str) -> None:
        """All counters of a namespace as they are now."""
        self._add(self.bases.get(cookie) or Base(scope, {}), counters, at)
        sums, fresh = self._sums(scope), Sum(0, 0, at)
        for name in counters:
            sums.setdefault(name, fresh)
        self.bases[cookie] = Base(scope, {intern(name): c if c.packets else NOTHING for name, c in counters.items()})

    def note_last(self, cookie: int, scope: str, counters: Mapping[str, Counted], at: str) -> None:
        """What counters had counted at their end."""
        before = self.bases.get(cookie) or Base(scope, {})
        self._add(before, counters, at)
        kept = {name: counted for name, counted in before.counters.items() if name not in counters}
        self.bases[cookie] = Base(before.scope, kept)

    def _add(self, base: Base, counters: Mapping[str, Counted], at: str) -> None:
        sums, fresh = self._sums(base.scope), Sum(0, 0, at)
        for name, now in counters.items():
            sums[intern(name)] = sums.get(name, fresh).plus(*_more(base.counters.get(name, NOTHING), now), at)

    def _sums(self, scope: str) -> dict[str, Sum]:
        return self.scopes.setdefault(scope, {})

    def keep_only(self, cookies: frozenset[int]) -> None:
        """All other namespaces have ended."""
        for cookie in self.bases.keys() - cookies:
            del self.bases[cookie]

    def trim(self, most: int = MAX_ROWS) -> int:
        """Forget sums, if there are more than that; how many."""
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


def _more(before: Counted, now: Counted) -> tuple[int, int]:
    """Packets and bytes since; all of them, if the counter was made or set to nothing since."""
    if before.made != now.made or now.packets < before.packets:
        return now.packets, now.bytes
    return now.packets - before.packets, max(0, now.bytes - before.bytes)
