"""An ENI that a change can't affect, as policy/reach.py says, keeps its table: over generated states."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from sgdataplane.enforce import Desired
from sgdataplane.model.state import CloudState, Eni, SecurityGroup, Vpc, sharing
from sgdataplane.net.values import Verdict
from sgdataplane.nft.outline import stamp_of
from sgdataplane.policy.reach import Reach
from tests.support import gen
from tests.support.building import table_of

STATES_PER_SHARD, SHARDS = 100, 2
Edit = Callable[[CloudState, random.Random], CloudState]


def with_group(state: CloudState, chance: random.Random) -> CloudState:
    """A rule is removed, or the group's inner policy changes."""
    old = chance.choice(state.security_groups)
    turned = Verdict.DROP if old.inner_access_policy is Verdict.ACCEPT else Verdict.ACCEPT
    new = replace(old, rules=old.rules[1:]) if chance.random() < 0.7 else replace(old, inner_access_policy=turned)
    return replace(state, security_groups=replaced(state.security_groups, old, new))


def with_eni(state: CloudState, chance: random.Random) -> CloudState:
    """An ENI moves to the groups of another, takes the place of another, gets another MAC, or is removed."""
    old, other = chance.choice(state.network_interfaces), chance.choice(state.network_interfaces)
    if chance.random() < 0.2 and len(state.network_interfaces) > 1:
        return replace(state, network_interfaces=tuple(eni for eni in state.network_interfaces if eni is not old))
    changes: tuple[dict[str, object], ...] = (
        {"security_group_ids": other.security_group_ids},
        {"private_ip_addresses": other.private_ip_addresses},
        {"ipv6_addresses": other.ipv6_addresses, "ipv4_prefixes": other.ipv4_prefixes},
        {"mac_address": "02:00:00:00:00:99"},
        {"allowed_address_pairs": other.allowed_address_pairs},
    )
    new: Eni = replace(old, **chance.choice(changes))  # type: ignore[arg-type]
    return replace(state, network_interfaces=replaced(state.network_interfaces, old, new))


def with_list(state: CloudState, chance: random.Random) -> CloudState:
    prefixes = tuple(replace(e, entries=e.entries[1:]) if chance.random() < 0.5 else e for e in state.prefix_lists)
    ports = tuple(replace(e, entries=e.entries[:-1] or e.entries) for e in state.port_lists)
    return replace(state, prefix_lists=prefixes, port_lists=ports if chance.random() < 0.5 else state.port_lists)


def with_lone_group(state: CloudState, _: random.Random) -> CloudState:
    """A group that no ENI is in and no rule names."""
    groups = (*state.security_groups, SecurityGroup("sg-lone", gen.VPC_ID))
    return replace(state, security_groups=groups)


EDITS: tuple[Edit, ...] = (with_group, with_group, with_eni, with_eni, with_list, with_lone_group)


def replaced(records: tuple[object, ...], old: object, new: object) -> tuple:  # type: ignore[type-arg]
    return tuple(new if record is old else record for record in records)


def edited(state: CloudState, chance: random.Random) -> CloudState:
    for edit in chance.choices(EDITS, k=chance.randint(1, 2)):
        state = edit(state, chance)
    return state


def digest_of(state: CloudState, eni_id: str) -> str:
    return stamp_of(table_of(Desired(replace(state), {eni_id: "eth0"}))).digest


@pytest.mark.parametrize("shard", range(SHARDS))
def test_who_is_not_touched_has_the_same_table(shard: int) -> None:
    counted = {"touched": 0, "same": 0}

    @seed(shard)
    @settings(max_examples=STATES_PER_SHARD, database=None)
    @given(gen.states(), st.integers(0, 1 << 32))
    def check(before: CloudState, number: int) -> None:
        after = edited(before, random.Random(number))
        for reach in (Reach(before, after), Reach(before, sharing(after, before))):
            for eni in before.network_interfaces:
                eni_id = eni.network_interface_id
                if reach.touches([eni_id]):
                    counted["touched"] += 1
                    continue
                counted["same"] += 1
                assert after.eni[eni_id] == eni
                assert digest_of(before, eni_id) == digest_of(after, eni_id)

    check()
    print(counted)
    assert min(counted.values()) > STATES_PER_SHARD // 10


@settings(max_examples=100, database=None)
@given(gen.states(), st.integers(0, 1 << 32))
def test_a_shared_state_is_equal_and_has_the_records_that_were_there(before: CloudState, number: int) -> None:
    after = edited(before, random.Random(number))
    copied = replace(after, network_interfaces=tuple(replace(eni) for eni in after.network_interfaces))
    shared = sharing(copied, before)
    assert shared == after
    known = {id(eni) for eni in before.network_interfaces}
    assert all(id(eni) in known for eni in shared.network_interfaces if eni in before.network_interfaces)
    assert sharing(replace(before), before) is before


def test_another_vpc_touches_all() -> None:
    state = CloudState((Vpc("vpc-a"),))
    assert Reach(state, replace(state, vpcs=(Vpc("vpc-b"),))).touches(["eni-a"])
    assert not Reach(state, state).touches(["eni-a"])
