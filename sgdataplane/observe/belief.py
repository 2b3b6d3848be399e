"""The judgement of logged packets: we believe those that rules of sgdataplane's own tables have logged.

Owns that judgement, and how many packets were counted but not logged. Is given a namespace's log group. Must not know
what a counter stands for.

A logged packet doesn't name its table, and any rule of a namespace may log to any group in any words. So we check
whether it was counted. Our rules count each packet just before they log it, with counters that rules of other tables
can't use. A counter's spare is what it has counted and we haven't reported yet. Up to that many packets logged in its
name are believed. If more have come, somebody forged some of them. We can't tell which, so none is believed, and their
number is reported instead, as for packets that weren't logged.

Nothing is judged while it may still be on its way. We read the counters, wait until every packet has left the rules
(host/quiet.py), and then read the log: it now has everything that was counted before, and what is missing was never
logged. So no forged packet takes the place of a real one.

One gap remains. If packets come faster than a rule logs them, its counter has a spare, and as many packets can be
forged in its name until the spare is reported as a number, at most a second later. And root of the namespace can make
our rules log anything by changing our table; the agent reports that as drift.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sgdataplane.contract.names import find_logged_counter
from sgdataplane.contract.tables import NETDEV, TABLE
from sgdataplane.host import quiet
from sgdataplane.host.nflog import Logged, Nflog
from sgdataplane.host.nfnetlink import Nfnetlink
from sgdataplane.nft.counters import Counted, read_counters, read_logged, read_some
from sgdataplane.nft.snapshot import read_generation

FAMILIES = ("inet", NETDEV)  # of our tables
ROUNDS = 10  # of waiting for what is on its way; if more keeps coming, it is judged later
MAX_HELD = 10_000  # packets that are still to be judged; more are only reported as a number


class LoggedAs(NamedTuple):
    """A packet that was logged in the name of a counter."""

    counter: str
    """The counter that counted the packet just before, by the log line."""
    packet: Logged


class Belief:
    """A listener that reports only the packets that it believes.

    It listens in the namespace that the calling thread is in when this is made.

    Args:
        group: The nflog group.
        drops: Counters of denied packets, in addition to those that our rules are found to log.

    Attributes:
        account: What was counted, and what of that was reported.
    """

    def __init__(self, group: int, drops: Collection[str]) -> None:
        """Begin to listen. Errors as in Nflog, and OSError if the kernel refuses to list counters."""
        self._asked = Nfnetlink()
        try:
            self.account = Account(drops)
            self.account.begin(self._read_all())  # before we listen, so that all that comes was counted since
            self._generation, self._ours = 0, frozenset[str]()
            self._read_ours()
            self._sock = Nflog(group)
        except BaseException:
            self._asked.close()
            raise
        self._held: list[LoggedAs] = []
        self._strange: list[LoggedAs] = []  # in the name of a counter that our rules didn't log when we last read them
        self._late: set[str] = set()  # counters in whose names packets kept coming
        self._forged = 0

    def fileno(self) -> int:
        """Return the descriptor of the log's socket, for a selector."""
        return self._sock.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._sock.close()
        self._asked.close()

    def read(self) -> list[LoggedAs]:
        """Return what has come and is believed. OSError if the kernel refuses to list counters."""
        self._hear()
        if not self._held:
            return []
        return self._judge(self._read_settled(lambda: self._read_of({named.counter for named in self._held})))

    def tick(self) -> tuple[list[LoggedAs], list[tuple[str, int]]]:
        """Do once a second what `read` does, and also read what new rules log.

        Returns:
            What is believed, and the counters with the number of packets that they have counted and nobody logged.
        """
        self._hear()
        self._learn_rules()
        counted = self._read_settled(self._read_all)
        believed = self._judge(counted)
        return believed, self.account.list_missing(counted, {named.counter for named in self._held})

    def _read_settled(self, read: Callable[[], dict[str, Counted]]) -> dict[str, Counted]:
        """Read the counters, and wait until everything that they counted and rules logged has come.

        The counters in whose names packets keep coming are then in `_late`.
        """
        counted: dict[str, Counted] = {}
        for _ in range(ROUNDS):
            counted = read()
            quiet.wait()
            self._late = self._hear()
            if not self._late:
                break
        return counted

    def _learn_rules(self) -> None:
        """Read which counters our rules log now, because they may have changed."""
        if not self._strange:
            return
        self._read_ours()
        known = [named for named in self._strange if named.counter in self._ours]
        self._forged += len(self._strange) - len(known)
        self._held, self._strange = self._held + known, []

    def count_forged(self) -> int:
        """Return how many packets others have logged in our name since the last call.

        It may be more: some of them may have been believed.
        """
        forged, self._forged = self._forged, 0
        return forged

    def _hear(self) -> set[str]:
        """Receive packets; return the counters in whose names some have come."""
        heard = set()
        for packet in self._sock.read():
            counter = find_logged_counter(packet.prefix)
            if counter is None:  # another program's
                continue
            held = self._held if counter in self._ours else self._strange
            if len(held) < MAX_HELD:
                held.append(LoggedAs(counter, packet))
                heard.add(counter)
        return heard & self._ours

    def _judge(self, counted: Mapping[str, Counted]) -> list[LoggedAs]:
        """Take the packets that can be judged from those that are held; return the believed ones."""
        ready = [named for named in self._held if named.counter not in self._late]
        self._held = [named for named in self._held if named.counter in self._late]
        packets = Counter(named.counter for named in ready)
        believed = {counter for counter in packets if self._is_believed(counter, packets[counter], counted)}
        return [named for named in ready if named.counter in believed]

    def _is_believed(self, counter: str, packets: int, counted: Mapping[str, Counted]) -> bool:
        """Return whether the packets logged in a counter's name are believed, and account for them."""
        spare = self.account.spare(counter, counted.get(counter))
        if spare is None:  # we can't tell
            return False
        is_believed = packets <= spare
        self._forged += 0 if is_believed else packets - spare
        self.account.note(counter, packets if is_believed else 0, spare)
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
        """Read which counters our rules log.

        Those that they logged before stay, because such packets may be on their way.
        """
        generation = read_generation(self._asked)
        if generation != self._generation:
            self._ours = self._ours.union(*(read_logged(self._asked, TABLE, family) for family in FAMILIES))
            self._generation = generation


@dataclass
class Account:
    """The numbers that counters have counted since the beginning, and what of that was reported."""

    drops: Collection[str]
    """Counters of denied packets; one that has logged a packet counts as one, too."""
    _base: dict[str, int] = field(default_factory=dict)
    _seen: dict[str, Counted] = field(default_factory=dict)
    _known: Counter[str] = field(default_factory=Counter)  # packets that were reported
    _owed: Counter[str] = field(default_factory=Counter)  # packets to be reported as a number, and not reported yet

    def begin(self, counters: Mapping[str, Counted]) -> None:
        """Note what counters had counted before anything was listened to."""
        self._base = {name: counted.packets for name, counted in counters.items()}
        self._seen = dict(counters)

    def spare(self, name: str, now: Counted | None) -> int | None:
        """Return how many packets a counter has counted that weren't reported.

        It is None if the counter is gone, or was reset since the last look: then an earlier counter of that name may
        have counted what was logged.
        """
        if now is None or self._begins_anew(name, now):
            return None
        return max(0, now.packets - self._base.get(name, 0) - self._known[name])

    def note(self, name: str, logged: int, spare: int) -> None:
        """Account for the spare: `logged` packets are reported one by one, the rest is to be reported as a number."""
        self._known[name] += spare
        self._owed[name] += spare - logged

    def list_missing(self, counters: Mapping[str, Counted], late: Collection[str] = ()) -> list[tuple[str, int]]:
        """Return what is to be reported as numbers, once everything that was logged has come.

        This leaves out the counters `late`, and what counters that deny nothing have counted: a rule that denies now
        may have accepted before.
        """
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
        """Return whether the table was deleted, or the counter reset, since the last look; if so, begin anew."""
        previous = self._seen.get(name, NOTHING)
        self._seen[name] = now
        if now.packets >= previous.packets and previous.made in (now.made, ""):
            return False
        self._base[name] = self._known[name] = 0
        return True


NOTHING = Counted(0, 0)
