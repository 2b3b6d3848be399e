"""A capture as evidence: the sessions that its packets belong to, as the policies of ENIs see them.

Owns which packet opened a session, and whether it was answered. Is given an open capture and a state. It sends nothing,
and needs no lab. Must not know what is made of the evidence.

    first packet of a session       who opened it
    TCP SYN, or no TCP              its sender
    TCP SYN+ACK, ICMP reply         its receiver
    any other TCP                   the end with the higher port, as servers have low ones; these are counted
    TCP reset, ICMP error           nobody: it opens no session
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from sgdataplane.lab.replay.capture import Capture, Record
from sgdataplane.lab.replay.datagrams import ACK, RST, SYN, HeaderFields, Reassembly
from sgdataplane.lab.replay.packets import LINK_ONLY, Readdressed, Unfit, find_packet
from sgdataplane.lab.replay.sessions import INVERSE, MAX_SESSIONS, QUERIES, Key, reverse_key, session_key
from sgdataplane.model.always import LINK_LOCAL, MULTICAST, SHARED
from sgdataplane.model.state import CloudState, Eni
from sgdataplane.net.values import ICMP, ICMPV6, PORT_PROTOCOLS, TCP, UDP, Address, Direction, Prefix
from sgdataplane.suggest.evidence import Passage, SeenFlow
from sgdataplane.suggest.judge import SourcePorts

LINK_SCOPE = (*(prefix for family in SHARED.values() for prefix in family), MULTICAST, LINK_LOCAL)
IDLE_S = {TCP: 910.0, UDP: 30.0}  # as long as an ENI's sessions last at most, unless it says otherwise
OTHERS_IDLE_S = 30.0
NOBODYS = "no ENI of the state has one of its addresses (--map IP=ENI says which)"
NO_SESSION = "it opens no session, and belongs to none that the capture has"


@dataclass(slots=True)
class Conversation:
    """A session of the capture."""

    opening: HeaderFields
    """Its first packet, or what that must have been."""
    first: float | None
    """When its first packet was captured, in seconds since 1970; None if the capture has no times."""
    last: float | None
    """The same for its last packet."""
    is_answered: bool = False
    closings: int = 0
    """How many FINs it had, in both directions."""
    is_reset: bool = False

    @property
    def is_closed(self) -> bool:
        """Whether a packet that opens a session between its ends opens a new one."""
        return self.is_reset or self.closings > 1


class CaptureEvidence:
    """A reader of captures that finds the sessions at each ENI.

    Args:
        state: The state whose ENIs are looked at.
        mapped: Addresses of the captures that stand for an ENI.
        passes: Tells whether a flow passes at its sender; where it doesn't, the receiver never sees it.

    Attributes:
        left_out: Packets by the reason why they are no evidence.
        guessed: Sessions that began before their capture, so that who opened them is a guess.
        packets: How many packets were read.
        cut: Where captures were cut off, in words.
    """

    def __init__(self, state: CloudState, mapped: Mapping[Address, Eni], passes: Callable[[SeenFlow], bool]) -> None:
        self._state, self._passes = state, passes
        self._ends = {address: (eni, address) for address, eni in _map_owners(state).items()}
        for address, eni in mapped.items():
            own = next((one for one in eni.addresses if one.family is address.family), address)
            self._ends[address] = eni, own
        self._delegated = [(p, eni) for eni in state.judged_enis for p in eni.delegated_prefixes]
        self._sources = SourcePorts(state)
        self.left_out: Counter[str] = Counter()
        self.guessed, self.packets = 0, 0
        self.cut: list[str] = []

    def read(self, capture: Capture) -> Iterator[SeenFlow]:
        """Yield a flow for each session and ENI. LabError if the capture is damaged."""
        self._reassembly, self._table = Reassembly(), OrderedDict[Key, Conversation]()
        for record in capture.records():
            self.packets += 1
            try:
                ended = self._take(record)
            except Unfit as reason:
                self.left_out[str(reason)] += 1
                continue
            if ended is not None:
                yield from self._flows(ended)
        for conversation in self._table.values():
            yield from self._flows(conversation)
        if capture.cut:
            self.cut.append(capture.cut)

    def _take(self, record: Record) -> Conversation | None:
        """Note a packet; return a session that has ended. Unfit if the packet is no evidence."""
        packet = find_packet(record.linktype, record.data, record.length)
        if any(end in prefix for end in (packet.source, packet.target) for prefix in LINK_SCOPE):
            raise Unfit(LINK_ONLY)
        if self._end(packet.source) is None and self._end(packet.target) is None:
            raise Unfit(NOBODYS)
        datagram = self._reassembly.add(Readdressed(packet, packet.data, packet.source, packet.target))
        self._reassembly.given_up.clear()
        return None if datagram is None else self._note(datagram.header, record.time)

    def _note(self, header: HeaderFields, time: float | None) -> Conversation | None:
        """Add a packet to its session, or begin one; return a session that has ended.

        Unfit if it belongs to none.
        """
        key = session_key(header)
        name = key if key in self._table else reverse_key(key)
        found = self._table.get(name)
        if found is not None and not _is_new(found, header, time):
            _advance(found, header, time)
            return None
        opening = _derive_opening(header)
        if opening is None:
            raise Unfit(NO_SESSION)
        is_guess = header.protocol == TCP and not header.is_syn and not header.tcp_flags & SYN
        self.guessed += is_guess
        ended = self._table.pop(name, None)
        made = Conversation(opening, time, time, is_answered=opening is not header)
        self._table[session_key(opening)] = made
        if ended is None and len(self._table) > MAX_SESSIONS:
            _, ended = self._table.popitem(last=False)
        return ended

    def _flows(self, found: Conversation) -> Iterator[SeenFlow]:
        """Yield the session at the ENI that opened it, then at the one that it was opened to."""
        opening = found.opening
        near, far = self._end(opening.source), self._end(opening.target)
        source, target = near[1] if near else opening.source, far[1] if far else opening.target
        leaves = True
        if near is not None:
            flow = self._flow(found, near[0], Direction.EGRESS, (target, source))
            leaves = self._passes(flow)
            yield flow
        if far is not None and leaves:
            yield self._flow(found, far[0], Direction.INGRESS, (source, target))

    def _flow(self, found: Conversation, eni: Eni, direction: Direction, ends: tuple[Address, Address]) -> SeenFlow:
        remote, local = ends
        protocol, (source_port, port) = found.opening.protocol, found.opening.ports
        has_ports = protocol in PORT_PROTOCOLS
        asked = port if has_ports else None
        return SeenFlow(
            eni.network_interface_id, direction, (Prefix.of(remote),), protocol, asked, local,
            self._sources.get_if_relevant(eni.network_interface_id, source_port, asked),
            passage=Passage.PASSED if found.is_answered else Passage.UNKNOWN,
            answered=int(found.is_answered), first=found.first, last=found.last,
        )  # fmt: skip

    def _end(self, address: Address) -> tuple[Eni, Address] | None:
        """Return the ENI that an address stands for, and its address; None if there is none."""
        found = self._ends.get(address)
        if found is None:
            eni = next((eni for prefix, eni in self._delegated if address in prefix), None)
            return None if eni is None else (eni, address)
        return found


def _map_owners(state: CloudState) -> dict[Address, Eni]:
    """Return the ENI of each address. An address that ENIs of several VPCs have stands for none."""
    found: dict[Address, Eni] = {}
    times = Counter(address for eni in state.judged_enis for address in eni.addresses)
    for eni in state.judged_enis:
        found |= {address: eni for address in eni.addresses if times[address] == 1}
    return found


def _derive_opening(header: HeaderFields) -> HeaderFields | None:
    """Return the packet that opened a session, by the first one that was captured; None if that opens none."""
    if header.protocol in (ICMP, ICMPV6):
        queries = dict(QUERIES[header.protocol])
        if header.icmp_type in queries:
            return header
        asked = INVERSE.get((header.protocol, header.icmp_type or 0))
        return None if asked is None or header.is_error else _reverse(replace(header, icmp_type=asked))
    if header.protocol != TCP or header.is_syn:
        return header
    if header.tcp_flags & RST:
        return None
    source, target = header.ports
    is_answer = header.tcp_flags & (SYN | ACK) == SYN | ACK or (not header.tcp_flags & SYN and source < target)
    return _reverse(header) if is_answer else header


def _reverse(header: HeaderFields) -> HeaderFields:
    """Return the header in the other direction."""
    return replace(header, source=header.target, target=header.source, ports=header.ports[::-1])


def _is_new(found: Conversation, header: HeaderFields, time: float | None) -> bool:
    """Return whether a packet opens another session between the same ends."""
    if header.is_error:
        return False
    if found.is_closed and header.protocol == TCP and header.is_syn:
        return True
    if time is None or found.last is None:
        return False
    return time - found.last > IDLE_S.get(header.protocol, OTHERS_IDLE_S)


def _advance(found: Conversation, header: HeaderFields, time: float | None) -> None:
    """Note in a session what a packet of it shows."""
    is_reset = header.protocol == TCP and bool(header.tcp_flags & RST)
    if session_key(header) != session_key(found.opening) and not is_reset:
        found.is_answered = True
    found.is_reset |= is_reset
    found.closings += header.protocol == TCP and bool(header.tcp_flags & 1)
    if time is not None:
        found.first = time if found.first is None else min(found.first, time)
        found.last = time if found.last is None else max(found.last, time)
