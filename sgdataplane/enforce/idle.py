"""How long a session from before its ENI's first policy may still have left, if nothing more comes.

Owns what each ENI's timeouts are for such a session. Is given ENIs. Must not know how sessions are kept.

Until then the kernel's own timeouts held, up to five days. From the namespace's settings on, which come first, each
packet gives its session those; a session that stays silent would keep what it had.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass

from sgdataplane.host.conntrack import Tracked
from sgdataplane.host.timeouts import OTHERS, longest_of_tcp, scaled
from sgdataplane.model.state import ConnectionTracking, Eni
from sgdataplane.net.values import TCP, UDP, Address, Prefix


@dataclass(frozen=True, slots=True)
class Longest:
    """Of the sessions of some ENIs: the seconds that each may have; None for those of others. `singles`: timeouts by
    address, None: of another ENI; `blocks`: by wider prefixes, where others may have single addresses."""

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
        """Where both ends are such ENIs, the shorter."""
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
