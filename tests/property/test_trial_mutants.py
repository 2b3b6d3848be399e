"""A trial's table that is changed in one place counts some packet wrongly: what the property test compares shows it."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from sgdataplane.contract.fields import CtState, Field
from sgdataplane.contract.marks import HALF
from sgdataplane.errors import InternalError
from sgdataplane.model.options import DEFAULTS, Placement
from sgdataplane.model.state import CloudState
from sgdataplane.net.packet import Packet
from sgdataplane.nft.interp import run
from sgdataplane.nft.ir import Key, Table
from sgdataplane.trial.lines import TrialLine
from sgdataplane.trial.tables import TrialPlace, base_name, compile_trial
from tests.support.inputs.mutate import (
    change_count,
    drop_count,
    drop_entry,
    drop_rule,
    move_entry,
    mutants,
    retarget_entry,
    retarget_verdict,
    swap_entries,
)
from tests.support.models import wire
from tests.support.models.smallstates import small_state
from tests.support.models.trialing import edges_of, packets_beside, packets_in, special_packets, trial_of
from tests.support.run.amounts import few_or_many

KINDS = (change_count, drop_count, drop_entry, drop_rule, move_entry, retarget_entry, retarget_verdict, swap_entries)
PAIRS = [(1, 8), (2, 9), (3, 5)]
MUTANTS, FEW, EDGES, INSIDE = 30, 12, 20, 10
Counted = Iterator[list[str] | None]
KILLED, NO_TABLE, LIVING = "killed", "the kernel refuses it, or there is no such packet", "living"


def fields_of(packet: Packet, place: TrialPlace) -> list[dict[Field, Key]]:
    """The packet as the first of its session; of a session that is accepted; and as one of an established session."""
    opening = wire.opening(packet, place.interfaces[packet.eni_id], place.site.placement)
    if Field.CT_MARK not in opening:
        return [opening]
    mark = HALF[packet.direction] & 0x00410041
    return [opening, opening | {Field.CT_MARK: mark}, opening | {Field.CT_STATE: CtState.ESTABLISHED}]


def counts(table: Table, packets: list[tuple[str, dict[Field, Key]]]) -> Counted:
    """What each packet is counted as, one after the other; None if it meets what can't be interpreted."""
    return (_counters(table, base, fields) for base, fields in packets)


def _counters(table: Table, base: str, fields: dict[Field, Key]) -> list[str] | None:
    try:
        return run(table, base, fields).counters if base in table.chain else []
    except (InternalError, RecursionError):  # the latter: it goes round in circles, which the kernel refuses
        return None


def fate(found: Counted, right: list[list[str] | None]) -> str:
    """What becomes of a mutant: the first packet that is counted wrongly kills it. That one can't be interpreted is no
    wrong count."""
    is_table = True
    for mine, one in zip(found, right, strict=True):
        if mine is None:
            is_table = False
        elif mine != one:
            return KILLED
    return LIVING if is_table else NO_TABLE


@pytest.mark.parametrize(("one", "other"), PAIRS)
@few_or_many("count", FEW, MUTANTS)
def test_mutants_die(one: int, other: int, count: int, placement: str) -> None:
    states: tuple[CloudState, CloudState] = small_state(one), small_state(other)
    chance = random.Random(one * 100 + other)
    place, found = trial_of(states, DEFAULTS, placement)
    table = compile_trial("t", place, found)
    assert len(found.lines) > 1
    told = [packet for line in found.lines for packet in packets_of(line, chance)]
    packets = [(base_name(packet.direction), fields) for packet in told for fields in fields_of(packet, place)]
    right = list(counts(table, packets))
    assert None not in right
    assert any(right)
    fates: dict[str, list[str]] = {KILLED: [], NO_TABLE: [], LIVING: []}
    for mutant in mutants(table, chance, count, KINDS):
        fates[fate(counts(mutant.table, packets), right)].append(mutant.what)
    print(len(fates[KILLED]), fates[LIVING], Placement(placement))
    assert fates[LIVING] == []
    assert len(fates[KILLED]) >= count * 5 // 6


def packets_of(line: TrialLine, chance: random.Random) -> list[Packet]:
    beside = packets_beside(line, chance)
    return [*edges_of(line, chance, EDGES), *packets_in(line, chance, INSIDE), *beside, *special_packets(line)]
