"""Does the proof bite? 1,400 wrong compiles; each that it lets through does the same as the right one.

Each mutant is compared with the right table for every packet there is (tests/support/models/exhaust.py). If they
differ, the proof must refuse it. If its counterexample is a packet, the interpreter must do something else with that
one than in the right table. Each mutant is proven from nothing; and after the right table, that of another state, of
which much is known, or that of an ENI that differs only in its own addresses: in turn, and after all of them. Nothing
is drawn but the mutants, from the seed that is printed. Mutants of changes are in test_proof_before.py.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from itertools import cycle, repeat

import pytest

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.model.modes import Mode
from sgdataplane.model.options import DEFAULTS, Options, Placement
from sgdataplane.model.state import CloudState, NetworkType, NicType, SecurityGroupRule
from sgdataplane.net.values import Address, Prefix, Verdict
from sgdataplane.nft.ir import Table
from sgdataplane.policy.resolve import interfaces_of, resolve
from sgdataplane.proof.prove import ProvenTable, prove
from sgdataplane.proof.spec.specification import Specification
from sgdataplane.proof.witness import START, Counterexample, enter_at
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.inputs.edits import EDITS
from tests.support.inputs.mutants import Mutant, Unfit
from tests.support.inputs.mutate import CHANGES, Change, mutants
from tests.support.models.exhaust import Circle, Comparison, result_of

EPOCH, SECRET = 7, 0x12345678
MUTANTS = 200  # of each case; 1,400 in all
SEED = 200
TRIES = 10  # for a mutant of a kind that makes a difference
SAME, NO_TABLE = "accepted, since they do the same", "refused, as no table that the kernel takes"
WRONG = ("refused", "refused, though the proof found no packet")  # verdicts on mutants that do something else
STRICT = "refused, though they do the same"


@dataclass(frozen=True)
class Case:
    specification: Specification
    table: Table


def case_of(state: CloudState, options: Options = DEFAULTS, placement: Placement = Placement.INSTANCE) -> Case:
    """The namespace of the ENI `eni-a`; or the router that holds the links of all ENIs."""
    interfaces: Mapping[str, str] = interfaces_of(state, state.eni["eni-a"])
    if placement is Placement.HOST:
        interfaces = {eni.network_interface_id: f"veth-{eni.mac_address[-2:]}" for eni in state.network_interfaces}
    policy = replace(resolve(state, interfaces, options), placement=placement)
    secret = SECRET if placement is Placement.INSTANCE else 0
    table = compile_policy(policy, options, EPOCH, secret)
    return Case(Specification(state, interfaces, options, placement=placement), table)


def groups() -> Case:
    """Basic groups of two families: inner accept, groups as remotes under a drop, members in two groups, delegated."""
    web = ["ingress tcp 80/80 from sg-app", "ingress all from 10.0.0.0/30 drop", "ingress udp 53/54 from sg-db drop 2"]
    made = [
        make_group("sg-web", [*web, "egress tcp 443/443 to sg-app drop"]),
        make_group("sg-app", inner=Verdict.DROP),
        make_group("sg-db"),
    ]
    enis = [
        make_eni("eni-a", "10.0.0.1 2001:db8::1", "sg-web"),
        make_eni("eni-b", "10.0.0.2 2001:db8::2", "sg-web sg-app"),
        make_eni("eni-c", "10.0.0.9 2001:db8::9", "sg-app"),
        make_eni("eni-d", "10.0.0.10 10.0.1.0/31", "sg-app sg-db"),
    ]
    return case_of(make_state(made, enis), Options(inner_accept_egress="custom_first"))


def lists() -> Case:
    """Prefix lists and port lists, in both families, under blocks that cut them; metadata."""
    rules: list[str | SecurityGroupRule] = [
        make_rule("ingress tcp from pl-a", port_list_id="prl-1"),
        make_rule("ingress udp from pl-b drop 1", port_list_id="prl-1"),
        "ingress all from 10.1.0.0/17 drop 1",
        "ingress all from 10.1.0.0/16 2",
        "egress icmpv6 to ::/0",
        "ingress tcp 443/443 from 2001:db8:1:1::/64",
        "ingress tcp 1/1000 from 2001:db8:1::/50 drop 3",
        "egress udp 123/123 to 10.1.2.9 drop",
        "egress tcp 22/25 to pl-a drop",
    ]
    state = make_state(
        [make_group("sg-0", rules)],
        [make_eni("eni-a", "10.0.0.1 2001:db8::1", "sg-0")],
        prefix_lists={"pl-a": "10.1.2.0/24 10.1.128.0/20 192.0.2.1", "pl-b": "2001:db8:1::/48 2001:db8:1:1::/64"},
        port_lists={"prl-1": "80/80 90/95"},
    )
    return case_of(state, Options(metadata=(Prefix.parse("100.100.100.200"),)))


def five_tuples() -> Case:
    """An advanced group: source ports, the ENI's own side, protocols by number, ties and overlaps in every field."""
    rules: list[str | SecurityGroupRule] = [
        make_rule("ingress tcp 80/90 from 198.51.100.0/24", source_port_range="1000/2000", narrowing="10.0.0.2/32"),
        make_rule("ingress tcp 85/95 from 198.51.100.0/25 drop", source_port_range="1500/2500"),
        make_rule("ingress udp 1/65535 from 0.0.0.0/0 3", narrowing="10.0.0.0/24"),
        make_rule("ingress tcp 1/100 from 2001:db8:f::/48 2", narrowing="2001:db8::/64"),
        make_rule("ingress tcp 90/300 from 198.51.100.64/26 drop 1", narrowing="10.0.0.1/32"),
        make_rule("ingress udp 1/500 from 2001:db8:f:1::/64 drop 1", source_port_range="53/53"),
        "ingress gre from 0.0.0.0/0",
        "egress 51 to ::/0",
        make_rule("egress tcp 443/443 to 0.0.0.0/0", source_port_range="1024/65535"),
    ]
    enis = [make_eni("eni-a", "10.0.0.1 10.0.0.2 2001:db8::1", "sg-0")]
    state = make_state([make_group("sg-0", rules, advanced=True)], enis)
    return case_of(state, Options(strict_syn=True))


def two_interfaces() -> Case:
    """Two ENIs of one instance: other slots, other profiles, an allowed pair."""
    made = [
        make_group("sg-0", ["ingress tcp 22/22 from 203.0.113.0/24", "egress all to 203.0.113.7 drop"]),
        make_group("sg-1", ["ingress icmp from 203.0.113.0/25"], advanced=True),
    ]
    enis = [
        make_eni("eni-a", "10.0.0.1 2001:db8::1", "sg-0", instance_id="i-a"),
        make_eni("eni-b", "10.0.0.2", "sg-1", instance_id="i-a", allowed_address_pairs=(Prefix.parse("10.9.0.0/16"),)),
    ]
    return case_of(make_state(made, enis), Options(midstream_egress="judge"))


def three_interfaces() -> Case:
    """More ENIs than the base chains name: slots and marks in sets and maps."""
    made = [make_group("sg-0", ["ingress tcp 22/22 from 203.0.113.0/24"])]
    addresses = "10.0.0.1 2001:db8::1", "10.0.0.2", "10.0.0.3 10.0.1.0/31"
    enis = [make_eni(f"eni-{n}", at, "sg-0", instance_id="i-a") for n, at in zip("abc", addresses, strict=True)]
    return case_of(make_state(made, enis))


def classic() -> Case:
    """A classic instance's interface to the internet: rules by nic type, no inner accept."""
    rules = [
        make_rule("ingress tcp 80/80 from 0.0.0.0/0", nic_type=NicType.INTERNET),
        make_rule("ingress tcp 80/80 from 0.0.0.0/0 drop", "sgr-x", nic_type=NicType.INTRANET),
        make_rule("egress udp 53/53 to 192.0.2.0/24 drop", nic_type=NicType.INTERNET),
        make_rule("egress tcp 25/25 to 0.0.0.0/0 drop", nic_type=NicType.INTERNET),
        make_rule("ingress all from 203.0.113.0/26 drop 1", nic_type=NicType.INTERNET),
        make_rule("ingress udp 1/1000 from 203.0.113.0/24 2", nic_type=NicType.INTERNET),
        make_rule("ingress udp 500/500 from 203.0.113.128/25 drop 1", nic_type=NicType.INTERNET),
        make_rule("ingress icmp from 192.0.2.7", nic_type=NicType.INTERNET),
    ]
    eni = make_eni("eni-a", "198.51.100.1", "sg-0", nic_type=NicType.INTERNET)
    state = make_state([make_group("sg-0", rules)], [eni], network_type=NetworkType.CLASSIC)
    return case_of(state)


def router() -> Case:
    """Host placement: the links of three instances in their router, with an ENI in two groups."""
    made = [
        make_group("sg-0", ["ingress tcp 22/22 from sg-1", "egress all to 203.0.113.7 drop"]),
        make_group("sg-1", ["ingress icmp from 203.0.113.0/25"], inner=Verdict.DROP),
    ]
    enis = [
        make_eni("eni-a", "10.0.0.1 2001:db8::1", "sg-0"),
        make_eni("eni-b", "10.0.0.2 10.0.1.0/31", "sg-0 sg-1"),
        make_eni("eni-c", "10.0.0.3 2001:db8::3", "sg-1"),
    ]
    return case_of(make_state(made, enis), placement=Placement.HOST)


def audited() -> Case:
    """An ENI in audit mode between two that aren't, all in one router and of one profile: refusals by address and by
    group, in both directions, and defaults."""
    rules = [
        "ingress tcp 22/22 from sg-0 drop",
        "ingress udp 53/53 from 203.0.113.0/24 drop",
        "egress all to 192.0.2.7 drop",
    ]
    enis = [
        make_eni("eni-a", "10.0.0.1 2001:db8::1", "sg-0", mode=Mode.AUDIT),
        make_eni("eni-b", "10.0.0.2", "sg-0"),
        make_eni("eni-c", "10.0.0.3", "sg-0"),
    ]
    return case_of(make_state([make_group("sg-0", rules)], enis), placement=Placement.HOST)


def audited_alone() -> Case:
    """The same ENI in its instance, where the base chains name it."""
    rules = ["ingress tcp 22/22 from 203.0.113.0/24 drop", "ingress icmp from 203.0.113.0/25", "egress udp to ::/0"]
    enis = [make_eni("eni-a", "10.0.0.1 2001:db8::1", "sg-0", mode=Mode.AUDIT)]
    return case_of(make_state([make_group("sg-0", rules, advanced=True)], enis))


Make = Callable[[], Case]
CASES: tuple[Make, ...] = (
    *(groups, lists, five_tuples, two_interfaces, three_interfaces, classic, router),
    *(audited, audited_alone),
)


@cache
def made(case: Make) -> Case:
    return case()


@cache
def compared(case: Make) -> Comparison:
    """Whoever compares forgets what it has found out about the other table, so that all tests can share this."""
    return Comparison(made(case).table)


def neighbours(case: Case) -> Iterator[Case]:
    """Of the states that one change leads to this one from."""
    wanted, chance = case.specification, random.Random(SEED)
    for edit in EDITS:
        state = edit(wanted.state, chance)
        if state != wanted.state:
            yield case_of(state, wanted.options, wanted.placement)


def of_another(case: Case) -> Case:
    """The same for an ENI with other addresses in place of `eni-a`."""
    state = case.specification.state
    eni = state.eni["eni-a"]
    private, ipv6 = (
        tuple(Address(address.family_bits, address.value + 0x4000) for address in addresses)
        for addresses in (eni.private_ip_addresses, eni.ipv6_addresses)
    )
    other = replace(eni, private_ip_addresses=private, ipv6_addresses=ipv6, mac_address="02:00:00:00:77:07")
    enis = tuple(other if each is eni else each for each in state.network_interfaces)
    return case_of(replace(state, network_interfaces=enis), case.specification.options, case.specification.placement)


def judge(make: Make, mutant: Mutant, before: Iterable[ProvenTable | None]) -> str:
    """What became of a mutant. An AssertionError if the proof was wrong about it, from nothing or after one of those
    that were right. All packets are compared only if the interpreter shows no difference for the proof's one."""
    case = made(make)
    proof = prove(case.specification, mutant.table)
    for known in before:
        assert prove(case.specification, mutant.table, known).holds == proof.holds, mutant.what
    if not proof.holds and proof.counterexample is None:
        assert proof.problem
        return NO_TABLE
    found = proof.counterexample
    if found is not None and found.is_shown:
        assert differs_at(found.chain, case, mutant, found), f"{mutant.what}:\n{found}"
        if differs_at(found.hook.value, case, mutant, found):
            return WRONG[0]
    missed = compared(make).difference(mutant.table)
    if found is None:
        assert missed is None, f"{mutant.what}: the proof holds, but not for {missed}"
        return SAME
    return STRICT if missed is None else WRONG[not found.is_shown]


def differs_at(chain: str, case: Case, mutant: Mutant, found: Counterexample) -> bool:
    """Whether the proof's packet meets something else there. The proof may put it into any chain, where no packet of a
    hook comes to it."""
    place = (found.hook, chain, found.is_adopting)
    right, wrong = (result_of(enter_at(table, *place), START, found.fields) for table in (case.table, mutant.table))
    return right != wrong


def check(make: Make, count: int, kinds: Sequence[Change] = CHANGES, *, after_all: bool) -> Counter[str]:
    """Of so many mutants of these kinds, in turn."""
    case = made(make)
    before = zip(repeat(proven(case)), cycle(map(proven, neighbours(case))), repeat(proven(of_another(case))))
    turns = before if after_all else ((each,) for three in before for each in three)
    drawn = mutants(case.table, random.Random(SEED), count, kinds)
    return Counter(judge(make, mutant, next(turns)) for mutant in drawn)


def proven(case: Case) -> ProvenTable:
    found = prove(case.specification, case.table).proven
    assert found is not None
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda make: make.__name__)
def test_the_right_table_is_proven(case: Make) -> None:
    assert prove(made(case).specification, made(case).table).holds


@pytest.mark.parametrize("case", CASES, ids=lambda make: make.__name__)
def test_a_few_mutants_that_change_meaning_die(case: Make) -> None:
    """One of each kind, in every fourth case that has a place for it."""
    kinds = [kind for number, kind in enumerate(CHANGES) if case in every_fourth(cases_for(kind), number)]
    report(case, check(case, len(kinds), kinds, after_all=False), len(kinds))


@cache
def cases_for(kind: Change) -> list[Make]:
    return [case for case in CASES if has_place(kind, made(case).table)]


def has_place(kind: Change, table: Table) -> bool:
    chance = random.Random(SEED)
    for _ in range(TRIES):
        with suppress(Unfit):
            return bool(kind(table, chance))
    return False


def every_fourth(cases: Sequence[Make], number: int) -> Sequence[Make]:
    """Beginning with one of the first four, so that each case has some kinds."""
    return cases[number % min(4, len(cases)) :: 4]


@pytest.mark.slow  # six minutes in turn, eight after all
@pytest.mark.parametrize("after_all", [False, True], ids=["in turn", "after all"])
@pytest.mark.parametrize("case", CASES, ids=lambda make: make.__name__)
def test_every_mutant_that_changes_meaning_dies(case: Make, after_all: bool) -> None:
    report(case, check(case, MUTANTS, after_all=after_all), MUTANTS)


def report(case: Make, verdicts: Counter[str], count: int) -> None:
    """A mutant that does the same as the right table tries nothing out. Most must do something else."""
    listed = ", ".join(f"{number} {verdict}" for verdict, number in sorted(verdicts.items()))
    print(f"{case.__name__}, seed {SEED}: {listed}")
    assert sum(verdicts.values()) == count
    assert sum(verdicts[each] for each in WRONG) > count // 2, "most of them changed nothing: this proves little"


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_every_kind_of_change_makes_a_difference(change: Change) -> None:
    """One that makes none has lost its place, perhaps when the shape of tables changed."""
    assert any(makes_difference(change, compared(case)) for case in CASES)


def makes_difference(change: Change, right: Comparison) -> bool:
    """By one of a few mutants of that kind, if the table has any."""
    chance = random.Random(SEED)
    for _ in range(TRIES):
        with suppress(Unfit, Circle):
            if right.difference(change(right.table, chance).table) is not None:
                return True
    return False
