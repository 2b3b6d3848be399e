"""Compiled tables of generated states are proven, and the specification of the proof equals decide()."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import HealthCheck, event, given, seed, settings
from hypothesis import strategies as st

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.contract.fields import Field
from sgdataplane.contract.sites import INSTANCE
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import DEFAULTS, Options
from sgdataplane.model.semantics import decide
from sgdataplane.model.state import CloudState
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import Direction, Verdict
from sgdataplane.nft.interp import run
from sgdataplane.nft.ir import Key, Range
from sgdataplane.observe.live import counters_of
from sgdataplane.policy.resolve import interfaces_of, resolve
from sgdataplane.proof.prove import prove
from sgdataplane.proof.spec.claims import Claim, claims
from sgdataplane.proof.spec.specification import Namespace, PacketFate, Specification
from sgdataplane.proof.walk.far import Kinships, remote_ranges
from tests.support.inputs import gen, hardpolicies
from tests.support.models import wire
from tests.support.run.amounts import shards

EPOCH, SECRET = 7, 0x12345678
FEW, SHARDS, STATES, PACKETS, DISCOVERY = 14, 4, 40, 100, 20
BY_SHARD = shards(SHARDS, few=FEW, many=STATES)
CAUSES = (
    "always",
    "spoofed",
    "foreign",
    "midstream",
    "far-discovery",
    "malformed-discovery",
    "dhcp-server",
    "invalid",
    "icmp-error",
)


def namespaces(state: CloudState, options: Options) -> dict[str, Specification]:
    """Per ENI its instance's."""
    enis = state.network_interfaces
    return {eni.network_interface_id: Specification(state, interfaces_of(state, eni), options) for eni in enis}


def is_in(value: int | None, ranges: tuple[Range, ...] | None) -> bool:
    return ranges is None or (value is not None and any(int(r.first) <= value <= int(r.last) for r in ranges))


def is_remote(state: CloudState, claim: Claim, packet: Packet, kinships: Kinships) -> bool:
    """By the groups of the address itself, or by the blocks of the remote."""
    if claim.remote is None:
        return True
    is_member = getattr(claim.remote, "security_group_id", None) in kinships.of(packet.remote)
    return is_member or is_in(packet.remote.value, remote_ranges(state, kinships, claim.remote, packet.family))


def claimed(state: CloudState, packet: Packet, options: Options, kinships: Kinships) -> Decision:
    """The first claim that holds, point by point."""
    eni = state.eni[packet.eni_id]
    values = (packet.protocol, packet.local.value, packet.source_port, packet.port)
    return next(
        claim.decision
        for claim in claims(state, eni, packet.direction, packet.family, options)
        if all(map(is_in, values, claim.ranges)) and is_remote(state, claim, packet, kinships)
    )


def check_claims(state: CloudState, packet: Packet, options: Options, kinships: Kinships) -> None:
    """Wherever rules decide, the strongest claim is what decide() says."""
    decision = decide(state, packet, options).enforced
    if not decision.is_fixed:
        assert claimed(state, packet, options, kinships) == decision, packet


def check_fate(namespace: Namespace, packet: Packet, hook: Direction, fields: dict[Field, Key]) -> PacketFate:
    """What the specification says of header fields is what decide() says of the packet; and what the table does."""
    fate = namespace.fate(hook, fields)
    decision = decide(namespace.wanted.state, packet, namespace.wanted.options)
    assert fate.verdict == decision.verdict.value, (packet, fate, decision)
    if decision.is_fixed:
        ifname = str(fields[namespace.wanted.site.interface(hook)])
        assert fate.counters == counters_of(decision, ifname), (packet, fate, decision)
    return fate


@BY_SHARD
def test_every_compile_is_proven(shard: int, states: int) -> None:
    @seed(310 + shard)
    @settings(max_examples=states, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(gen.states(), gen.options())
    def holds(state: CloudState, options: Options) -> None:
        event(gen.describe(state))
        for specification in {frozenset(s.interfaces): s for s in namespaces(state, options).values()}.values():
            table = compile_policy(resolve(state, specification.interfaces, options), options, EPOCH, SECRET)
            proof = prove(specification, table)
            assert proof.holds, proof
            assert proof.cells > 100

    holds()


@BY_SHARD
def test_the_specification_is_decide(shard: int, states: int) -> None:
    """And the interpreter of the compiled table does it, to the last mark."""
    replies = []

    @seed(410 + shard)
    @settings(max_examples=states, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(gen.states(), gen.options(), st.integers(0, 1 << 32))
    def agrees(state: CloudState, options: Options, packet_seed: int) -> None:
        tables, kinships = {}, Kinships.read(state)
        for eni_id, wanted in namespaces(state, options).items():
            table = compile_policy(resolve(state, wanted.interfaces, options), options, EPOCH, SECRET)
            tables[eni_id] = (table, Namespace.of(wanted, table))
        chance = random.Random(packet_seed)
        discovery = (gen.discovery(state, chance) for _ in range(DISCOVERY))
        for packet in (*gen.packets(state, chance, PACKETS), *discovery):
            check_claims(state, packet, options, kinships)
            table, namespace = tables[packet.eni_id]
            ifname = namespace.wanted.interfaces[packet.eni_id]
            opening = wire.opening(packet, ifname)
            fate = check_fate(namespace, packet, packet.direction, opening)
            mark = INSTANCE.marks.encode_acceptance(packet.direction, EPOCH - 1, 1)
            reply = wire.reply(packet, ifname, mark)
            for hook, fields, wanted_fate in (
                (packet.direction, opening, fate),
                (packet.direction.other, reply, namespace.fate(packet.direction.other, reply)),
            ):
                outcome = run(table, hook.value, fields)
                found = PacketFate(outcome.verdict.value, tuple(outcome.counters), outcome.mark, outcome.packet_mark)
                assert found.is_same(wanted_fate), (packet, found, wanted_fate)
                replies.append(found.verdict == Verdict.ACCEPT.value and hook is not packet.direction)

    agrees()
    assert sum(replies) > 3 * states, "hardly any reply passed: this proves nothing"


def test_a_rule_that_the_table_does_not_know_is_missed() -> None:
    """The proof is of one state: the same table is not right for a state with one rule less."""
    state = hardpolicies.typical(0, 100)
    eni = hardpolicies.targets(state)[0]
    interfaces = interfaces_of(state, eni)
    table = compile_policy(resolve(state, interfaces, DEFAULTS), DEFAULTS, EPOCH, SECRET)
    assert prove(Specification(state, interfaces, DEFAULTS), table).holds
    group = next(g for g in state.security_groups if g.rules and g.security_group_id in eni.security_group_ids)
    fewer = replace(group, rules=group.rules[1:])
    groups = tuple(fewer if entry is group else entry for entry in state.security_groups)
    proof = prove(Specification(replace(state, security_groups=groups), interfaces, DEFAULTS), table)
    assert not proof.holds
    assert group.rules[0].security_group_rule_id in str(proof)
