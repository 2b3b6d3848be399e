"""A flood whose packets carry a priority from map to map, while numbers, ranks and leaves all become others: none is
lost, and none that is denied gets through. The control makes the same changes in one commit each, and some get lost.

Between the two maps there are many rules, so that at each commit a packet is on its way from one to the other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.contract.fields import Field, Hook, KeyType
from sgdataplane.enforce.run import run
from sgdataplane.nft.delta import Plan, plan
from sgdataplane.nft.ir import (
    ACCEPT,
    DROP,
    Chain,
    Count,
    Counter,
    Map,
    MapPriority,
    Match,
    Range,
    SetPriority,
    Table,
    Verdict,
    VerdictMap,
    goto,
    rule,
)
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.nft.transaction import Operation, Transaction
from tests.support.probes.flood import DenseFlood
from tests.support.scenes.pair import HERE, Pair

pytestmark = pytest.mark.kernel

NAME, LOST, ALLOWED, DENIED = "t", "lost", 5000, 6000
PACKETS, MAX_EDITS = 5000, 5000  # packets for each edit, at least
PEER, INSTANCE = HERE["peer"][0], HERE["instance"][0]
OTHERS = range(1000)  # members besides


def table(step: int, *, between: int = 100, detours: bool = True, lost: Verdict = DROP) -> Table:
    """At each step, the peer and some others have numbers and ranks that they never had. At every other step the rules
    differ too, so that a detour is taken. `between`: so many rules are between the first map and the second one.
    `lost`: what becomes of packets that get lost; they are counted."""
    group_set, rank, leaf = 0x80000000 | step, 1 + step, f"leaf-{step}"
    root = [rule(SetPriority(0)), rule(MapPriority(Field.IP_SADDR, "members"))]
    root += [rule(Match(Field.IIFNAME, (Range.of("none"),)), DROP)] * (between + (step % 4 // 2 if detours else 0))
    asked = [rule(MapPriority(Field.PACKET_PRIORITY, "ranks"))]
    is_allowed = (Match(Field.L4PROTO, (Range.of(17),)), Match(Field.TH_DPORT, (Range.of(ALLOWED),)))
    asked += [rule(VerdictMap(Field.PACKET_PRIORITY, name="winners")), rule(*is_allowed, Count(LOST), lost), rule(DROP)]
    chains = (
        Chain("ingress", (*root, *asked), Hook("prerouting", -150)),
        Chain(leaf, (rule(*is_allowed, SetPriority(0), ACCEPT), rule(DROP))),
    )
    peer = int.from_bytes(bytes(map(int, PEER.split("."))), "big")
    members = ((peer, group_set), *((address, group_set) for address in OTHERS if address % 7 == step % 7))
    words = ((0, 1), *((word, step) for word in range(1, 5)))
    maps = (
        Map("applied", KeyType.MARK, words, holds=KeyType.MARK),
        Map("members", KeyType.IPV4, members, holds=KeyType.CLASSID),
        Map("ranks", KeyType.CLASSID, ((group_set, rank),), holds=KeyType.CLASSID),
        Map("winners", KeyType.CLASSID, ((rank, goto(leaf)),)),
    )
    return Table(NAME, chains, maps, (Counter(LOST),))


def at_once(steps: Plan) -> Plan:
    """All changes of elements in the switch."""
    (change,) = steps.changes
    early, stage = _parted(change.stage)
    late, sweep = _parted(change.sweep)
    switch = replace(change.switch, operations=(*late, *early, *change.switch.operations))
    return Plan((replace(change, stage=stage, switch=switch, sweep=sweep),))


def _parted(transaction: Transaction) -> tuple[list[Operation], Transaction]:
    live = [entry for entry in transaction.operations if entry.subject.name in ("ranks", "winners")]
    return live, replace(transaction, operations=tuple(e for e in transaction.operations if e not in live))


class Edits:
    """Changes from one table to the next in a namespace."""

    def __init__(self, kernel: NetlinkKernel, first: Table) -> None:
        self._kernel, self._held = kernel, first
        run(kernel, self._plan(None, first), is_live=True)

    def make(self, desired: Table, made: Callable[[Plan], Plan] = lambda steps: steps) -> int:
        """How many changes it takes."""
        steps = made(self._plan(self._held, desired))
        assert not steps.is_full_resync
        assert run(self._kernel, steps, is_live=True).leftover == ""
        self._held = desired
        return len(steps.changes)

    def _plan(self, held: Table | None, desired: Table) -> Plan:
        return plan(held, self._kernel.inventory(NAME), desired, may_miss=False)

    @property
    def lost(self) -> int:
        return self._kernel.read_counters(NAME, [LOST])[LOST].packets


@pytest.fixture
def kernel(pair: Pair) -> Iterator[NetlinkKernel]:
    with NetlinkKernel(pair["instance"]) as kernel:
        run(kernel, plan(None, kernel.inventory(NAME), table(0)), is_live=False)
        yield kernel


@pytest.fixture
def flood(pair: Pair, kernel: NetlinkKernel, tmp_path: Path) -> DenseFlood:  # noqa: ARG001  (it waits for packets)
    return DenseFlood(tmp_path, pair["peer"], pair["instance"], [(INSTANCE, ALLOWED)], [(INSTANCE, DENIED)])


@pytest.mark.parametrize("count", [8, pytest.param(60, marks=pytest.mark.slow)])
def test_no_packet_misses_what_its_number_meant(kernel: NetlinkKernel, flood: DenseFlood, count: int) -> None:
    changes: list[int] = []
    with flood:
        edits = Edits(kernel, table(0))
        while len(changes) < count or flood.allowed.sent < PACKETS * count:
            changes.append(edits.make(table(len(changes) + 1)))
    print(f"{len(changes)} edits; allowed {flood.allowed}, denied {flood.denied}")
    assert flood.allowed.received == flood.allowed.sent >= PACKETS * count
    assert flood.denied.received == edits.lost == 0 < flood.denied.sent
    assert set(changes) == {1, 2}


@pytest.mark.skipif(os.cpu_count() == 1, reason="needs two processors: a commit must come while a packet is on its way")
def test_packets_miss_it_if_all_maps_change_at_once(kernel: NetlinkKernel, flood: DenseFlood) -> None:
    tables = (table(step, between=2000, detours=False, lost=ACCEPT) for step in range(MAX_EDITS))
    with flood:
        edits = Edits(kernel, next(tables))
        while not edits.lost:
            edits.make(next(tables), at_once)
