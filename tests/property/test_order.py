"""What each permission decides, and what would change without it: against decide(), over generated states."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from sgdataplane.analyse.order import FarAddresses, Order
from sgdataplane.analyse.regions import Region
from sgdataplane.model.options import Options
from sgdataplane.model.semantics import candidates
from sgdataplane.model.state import CloudState
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import Direction, Family
from sgdataplane.policy.resolve import resolve_profile
from tests.support import gen

STATES, PACKETS = 40, 30


def has(region: Region, packet: Packet) -> bool:
    return any(block.has(packet) for block in region)


@pytest.mark.parametrize("direction", list(Direction), ids=lambda direction: direction.value)
def test_regions_are_what_decide_says(direction: Direction) -> None:
    counted = {"would change": 0, "would not": 0}

    @seed(0)
    @settings(max_examples=STATES, database=None, deadline=None)
    @given(gen.states(), gen.options(), st.integers(0, 1 << 32))
    def check(state: CloudState, options: Options, number: int) -> None:
        far = FarAddresses(state)
        orders = {}
        for eni in state.network_interfaces:
            profile = resolve_profile(state, eni, options)
            for family in Family:
                order = Order.of(profile.permissions(direction), family, far)
                effects = [order.effect(index) for index in range(len(order.entries) - 1)]
                orders[eni.network_interface_id, family] = order, order.decided(), effects
        for packet in gen.packets(state, random.Random(number), PACKETS):
            if packet.direction is not direction:
                continue
            order, decided, effects = orders[packet.eni_id, packet.family]
            first, *others = candidates(state, state.eni[packet.eni_id], packet, options)
            (winner,) = [index for index, region in enumerate(decided) if has(region, packet)]
            assert first == order.entries[winner].permission.decision, packet
            would_change = {index for index, region in enumerate(effects) if has(region, packet)}
            is_turned = bool(others) and others[0].verdict is not first.verdict
            assert would_change == ({winner} if is_turned else set()), packet
            counted["would change" if is_turned else "would not"] += 1

    check()
    print(counted)
    assert min(counted.values()) > STATES // 4
