"""The packets that counters have counted since they were read last.

Owns the last readings. Is given readings of the kernel's counters, and the last values of those that were removed. Must
not know what is counted.

A counter that was made anew (another table, a rule that came back) begins at zero; `made` tells it from the earlier
one. The agent tells the last value of a counter with its removal, which may come here after the first reading of the
next counter of that name. So the earlier one's last reading is kept beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sgdataplane.nft.counters import Counted

GONE_S = 900  # how long the reading of a counter is kept that isn't there any more: its last value may still come
Base = tuple[int, str]  # a namespace's cookie, and a counter
Grown = dict[str, tuple[int, int]]  # counter -> packets and bytes
NOTHING = Counted(0, 0)
BEGUN = ""  # in place of a counter: the namespace was read, even if nothing was counted yet


class Deltas:
    """The last readings of all counters. It begins with the readings that the file has, `known`."""

    def __init__(self, known: Mapping[Base, Counted]) -> None:
        self._known = dict(known)
        self._former: dict[Base, Counted] = {}
        self._names: dict[int, set[str]] = {}
        for cookie, name in known:
            self._names.setdefault(cookie, set()).update({name} - {BEGUN})
        self._missing: dict[Base, float] = {}
        self._changed: dict[Base, Counted | None] = {}

    def note(self, cookie: int, counters: Mapping[str, Counted], now: float) -> Grown:
        """Note a reading of all counters of a namespace; return what each has counted since the last one.

        What the first reading finds counts as nothing, because nobody knows when it was counted. `now` is by a clock
        that doesn't jump.
        """
        found: Grown = {}
        is_first = cookie not in self._names
        if is_first:
            self._names[cookie] = set()
            self._changed[cookie, BEGUN] = NOTHING
        for name, counted in counters.items():
            before = self._known.get((cookie, name))
            if before == counted or (before is None and not counted.packets):
                continue
            if before is not None and before.made != counted.made:
                self._former[cookie, name] = before
            is_same = before is not None and before.made == counted.made and counted.packets >= before.packets
            self._add(found, (cookie, name), before if is_same and before else NOTHING, counted)
        self._expire(cookie, counters, now)
        return {} if is_first else found

    def note_last(self, cookie: int, counters: Mapping[str, Counted]) -> Grown:
        """Note the last values of counters that were removed; return what each has counted since the last reading.

        A value that isn't newer than the last reading says nothing.
        """
        found: Grown = {}
        if cookie not in self._names:
            return found
        for name, last in counters.items():
            base = cookie, name
            known, former = self._known.get(base, NOTHING), self._former.get(base, NOTHING)
            if former.made == last.made:
                _count(found, name, former, last)
                self._former[base] = last
            elif known.made == last.made and last.packets > known.packets:
                self._add(found, base, known, last)
            elif _age(last) > _age(known) and last.packets:
                self._add(found, base, NOTHING, last)
        return found

    def keep_only(self, cookies: Iterable[int]) -> None:
        """Forget all other namespaces, which have ended."""
        for cookie in self._names.keys() - set(cookies):
            for name in tuple(self._names[cookie]):
                self._forget(cookie, name)
            del self._names[cookie]
            self._changed[cookie, BEGUN] = None

    def take_changed(self) -> dict[Base, Counted | None]:
        """Return the readings that have changed since the last call, for the file; None for one that is forgotten."""
        changed, self._changed = self._changed, {}
        return changed

    def _add(self, found: Grown, base: Base, before: Counted, now: Counted) -> None:
        """Note a reading, and add to `found` what came since the one before."""
        self._known[base] = self._changed[base] = now
        self._names[base[0]].add(base[1])
        _count(found, base[1], before, now)

    def _expire(self, cookie: int, there: Iterable[str], now: float) -> None:
        """Forget readings of counters that haven't been there for GONE_S."""
        names = self._names.get(cookie, set())
        for name in names.intersection(there):
            self._missing.pop((cookie, name), None)
        for name in names.difference(there):
            if self._missing.setdefault((cookie, name), now) < now - GONE_S:
                self._forget(cookie, name)

    def _forget(self, cookie: int, name: str) -> None:
        for some in (self._known, self._missing, self._former):
            some.pop((cookie, name), None)
        self._names[cookie].discard(name)
        self._changed[cookie, name] = None


def _count(found: Grown, name: str, before: Counted, now: Counted) -> None:
    """Add to `found` what a counter has counted between two readings."""
    packets, size = now.packets - before.packets, max(0, now.bytes - before.bytes)
    if packets > 0:
        had = found.get(name, (0, 0))
        found[name] = had[0] + packets, had[1] + size


def _age(counted: Counted) -> tuple[int, ...]:
    """Return the kernel's handles of table and counter, which only grow."""
    return tuple(int(part) for part in counted.made.split(".") if part.isdigit())
