"""Which logged packets are believed to be denied ones: those that a rule of our own tables has logged.

Owns that judgement, and what counters have more than was logged. Is given a socket that logs come to, in the namespace.
Must not know what a counter stands for.

What the kernel logs names no table, and any rule of a namespace may log to any group in any words. So it isn't asked
who logged a packet, but whether it was counted: our rules count each packet right before they log it, with counters
that rules of other tables can't use. A counter has as many to spare as it has counted and nobody was told of. As many
packets in its name may be believed. If more have come, others have logged some of them, nobody knows which, and none is
believed. That they were denied is told as a number then, as of any that weren't logged.

Nothing is judged while it is on its way. Counters are read, what was in the rules is let out (host/quiet.py), and what
has come by then is all that was counted before: what a counter has more than that was not logged, and never will be. So
no forged packet is believed in place of a real one that is about to come, or that wasn't believed itself.

What remains: of packets that come faster than a rule logs, the counter has some to spare, and as many may be forged in
its name until that is told as a number, a second later at most. And whoever may change our table can have its rules
log what they like; the agent calls that drift.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sgdataplane.contract.names import logged_counter
from sgdataplane.contract.tables import NETDEV, TABLE
from sgdataplane.host import quiet
from sgdataplane.host.nflog import Logged, Nflog
from sgdataplane.host.nfnetlink import Nfnetlink
from sgdataplane.nft.counters import Counted, read_counters, read_logged, read_some
from sgdataplane.nft.snapshot import read_generation

FAMILIES = ("inet", NETDEV)  # of our tables
ROUNDS = 10  # of waiting for what is on its way; what goes on coming is judged later
MAX_HELD = 10_000  # packets that are still to be judged; of more, what was counted is told


class Named(NamedTuple):
    """A packet that was logged in the name of a counter."""

    counter: str
    packet: Logged


class Belief:
    """Listens in the namespace that the calling thread is in. `drops`: the counters of denied packets that are known of
    besides those that our rules are seen to log."""

    def __init__(self, group: int, drops: Collection[str]) -> None:
        """As Nflog. OSError if the kernel refuses to tell what was counted."""
        self._asked = Nfnetlink()
        try:
            self.tally = Tally(drops)
            self.tally.begin(self._read_all())  # before the first is logged: all that comes was counted since
            self._generation, self._ours = 0, frozenset[str]()
            self._read_ours()
            self._door = Nflog(group)
        except BaseException:
            self._asked.close()
            raise
        self._held: list[Named] = []
        self._strange: list[Named] = []  # in the name of a counter that our rules didn't log when they were read last
        self._late: set[str] = set()  # counters in whose name packets went on coming
        self._forged = 0

    def fileno(self) -> int:
        return self._door.fileno()

    def close(self) -> None:
        self._door.close()
        self._asked.close()

    def read(self) -> list[Named]:
        """What has come and is believed; what goes on coming is kept. OSError if the kernel refuses to tell."""
        self._hear()
        if not self._held:
            return []
        return self._judged(self._settled(lambda: self._read_of({named.counter for named in self._held})))

    def tick(self) -> tuple[list[Named], list[tuple[str, int]]]:
        """Once a second: the same, also of rules that are new; and what counters have counted more than that."""
        self._hear()
        self._get_acquainted()
        counted = self._settled(self._read_all)
        believed = self._judged(counted)
        return believed, self.tally.missing(counted, {named.counter for named in self._held})

    def _settled(self, read: Callable[[], dict[str, Counted]]) -> dict[str, Counted]:
        """What was counted, when all of that has come which was logged; but for counters that are called late."""
        counted: dict[str, Counted] = {}
        for _ in range(ROUNDS):
            counted = read()
            quiet.wait()
            self._late = self._hear()
            if not self._late:
                break
        return counted

    def _get_acquainted(self) -> None:
        """Our rules may be others by now, and log what they didn't."""
        if not self._strange:
            return
        self._read_ours()
        known = [named for named in self._strange if named.counter in self._ours]
        self._forged += len(self._strange) - len(known)
        self._held, self._strange = self._held + known, []

    def forged(self) -> int:
        """How many packets, since it was asked last, others have logged in our name. At least: some may be believed."""
        forged, self._forged = self._forged, 0
        return forged

    def _hear(self) -> set[str]:
        """In the names of which counters something has come."""
        heard = set()
        for packet in self._door.read():
            counter = logged_counter(packet.prefix)
            if counter is None:  # others may log there, too
                continue
            held = self._held if counter in self._ours else self._strange
            if len(held) < MAX_HELD:
                held.append(Named(counter, packet))
                heard.add(counter)
        return heard & self._ours

    def _judged(self, counted: Mapping[str, Counted]) -> list[Named]:
        ready = [named for named in self._held if named.counter not in self._late]
        self._held = [named for named in self._held if named.counter in self._late]
        packets = Counter(named.counter for named in ready)
        believed = {counter for counter in packets if self._is_believed(counter, packets[counter], counted)}
        return [named for named in ready if named.counter in believed]

    def _is_believed(self, counter: str, packets: int, counted: Mapping[str, Counted]) -> bool:
        spare = self.tally.spare(counter, counted.get(counter))
        if spare is None:  # nobody can tell
            return False
        is_believed = packets <= spare
        self._forged += 0 if is_believed else packets - spare
        self.tally.note(counter, packets if is_believed else 0, spare)
        return is_believed

    def _read_all(self) -> dict[str, Counted]:
        return {
            name: counted for family in FAMILIES for name, counted in read_counters(self._asked, TABLE, family).items()
        }

    def _read_of(self, counters: Collection[str]) -> dict[str, Counted]:
        return {
            name: counted for family in FAMILIES for name, counted in read_some(self._asked, TABLE, counters, family)
        }

    def _read_ours(self) -> None:
        """What our rules log, and did: of that some may be on its way."""
        generation = read_generation(self._asked)
        if generation != self._generation:
            self._ours = self._ours.union(*(read_logged(self._asked, TABLE, family) for family in FAMILIES))
            self._generation = generation


@dataclass
class Tally:
    """What was counted, and what of it was logged or told since. `drops`: counters of denied packets; one that has
    logged is one, too."""

    drops: Collection[str]
    _base: dict[str, int] = field(default_factory=dict)
    _seen: dict[str, Counted] = field(default_factory=dict)
    _known: Counter[str] = field(default_factory=Counter)  # of these packets somebody is told
    _owed: Counter[str] = field(default_factory=Counter)  # by numbers that weren't told yet

    def begin(self, counters: Mapping[str, Counted]) -> None:
        self._base = {name: counted.packets for name, counted in counters.items()}
        self._seen = dict(counters)

    def spare(self, name: str, now: Counted | None) -> int | None:
        """How many packets it has counted that nobody is told of; None: it isn't there, or began anew since it was
        looked at, so what was logged may have been counted by the one before."""
        if now is None or self._begins_anew(name, now):
            return None
        return max(0, now.packets - self._base.get(name, 0) - self._known[name])

    def note(self, name: str, logged: int, spare: int) -> None:
        """Of so many somebody is told one by one; of the others that it had to spare as a number."""
        self._known[name] += spare
        self._owed[name] += spare - logged

    def missing(self, counters: Mapping[str, Counted], late: Collection[str] = ()) -> list[tuple[str, int]]:
        """What is to be told as numbers, given that all has come of what was logged, but for these. What other counters
        have so far is none of it: a rule that denies may be one that accepts first."""
        denying = {*self.drops, *self._known}
        for name in counters.keys() - denying:
            self._base[name], self._seen[name] = counters[name].packets, counters[name]
        for name in denying.difference(late):
            now = counters.get(name, NOTHING)
            self._begins_anew(name, now)
            self.note(name, 0, self.spare(name, now) or 0)
        found = sorted((name, packets) for name, packets in self._owed.items() if packets)
        self._owed.clear()
        return found

    def _begins_anew(self, name: str, now: Counted) -> bool:
        """Somebody deleted the table, or had it count from 0."""
        before = self._seen.get(name, NOTHING)
        self._seen[name] = now
        if now.packets >= before.packets and before.made in (now.made, ""):
            return False
        self._base[name] = self._known[name] = 0
        return True


NOTHING = Counted(0, 0)
