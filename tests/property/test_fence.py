"""Fence and policy together do what decide() says with every IP packet that an ENI sends, in both placements, whoever
puts it into a frame."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.compiler.fence import NO_REALM, compile_fence
from sgdataplane.compiler.fragments import IPV4, IPV6
from sgdataplane.contract.fields import Field
from sgdataplane.model import always
from sgdataplane.model.options import Options, Placement
from sgdataplane.model.semantics import decide
from sgdataplane.model.state import CloudState, Eni
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import Direction, Family, Verdict
from sgdataplane.nft.interp import run
from sgdataplane.nft.ir import Key, Table, VerdictKind
from sgdataplane.policy.resolve import resolve
from tests.support.inputs import gen
from tests.support.models import wire
from tests.support.run.amounts import shards

IFNAME, SECRET = "eth0", 0x12345678
SHARDS, STATES, FEW, PACKETS, DISCOVERY = 2, 15, 10, 60, 40
TYPE = {Family.IPV4: IPV4, Family.IPV6: IPV6}


def frame(eni: Eni, fields: dict[Field, Key], family: Family) -> dict[Field, Key]:
    """What the fence reads of a frame with that packet in it, of a sender who claims nothing else."""
    mac = int(eni.mac_address.replace(":", ""), 16)
    there = {Field.ETHER_SADDR: mac, Field.ETHER_TYPE: TYPE[family], Field.PROTOCOL: TYPE[family]}
    return {**fields, **there, Field.PACKET_MARK: 0, Field.ROUTE_REALM: NO_REALM, Field.IP_FRAGMENT: 0}


def passes_at_the_host(table: Table, fence: Table, fields: dict[Field, Key], framed: dict[Field, Key]) -> bool:
    """First the fence, then the policy."""
    is_let_in = run(fence, f"ingress.{IFNAME}", framed, is_flood=False).verdict is VerdictKind.ACCEPT
    return is_let_in and run(table, "egress", fields).verdict is VerdictKind.ACCEPT


def passes_when_routed(table: Table, fence: Table, fields: dict[Field, Key], framed: dict[Field, Key]) -> bool:
    """First the policy, then the fence, which knows what was approved."""
    outcome = run(table, "egress", fields)
    approved = {**framed, Field.PACKET_MARK: outcome.packet_mark, Field.ROUTE_REALM: 0}
    is_let_out = run(fence, f"egress.{IFNAME}", approved).verdict is VerdictKind.ACCEPT
    return outcome.verdict is VerdictKind.ACCEPT and is_let_out


def made(state: CloudState, eni: Eni, options: Options, placement: Placement) -> tuple[Table, Table]:
    """The policy and the fence of one ENI."""
    policy = replace(resolve(state, {eni.network_interface_id: IFNAME}, options), placement=placement)
    return compile_policy(policy, options, secret=SECRET), compile_fence({IFNAME: eni}, options, SECRET, placement)


def sent(state: CloudState, chance: random.Random) -> Iterator[Packet]:
    """By everybody: whatever rules and addresses lead to, and discovery to and from all kinds of addresses."""
    yield from (replace(packet, direction=Direction.EGRESS) for packet in gen.packets(state, chance, PACKETS))
    for _ in range(DISCOVERY):
        yield gen.discovery(state, chance)


@pytest.mark.parametrize("at", Placement)
@shards(SHARDS, few=FEW, many=STATES)
def test_fence_and_policy_are_what_decide_says(shard: int, states: int, at: Placement) -> None:
    seen: Counter[tuple[str, str]] = Counter()
    near: Counter[bool] = Counter()

    @seed(20270 + shard)
    @settings(max_examples=states, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(gen.states(), gen.options(), st.integers(0, 2**32))
    def agrees(state: CloudState, options: Options, packet_seed: int) -> None:
        tables: dict[str, tuple[Table, Table]] = {}
        for packet in sent(state, random.Random(packet_seed)):
            eni = state.eni[packet.eni_id]
            if packet.eni_id not in tables:
                tables[packet.eni_id] = made(state, eni, options, at)
            table, fence = tables[packet.eni_id]
            fields = wire.opening(packet, IFNAME, at)
            framed = frame(eni, fields, packet.family)
            passes = passes_at_the_host if at is Placement.HOST else passes_when_routed
            decision = decide(state, packet, options, at)
            assert passes(table, fence, fields, framed) == (decision.verdict is Verdict.ACCEPT), (packet, decision)
            seen[decision.verdict.value, decision.reason] += 1
            if always.is_discovery_type(packet) and decision.verdict is Verdict.ACCEPT:
                near[packet.remote in always.LINK_LOCAL or packet.remote in always.MULTICAST] += 1

    agrees()
    assert near[True] > 20
    assert near[False] > 20 if at is Placement.INSTANCE else not near[False]
    assert {("accept", "rule"), ("drop", "never"), ("accept", "always")} <= seen.keys()
