"""A table that we sent and the same table that libnftables loaded from our text are read back as the same, and as the
table that was meant.

Ours comes as the product sends it: planned, in parts, with rules that may have been encoded for an earlier table.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.compiler.compile import with_epoch
from sgdataplane.contract.fields import KeyType
from sgdataplane.contract.stamp import GENERATION_KEY, STAMP_MAP
from sgdataplane.contract.tables import ARP
from sgdataplane.enforce import Desired
from sgdataplane.enforce.arp import replace_table
from sgdataplane.enforce.run import NOTHING, run
from sgdataplane.host import netns
from sgdataplane.host.links import Links
from sgdataplane.host.nfnetlink import Nfnetlink
from sgdataplane.model.options import Placement
from sgdataplane.nft.delta import Plan, plan, plan_removal
from sgdataplane.nft.ir import Map, Match, Range, Rule, Table
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.nft.readback import HeldTable, differences, read_table
from sgdataplane.nft.text import render_table
from sgdataplane.nft.transaction import Transaction
from sgdataplane.statefile import load
from tests.support.inputs.building import table_of
from tests.support.kernel.nft import load_text
from tests.support.models.doors import GOLDEN, Both, check_generated, check_golden

pytestmark = pytest.mark.kernel
SEED, STATES, PART = int(os.environ.get("SGDP_TEST_SEED", "4700")), 25, 50


@pytest.fixture
def both(make_lab_name: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Both]:
    """Load a table by both doors, where no such table is; fail unless both are read back as the same, and as meant."""
    monkeypatch.setattr("sgdataplane.nft.transaction.PART", PART)
    ours, theirs, peer = make_lab_name(), make_lab_name(), make_lab_name()
    netns.create(peer)
    for number, name in enumerate((ours, theirs)):
        netns.create(name)
        with Links(peer) as links:
            for ifname in ("eth0", "eth1"):
                links.add_veth(f"p{number}{ifname}", name, ifname, "")

    def load_both(table: Table) -> None:
        send(ours, table)
        load_text(theirs, render_table(table))
        mine, their = (held_in(name, table) for name in (ours, theirs))
        assert unstamped(mine.table) == unstamped(their.table)
        assert sorted(mine.odd) == sorted(their.odd)
        if table.family == "inet":  # readback reads a fence up to its frames only; test_messages.py compares the rest
            assert [*mine.odd, *differences(table, mine.table)] == []
        for name in (ours, theirs):
            delete(name, table)

    yield load_both
    for name in (ours, theirs, peer):
        netns.remove(name)


def send(namespace: str, table: Table) -> None:
    with NetlinkKernel(namespace) as kernel:
        if table.family == ARP:  # it has no stamp of its own
            written_whole = Transaction.of(table, replace_table(table, is_there=False))
            run(kernel, Plan((replace(NOTHING, switch=written_whole),)), is_live=False)
            return
        there = kernel.inventory(table.name, table.family)
        assert run(kernel, plan(None, there, table), is_live=False).leftover == ""
        assert kernel.inventory(table.name, table.family).is_untouched  # the plan foresaw the number of its commits


def delete(namespace: str, table: Table) -> None:
    with NetlinkKernel(namespace) as kernel:
        there = kernel.inventory(table.name, table.family)
        run(kernel, Plan((plan_removal(there, table.name, table.family),)), is_live=True)


def held_in(namespace: str, table: Table) -> HeldTable:
    with netns.inside(namespace), Nfnetlink() as door:
        held = read_table(door, table.name, table.family)
    assert held is not None
    return held


def unstamped(table: Table) -> Table:
    """Without the generation, which only a plan notes."""
    return replace(table, maps=tuple(_unstamped(entry) if entry.name == STAMP_MAP else entry for entry in table.maps))


def _unstamped(entry: Map) -> Map:
    return replace(entry, elements=tuple(item for item in entry.elements if item[0] != GENERATION_KEY))


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case.name)
def test_goldens(both: Both, case: Path) -> None:
    check_golden(both, case)


SHARDS = [pytest.param(number, STATES, marks=pytest.mark.slow) for number in range(20)]


@pytest.mark.parametrize(("shard", "count"), [(0, 6), *SHARDS])
def test_generated_states(both: Both, placement: str, shard: int, count: int) -> None:
    """Six tables for each placement; with the slow ones, 25 for each placement and shard: 1,000. And as many fences."""
    print(f"seed {SEED + shard}, {placement} placement")
    check_generated(both, Placement(placement), SEED + shard, count)


def test_a_table_that_differs_in_one_rule_is_told_apart(both: Both) -> None:
    """The control: what is compared above is not blind."""
    state = load(next(GOLDEN[0].glob("state.*"))).state
    desired = Desired(state, {state.network_interfaces[0].network_interface_id: "eth0"})
    table = with_epoch(table_of(desired), 3, 7)
    both(table)
    place = next(number for number, chain in enumerate(table.chains) if any(map(_asks, chain.rules)))
    chain = table.chains[place]
    other = replace(chain, rules=tuple(_changed(rule) if _asks(rule) else rule for rule in chain.rules))
    changed = replace(table, chains=(*table.chains[:place], other, *table.chains[place + 1 :]))
    assert list(differences(table, changed)) == [f"chain {chain.name} has other rules"]
    both(changed)


def _asks(rule: Rule) -> bool:
    first = rule.statements[0]
    return isinstance(first, Match) and len(first.ranges) == 1 and first.field.key_type is KeyType.NUMBER


def _changed(rule: Rule) -> Rule:
    first, *others = rule.statements
    assert isinstance(first, Match)
    return replace(rule, statements=(replace(first, ranges=(Range.of(1),)), *others))
