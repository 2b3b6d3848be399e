"""The count of visits is what a walk that remembers nothing meets: over random tables, over changes of real ones, and
of whole applies beside a kernel in memory that walks as Linux 6.1 does."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import pytest

from sgdataplane.contract.fields import Field, Hook, KeyType
from sgdataplane.enforce import Desired, Proven, Settings, build, hold
from sgdataplane.host.conntrack import Bound
from sgdataplane.model.options import Placement
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Prefix
from sgdataplane.nft.ir import (
    ACCEPT,
    RETURN,
    Chain,
    Datum,
    Map,
    MapPriority,
    Match,
    Range,
    Rule,
    Statement,
    Table,
    Verdict,
    VerdictMap,
    goto,
    jump,
)
from sgdataplane.nft.validation import Pace, Visits
from tests.property.test_incremental import desired_of, history
from tests.support.inputs import hardpolicies
from tests.support.inputs.building import apply
from tests.support.models.oldkernel import OldKernel

SHARDS, TABLES = 4, 150
NAMES = ("base", "other", "a", "b", "c", "d", "e", "f")
NEAR = 1.5  # what is said of a change is at most so many times what is walked, and at least NEAREST of it
NEAREST = 0.5  # in a small table, what staged rules lead to as they come, and the chains of a fence, aren't so little
PRIORITIES = Map("d", KeyType.NUMBER, ((6, 7),), holds=KeyType.CLASSID)  # which lead nowhere
PLAIN = Settings(prove=False, adoption_window=0)


def random_table(chance: random.Random) -> Table:
    """Two base chains; each chain leads to later ones only."""
    maps = (PRIORITIES, *(Map(f"m{n}", KeyType.NUMBER, tuple(_elements(chance, NAMES[-2:]))) for n in range(2)))
    chains = []
    for index, name in enumerate(NAMES):
        later = NAMES[max(index, 1) + 1 :]
        rules = tuple(Rule(tuple(_statements(chance, later))) for _ in range(chance.randint(0, 3)))
        chains.append(Chain(name, rules, Hook("prerouting", 0) if index < 2 else None))
    return Table("t", tuple(chains), maps)


def _elements(chance: random.Random, chains: Collection[str]) -> Iterator[tuple[int, Verdict]]:
    for key in range(chance.randint(0, 4)):
        yield key, _verdict(chance, chains)


def _verdict(chance: random.Random, chains: Collection[str]) -> Verdict:
    ways = [way(name) for name in chains for way in (goto, jump)]
    return chance.choice([*ways, *ways, ACCEPT, RETURN])


def _statements(chance: random.Random, later: Collection[str]) -> Iterator[Statement]:
    if chance.random() < 0.3:
        yield Match(Field.L4PROTO, (Range.of(6),))
    if chance.random() < 0.2:
        yield MapPriority(Field.L4PROTO, PRIORITIES.name)
    kind = chance.choice(("verdict", "map", "named", "nothing"))
    if kind == "verdict":
        yield _verdict(chance, later)
    elif kind == "map":
        yield VerdictMap(Field.L4PROTO, tuple((Range.of(k), v) for k, v in _elements(chance, later)))
    elif kind == "named" and len(later) > 2:
        yield VerdictMap(Field.L4PROTO, (), chance.choice(("m0", "m1")))


def walked(table: Table, chain: str) -> int:
    """nft_chain_validate(): depth first, nothing remembered."""
    found = 1
    for rule in table.chain[chain].rules:
        for statement in rule.statements:
            if isinstance(statement, Verdict) and statement.chain:
                found += walked(table, statement.chain)
            elif isinstance(statement, VerdictMap):
                values: list[Datum] = [verdict for _, verdict in statement.entries]
                values += [value for _, value in table.map[statement.name].elements] if statement.name else []
                found += sum(walked(table, v.chain) for v in values if isinstance(v, Verdict) and v.chain)
    return found


def entered_once(table: Table) -> int:
    """The same, of a kernel that goes through the rules of each chain once."""
    gone_through: set[str] = set()
    found, ahead = 0, [chain.name for chain in table.chains if chain.hook is not None]
    while ahead:
        found, name = found + 1, ahead.pop()
        if name in gone_through:
            continue
        gone_through.add(name)
        for rule in table.chain[name].rules:
            for statement in rule.statements:
                if isinstance(statement, Verdict):
                    ahead += [statement.chain] if statement.chain else []
                elif isinstance(statement, VerdictMap):
                    elements = table.map[statement.name].elements if statement.name else statement.entries
                    ahead += [v.chain for _, v in elements if isinstance(v, Verdict) and v.chain]
    return found


@pytest.mark.parametrize("shard", range(SHARDS))
def test_count_is_that_of_a_walk_that_remembers_nothing(shard: int) -> None:
    chance, most = random.Random(f"visits-{shard}"), 0
    before = Visits.of(random_table(chance))
    for _ in range(TABLES):
        table = random_table(chance)
        kept = [chain for chain in before.table.chains if chance.random() < 0.7]  # the same objects
        table = replace(table, chains=tuple({chain.name: chain for chain in (*table.chains, *kept)}.values()))
        visits = Visits.of(table, before)
        expected = sum(walked(table, chain.name) for chain in table.chains if chain.hook is not None)
        assert (visits.every_path, visits.remembered) == (expected, entered_once(table))
        before, most = visits, max(most, expected)
    assert most > 30, "no table had many paths"


@pytest.mark.parametrize("name", ["typical", "prefix_lists"])
def test_count_that_follows_others_is_that_from_nothing(name: str) -> None:
    chance = random.Random(f"visits-{name}")
    before: Proven | None = None
    counts = set()
    for state in history(hardpolicies.POLICIES[name](0, 60), chance, 16):
        before = build(desired_of(state), PLAIN, before)
        assert before.visits == Visits.of(before.table)
        counts.add(before.visits.every_path)
    assert len(counts) > 2, "hardly anything changed"


class NoSessions:
    def forget_epochs(self, epochs: Collection[int], stamp: object) -> bool:
        return len(epochs) > 0 or stamp is None

    def seed(self, own: Collection[Prefix]) -> int:
        return 0 * len(own)

    def shorten(self, longest: Bound) -> int:
        return 0 * bool(longest)

    def count(self) -> int:
        return 0


STATE = hardpolicies.host(0, 10)
NAMED: Mapping[str, str] = {
    eni.network_interface_id: f"h{number}" for number, eni in enumerate(hardpolicies.targets(STATE))
}
FEWER = dict(list(NAMED.items())[:-1])


def without_rule(state: CloudState) -> CloudState:
    """Of a group that the first ENI is in."""
    group = state.group[hardpolicies.targets(state)[0].security_group_ids[0]]
    changed = replace(group, rules=group.rules[1:])
    return replace(state, security_groups=tuple(changed if g is group else g for g in state.security_groups))


def host(state: CloudState, interfaces: Mapping[str, str] = NAMED) -> Desired:
    return Desired(state, interfaces, placement=Placement.HOST)


ONE, LESS, OTHER = host(STATE), host(STATE, FEWER), host(without_rule(STATE))


@pytest.mark.parametrize(
    ("first", "then", "is_known"),
    [
        (None, ONE, False),
        (ONE, OTHER, True),
        (ONE, OTHER, False),
        (ONE, LESS, True),
        (LESS, ONE, True),
        (LESS, ONE, False),
    ],
    ids=["first load", "rule goes", "rule goes, full resync", "ENI goes", "ENI comes", "ENI comes, full resync"],
)
@pytest.mark.parametrize("fence", [True, False], ids=["fence", "no fence"])
def test_what_is_said_of_a_change_is_about_what_the_old_kernel_walks(
    monkeypatch: pytest.MonkeyPatch, first: Desired | None, then: Desired, is_known: bool, fence: bool
) -> None:
    said: list[int] = []

    def judge(burden: hold.Burden, _: Pace) -> str:
        said.append(burden.visits)
        return ""

    monkeypatch.setattr(hold, "judge", judge)
    monkeypatch.setattr(hold, "MATTERS", 0)
    kernel = OldKernel(Pace(remembers=False, ns_per_visit=40, is_wide=True), tuple(NAMED.values()))
    settings = replace(PLAIN, fence=fence)
    if first is not None:
        apply(kernel, NoSessions(), first, None, settings)
    before = kernel.walked
    said.clear()
    report = apply(kernel, NoSessions(), then, first if is_known else None, settings)
    assert report.is_full_resync is (first is not None and not is_known)
    took = kernel.walked - before
    print(f"walked {took:,}, said {said[0]:,}")
    assert took > 400
    assert NEAREST * took <= said[0] <= NEAR * took
