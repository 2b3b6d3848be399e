"""No set or map of ranges is ever edited in place: on the wire it comes in the batch that makes it, without a name, and
goes with its rule. A look-up in one that changes may miss on every kernel before 7.0."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from sgdataplane.contract.fields import PAIRED, KeyType
from sgdataplane.contract.tables import TABLE
from sgdataplane.enforce import Settings
from sgdataplane.host.netlink import parse_attributes
from sgdataplane.host.nfnetlink import BatchMessage
from sgdataplane.model.options import Placement
from sgdataplane.model.state import CloudState
from sgdataplane.nft import uapi
from sgdataplane.nft.ir import Map
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from sgdataplane.nft.uapi import number_of
from tests.property.test_update_keeps_packets import NoSessions, desired_of
from tests.support.inputs import gen
from tests.support.inputs.building import apply
from tests.support.inputs.edits import edited
from tests.support.models.inflight import RecordingKernel

SEQUENCES, EDITS = 6, 4
KEYS = (KeyType.IPV4, KeyType.IPV6, KeyType.IFNAME, KeyType.MARK, KeyType.CLASSID, *PAIRED)
IS_BOUND = uapi.SET_ANONYMOUS | uapi.SET_CONSTANT
SET, OF_SET = uapi.kind_of(uapi.NEWSET), (uapi.kind_of(uapi.NEWSETELEM), uapi.kind_of(uapi.DELSETELEM))


def messages(transaction: Transaction) -> Iterator[BatchMessage]:
    for some, _ in transaction.requests():
        yield from some


def check(transaction: Transaction, seen: Counter[str]) -> None:
    """What it makes, with and without a name, and what it edits."""
    made = dict[int, int]()  # the flags of sets without a name, by number
    for message in messages(transaction):
        found = parse_attributes(message.attributes)
        if message.kind == SET:
            flags = number_of(found[uapi.SET_FLAGS])
            is_ranges, is_bound = bool(flags & uapi.SET_INTERVAL), flags & IS_BOUND == IS_BOUND
            assert is_bound or not is_ranges
            seen["ranges"] += is_ranges
            if is_bound:
                made[number_of(found[uapi.SET_ID])] = flags
        elif message.kind in OF_SET:
            is_named = not found[uapi.ELEMENTS_SET].startswith(b"__")
            assert is_named or (message.kind == OF_SET[0] and number_of(found[uapi.ELEMENTS_SET_ID]) in made)
            seen["edits"] += is_named


@pytest.mark.parametrize("at", Placement)
def test_ranges_come_and_go_with_their_rule(at: Placement) -> None:
    seen = Counter[str]()

    @seed(1)
    @settings(max_examples=SEQUENCES, suppress_health_check=list(HealthCheck), deadline=None)
    @given(gen.states(), st.integers(0, 1 << 32), st.booleans())
    def run(state: CloudState, number: int, may_miss: bool) -> None:
        chance, kernel, previous = random.Random(number), RecordingKernel(TABLE), None
        kernel.is_missing = may_miss
        for _ in range(EDITS):
            desired = desired_of(state, at)
            apply(kernel, NoSessions(), desired, previous, Settings(prove=False))
            state, previous = edited(state, chance), desired
        for commit in kernel.commits:
            check(commit.transaction, seen)

    run()
    assert min(seen["ranges"], seen["edits"]) > SEQUENCES


@pytest.mark.parametrize("holds", [None, KeyType.CLASSID, KeyType.COUNTER, KeyType.NOTHING])
@pytest.mark.parametrize("key_type", KEYS)
def test_a_map_with_a_name_holds_single_keys(key_type: KeyType, holds: KeyType | None) -> None:
    entry = Map("named", key_type, (), holds=holds)
    (message,) = messages(Transaction("t", (Operation(Verb.ADD, Kind.MAP, entry),)))
    assert not number_of(parse_attributes(message.attributes)[uapi.SET_FLAGS]) & uapi.SET_INTERVAL
