"""What each permission decides, and what would change without it, agrees with decide() over generated states."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from sgdataplane.analyse.arrangement import Arrangement
from sgdataplane.analyse.order import FarAddresses, PermissionOrder
from sgdataplane.analyse.regions import Block, Region, addresses, merge
from sgdataplane.model.options import Options
from sgdataplane.model.semantics import candidates
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Direction, Family
from sgdataplane.policy.resolve import resolve_profile
from tests.support.inputs import gen
from tests.support.models.regions import in_region
from tests.support.run.amounts import few_or_many

STATES, FEW, PACKETS = 40, 14, 30


def arranged(order: PermissionOrder) -> Arrangement:
    return Arrangement([entry.shape for entry in order.entries], order.accepting, order.family)


def decided(order: PermissionOrder) -> list[Region]:
    """For each entry the traffic that it decides."""
    found: list[list[Block]] = [[] for _ in order.entries]
    for holding, far in order.classes(addresses(order.family)).items():
        for shape, (winner,) in arranged(order).list_decided(holding):
            found[winner].append(Block((far, *shape)))
    return [merge(blocks) for blocks in found]


def effect(order: PermissionOrder, index: int) -> Region:
    """The traffic whose verdict would be another without that entry."""
    classes = order.classes(order.entries[index].far).items()
    cells = ((far, arranged(order).list_differing(holding, holding & ~(1 << index))) for holding, far in classes)
    return merge(Block((far, *shape)) for far, differing in cells for shape, _ in differing)


@pytest.mark.parametrize("direction", list(Direction), ids=lambda direction: direction.value)
@few_or_many("states", FEW, STATES)
def test_regions_are_what_decide_says(direction: Direction, states: int) -> None:
    counted = {"would change": 0, "would not": 0}

    @seed(0)
    @settings(max_examples=states, database=None, deadline=None)
    @given(gen.states(), gen.options(), st.integers(0, 1 << 32))
    def check(state: CloudState, options: Options, number: int) -> None:
        far = FarAddresses(state)
        orders = {}
        for eni in state.network_interfaces:
            profile = resolve_profile(state, eni, options)
            for family in Family:
                order = PermissionOrder.of(profile.permissions(direction), family, far)
                effects = [effect(order, index) for index in range(len(order.entries) - 1)]
                orders[eni.network_interface_id, family] = order, decided(order), effects
        for packet in gen.packets(state, random.Random(number), PACKETS):
            if packet.direction is not direction:
                continue
            order, regions, effects = orders[packet.eni_id, packet.family]
            first, *others = candidates(state, state.eni[packet.eni_id], packet, options)
            (winner,) = [index for index, region in enumerate(regions) if in_region(region, packet)]
            assert first == order.entries[winner].permission.decision, packet
            would_change = {index for index, region in enumerate(effects) if in_region(region, packet)}
            is_turned = bool(others) and others[0].verdict is not first.verdict
            assert would_change == ({winner} if is_turned else set()), packet
            counted["would change" if is_turned else "would not"] += 1

    check()
    print(counted)
    assert min(counted.values()) > states // 4
