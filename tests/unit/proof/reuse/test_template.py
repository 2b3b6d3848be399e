"""An ENI's fixed part is proven by that of another ENI, and only if it would be proven by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.model.options import DEFAULTS, Options, Placement
from sgdataplane.model.state import CloudState, ConnectionTracking, Eni
from sgdataplane.net.values import Direction, Family, Prefix
from sgdataplane.nft.ir import MEMBER, Count, Match, Range, Statement, Table, goto, is_set
from sgdataplane.policy.resolve import resolve
from sgdataplane.proof.prove import Proof, ProvenTable, prove
from sgdataplane.proof.spec.fixed import ENDS, LAST, Common, Own, clauses, end_clauses
from sgdataplane.proof.spec.specification import Specification
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.run.amounts import few_or_many

GROUPS = [make_group("sg-0", ["ingress tcp 443/443 from sg-0", "egress tcp 1/1000 to 203.0.113.0/28 drop"])]
OPTIONS = Options(metadata=(Prefix.parse("100.100.100.200"),), strict_syn=True)
FIRST = make_eni("eni-0", "10.0.0.1 10.0.0.9 2001:db8::1", "sg-0")
ALIKE = replace(make_eni("eni-1", "10.0.0.2 10.3.0.1 2001:db8:5::2", "sg-0"), mac_address="02:00:00:00:99:02")
STATE = make_state(GROUPS, [FIRST, ALIKE])


def made(eni: Eni, ifname: str = "eth0", state: CloudState = STATE, **options: object) -> tuple[Specification, Table]:
    """What a namespace with that ENI must do, and its table."""
    interfaces, chosen = {eni.network_interface_id: ifname}, replace(OPTIONS, **options)  # type: ignore[arg-type]
    return Specification(state, interfaces, chosen), compile_policy(resolve(state, interfaces, chosen), chosen)


def proven(proof: Proof) -> ProvenTable:
    assert proof.holds, str(proof)
    assert proof.proven is not None
    return proof.proven


@pytest.fixture(scope="module")
def first() -> ProvenTable:
    return proven(prove(*made(FIRST)))


@pytest.mark.parametrize("ifname", ["eth0", "eth1"])
def test_eni_that_is_alike_is_not_walked(first: ProvenTable, ifname: str) -> None:
    proof = prove(*made(ALIKE, ifname), similar=first)
    alone = prove(*made(ALIKE, ifname))
    assert proof.cells < alone.cells / 5  # only interfaces without an ENI, whose base chains name this one
    one, other = proven(proof).gates[ifname], proven(alone).gates[ifname]
    assert (one.basis, one.roots) == (other.basis, other.roots)
    assert one.chains >= other.chains
    assert one.keys.items() >= other.keys.items()
    assert one.maps >= other.maps


PAIR = Prefix.parse("10.9.0.0/16")
OTHERS: dict[str, Callable[[], Eni]] = {
    "fewer addresses": lambda: make_eni("eni-1", "10.0.0.2 2001:db8::2", "sg-0"),
    "an allowed pair": lambda: replace(ALIKE, allowed_address_pairs=(PAIR,)),
    "own timeouts": lambda: replace(ALIKE, connection_tracking=ConnectionTracking(600, 5, 20)),
    "an address that others share": lambda: make_eni("eni-1", "10.0.0.2 224.0.0.1 2001:db8::2", "sg-0"),
    "an address among the other's subnet's": lambda: make_eni("eni-1", "10.0.0.2 10.3.0.1 fe80::7", "sg-0"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_eni_that_is_not_alike_is_walked(first: ProvenTable, what: str) -> None:
    eni = OTHERS[what]()
    state = make_state(GROUPS, [FIRST, eni])
    alone, after = prove(*made(eni, state=state)), prove(*made(eni, state=state), similar=first)
    assert alone.holds
    assert after.holds
    assert after.cells > alone.cells / 2


def test_eni_under_other_options_is_walked(first: ProvenTable) -> None:
    wanted = made(ALIKE, midstream_egress="judge")
    assert prove(*wanted, similar=first).cells > prove(*wanted).cells / 2


@dataclass(frozen=True)
class Change:
    """One statement of a chain of the ENI's own, and what stands there instead."""

    chain: str
    rule: int
    place: int
    new: Statement

    def of(self, table: Table) -> Table:
        chain = table.chain[self.chain]
        old = chain.rules[self.rule].statements
        changed = replace(chain.rules[self.rule], statements=(*old[: self.place], self.new, *old[self.place + 1 :]))
        rules = (*chain.rules[: self.rule], changed, *chain.rules[self.rule + 1 :])
        chains = tuple(replace(chain, rules=rules) if other is chain else other for other in table.chains)
        return replace(table, chains=chains)


def changes(table: Table) -> Iterator[Change]:
    """Each value of the ENI's own that its chains name: another one's in its place, one beside it, one less, none."""
    others = {int(p.first) for p in (*FIRST.own_prefixes, *FIRST.link_prefixes)}
    for chain in table.chains:
        if chain.name.startswith(("eni-", "errors-")):
            for number, rule in enumerate(chain.rules):
                for place, statement in enumerate(rule.statements):
                    for new in (*_ranges(statement, others), *_counters(statement)):
                        yield Change(chain.name, number, place, new)


def _ranges(statement: Statement, others: set[int]) -> Iterator[Statement]:
    if not isinstance(statement, Match) or statement.field.key_type not in LAST:
        return
    for index, item in enumerate(statement.ranges):
        before, after = statement.ranges[:index], statement.ranges[index + 1 :]
        family = Family.IPV4 if LAST[statement.field.key_type] == Family.IPV4.last else Family.IPV6
        values = {
            int(item.first) + 1,
            *(other for other in others if (other <= Family.IPV4.last) is (family.bits == 32)),
        }
        for value in sorted(values - {int(item.first)}):
            yield replace(statement, ranges=tuple(sorted((*before, Range.of(value), *after))))
        yield replace(statement, ranges=(*before, *after))
    yield replace(statement, negate=not statement.negate)


def _counters(statement: Statement) -> Iterator[Statement]:
    if isinstance(statement, Count):
        yield Count("ingress.invalid")


@few_or_many("step", 3, 1)
def test_each_change_of_a_value_of_its_own_is_judged_as_without_the_other(first: ProvenTable, step: int) -> None:
    """A proof from nothing is slow: it is asked only where the proof by template holds."""
    wanted, table = made(ALIKE)
    assert prove(wanted, table, similar=first).holds
    every = list(changes(table))
    assert len(every) > 100
    drawn = every[::step]
    held = [change for change in drawn if prove(wanted, change.of(table), similar=first).holds]
    assert [change for change in held if not prove(wanted, change.of(table)).holds] == []
    assert len(held) < len(drawn) / 4, "hardly any of them changed anything: this proves nothing"


def test_another_slot_or_counter_is_refused() -> None:
    """Host placement, with more than a few ENIs: each has a slot in two sets, a chain for its mark, and a counter for
    its drops."""
    state = make_state(GROUPS, [make_eni(f"eni-{n}", f"10.0.0.{n + 1}", "sg-0") for n in range(4)])
    interfaces = {f"eni-{n}": f"veth-{n}" for n in range(4)}
    wanted = Specification(state, interfaces, DEFAULTS, placement=Placement.HOST)
    policy = replace(resolve(state, interfaces, DEFAULTS), placement=Placement.HOST)
    table = compile_policy(policy, DEFAULTS)
    assert prove(wanted, table).holds
    for chain in ("ingress-epoch.veth-3",):
        other = replace(table.chain[chain], rules=table.chain[chain.replace("-3", "-2")].rules)
        wrong = replace(table, chains=tuple(other if c.name == chain else c for c in table.chains))
        assert not prove(wanted, wrong).holds, chain
    for entry in (m for m in table.maps if is_set(m) and not m.room):
        (slot, one), (other_slot, two) = (key for key, _ in entry.elements[:2] if isinstance(key, tuple))
        crossed = ((slot, two), MEMBER), ((other_slot, one), MEMBER)
        changed = replace(entry, elements=(*crossed, *entry.elements[2:]))
        maps = tuple(changed if m is entry else m for m in table.maps)
        assert not prove(wanted, replace(table, maps=maps)).holds, entry.name
    for name, value in (
        ("egress-enis", goto("eni-egress.veth-2")),
        ("egress-drops", Count("dropped.egress.veth-2")),
        ("ingress-drops", Count("nowhere")),
    ):
        elements = *table.map[name].elements[:-1], ("veth-3", value)
        wrong = replace(table, maps=tuple(replace(m, elements=elements) if m.name == name else m for m in table.maps))
        assert not prove(wanted, wrong).holds, name


ENIS = [FIRST, ALIKE, *(make() for make in OTHERS.values()), replace(FIRST, mac_address="")]


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("eni", ENIS)
def test_clauses_ask_only_for_unions_of_the_sets_of_its_own_and_of_constants(eni: Eni, outside: bool) -> None:
    """What Template relies on: the order and all else of the clauses is the same for each ENI."""
    wanted = Specification(STATE, {}, OPTIONS, placement=Placement.HOST if outside else Placement.INSTANCE)
    common, own = Common(wanted.site, OPTIONS, 7, 5), Own.of("eth0", 3, eni)
    sets, found = common.sets(own), 0
    for hook in Direction:
        for family in Family:
            link, bare = common.at(hook, family, own), common.at(hook, family, Own("eth0", 3))
            pairs = [(clauses(link, is_adopting=False), clauses(bare, is_adopting=False))]
            pairs += [(end_clauses(link, *end), end_clauses(bare, *end)) for end in ENDS.values()]
            for mine, others in ((m, o) for pair in pairs for m, o in zip(*pair, strict=True)):
                assert mine.outcome == others.outcome
                for one, other in zip(mine.conditions, others.conditions, strict=True):
                    assert replace(one, ranges=()) == replace(other, ranges=())
                    if one != other:
                        found += 1
                        assert is_union(one.ranges, other.ranges, sets[one.field])
    assert found > 5


def is_union(whole: tuple[Range, ...], constant: tuple[Range, ...], sets: tuple[tuple[Range, ...], ...]) -> bool:
    """Whether it is the constant and some of the sets together."""

    def points(ranges: tuple[Range, ...]) -> set[int]:
        return {end for item in ranges for end in (int(item.first), int(item.last))}

    def holds(ranges: tuple[Range, ...], point: int) -> bool:
        return any(int(item.first) <= point <= int(item.last) for item in ranges)

    ends = points(whole).union(*map(points, (constant, *sets)))
    beside = {point + step for point in ends for step in (-1, 0, 1)}
    inside = [ranges for ranges in sets if all(holds(whole, point) for point in points(ranges))]
    return all(holds(whole, p) == (holds(constant, p) or any(holds(r, p) for r in inside)) for p in beside)
