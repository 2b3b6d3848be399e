"""What the next proof doesn't compare again: interfaces, classes and members that nothing happened to, and what is told
apart for that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.contract.fields import KeyType
from sgdataplane.model.options import DEFAULTS, Placement
from sgdataplane.model.state import CloudState, Eni
from sgdataplane.net.values import Address, Direction, Family
from sgdataplane.nft.ir import Chain, Key, Map, Page, Paged, SetMark, Table, goto
from sgdataplane.policy.resolve import resolve
from sgdataplane.proof.axes import MalformedError, is_name, representatives
from sgdataplane.proof.claims import Claim, claims
from sgdataplane.proof.far import Kinships, Words
from sgdataplane.proof.gate import Slots
from sgdataplane.proof.lookups import Lookup
from sgdataplane.proof.profile import Renumbering
from sgdataplane.proof.prove import Proof, ProvenTable, prove
from sgdataplane.proof.specification import Specification
from tests.support.builders import make_eni, make_group, make_rule, make_state

GROUPS = [
    make_group("sg-0", ["ingress tcp 443/443 from sg-1", "ingress tcp 1/1000 from 203.0.113.0/28 drop"]),
    make_group("sg-1", ["egress all to 192.0.2.0/24 drop"]),
]
ENIS = [make_eni(f"eni-{number}", f"10.0.0.{number + 1} 2001:db8::{number + 1}", "sg-0") for number in range(6)]
MEMBER = make_eni("eni-m", "10.0.9.1", "sg-1")


def host(enis: list[Eni], others: list[Eni]) -> tuple[Specification, Table]:
    """A router's table, with interfaces of the first ENIs."""
    state = make_state(GROUPS, [*enis, *others])
    interfaces = {eni.network_interface_id: f"veth-{eni.network_interface_id[4:]}" for eni in enis}
    wanted = Specification(state, interfaces, DEFAULTS, placement=Placement.HOST)
    return wanted, compile_policy(replace(resolve(state, interfaces, DEFAULTS), placement=Placement.HOST), DEFAULTS)


def known_of(proof: Proof) -> ProvenTable:
    assert proof.holds, str(proof)
    assert proof.known is not None
    return proof.known


def test_interface_that_comes_is_proven_and_no_other() -> None:
    before = known_of(prove(*host(ENIS[:5], [MEMBER])))
    after = known_of(prove(*host(ENIS, [MEMBER]), before))
    anew = {name for name, gate in after.gates.items() if before.gates.get(name) is not gate}
    assert anew == {"veth-5"}
    back = known_of(prove(*host(ENIS[:5], [MEMBER]), after))
    assert {name for name, gate in back.gates.items() if after.gates.get(name) is not gate} == set()


def test_interfaces_that_are_alike_are_walked_once() -> None:
    few, many = (known_of(prove(*host(ENIS[:number], [MEMBER]))) for number in (4, 6))
    assert len(few.forms) == len(many.forms)


def test_interface_whose_eni_has_another_address_is_proven_anew() -> None:
    wanted, table = host(ENIS, [MEMBER])
    known = known_of(prove(wanted, table))
    moved = replace(ENIS[2], private_ip_addresses=(Address.parse("10.0.7.7"),))
    state = replace(wanted.state, network_interfaces=(*ENIS[:2], moved, *ENIS[3:], MEMBER))
    found = prove(replace(wanted, state=state), table, known)
    assert not found.holds
    assert found.counterexample is not None
    assert "at veth-2" in str(found.counterexample)


def test_gate_that_is_wrong_is_refused_though_another_one_is_alike() -> None:
    """The chain of one interface where that of another one should be, and its slot where the other one's should be."""
    wanted, table = host(ENIS, [MEMBER])
    known = known_of(prove(wanted, table))
    ingress = next(entry for entry in table.maps if entry.name == "ingress-enis")
    (_, first), (name, _), *rest = ingress.elements
    swapped = replace(ingress, elements=(ingress.elements[0], (name, first), *rest))
    wrong = replace(table, maps=tuple(swapped if entry is ingress else entry for entry in table.maps))
    for before in (None, known):
        found = prove(wanted, wrong, before).counterexample
        assert found is not None
        assert f"at {name}" in str(found)


def test_member_that_joins_is_looked_up_and_nothing_else_is_compared() -> None:
    more = make_eni("eni-n", "10.0.9.2", "sg-1")
    wanted, table = host(ENIS, [MEMBER, more])
    known = known_of(prove(*host(ENIS, [MEMBER])))
    found = prove(wanted, table, known)
    assert (found.holds, found.cells, found.profiles) == (True, 0, 1)
    assert not prove(wanted, host(ENIS, [MEMBER])[1], known).holds, "the member isn't in the table"


def test_map_whose_elements_go_by_themselves_now_is_another_one() -> None:
    wanted, table = host(ENIS, [MEMBER])
    known = known_of(prove(wanted, table))
    maps = tuple(replace(entry, lifetime=1000) if entry.name == "egress-enis" else entry for entry in table.maps)
    for before in (None, known):
        assert not prove(wanted, replace(table, maps=maps), before).holds


def test_counter_that_is_gone_is_missed() -> None:
    wanted, table = host(ENIS, [MEMBER])
    known = known_of(prove(wanted, table))
    for counter in table.counters:
        fewer = replace(table, counters=tuple(other for other in table.counters if other is not counter))
        assert prove(wanted, fewer, known).holds == prove(wanted, fewer).holds, counter.name


def test_chain_that_nothing_led_to_in_between_is_not_taken_for_what_it_was() -> None:
    """It is left over when its rule goes, is made another one, and the rule comes back."""
    wanted, table = host(ENIS, [MEMBER])
    first = known_of(prove(wanted, table))
    fewer = replace(GROUPS[0], rules=GROUPS[0].rules[1:])
    other = replace(wanted, state=replace(wanted.state, security_groups=(fewer, GROUPS[1])))
    policy = replace(resolve(other.state, other.interfaces, DEFAULTS), placement=Placement.HOST)
    between = replace(compile_policy(policy, DEFAULTS), counters=table.counters)
    left = [chain for chain in table.chains if chain.name not in between.chain]
    tried = 0
    for chain in left:
        if set(chain.ways.chains) <= between.chain.keys():
            wrong = replace(chain, rules=chain.rules[1:])
            second = known_of(prove(other, with_chain(between, chain), first))
            third = known_of(prove(other, with_chain(between, wrong), second))
            last = with_chain(table, wrong)
            assert prove(wanted, last, third).holds == prove(wanted, last).holds, chain.name
            tried += not prove(wanted, last).holds
    assert tried


def with_chain(table: Table, chain: Chain) -> Table:
    """With one more, or another one of that name."""
    return replace(table, chains=tuple(sorted((table.chain | {chain.name: chain}).values(), key=lambda c: c.name)))


def test_names_that_are_told_apart() -> None:
    patterns = ["lo", "veth0", "veth*", "veth0*", "v*", "x"]
    found = representatives(patterns)
    ways = {frozenset(pattern for pattern in patterns if is_name(pattern, name)) for name in found}
    some = [f"{stem}{end}" for stem in ("lo", "veth0", "veth", "v", "x", "y", "") for end in ("", "0", "a", "z9")]
    assert ways >= {frozenset(p for p in patterns if is_name(p, name)) for name in some if name}
    assert len(ways) == len(found)
    with pytest.raises(MalformedError):
        representatives([f"{char}*" for char in "abcdefghijklmnopqrstuvwxyz"])


def claims_of(state: CloudState) -> list[Claim]:
    return list(claims(state, state.eni["eni-0"], Direction.INGRESS, Family.IPV4, DEFAULTS))


def test_claims_are_found_again_among_others() -> None:
    rules = [make_rule(f"ingress tcp {n}/{n} from 203.0.113.0/24 {n}", f"sgr-{n}") for n in range(1, 9)]
    before = claims_of(make_state([make_group("sg-0", rules)], [ENIS[0]]))
    turned = replace(rules[1], priority=100)
    after = claims_of(make_state([make_group("sg-0", [rules[0], *rules[2:5], turned, *rules[6:]])], [ENIS[0]]))
    renumbering = Renumbering(before, after)
    found = [renumbering.before(1 << number) for number in range(len(after))]
    for number, boxes in enumerate(found):
        if boxes is not None:
            assert before[boxes.bit_length() - 1] == after[number]
            assert boxes.bit_count() == 1
    assert [after[number].decision.priority for number, boxes in enumerate(found) if boxes is None] == [100]
    kept = [boxes for boxes in found if boxes is not None]
    assert kept == sorted(kept)
    every = sum(1 << number for number, boxes in enumerate(found) if boxes is not None)
    assert renumbering.before(every) == sum(kept)
    assert renumbering.before((1 << len(after)) - 1) is None


def test_map_with_elements_on_other_pages_is_read_whole() -> None:
    pages = {0: Page(((251, goto("a")),)), 7: Page(((5, goto("b")),))}
    lookup = Lookup.of(Map("m", KeyType.IPV4, Paged(pages)))
    assert [lookup.get(key) for key in (251, 5, 7)] == [goto("a"), goto("b"), None]
    assert lookup.targets == {"a", "b"}


def test_marks_that_are_written_in_part_are_not_alike() -> None:
    one, other = (Slots({0xFF: slot}) for slot in (1, 2))
    assert one.effect(SetMark(0xFF00, 1)) == other.effect(SetMark(0xFF00, 2))
    assert one.effect(SetMark(0xFF00, 1)) != other.effect(SetMark(0xFF00, 1))
    assert one.effect(SetMark(0xFF00, 3)) == other.effect(SetMark(0xFF00, 3))
    for keep, value in ((0xFFF0, 1), (0xFFFF, 1)):
        assert one.effect(SetMark(keep, value)) != other.effect(SetMark(keep, value))


def test_gap_in_a_block_that_is_nearly_full() -> None:
    """Only the address in it is told from the members around it."""
    members = [make_eni(f"eni-{n}", f"203.0.113.{n}", "sg-1") for n in (0, 1, 2, 4, 5, 6, 7)]
    group = make_group("sg-0", ["ingress tcp 80/80 from sg-1", "ingress tcp 80/80 from 203.0.113.0/29 drop"])
    state = make_state([group, make_group("sg-1")], [make_eni("eni-own", "10.0.0.1", "sg-0"), *members])
    interfaces = {"eni-own": "eth0"}
    table = compile_policy(resolve(state, interfaces, DEFAULTS), DEFAULTS)
    known = known_of(prove(Specification(state, interfaces, DEFAULTS), table))
    gap: Key = Address.parse("203.0.113.3").value
    maps = tuple(_with(entry, gap) if entry.name.startswith("members-ingress-ipv4") else entry for entry in table.maps)
    assert maps != table.maps
    found = prove(Specification(state, interfaces, DEFAULTS), replace(table, maps=maps), known)
    assert not found.holds
    assert "203.0.113.3" in str(found)


def _with(entry: Map, key: Key) -> Map:
    return replace(entry, elements=tuple(sorted((*entry.elements, (key, entry.elements[0][1])))))


def test_words_of_pages_that_stay_are_the_same_objects() -> None:
    state = make_state(GROUPS, [*ENIS, MEMBER])
    before = Kinships.read(state)
    after = Kinships.read(
        replace(state, network_interfaces=(*ENIS, MEMBER, make_eni("eni-z", "10.0.9.9", "sg-1"))), before
    )
    one = Words.read(before.pages[Family.IPV4], {})
    other = Words.read(after.pages[Family.IPV4], {}, one)
    kept = [number for number, page in one.pages.items() if other.pages[number] is page]
    assert len(kept) == len(one.pages)
    assert len(other.pages) == len(one.pages) + 1
    assert after.turned == {"sg-1"}
