"""What an apply does to running sessions: which epoch accepts them, how long old ones may stay silent, and which ones a
flowtable keeps alive and have to end.

Owns these three decisions. Is given what is in force, what is wanted, and a namespace. Must not know how rules are
written.

Epochs go from 1 to the last one of the site, and start again. They form two halves. Before the first epoch of a half is
used again, all epochs of that half, given long ago, are cleared from the sessions that still carry one. The epoch in
force is in the other half, so no packet writes a cleared one again.

To a flowtable a session is accepted for good. And in host placement `flow add` comes before our postrouting hook, so it
takes over a session whose packet we are about to refuse. Judging such a session again isn't enough: it has to end. The
kernel checks at each packet whether it still exists. In instance placement the policy and the fence stop all packets
that aren't carried already."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Protocol

from sgdataplane.contract.marks import FIRST_EPOCH, MarkLayout
from sgdataplane.contract.stamp import Stamp
from sgdataplane.enforce.desired import Desired
from sgdataplane.host import netns
from sgdataplane.host.conntrack import Bound, Tracked, clear_mark_fields, end_tracked, shorten_tracked
from sgdataplane.host.sockets import seed_sessions
from sgdataplane.host.timeouts import OTHERS, longest_of_tcp, scaled
from sgdataplane.model.state import ConnectionTracking, Eni
from sgdataplane.net.values import GRE, TCP, UDP, Address, Prefix, Verdict
from sgdataplane.nft.kernel import Kernel
from sgdataplane.observe.decisions import Decider
from sgdataplane.observe.others import Flowtable, read_flowtables
from sgdataplane.observe.sessions import Owners, opening_packet


class Sessions(Protocol):
    """The running sessions of a namespace."""

    def forget_epochs(self, epochs: range) -> int:
        """Clear these epochs from all sessions, so that their next packets are judged; return how many had one."""

    def seed(self, own: Collection[Prefix]) -> int:
        """Track the running TCP sessions of sockets with these addresses; return how many weren't tracked yet."""

    def shorten(self, longest: Bound) -> int:
        """Leave each session at most that many seconds (None: what it has); return how many had more."""


@dataclass(frozen=True, slots=True)
class KernelSessions:
    """The sessions in the conntrack table of a namespace whose marks have that layout."""

    namespace: str
    marks: MarkLayout

    def forget_epochs(self, epochs: range) -> int:
        with netns.inside(self.namespace):
            return clear_mark_fields(self.marks.epoch_fields, epochs)

    def seed(self, own: Collection[Prefix]) -> int:
        with netns.inside(self.namespace):
            return seed_sessions(own)

    def shorten(self, longest: Bound) -> int:
        with netns.inside(self.namespace):
            return shorten_tracked(longest)


@dataclass(frozen=True, slots=True)
class Epochs:
    """1..last, in two halves."""

    last: int

    @property
    def all(self) -> range:
        return range(FIRST_EPOCH, self.last + 1)

    @property
    def second_half(self) -> int:
        """The first epoch of the second half."""
        return (self.last + 1) // 2

    def usable(self, stamp: Stamp | None) -> Stamp | None:
        return stamp if stamp is not None and stamp.epoch in self.all else None

    def choose(self, stamp: Stamp | None, digest: str, on_change: str, *, is_certain: bool) -> int:
        """The epoch to use. A changed policy gets a new one, so that every session is judged once more. So does the
        same policy unless it `is_certain` that nobody else has changed the rules; else what these accepted would
        pass."""
        if stamp is None:
            return FIRST_EPOCH
        if on_change == "keep" or (stamp.digest == digest and is_certain):
            return stamp.epoch
        return FIRST_EPOCH if stamp.epoch == self.last else stamp.epoch + 1

    def _half_of(self, epoch: int) -> range:
        is_first = epoch < self.second_half
        return range(FIRST_EPOCH, self.second_half) if is_first else range(self.second_half, self.last + 1)

    def retire(self, kernel: Kernel, sessions: Sessions, stamp: Stamp | None, epoch: int) -> None:
        """Make sure that no session carries `epoch` from an earlier use."""
        old = self.all if stamp is None else self._half_of(epoch)
        if stamp is not None and stamp.epoch in old:
            return
        if sessions.forget_epochs(old):
            kernel.settle()  # a packet that read such a mark just before may have written it again
            sessions.forget_epochs(old)


@dataclass(frozen=True, slots=True)
class Longest:
    """How many seconds a session may have left that began before its ENI's first policy; None for sessions of other
    ENIs. `singles`: timeouts by address; None: another ENI's address. `blocks`: timeouts by wider prefix, in which
    other ENIs may have single addresses.

    Until that policy the kernel's own timeouts held, up to five days. The namespace's timeouts are set first, and apply
    from a session's next packet on. A session that stays silent would keep what it had."""

    singles: Mapping[Address, ConnectionTracking | None]
    blocks: Sequence[tuple[Prefix, ConnectionTracking]]
    time_scale: float

    @classmethod
    def of(cls, enis: Sequence[Eni], others: Iterable[Eni], time_scale: float) -> Longest:
        own = [(prefix, eni.connection_tracking.scaled(time_scale)) for eni in enis for prefix in eni.own_prefixes]
        singles: dict[Address, ConnectionTracking | None] = {
            Address(prefix.family_bits, prefix.first): tracking
            for prefix, tracking in own
            if prefix.first == prefix.last
        }
        singles |= dict.fromkeys(address for eni in others for address in eni.addresses)
        return cls(singles, [entry for entry in own if entry[0].first != entry[0].last], time_scale)

    def __call__(self, entry: Tracked) -> int | None:
        """The shorter time if both ends are such ENIs."""
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
            return scaled(OTHERS, self.time_scale)
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
    kernel: Kernel, namespace: str, desired: Desired, epoch: int, *, is_asked: bool
) -> tuple[Flowtable, ...]:
    """Return the namespace's flowtables. If there are any and `is_asked`, end all sessions that `desired`, which is in
    force, refuses."""
    with netns.inside(namespace):
        found = read_flowtables()
    if found and is_asked:
        kernel.settle()  # a packet that the previous rules accepted may still be on its way to `flow add`
        with netns.inside(namespace):
            end_tracked(_refused(desired, epoch))
    return found


def _refused(desired: Desired, epoch: int) -> Callable[[Tracked], bool]:
    owners = Owners(desired.state, desired.interfaces, epoch, desired.site)
    decider = Decider(desired.state, desired.options)

    def is_refused(entry: Tracked) -> bool:
        if entry.original.protocol not in CARRIED:
            return False
        if not (desired.placement.is_outside or entry.is_carried):
            return False
        packets = (opening_packet(entry, owner, desired.site) for owner in owners.of(entry) if not owner.is_judged)
        return any(decider.decide(packet).verdict is Verdict.DROP for packet in packets)

    return is_refused
