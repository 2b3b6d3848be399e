"""ICMP errors of all kinds, over generated states: random sessions, senders and quoted packets. In both placements the
compiled table does with each what decide_error() says, and what the proof's clauses say."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from sgdataplane.compiler.compile import with_epoch
from sgdataplane.contract.counters import counter_name
from sgdataplane.contract.fields import CtDirection, CtState, Field
from sgdataplane.contract.sites import SITES
from sgdataplane.enforce import Desired
from sgdataplane.model.decision import OF_RULES, Decision
from sgdataplane.model.options import Options, Placement
from sgdataplane.model.semantics import decide_error
from sgdataplane.model.state import CloudState, Eni
from sgdataplane.net.packet import IcmpError, Packet
from sgdataplane.net.values import ICMP, ICMPV6, TCP, UDP, Address, Direction, Family, Verdict
from sgdataplane.nft.interp import PacketOutcome, run
from sgdataplane.nft.ir import Key, Table
from sgdataplane.proof.spec.specification import Namespace, Specification
from tests.support.inputs import gen
from tests.support.inputs.building import table_of
from tests.support.models import wire

EPOCH, UPLINK = 7, "up0"
QUICK, SHARDS, STATES, ERRORS = 1, 3, 25, 60  # all but the first are slow
IN, OUT = Direction.INGRESS, Direction.EGRESS
TYPES = {Family.IPV4: (3, 11, 12, 5), Family.IPV6: (1, 2, 3, 4, 200)}  # the last one of each is no error
ICMPS = {Family.IPV4: (ICMP, Field.ICMP_TYPE), Family.IPV6: (ICMPV6, Field.ICMPV6_TYPE)}
# Where an entry has both ends of each direction's packets; written here once more on purpose.
ENDS = {
    (Family.IPV4, CtDirection.ORIGINAL): (Field.CT_ORIGINAL_IP_SADDR, Field.CT_ORIGINAL_IP_DADDR),
    (Family.IPV4, CtDirection.REPLY): (Field.CT_REPLY_IP_SADDR, Field.CT_REPLY_IP_DADDR),
    (Family.IPV6, CtDirection.ORIGINAL): (Field.CT_ORIGINAL_IP6_SADDR, Field.CT_ORIGINAL_IP6_DADDR),
    (Family.IPV6, CtDirection.REPLY): (Field.CT_REPLY_IP6_SADDR, Field.CT_REPLY_IP6_DADDR),
}


@dataclass(frozen=True)
class Place:
    """The ENIs of one VPC in one namespace."""

    desired: Desired

    @cached_property
    def table(self) -> Table:
        return with_epoch(table_of(self.desired), EPOCH)

    @cached_property
    def specified(self) -> Namespace:
        one = self.desired
        wanted = Specification(one.state, one.interfaces, one.options, (), one.placement, one.uplinks)
        return Namespace.of(wanted, self.table)

    def accepted(self, side: Direction, eni_id: str) -> int:
        """The mark of a session that this side of the ENI accepts."""
        marks, ifnames = SITES[self.desired.placement].marks, self.desired.interfaces
        return marks.encode_acceptance(side, EPOCH, marks.slots(ifnames.values())[ifnames[eni_id]])

    def is_leaving(self, side: Direction) -> bool:
        return (side is OUT) is (self.desired.placement is Placement.INSTANCE)

    def run(self, hook: Direction, fields: dict[Field, Key]) -> PacketOutcome:
        """What the table does, which is what the proof's clauses say."""
        outcome, fate = run(self.table, hook.value, fields), self.specified.fate(hook, fields)
        found = outcome.verdict.value, tuple(outcome.counters), outcome.mark
        assert found == (fate.verdict, fate.counters, fate.mark), (fields, outcome, fate)
        assert outcome.lookups <= 8, (fields, outcome)
        return outcome


def places(state: CloudState, options: Options) -> Iterator[Place]:
    for vpc in state.vpcs:
        enis = [eni.network_interface_id for eni in state.network_interfaces if eni.vpc_id == vpc.vpc_id]
        interfaces = {eni_id: f"h{number}" for number, eni_id in enumerate(enis)}
        for placement in Placement:
            yield Place(Desired(state, interfaces, options, placement, (UPLINK,) if placement.is_outside else ()))


@dataclass(frozen=True, slots=True)
class Case:
    """`way`: the direction of the session's packets in which the error goes."""

    error: IcmpError
    way: CtDirection
    icmp_type: int

    def fields(self, place: Place, chance: random.Random) -> dict[Field, Key]:
        """As the kernel reads it at the ENI. The tuple of the entry that its rules don't look at may be any, as of
        translated sessions."""
        error, session, family = self.error, self.error.session, self.error.local.family
        ends = session.remote.value, session.local.value
        source, destination = ends if session.direction is IN else ends[::-1]
        shown = CtDirection.REPLY if place.is_leaving(session.direction) else CtDirection.ORIGINAL
        pair = (source, destination) if shown is CtDirection.ORIGINAL else (destination, source)
        others = ENDS[family, CtDirection(1 - shown)]
        hidden = (chance.choice((source, destination)) if chance.random() < 0.5 else 5 for _ in others)
        made = dict(zip(ENDS[family, shown], pair, strict=True)) | dict(zip(others, hidden, strict=True))
        return {**made, **self._of_header(error), **_of_ports(session), Field.CT_PROTOCOL: session.protocol}

    def _of_header(self, error: IcmpError) -> dict[Field, Key]:
        protocol, icmp_type = ICMPS[error.local.family]
        ends = error.remote, error.local
        source, destination = ends if error.direction is IN else ends[::-1]
        return {
            Field.NFPROTO: wire.NFPROTO[error.local.family],
            wire.SOURCE[error.local.family]: source.value,
            wire.DESTINATION[error.local.family]: destination.value,
            Field.L4PROTO: protocol,
            icmp_type: self.icmp_type,
            Field.CT_STATE: CtState.RELATED,
            Field.CT_DIRECTION: self.way,
            Field.CT_MARK: 0,
            **({Field.IP6_HOPLIMIT: 64} if error.local.family is Family.IPV6 else {}),
        }


def _of_ports(session: Packet) -> dict[Field, Key]:
    if session.protocol not in (TCP, UDP) or session.port is None or session.source_port is None:
        return {}
    opened = {Field.CT_ORIGINAL_SPORT: session.source_port, Field.CT_ORIGINAL_DPORT: session.port}
    return {**opened, Field.CT_REPLY_SPORT: session.port, Field.CT_REPLY_DPORT: session.source_port}


def cases(place: Place, chance: random.Random, count: int) -> Iterator[Case]:
    """Errors about sessions that the ENIs could have, each at any ENI, and from or to any address."""
    state, enis = place.desired.state, sorted(place.desired.interfaces)
    packets = (packet for packet in gen.packets(state, chance, 8 * count) if packet.eni_id in enis)
    for packet, _ in zip(packets, range(count), strict=False):
        eni = state.eni[chance.choice([packet.eni_id, *enis])]
        hook, way = chance.choice((IN, OUT)), chance.choice((0, 1))
        opened_out = (hook is OUT) is (way == CtDirection.ORIGINAL)
        ends = (packet.local, packet.remote) if packet.direction is OUT else (packet.remote, packet.local)
        local, remote = ends if opened_out else ends[::-1]
        side = OUT if opened_out else IN
        session = replace(packet, eni_id=eni.network_interface_id, direction=side, local=local, remote=remote)
        if eni.network_interface_id in enis:
            own = _some(eni, session.family, chance, local)
            seen_at = (own, remote) if hook is OUT else (_some(eni, session.family, chance, remote), local)
            error = IcmpError(hook, *(seen_at[::-1] if hook is OUT else seen_at), session)
            yield Case(error, CtDirection(way), chance.choice(TYPES[session.family]))


def _some(eni: Eni, family: Family, chance: random.Random, other: Address) -> Address:
    """Mostly an address of the ENI."""
    own = [address for address in eni.addresses if address.family is family]
    return chance.choice(own) if own and chance.random() < 0.8 else other


def check(place: Place, case: Case, chance: random.Random) -> str:
    """The cause of the decision, with which the table agrees, before its session is accepted and afterwards."""
    error, eni_id = case.error, case.error.session.eni_id
    interface = wire.INTERFACE[place.desired.placement, error.direction]
    fields = {**case.fields(place, chance), interface: place.desired.interfaces[eni_id]}
    is_error = case.icmp_type != TYPES[error.local.family][-1]
    decision = decide_error(place.desired.state, error, place.desired.options)
    judged = place.run(error.direction, fields)
    if not is_error:
        assert judged.verdict.value == "drop"
        return "no error"
    assert judged.verdict.value == decision.verdict.value, (case, decision, judged)
    if decision.cause != "metadata":
        assert counter_name(decision) in judged.counters, (case, decision, judged)
    accepted = place.run(error.direction, {**fields, Field.CT_MARK: place.accepted(error.session.direction, eni_id)})
    if error.direction is OUT:
        assert (accepted.verdict.value == "drop") is _is_false(decision), (case, decision, accepted)
    return decision.cause


def _is_false(decision: Decision) -> bool:
    """Whether it is dropped whatever the session's mark says."""
    return decision.verdict is Verdict.DROP and decision.is_fixed


def check_uplink(place: Place, case: Case, chance: random.Random) -> str:
    """The same error as it comes by an uplink, without translations; it is addressed to one end of the session."""
    state, error, family = place.desired.state, case.error, case.error.local.family
    target, source = (error.session.local, error.session.remote)
    coming = {ENDS[family, case.way]: (source, target), ENDS[family, CtDirection(1 - case.way)]: (target, source)}
    fields = {**case.fields(place, chance), Field.IIFNAME: UPLINK}
    for names, pair in coming.items():
        fields |= dict(zip(names, (end.value for end in pair), strict=True))
    fields |= {wire.SOURCE[family]: 77, wire.DESTINATION[family]: target.value}
    seen = IcmpError(IN, Address(family.bits, 77), target, error.session)
    decision = decide_error(state, seen, place.desired.options, place.desired.interfaces)
    outcome = place.run(OUT, fields)
    is_refused = decision.cause == "icmp-error-refused"
    assert (outcome.verdict.value == "drop") is is_refused, (case, decision, outcome)
    assert outcome.counters == ([counter_name(decision)] if is_refused else [])
    return f"uplink {'refused' if is_refused else 'passes'}"


@pytest.mark.parametrize(
    "shard", [pytest.param(shard, marks=[pytest.mark.slow] if shard >= QUICK else []) for shard in range(SHARDS)]
)
def test_table_and_proof_say_of_each_error_what_decide_says(shard: int) -> None:
    causes: Counter[tuple[Placement, str]] = Counter()

    @seed(3100 + shard)
    @settings(max_examples=STATES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(gen.states(), gen.options(), st.integers(0, 1 << 32))
    def holds(state: CloudState, options: Options, packet_seed: int) -> None:
        chance = random.Random(packet_seed)
        for place in places(state, options):
            if not place.desired.interfaces:
                continue
            for case in cases(place, chance, ERRORS):
                causes[place.desired.placement, check(place, case, chance)] += 1
                if place.desired.placement.is_outside:
                    causes[Placement.HOST, check_uplink(place, case, chance)] += 1

    holds()
    print(f"shard {shard}: {dict(causes)}")
    for placement in Placement:
        assert sum(causes[placement, cause] for cause in OF_RULES) > 50, (placement, causes)
        for cause in ("spoofed", "foreign", "icmp-error-refused", "no error"):
            assert causes[placement, cause] > 10, (placement, cause, causes)
    assert min(causes[Placement.HOST, f"uplink {fate}"] for fate in ("refused", "passes")) > 10
