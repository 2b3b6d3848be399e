"""Every packet on its way during an update is judged by the old policy or by the new one, and the table at the end is
exact."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import HealthCheck, event, given, seed, settings
from hypothesis import strategies as st

from sgdataplane.compiler.compile import with_stamp
from sgdataplane.contract.fields import PAIRED, Field
from sgdataplane.contract.marks import MarkLayout
from sgdataplane.contract.stamp import STAMP_MAP
from sgdataplane.contract.tables import TABLE
from sgdataplane.enforce import Desired, Settings
from sgdataplane.host.conntrack import Bound
from sgdataplane.model.options import Placement
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Direction, Prefix
from sgdataplane.nft.interp import run
from sgdataplane.nft.ir import Key, Table, VerdictKind
from sgdataplane.nft.outline import stamp_of
from sgdataplane.nft.snapshot import with_generation
from sgdataplane.policy.resolve import interfaces_of
from tests.support.inputs import gen
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.building import apply, table_of
from tests.support.inputs.edits import edited
from tests.support.models import wire
from tests.support.models.inflight import Commit, RecordingKernel
from tests.support.run.amounts import few_or_many

SHARDS, SEQUENCES, PACKETS = 4, 12, 60
# Without the slow tests. The first of several states is the simplest one there is.
QUICK_SHARDS, FEW, FEW_PACKETS = 2, 2, 30
PRIORITIES = (0, 1, 1 << 24, 0x80000000, 0xFFFFFFFF)
PARTS = (4000, 40)  # what a part of a stage adds: the shards take turns
MISSING = pytest.mark.parametrize("may_miss", [False, True], ids=["looks-again", "may-miss"])


class NoSessions:
    def forget_epochs(self, epochs: Collection[int], stamp: object) -> bool:
        return len(epochs) > 0 or stamp is None

    def seed(self, own: Collection[Prefix]) -> int:
        return 0 * len(own)

    def shorten(self, longest: Bound) -> int:
        return 0 * bool(longest)

    def count(self) -> int:
        return 0


def desired_of(state: CloudState, at: Placement) -> Desired:
    """The first ENI's instance, or the router of its VPC with so many ENIs that a set has their sessions."""
    first = state.network_interfaces[0]
    if at is Placement.INSTANCE:
        return Desired(state, interfaces_of(state, first))
    there = [eni.network_interface_id for eni in state.network_interfaces if eni.vpc_id == first.vpc_id]
    return Desired(state, {eni_id: f"v-{number}" for number, eni_id in enumerate(there)}, placement=at)


def probes(wanted: Sequence[Desired], chance: random.Random, count: int) -> list[tuple[str, dict[Field, Key]]]:
    """Hook and fields of packets at the edges of what the states say, opening and answering."""
    found = []
    for desired in wanted:
        for packet in gen.packets(desired.state, chance, count):
            ifname = desired.interfaces.get(packet.eni_id)
            if ifname and chance.random() < 0.4:
                found.append((packet.direction.other.value, wire.reply(packet, ifname, 0, desired.placement)))
            elif ifname:
                found.append((packet.direction.value, wire.opening(packet, ifname, desired.placement)))
    return found


def check_commit(
    commit: Commit,
    packets: Sequence[tuple[str, dict[Field, Key]]],
    chance: random.Random,
    desired: Desired,
    *,
    may_miss: bool,
) -> int:
    """How many packets the commit judges anew. Their sessions are new, or marked before it with an older epoch than an
    ENI's, or with the ENI's if the rules accept them. They come with some priority. `may_miss`: as the kernel of the
    commit says."""
    layout, changed = desired.site.marks, 0
    slots = layout.slots(desired.interfaces.values()).values()
    is_first = STAMP_MAP not in commit.before.map
    in_force = dict.fromkeys(slots, 0) if is_first else stamp_of(commit.before).epochs(slots)
    for hook, unmarked in packets:
        unjudged = {**unmarked, Field.CT_MARK: 0} if Field.CT_MARK in unmarked else unmarked
        is_accepted = verdict(commit.before, hook, unjudged) is VerdictKind.ACCEPT
        marks = [a_mark(layout, side, chance, in_force, is_accepted=is_accepted) for side in Direction]
        fields = {**unmarked, Field.PACKET_PRIORITY: chance.choice(PRIORITIES)}
        fields |= {Field.CT_MARK: sum(marks)} if Field.CT_MARK in unmarked else {}
        before, after = (verdict(table, hook, fields) for table in (commit.before, commit.after))
        for between in (commit.on_the_way(chance, may_miss=may_miss), commit.at_once_after(chance)):
            assert verdict(between, hook, fields) in (before, after), (hook, fields, str(commit.transaction))
        changed += before is not after
    return changed


def a_mark(
    layout: MarkLayout, side: Direction, chance: random.Random, in_force: Mapping[int, int], *, is_accepted: bool
) -> int:
    """What that side's half of a session's mark holds. `in_force`: the epoch at each slot."""
    slot = chance.choice([*in_force])
    epoch = in_force[slot]
    return layout.encode_acceptance(side, chance.choice((0, max(epoch - 1, 0), epoch if is_accepted else 0)), slot)


def verdict(table: Table, hook: str, fields: Mapping[Field, Key]) -> VerdictKind:
    """Without a base chain everything passes."""
    return run(table, hook, fields).verdict if hook in table.chain else VerdictKind.ACCEPT


def cases() -> Iterator[object]:
    """All combinations with many sequences, which are slow. Half of them with few: each three values meet there."""
    for at, shard, resync, may_miss in product(Placement, range(SHARDS), (False, True), (False, True)):
        words = (at, shard, "full-resync" if resync else "delta", "may-miss" if may_miss else "looks-again")
        name = "-".join(map(str, words))
        size = SEQUENCES, PACKETS
        yield pytest.param(at, shard, resync, may_miss, size, id=f"{name}-{SEQUENCES}", marks=pytest.mark.slow)
        if shard < QUICK_SHARDS and (at.is_outside + shard + resync + may_miss) % 2 == 0:
            yield pytest.param(at, shard, resync, may_miss, (FEW, FEW_PACKETS), id=f"{name}-{FEW}")


@pytest.mark.parametrize(("at", "shard", "resync", "may_miss", "size"), [*cases()])
def test_packets_on_their_way_are_judged_by_one_policy(
    monkeypatch: pytest.MonkeyPatch, at: Placement, shard: int, *, resync: bool, may_miss: bool, size: tuple[int, int]
) -> None:
    """`size`: how many sequences of states, and about how many packets of each state."""
    sequences, count = size
    judged_anew, with_sets = [], 0
    monkeypatch.setattr("sgdataplane.nft.transaction.PART", PARTS[shard % len(PARTS)])

    @seed(f"{at.value} {shard} {resync} {may_miss}")
    @settings(max_examples=sequences, suppress_health_check=list(HealthCheck))
    @given(gen.states(), gen.states(), st.integers(0, 1 << 32))
    def check(first: CloudState, other: CloudState, number: int) -> None:
        chance = random.Random(number)
        second = edited(first, chance)
        nonlocal with_sets
        kernel, previous = RecordingKernel(TABLE), None
        kernel.is_missing = may_miss
        for state in (first, second, edited(second, chance), other):
            desired = desired_of(state, at)
            kernel.commits.clear()
            report = apply(kernel, NoSessions(), desired, previous, Settings(resync=resync))
            event(f"{len(kernel.commits)} commits")
            packets = probes([desired, previous or desired], chance, count)
            judged = [check_commit(commit, packets, chance, desired, may_miss=may_miss) for commit in kernel.commits]
            assert sum(count > 0 for count in judged) <= 1, "a policy came into force in two steps"
            judged_anew.append(sum(judged))
            assert report.ageing is not None
            wanted = with_generation(with_stamp(table_of(desired), report.ageing.stamp), kernel.generation)
            assert kernel.table(TABLE) == wanted
            with_sets += any(entry.key_type in PAIRED for entry in wanted.maps)
            assert not apply(kernel, NoSessions(), desired, None, Settings()).changed
            previous = desired

    check()
    assert sum(judged_anew) > sequences * count // 6, "hardly any packet's verdict ever changed: this proves nothing"
    assert with_sets or at is Placement.INSTANCE


ROUNDS, FEW_ROUNDS, GROUP_SETS = 40, 16, ("sg-x", "sg-x sg-z", "sg-y", "sg-y sg-z")
MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02")


def regrouped(chance: random.Random) -> CloudState:
    """Two ENIs, whose rules tell members of other groups apart, and eight more, each in some of those groups."""
    rules = [
        *(f"ingress {what} from sg-{name}" for what, name in (("tcp 80/80", "x"), ("tcp 80/80", "y drop"))),
        *(f"egress {what} to sg-{name}" for what, name in (("udp 53/53", "y drop 2"), ("tcp 1/99", "x drop"))),
    ]
    named = [make_group(name, []) for name in ("sg-x", "sg-y", "sg-z")]
    mine = [
        make_eni(f"eni-{name}", f"10.0.0.{number} 2001:db8:1::{number}", f"sg-{name}")
        for number, name in enumerate("ab", 1)
    ]
    others = [make_eni(f"eni-{n}", f"10.0.1.{n} 2001:db8::{n}", chance.choice(GROUP_SETS)) for n in range(1, 9)]
    groups = [make_group("sg-a", rules), make_group("sg-b", rules[1:]), *named]
    return make_state(groups, [*mine, *others])


def with_another_mac(state: CloudState, chance: random.Random) -> CloudState:
    """Its link-local address is another one, so that its interface leads to another chain."""
    fresh = replace(state.eni["eni-a"], mac_address=chance.choice(MACS))
    enis = (fresh if eni.network_interface_id == "eni-a" else eni for eni in state.network_interfaces)
    return replace(state, network_interfaces=tuple(enis))


@pytest.mark.parametrize("what", ["groups", "chains"])
@pytest.mark.parametrize("at", Placement)
@MISSING
@few_or_many("rounds", FEW_ROUNDS, ROUNDS)
def test_a_key_that_gets_another_value_is_judged_by_either(
    rounds: int, at: Placement, what: str, may_miss: bool
) -> None:
    """Addresses whose groups change, and interfaces whose chains do, with nothing else."""
    chance, kernel = random.Random(f"{at}-{what}"), RecordingKernel(TABLE)
    kernel.is_missing = may_miss
    replaced, fixed = 0, regrouped(chance)
    previous, interfaces = None, {"eni-a": "eth0" if at is Placement.INSTANCE else "v-0"}
    for _ in range(rounds):
        state = regrouped(chance) if what == "groups" else with_another_mac(fixed, chance)
        desired = Desired(state, interfaces, placement=at)
        kernel.commits.clear()
        apply(kernel, NoSessions(), desired, previous, Settings(adoption_window=0, prove=False))
        packets = probes([desired, previous or desired], chance, PACKETS)
        for commit in kernel.commits:
            check_commit(commit, packets, chance, desired, may_miss=may_miss)
        replaced += any(commit.has_replaced for commit in kernel.commits)
        previous = desired
    assert replaced > rounds // 4
