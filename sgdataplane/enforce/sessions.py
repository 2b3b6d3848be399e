"""The running sessions in an apply: their marks, the time that old ones may stay silent, and those in flowtables.

Owns the last two decisions: how long old sessions may stay silent, and the end of those that a flowtable keeps alive.
Its input is what is in force, what is wanted, and a namespace. Must not know how rules are written, or which epoch
comes next (epochs.py).

To a flowtable a session is accepted for good. And in host placement `flow add` comes before our postrouting hook, so it
takes over a session whose packet we are about to refuse. Judging such a session again isn't enough: it has to end. The
kernel checks at each packet whether it still exists. In instance placement the policy and the fence stop all packets
that aren't carried already.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Protocol

from sgdataplane.contract.marks import MarkLayout
from sgdataplane.contract.stamp import Stamp
from sgdataplane.enforce.clearing import Clearing, at
from sgdataplane.enforce.desired import Desired
from sgdataplane.enforce.epochs import UNKNOWN, Clearance
from sgdataplane.host import netns
from sgdataplane.host.conntrack import Bound, Tracked, end_tracked, shorten_tracked
from sgdataplane.host.marks import count_everywhere, count_tracked
from sgdataplane.host.sockets import seed_sessions
from sgdataplane.host.timeouts import OTHERS, longest_of_tcp, scale_seconds
from sgdataplane.model.state import ConnectionTracking, Eni
from sgdataplane.net.values import GRE, TCP, UDP, Address, Prefix, Verdict
from sgdataplane.nft.kernel import Kernel
from sgdataplane.observe.decisions import Decider
from sgdataplane.observe.others import Flowtable, read_flowtables
from sgdataplane.observe.sessions import Owners, rebuild_opening_packet

MAX_EVERYWHERE = 100_000  # sessions of the machine; the kernel walks all of them in some 25 ms


class Sessions(Protocol):
    """The running sessions of a namespace."""

    def forget_epochs(self, epochs: Collection[int], stamp: Stamp | None) -> bool:
        """Clear these epochs from all sessions, so that their next packets are judged.

        The rules in force don't write them. Return False if some sessions may still have one. `stamp` is of what is in
        force, if it is known.
        """

    def seed(self, own: Collection[Prefix]) -> int:
        """Track the running TCP sessions of sockets with these addresses; return how many weren't tracked yet."""

    def shorten(self, longest: Bound) -> int:
        """Leave each session at most that many seconds (None: what it has); return how many had more."""

    def count(self) -> int:
        """Return how many there are."""


@dataclass(frozen=True, slots=True)
class KernelSessions:
    """The sessions in the conntrack table of a namespace whose marks have that layout."""

    namespace: str
    marks: MarkLayout
    clearance: Clearance = UNKNOWN

    def forget_epochs(self, epochs: Collection[int], stamp: Stamp | None) -> bool:
        """Clear these epochs, unless it is known that no session has one. False if that would take too long."""
        if self.clearance.covers(epochs, stamp):
            return True
        if self._takes_long():
            return False
        return Clearing(at(self.namespace), self.marks, epochs).run()

    def _takes_long(self) -> bool:
        """Whether others would wait too long for a look at these sessions."""
        most, count = self.clearance.most, self.count()
        return most is not None and count > 0 and (count > most or count_everywhere() > MAX_EVERYWHERE)

    def count(self) -> int:
        """Return how many sessions the namespace's conntrack has."""
        with netns.inside(self.namespace):
            return count_tracked()

    def seed(self, own: Collection[Prefix]) -> int:
        """Have conntrack track the running TCP sessions of sockets with these addresses."""
        with netns.inside(self.namespace):
            return seed_sessions(own)

    def shorten(self, longest: Bound) -> int:
        """Leave each session at most that many seconds."""
        with netns.inside(self.namespace):
            return shorten_tracked(longest)


@dataclass(frozen=True, slots=True)
class Longest:
    """The seconds that a session may have left that began before its ENI's first policy.

    None stands for sessions of other ENIs. Until that policy the kernel's own timeouts were in force, up to five days.
    The namespace's timeouts are set first, and apply from a session's next packet on. A session that stays silent would
    keep what it had.
    """

    singles: Mapping[Address, ConnectionTracking | None]
    """Timeouts by address; None: another ENI's address."""
    blocks: Sequence[tuple[Prefix, ConnectionTracking]]
    """Timeouts by wider prefix, in which other ENIs may have single addresses."""
    time_scale: float

    @classmethod
    def of(cls, enis: Sequence[Eni], others: Iterable[Eni], time_scale: float) -> Longest:
        """Return the bound for sessions of `enis`, which aren't those of `others`."""
        own = [(prefix, eni.connection_tracking.scale(time_scale)) for eni in enis for prefix in eni.own_prefixes]
        singles: dict[Address, ConnectionTracking | None] = {
            Address(prefix.family_bits, prefix.first): tracking
            for prefix, tracking in own
            if prefix.first == prefix.last
        }
        singles |= dict.fromkeys(address for eni in others for address in eni.addresses)
        return cls(singles, [entry for entry in own if entry[0].first != entry[0].last], time_scale)

    def __call__(self, entry: Tracked) -> int | None:
        """Return the seconds for a session; the shorter time if both ends are such ENIs, None if none is."""
        return min((self._seconds(tracking, entry) for tracking in self._owners(entry)), default=None)

    def _owners(self, entry: Tracked) -> Iterator[ConnectionTracking]:
        tuples = (entry.original, entry.reply)
        for address in {end for seen in tuples for end in (seen.source, seen.target)}:
            if address not in self.singles:
                yield from (tracking for prefix, tracking in self.blocks if address in prefix)
            elif (tracking := self.singles[address]) is not None:
                yield tracking

    def _seconds(self, own: ConnectionTracking, entry: Tracked) -> int:
        if entry.original.protocol == UDP:
            return own.udp_timeout
        if entry.original.protocol != TCP:
            return scale_seconds(OTHERS, self.time_scale)
        if entry.state == "ESTABLISHED":
            return own.tcp_established_timeout
        if entry.state in ("CLOSE", "TIME_WAIT"):
            return own.tcp_closed_and_time_wait_timeout
        return longest_of_tcp(entry.state, self.time_scale)


def has_shorter(own: ConnectionTracking) -> bool:
    """Whether any of an ENI's timeouts is shorter than its namespace's."""
    return any(seconds < unset for seconds, unset in zip(astuple(own), astuple(ConnectionTracking()), strict=True))


CARRIED = (TCP, UDP, GRE)  # what flowtables know


def end_refused(
    kernel: Kernel, namespace: str, desired: Desired, stamp: Stamp | None, *, is_asked: bool
) -> tuple[Flowtable, ...]:
    """Return the namespace's flowtables. If there are any and `is_asked`, end all refused sessions.

    A session is refused if `desired`, which is in force with that stamp, refuses it.
    """
    with netns.inside(namespace):
        found = read_flowtables()
    if found and is_asked:
        kernel.settle()  # a packet that the previous rules accepted may still be on its way to `flow add`
        with netns.inside(namespace):
            end_tracked(_make_refusal_test(desired, stamp))
    return found


def _make_refusal_test(desired: Desired, stamp: Stamp | None) -> Callable[[Tracked], bool]:
    owners = Owners(desired.state, desired.interfaces, stamp, desired.site)
    decider = Decider(desired.state, desired.options)

    def is_refused(entry: Tracked) -> bool:
        if entry.original.protocol not in CARRIED:
            return False
        if not (desired.placement.is_outside or entry.is_carried):
            return False
        packets = (
            rebuild_opening_packet(entry, owner, desired.site) for owner in owners.of(entry) if not owner.is_judged
        )
        return any(decider.decide(packet).verdict is Verdict.DROP for packet in packets)

    return is_refused
