"""Who reaches whom agrees with decide() for every packet tried, at both ends and from outside."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations, product

from hypothesis import strategies as st

from sgdataplane.analyse.kinds import EniKind
from sgdataplane.analyse.passing import OTHER, Passing
from sgdataplane.analyse.reachable import Reachability
from sgdataplane.model.options import Options
from sgdataplane.model.semantics import decide
from sgdataplane.model.state import CloudState, Eni
from sgdataplane.net.packet import Packet
from sgdataplane.net.ranges import holds
from sgdataplane.net.values import ICMP, ICMPV6, PORT_PROTOCOLS, TCP, UDP, Address, Direction, Family, Prefix, Verdict
from tests.support.inputs.gen import describe, options, states
from tests.support.run.amounts import holds_for

PROTOCOLS = {Family.IPV4: (TCP, UDP, ICMP, 47, 200), Family.IPV6: (TCP, UDP, ICMPV6, 47, 200)}
EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS


@dataclass(frozen=True, slots=True)
class Session:
    """A session, by its first packet."""

    source: Address
    target: Address
    protocol: int
    source_port: int | None
    port: int | None

    def passes(self, state: CloudState, eni: Eni, direction: Direction, chosen: Options) -> bool:
        """What decide() says at one end."""
        local, remote = (self.source, self.target) if direction is EGRESS else (self.target, self.source)
        packet = Packet(eni.network_interface_id, direction, remote, local, self.protocol, self.port, self.source_port)
        return decide(state, packet, chosen).verdict is Verdict.ACCEPT


def addresses_of(eni: Eni, chance: random.Random) -> list[Address]:
    """Its addresses, and some of its delegated prefixes."""
    delegated = [Address(p.family_bits, chance.randint(p.first, p.last)) for p in eni.delegated_prefixes]
    return [*eni.addresses, *delegated]


def sessions(state: CloudState, source: Address, target: Address, chance: random.Random) -> Iterator[Session]:
    """Some sessions of every protocol, at ports where rules begin and end."""
    ranges = [
        ports
        for group in state.security_groups
        for rule in group.rules
        for ports in (rule.port_range, rule.source_port_range)
        if ports is not None
    ]
    ranges += [entry.port_range for ports in state.port_lists for entry in ports.entries]
    edges = sorted(
        {1, 22, 65535, *(e for r in ranges for e in (r.first, r.last, r.first - 1, r.last + 1))} - {0, 65536}
    )
    for protocol in PROTOCOLS[source.family]:
        for _ in range(4 if protocol in PORT_PROTOCOLS else 1):
            ports = chance.choices(edges, k=2) if protocol in PORT_PROTOCOLS else (None, None)
            yield Session(source, target, protocol, *ports)


def passes(what: Passing, session: Session) -> bool:
    """Numbers are None where the protocol has none."""
    protocol = session.protocol if session.protocol in what.named else OTHER
    numbers = session.port, session.source_port
    return any(
        row.protocol == protocol
        and all(n is None or holds(ranges, n) for ranges, n in zip((row.ports, *row.further), numbers, strict=True))
        for row in what.rows
    )


def kinds_of_enis(reach: Reachability) -> list[tuple[EniKind, Eni]]:
    return [(kind, eni) for kind in reach.kinds for eni in kind.enis]


@holds_for(states(), options(), st.integers(0, 2**32), few=10, many=25)
def test_what_passes_between_two_enis_is_what_both_policies_accept(
    state: CloudState, chosen: Options, seed: int
) -> None:
    chance, reach = random.Random(seed), Reachability(state, chosen)
    for (near_kind, near), (far_kind, far) in permutations(kinds_of_enis(reach), 2):
        ways = reach.between(near_kind, far_kind)
        for source, target in product(addresses_of(near, chance), addresses_of(far, chance)):
            if source.family is not target.family or any(target in block for block in chosen.metadata):
                continue  # what every ENI can always reach isn't a matter of policies
            of_family = [way for way in ways if way.family is source.family]
            for session in sessions(state, source, target, chance):
                wanted = session.passes(state, near, EGRESS, chosen) and session.passes(state, far, INGRESS, chosen)
                said = [way for way in of_family if passes(way.passing, session)]
                about = f"{session}: {wanted}, seed {seed}\n{ways}\n{describe(state)}"
                assert bool(said) is wanted or (not wanted and all(way.is_some for way in said)), about


@holds_for(states(), options(), st.integers(0, 2**32), few=10, many=25)
def test_what_passes_from_and_to_outside_is_what_the_policy_accepts(
    state: CloudState, chosen: Options, seed: int
) -> None:
    chosen = replace(chosen, metadata=())  # where that service is, is no rule's business
    chance, reach = random.Random(seed), Reachability(state, chosen)
    for kind, eni in kinds_of_enis(reach):
        for direction in Direction:
            rows = reach.far(kind, direction)
            for local in addresses_of(eni, chance):
                for remote in outsiders(reach, state, local.family, chance):
                    ends = (local, remote) if direction is EGRESS else (remote, local)
                    for session in sessions(state, *ends, chance):
                        wanted = session.passes(state, eni, direction, chosen)
                        said = [
                            row
                            for row in rows
                            if row.family is local.family
                            and holds(row.addresses, remote.value)
                            and passes(row.passing, session)
                        ]
                        about = f"{session} {direction}: {wanted}, seed {seed}\n{rows}\n{describe(state)}"
                        assert bool(said) is wanted or (not wanted and all(row.is_some for row in said)), about


def outsiders(reach: Reachability, state: CloudState, family: Family, chance: random.Random) -> Iterator[Address]:
    """Addresses outside, at the edges of the blocks that rules name."""
    outside = reach.outside(state.vpcs[0].vpc_id, family)
    named = [
        edge
        for group in state.security_groups
        for rule in group.rules
        for block in (rule.remote,)
        if isinstance(block, Prefix) and block.family is family
        for edge in (block.first, block.last, block.first - 1, block.last + 1)
    ]
    edges = [edge for edge in named if holds(outside, edge)] + [chance.randint(*chance.choice(outside))]
    for value in chance.sample(edges, min(len(edges), 4)):
        yield Address(family.bits, value)
