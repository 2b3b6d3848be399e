"""The packet as the kernel reads it, and the counter for each decision."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.contract.fields import Field
from sgdataplane.contract.sites import SITES
from sgdataplane.model.options import Options, Placement
from sgdataplane.model.semantics import decide
from sgdataplane.model.state import CloudState
from sgdataplane.nft.interp import run
from sgdataplane.nft.ir import Table
from sgdataplane.observe.live import counters_of, make_opening_fields
from sgdataplane.policy.resolve import resolve
from tests.property.test_compile_equals_decide import compiled
from tests.support.inputs import gen
from tests.support.inputs.builders import make_packet
from tests.support.models import wire


@pytest.mark.parametrize("where", list(Placement), ids=lambda where: str(where.value))
@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("ingress tcp/80 8.8.8.8", {}),
        ("egress tcp/80 2001:db8::9", {"is_syn": False}),
        ("egress udp/53 8.8.8.8", {}),
        ("ingress icmp 8.8.8.8", {"icmp_type": 8}),
        ("ingress icmpv6 fe80::9", {"icmp_type": 135, "hop_limit": 255}),
        ("egress gre 8.8.8.8", {}),
    ],
)
def test_fields_of_an_opening_packet(where: Placement, text: str, more: dict[str, object]) -> None:
    packet = make_packet(text, **more)
    found = make_opening_fields(packet, "eth0", SITES[where])
    found.pop(Field.IP_FRAGMENT, None)  # which no rule of the policy's table asks for
    assert found == wire.opening(packet, "eth0", where)


def tables_at(where: Placement, state: CloudState, options: Options) -> dict[str, tuple[Table, str]]:
    """The table and interface of each ENI; in host placement each ENI is alone in its router."""
    if where is Placement.INSTANCE:
        return compiled(state, options)
    alone = ((eni.network_interface_id, {eni.network_interface_id: "eth0"}) for eni in state.network_interfaces)
    policies = {eni_id: replace(resolve(state, here, options), placement=where) for eni_id, here in alone}
    return {eni_id: (compile_policy(policy, options), "eth0") for eni_id, policy in policies.items()}


@pytest.mark.parametrize("where", list(Placement), ids=lambda where: str(where.value))
def test_each_decision_is_counted_under_its_own_counters(where: Placement) -> None:
    """In the compiled table, over generated states."""
    seen: set[str] = set()

    @seed(730)
    @settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(gen.states(), gen.options(), st.integers(0, 1 << 32))
    def is_counted(state: CloudState, options: Options, packet_seed: int) -> None:
        tables, chance = tables_at(where, state, options), random.Random(packet_seed)
        for packet in (*gen.packets(state, chance, 60), *(gen.discovery(state, chance) for _ in range(20))):
            table, ifname = tables[packet.eni_id]
            asked = (state, packet, options, where)
            decision = decide(*asked)
            outcome = run(table, packet.direction.value, make_opening_fields(packet, ifname, SITES[where]))
            assert tuple(outcome.counters) == counters_of(decision, ifname), packet
            seen.add(decision.cause)

    is_counted()
    assert seen >= {"rule", "default", "inner_accept", "spoofed", "foreign", "midstream", "discovery"}, seen
    assert "far-discovery" in seen
