"""Host placement, over generated states: each VPC's table is proven, and a packet from ENI to ENI meets both ends'
rules on one conntrack entry, as decide() says for each end."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from hypothesis import HealthCheck, event, given, seed, settings
from hypothesis import strategies as st

from sgdataplane.compiler.compile import with_epoch
from sgdataplane.contract.counters import name_fixed_counter
from sgdataplane.contract.fields import CtState, Field
from sgdataplane.contract.sites import HOST
from sgdataplane.enforce import Desired, build
from sgdataplane.model.always import is_dhcp, is_discovery_type
from sgdataplane.model.options import Options, Placement
from sgdataplane.model.semantics import decide
from sgdataplane.model.state import CloudState, Eni
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import Direction, Verdict
from sgdataplane.nft.interp import run
from sgdataplane.nft.ir import Key, Table
from tests.property.test_compile_equals_decide import JUDGED, check_told, is_answerable, lookups_but_counts
from tests.support.inputs import gen
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.building import table_of
from tests.support.models import wire
from tests.support.run.amounts import shards

EPOCH = 7
FEW, SHARDS, STATES, PACKETS = 14, 4, 40, 100
UPLINK = "up0"
IN, OUT = Direction.INGRESS, Direction.EGRESS


@dataclass(frozen=True)
class Vpc:
    """One VPC's ENIs on one host."""

    desired: Desired
    table: Table

    @property
    def state(self) -> CloudState:
        return self.desired.state

    @property
    def options(self) -> Options:
        return self.desired.options

    def ifname(self, eni_id: str) -> str:
        return self.desired.interfaces[eni_id]

    def slot(self, eni_id: str) -> int:
        return HOST.marks.slots(self.desired.interfaces.values())[self.ifname(eni_id)]


def vpcs(state: CloudState, options: Options) -> Iterator[Vpc]:
    for vpc in state.vpcs:
        enis = [eni.network_interface_id for eni in state.network_interfaces if eni.vpc_id == vpc.vpc_id]
        interfaces = {eni_id: f"h{number}" for number, eni_id in enumerate(enis)}
        desired = Desired(state, interfaces, options, Placement.HOST, (UPLINK,))
        yield Vpc(desired, with_epoch(table_of(desired), EPOCH))


def check_opening(vpc: Vpc, packet: Packet, mark: int = 0) -> int:
    """At the ENI's hook; the session's mark then."""
    decision = decide(vpc.state, packet, vpc.options, Placement.HOST)
    fields = wire.opening(packet, vpc.ifname(packet.eni_id), Placement.HOST)
    if Field.CT_MARK in fields:
        fields[Field.CT_MARK] = mark
    outcome = run(vpc.table, packet.direction.value, fields)
    assert outcome.verdict.value == decision.verdict.value, (packet, decision, outcome)
    check_told(outcome, packet, decision, vpc.ifname(packet.eni_id))
    assert lookups_but_counts(vpc.table, outcome) <= 8, (packet, outcome)
    if not JUDGED.isdisjoint(outcome.chains) and is_answerable(vpc.state, packet, vpc.options):
        check_reply(vpc, packet, decision.verdict)
    return outcome.mark


def check_reply(vpc: Vpc, packet: Packet, verdict: Verdict) -> None:
    """A session of an earlier epoch is judged again by its reply, from the reply's own header."""
    slot, side = vpc.slot(packet.eni_id), packet.direction
    fields = wire.reply(
        packet, vpc.ifname(packet.eni_id), HOST.marks.encode_acceptance(side, EPOCH - 1, slot), Placement.HOST
    )
    outcome = run(vpc.table, side.other.value, fields)
    assert outcome.verdict.value == verdict.value, (packet, outcome)
    assert outcome.mark == (HOST.marks.encode_acceptance(side, EPOCH, slot) if verdict is Verdict.ACCEPT else 0)


def neighbours(vpc: Vpc, packet: Packet) -> Iterator[tuple[Eni, Packet]]:
    """The packet as it would be for each other ENI on this host that it can go to."""
    for eni_id in vpc.desired.interfaces:
        eni = vpc.state.eni[eni_id]
        addresses = [address for address in eni.addresses if address.family is packet.family]
        if eni_id != packet.eni_id and addresses:
            yield eni, replace(packet, remote=addresses[0])


def check_way(vpc: Vpc, packet: Packet, receiver: Eni) -> bool:
    """Out at the sender and in at the receiver; and once more, if it then is of a session that both accept."""
    mark = check_opening(vpc, packet)
    there = replace(
        packet, direction=IN, remote=packet.local, local=packet.remote, eni_id=receiver.network_interface_id
    )
    both = check_opening(vpc, there, mark)
    halves = ((OUT, vpc.slot(packet.eni_id)), (IN, vpc.slot(there.eni_id)))
    is_accepted = both == sum(HOST.marks.encode_acceptance(side, EPOCH, slot) for side, slot in halves)
    if not is_accepted or is_discovery_type(packet) or is_dhcp(vpc.state.eni[packet.eni_id], packet, vpc.options):
        return False
    for way in (packet, there):
        known = {**wire.opening(way, vpc.ifname(way.eni_id), Placement.HOST), Field.CT_MARK: both}
        outcome = run(vpc.table, way.direction.value, known)
        assert (outcome.verdict.value, outcome.counters) == ("accept", []), "of a known session"
    return True


@shards(SHARDS, few=FEW, many=STATES)
def test_each_vpc_is_proven_and_says_what_decide_says(shard: int, states: int) -> None:
    ways: list[bool] = []

    @seed(510 + shard)
    @settings(max_examples=states, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(gen.states(), gen.options(), st.integers(0, 1 << 32))
    def holds(state: CloudState, options: Options, packet_seed: int) -> None:
        event(gen.describe(state))
        tables: dict[str, Vpc] = {}
        for vpc in vpcs(state, options):
            build(vpc.desired)
            tables |= dict.fromkeys(vpc.desired.interfaces, vpc)
        for packet in gen.packets(state, random.Random(packet_seed), PACKETS):
            vpc = tables[packet.eni_id]
            check_opening(vpc, packet)
            if packet.direction is OUT:
                ways.extend(check_way(vpc, aimed, eni) for eni, aimed in neighbours(vpc, packet))

    holds()
    assert sum(ways) > 10, "hardly any packet went from ENI to ENI"


def test_what_comes_by_an_uplink_passes_unless_it_says_it_is_from_here() -> None:
    (vpc,) = vpcs(make_state([make_group("sg-a")], [make_eni("eni-a", "10.0.0.1", "sg-a")]), Options())
    base: dict[Field, Key] = {Field.IIFNAME: UPLINK, Field.NFPROTO: 2, Field.CT_STATE: CtState.NEW, Field.CT_MARK: 0}
    base |= {Field.L4PROTO: 17, Field.IP_DADDR: 1, Field.CT_DIRECTION: 0}
    own = vpc.state.network_interfaces[0].addresses[0].value
    spoofed = run(vpc.table, "egress", {**base, Field.IP_SADDR: own})
    assert (spoofed.verdict.value, spoofed.counters) == ("drop", [name_fixed_counter(OUT, "spoofed")])
    assert run(vpc.table, "egress", {**base, Field.IP_SADDR: own + 77}).verdict.value == "accept"
    unknown = run(vpc.table, "egress", {**base, Field.IIFNAME: "veth7", Field.IP_SADDR: own + 77})
    assert (unknown.verdict.value, unknown.counters) == ("drop", [name_fixed_counter(OUT, "unknown-interface")])
