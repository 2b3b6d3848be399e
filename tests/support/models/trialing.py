"""What a trial must count, by `decide()` of both states alone; and the corners of a trial's lines, as packets."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import product

from sgdataplane.analyse.diff import StateDiff
from sgdataplane.analyse.rows import PLACES
from sgdataplane.analyse.view import VerdictChange
from sgdataplane.contract.sites import SITES
from sgdataplane.model.always import DISCOVERY_TYPES
from sgdataplane.model.decision import ABSENT, Decision
from sgdataplane.model.options import Options, Placement
from sgdataplane.model.semantics import decide
from sgdataplane.model.state import CloudState
from sgdataplane.net.packet import Packet
from sgdataplane.net.ranges import Interval, Ranges
from sgdataplane.net.values import ICMPV6, PORT_PROTOCOLS, TCP, Address, Family, Verdict
from sgdataplane.policy.dimensions import LOCAL, PORT, PROTOCOL, REMOTE, SOURCE_PORT, Dimension
from sgdataplane.trial.lines import TrialLine, TrialLines, lines_at
from sgdataplane.trial.tables import TrialPlace

States = tuple[CloudState, CloudState]
ORDER = (REMOTE, LOCAL, PROTOCOL, SOURCE_PORT, PORT)
ADDRESSED = ("spoofed", "foreign", ABSENT)  # the ENI has no such address, or isn't there: nothing passes


def trial_of(states: States, options: Options, placement: str) -> tuple[TrialPlace, TrialLines]:
    """The lines of a trial of the second state, at all ENIs of both, as if all were in one namespace."""
    enis = sorted({eni for state in states for eni in state.eni})
    interfaces = {eni_id: f"eth{index}" for index, eni_id in enumerate(enis)}
    return TrialPlace(SITES[Placement(placement)], interfaces, options), lines_at(StateDiff(*states, options), enis)


def decisions_of(states: States, packet: Packet, options: Options, placement: Placement) -> tuple[Decision, ...]:
    """What each state decides. Nothing passes an ENI that isn't there."""
    absent = Decision(packet.direction, Verdict.DROP, ABSENT)
    return tuple(
        decide(state, packet, options, placement) if packet.eni_id in state.eni else absent for state in states
    )


def is_change(both: tuple[Decision, ...]) -> bool:
    """Whether rules decide otherwise: before, after, or both; and whatever else decides goes by addresses."""
    is_judged = all(not one.is_fixed or one.cause in ADDRESSED for one in both)
    return both[0].verdict is not both[1].verdict and is_judged


def is_of(line: TrialLine, both: tuple[Decision, ...]) -> bool:
    """Whether the line tells these decisions."""
    told = (line.change.before, line.change.after)
    return all(mine.as_json() == one.as_json() for mine, one in zip(told, both, strict=True))


def edges_of(line: TrialLine, chance: random.Random, most: int) -> list[Packet]:
    """Packets at the ends of the line in each dimension, and just beyond; also such as no rule judges."""
    every = [variant for packet in _corners(line.change, line) for variant in _variants(packet)]
    return chance.sample(every, min(len(every), most))


def packets_in(line: TrialLine, chance: random.Random, count: int) -> list[Packet]:
    """Packets in the line: in each dimension one of its numbers, most often at an end of a range."""

    def pick(ranges: Ranges) -> int:
        first, last = chance.choice(ranges)
        return chance.choice((first, last, chance.randint(first, last)))

    found, change = list[Packet](), line.change
    for _ in range(count):
        remote, local, protocol, source, port = (pick(line.ranges[PLACES[each]]) for each in ORDER)
        ports = (port, source) if protocol in PORT_PROTOCOLS else (None, None)
        bits = change.family.bits
        found.append(
            Packet(change.eni_id, change.direction, Address(bits, remote), Address(bits, local), protocol, *ports)
        )
    return found


def packets_beside(line: TrialLine, chance: random.Random) -> Iterator[Packet]:
    """Packets just beyond the line, at each end of each range: in one dimension, and in the line in all others."""
    change = line.change
    for packet, each in product(packets_in(line, chance, 1), ORDER):
        ranges, last = line.ranges[PLACES[each]], each.whole(change.family)[-1][1]
        near = {number for first, end in ranges for number in (first - 1, end + 1)}
        for number in near:
            if 0 <= number <= last and not any(first <= number <= end for first, end in ranges):
                yield moved(packet, each, number)


def moved(packet: Packet, dimension: Dimension, number: int) -> Packet:
    """The packet with another number in one dimension. Without ports it is the same in these."""
    address = partial(Address, packet.family.bits)
    if dimension is REMOTE:
        return replace(packet, remote=address(number))
    if dimension is LOCAL:
        return replace(packet, local=address(number))
    if dimension is PROTOCOL:
        ports = (packet.port or 1, packet.source_port or 1) if number in PORT_PROTOCOLS else (None, None)
        return replace(packet, protocol=number, port=ports[0], source_port=ports[1])
    if packet.protocol not in PORT_PROTOCOLS:
        return packet
    return replace(packet, port=number) if dimension is PORT else replace(packet, source_port=number)


def special_packets(line: TrialLine) -> Iterator[Packet]:
    """Packets of the kinds that no rule judges, as far as the line's addresses go."""
    change, bits = line.change, line.change.family.bits
    remotes = [*_peers(change.family), *(change.of(REMOTE) or ())]
    dhcp = [(17, *ports) for ports in ((67, 68), (68, 67), (546, 547), (547, 546))]
    other = [(TCP, port, source) for port in (change.of(PORT) or (22,)) for source in (change.of(SOURCE_PORT) or (1,))]
    others = [*dhcp, *other, (ICMPV6, None, None)]
    for far, own, (protocol, port, source) in product(remotes, [first for first, _ in line.judged.local], others):
        ends = Address(bits, far), Address(bits, own)
        yield from _variants(Packet(change.eni_id, change.direction, *ends, protocol, port, source))


def _corners(change: VerdictChange, line: TrialLine) -> Iterator[Packet]:
    def ends(interval: Interval | None, last: int = 65535) -> list[int]:
        first, end = interval or (0, last)
        return sorted({max(first - 1, 0), first, end, min(end + 1, last)})

    bits, last = change.family.bits, change.family.last
    local = sorted({number for part in line.judged.local for number in ends(part, last)})
    numbers = (
        [*ends(change.of(REMOTE), last), *_peers(change.family)],
        local,
        ends(change.of(PROTOCOL), 255),
        [*ends(change.of(SOURCE_PORT)), 67, 68, 546, 547],
        [*ends(change.of(PORT)), 67, 68, 546, 547],
    )
    for far, own, protocol, source, port in product(*numbers):
        ports = (port, source) if protocol in PORT_PROTOCOLS else (None, None)
        yield Packet(change.eni_id, change.direction, Address(bits, far), Address(bits, own), protocol, *ports)


def _peers(family: Family) -> list[int]:
    """The ends of DHCP."""
    texts = ("169.254.1.1", "255.255.255.255", "fe80::1", "ff02::1:2")
    return [address.value for address in map(Address.parse, texts) if address.family is family]


def _variants(packet: Packet) -> Iterator[Packet]:
    """The packet; if it is TCP also one that opens nothing, if ICMPv6 also discovery."""
    yield packet
    fields = {name: getattr(packet, name) for name in ("eni_id", "direction", "remote", "local", "protocol")}
    if packet.protocol == TCP:
        yield Packet(**fields, port=packet.port, source_port=packet.source_port, is_syn=False)
    if packet.protocol == ICMPV6 and packet.family is Family.IPV6:
        yield Packet(**fields, icmp_type=DISCOVERY_TYPES[4], hop_limit=255)
        yield Packet(**fields, icmp_type=128)
