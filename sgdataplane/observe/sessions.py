"""Sessions of a namespace's ENIs: whose each one is, who opened it, its state, and the rule that lets it in.

Owns the way from a conntrack entry back to an ENI and to the opening packet, and which sessions are selected in which
order. Is given a state, interfaces and a decider. Must not know who asks, or how sessions are printed.

    hook of the side   the opening packet as it was on the ENI's wire
    prerouting         original tuple: before any NAT here
    postrouting        reply tuple turned round: after any NAT here

So in instance placement ingress uses the original tuple and egress the reply; in host placement it is the other way
round.

The mark says which ENI accepted a session (contract/marks.py). A session that no ENI has accepted since the last
change, or that was refused, is attributed by its addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from sgdataplane.contract.sites import INSTANCE, Site
from sgdataplane.contract.stamp import Stamp
from sgdataplane.contract.tables import TABLE
from sgdataplane.host import netns
from sgdataplane.host.conntrack import Accounting, SessionTuple, Tracked, list_tracked
from sgdataplane.host.netlink import refusals_of
from sgdataplane.host.nfnetlink import Nfnetlink
from sgdataplane.model.decision import Decision
from sgdataplane.model.state import CloudState
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import PORT_PROTOCOLS, Address, Direction, Family, Prefix, Protocol
from sgdataplane.nft.snapshot import read_inventory
from sgdataplane.observe.decisions import Decider

INGRESS = Direction.INGRESS
LOOPBACK = (Prefix.parse("127.0.0.0/8"), Prefix.parse("::1"))


@dataclass(frozen=True, slots=True)
class Session:
    """One session as one ENI's policy sees it.

    A session that belongs to no ENI, because it goes by lo or between the instance's own interfaces, has no direction
    and no decision; its opener is given as local.
    """

    namespace: str
    eni_id: str
    """Empty if it belongs to no ENI."""
    ifname: str
    direction: Direction | None
    """That of its opening packet; None if it belongs to no ENI."""
    protocol: int
    remote: Address
    remote_port: int | None
    """None if the protocol has no ports."""
    local: Address
    local_port: int | None
    """None if the protocol has no ports."""
    icmp_type: int | None
    """None unless it is ICMP or ICMPv6."""
    state: str
    seconds_left: int
    ingress: Accounting | None
    """What came in; None unless the kernel counts."""
    egress: Accounting | None
    """What went out; None unless the kernel counts."""
    is_judged: bool
    """Whether the policy in force has accepted it, so that its packets pass; else its next packet will be judged."""
    decision: Decision | None
    """What that policy says about its opening packet now.

    It differs from `is_judged` if running sessions are kept (`on_change: keep`).
    """

    @property
    def family(self) -> Family:
        """The address family."""
        return self.remote.family

    @property
    def port(self) -> int | None:
        """The port to which it was opened."""
        return self.local_port if self.direction is INGRESS else self.remote_port


@dataclass(frozen=True, slots=True)
class Owner:
    """The ENI on one side of a session."""

    eni_id: str
    side: Direction
    is_judged: bool
    """Whether the ENI's policy in force has accepted the session."""


class Owners:
    """A finder of the ENIs of sessions in one namespace.

    Args:
        state: The state in force.
        interfaces: ENI id -> interface name.
        stamp: The stamp of the policy in force there; None if there is none.
        site: The placement.
    """

    def __init__(
        self, state: CloudState, interfaces: Mapping[str, str], stamp: Stamp | None, site: Site = INSTANCE
    ) -> None:
        slots = site.marks.slots(interfaces.values())
        self._slots = {slots[ifname]: eni_id for eni_id, ifname in interfaces.items()}
        self._epochs = {} if stamp is None else stamp.epochs(self._slots)
        self._site = site
        enis = [state.eni[eni_id] for eni_id in sorted(interfaces)]
        self._single = {address: eni.network_interface_id for eni in enis for address in eni.addresses}
        self._delegated = [(p, eni.network_interface_id) for eni in enis for p in eni.delegated_prefixes]
        self._pairs = [(p, eni.network_interface_id) for eni in enis for p in eni.allowed_address_pairs]

    def of(self, entry: Tracked) -> tuple[Owner, ...]:
        """Return the owners of a session: none, one or two.

        There are two if it runs between two ENIs, or if an instance forwards it from one of its ENIs to another.
        """
        found = tuple(owner for side in Direction if (owner := self._of_side(entry, side)))
        if found or entry.mark:
            return found
        return tuple(owner for side in Direction if (owner := self._by_pair(entry, side)))

    def _of_side(self, entry: Tracked, side: Direction) -> Owner | None:
        """Return the owner on that side by the session's mark, or else by its addresses; None if there is none."""
        epoch, slot = self._site.marks.parts(side, entry.mark)
        if self._epochs.get(slot) == epoch:
            return Owner(self._slots[slot], side, is_judged=True)
        remote, local = _ends(self._site, entry, side)
        eni_id = self._private(local)
        if eni_id is not None and self._is_one_instance and self._is_here(remote):
            return None  # it goes through lo
        eni_id = eni_id or self._slots.get(slot)  # the ENI that accepted it before is the best guess
        return None if eni_id is None else Owner(eni_id, side, is_judged=False)

    def _by_pair(self, entry: Tracked, side: Direction) -> Owner | None:
        """Return the owner on that side by its allowed address pairs; None if there is none.

        These may be as wide as 0.0.0.0/0, so they are used only if nothing else tells the owner.
        """
        remote, local = _ends(self._site, entry, side)
        eni_id = _holder(self._pairs, local)
        if eni_id is None or self._is_here(local) or (self._is_one_instance and self._is_here(remote)):
            return None
        return Owner(eni_id, side, is_judged=False)

    @property
    def _is_one_instance(self) -> bool:
        """Whether packets between two of these addresses stay inside the instance."""
        return not self._site.placement.is_outside

    def _is_here(self, address: Address) -> bool:
        return self._private(address) is not None or any(address in prefix for prefix in LOOPBACK)

    def _private(self, address: Address) -> str | None:
        """Return the ENI that has the address or a delegated prefix around it; None if there is none."""
        return self._single.get(address) or _holder(self._delegated, address)


def _holder(prefixes: Iterable[tuple[Prefix, str]], address: Address) -> str | None:
    return next((eni_id for prefix, eni_id in prefixes if address in prefix), None)


def read_sessions(
    namespace: str, state: CloudState, interfaces: Mapping[str, str], decider: Decider, site: Site = INSTANCE
) -> Iterator[Session]:
    """Yield all sessions in the namespace, in no order, including those that belong to no ENI.

    Args:
        namespace: Its name or path.
        state: The state in force.
        interfaces: ENI id -> interface name.
        decider: Knows the state in force.
        site: The placement.

    Raises:
        HostError: There is no such namespace, or the kernel refuses.
    """
    with netns.inside(namespace):
        stamp = _present_stamp(namespace)
        entries = list_tracked()
    owners = Owners(state, interfaces, stamp, site)
    for entry in entries:
        found = owners.of(entry)
        for owner in found:
            packet = rebuild_opening_packet(entry, owner, site)
            yield _session((namespace, interfaces[owner.eni_id]), packet, entry, owner, decider.decide(packet))
        if not found:
            yield _internal_session(namespace, entry)


def _present_stamp(namespace: str) -> Stamp | None:
    with refusals_of(f"nftables of namespace {namespace}"), Nfnetlink() as netlink:
        return read_inventory(netlink, TABLE).stamp


def _session(place: tuple[str, str], packet: Packet, entry: Tracked, owner: Owner, decision: Decision) -> Session:
    is_ingress = owner.side is INGRESS
    return Session(
        place[0],
        owner.eni_id,
        place[1],
        owner.side,
        packet.protocol,
        packet.remote,
        packet.source_port if is_ingress else packet.port,
        packet.local,
        packet.port if is_ingress else packet.source_port,
        packet.icmp_type,
        entry.state,
        entry.seconds_left,
        entry.sent if is_ingress else entry.answered,
        entry.answered if is_ingress else entry.sent,
        owner.is_judged,
        decision,
    )


def rebuild_opening_packet(entry: Tracked, owner: Owner, site: Site = INSTANCE) -> Packet:
    """Return the packet that opened the session, as it was on the ENI's wire."""
    on_wire = _on_wire(site, entry, owner.side)
    ends = _ends(site, entry, owner.side)
    return Packet(owner.eni_id, owner.side, *ends, on_wire.protocol, *_ports(on_wire), entry.icmp_type)


def _on_wire(site: Site, entry: Tracked, side: Direction) -> SessionTuple:
    """Return the opening packet's tuple as it was on the wire of that side."""
    return entry.reply.reverse if site.is_leaving(side) else entry.original


def _ends(site: Site, entry: Tracked, side: Direction) -> tuple[Address, Address]:
    """Return remote and local address on the wire."""
    seen = _on_wire(site, entry, side)
    return (seen.source, seen.target) if side is INGRESS else (seen.target, seen.source)


def _ports(session: SessionTuple) -> tuple[int | None, int | None]:
    """Return destination and source port; None if the protocol has none."""
    return (session.port, session.source_port) if session.protocol in PORT_PROTOCOLS else (None, None)


def _internal_session(namespace: str, entry: Tracked) -> Session:
    opened = entry.original
    port, source_port = _ports(opened)
    return Session(
        namespace,
        "",
        "",
        None,
        opened.protocol,
        opened.target,
        port,
        opened.source,
        source_port,
        entry.icmp_type,
        entry.state,
        entry.seconds_left,
        entry.answered,
        entry.sent,
        is_judged=False,
        decision=None,
    )


Rank = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """Conditions on sessions; all that are set must hold."""

    eni_id: str | None = None
    direction: Direction | None = None
    remote: Prefix | None = None
    protocol: Protocol | None = None
    port: int | None = None
    """The one to which a session was opened."""
    state: str | None = None
    rule_id: str | None = None
    internal: bool = False
    """Whether sessions that belong to no ENI are included, if they meet the other conditions."""

    def holds(self, session: Session) -> bool:
        """Return whether a session meets all conditions."""
        rule_id = session.decision.security_group_rule_id if session.decision else None
        return (
            (self.internal or session.eni_id != "")
            and self.eni_id in (None, session.eni_id)
            and self.direction in (None, session.direction)
            and (self.remote is None or session.remote in self.remote)
            and (self.protocol is None or self.protocol.matches(session.protocol, session.family))
            and self.port in (None, session.port)
            and self.state in (None, session.state)
            and self.rule_id in (None, rule_id)
        )


def _usual(session: Session) -> Rank:
    """Return the key of the usual order: by ENI, then direction, protocol and port, then the ends."""
    direction = "" if session.direction is None else session.direction.value
    opener = (session.remote, session.remote_port or 0, session.local, session.local_port or 0)
    return (session.namespace, session.eni_id, direction, session.protocol, session.port or 0, opener)


def _rule(session: Session) -> Rank:
    found = session.decision
    return (found.priority or 0, found.security_group_id or "", found.security_group_rule_id or "") if found else (0,)


def _bytes(session: Session) -> Rank:
    return (sum(way.bytes for way in (session.ingress, session.egress) if way is not None),)


ORDERS: dict[str, Callable[[Session], Rank]] = {
    "eni": _usual,
    "remote": lambda session: (session.remote, session.remote_port or 0),
    "port": lambda session: (session.protocol, session.port or 0),
    "state": lambda session: (session.state,),
    "seconds-left": lambda session: (session.seconds_left,),
    "bytes": _bytes,
    "rule": _rule,
}


def in_order(sessions: Iterable[Session], order: str = "eni", *, descending: bool = False) -> list[Session]:
    """Sort by one of ORDERS, and equal sessions by ENI."""
    usual = sorted(sessions, key=_usual)
    return usual if order == "eni" and not descending else sorted(usual, key=ORDERS[order], reverse=descending)
