"""Hard policies: no path of the compiled table asks for more than eight look-ups, it is proven, and says what decide()
says.

Small sizes here, one of each kind; other seeds, the whole quota, and the sets of 1,000 and 10,000 rules, are slow.
Names have sizes and seeds in them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache, partial

import pytest

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.model.options import DEFAULTS
from sgdataplane.model.semantics import decide
from sgdataplane.model.state import CloudState, Eni, SecurityGroupRule
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import Address, Family, Prefix
from sgdataplane.nft.ir import Table, VerdictMap
from sgdataplane.policy.resolve import interfaces_of, resolve
from sgdataplane.proof.prove import prove
from sgdataplane.proof.spec.specification import Specification
from tests.property.test_compile_equals_decide import EPOCH, JUDGED, SECRET, check_opening, check_reply, is_answerable
from tests.support.inputs import gen
from tests.support.inputs.classbench import classbench
from tests.support.inputs.classbench_seeds import SEEDS
from tests.support.inputs.hardpolicies import POLICIES, QUOTA, targets
from tests.support.models.lookups import most_lookups

MAX_LOOKUPS = 8  # sgdataplane/DESIGN.md, Invariants
# Three of them are asked by discovery alone, which has no ports, and so fewer maps than are counted here; one is the
# map by which an ENI's drops are counted, one that of adoption windows.
MAX_SETS = 11
MAX_STEPS = 32  # of 100 rules
SMALL, TINY, TINIEST = 100, 30, 10
PACKETS, MANY_PACKETS = 300, 200
MANY_ENIS = 3  # more than the base chains ask for one by one
IFNAME = "eth0"
Make = Callable[[], CloudState]


def quick_policies(size: int) -> Iterator[tuple[str, Make]]:
    """One of each kind."""
    for name, make in POLICIES.items():
        least = min(size, TINY) if name in ("kinships", "host", "mixture") else size
        yield f"{name}-{least}-seed0", partial(make, 0, least)
    for kind in SEEDS:
        yield f"{kind}-{size}-seed0", partial(classbench, kind, 0, size)


def more_policies() -> Iterator[tuple[str, Make]]:
    yield f"mixture-{SMALL}-seed0", partial(POLICIES["mixture"], 0, SMALL)
    for name, make in POLICIES.items():
        size = TINY if name in ("kinships", "host") else SMALL
        yield f"{name}-{size}-seed1", partial(make, 1, size)


def whole_policies() -> Iterator[tuple[str, Make]]:
    for name, make in POLICIES.items():
        for seed in (0, 1):
            yield f"{name}-{QUOTA}-seed{seed}", partial(make, seed, QUOTA)
    for count in (1_000, 10_000):
        for kind in SEEDS:
            yield f"{kind}-{count}-seed0", partial(classbench, kind, 0, count)


def quick_or_slow(quick: Iterable[str], slow: Iterable[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", [*quick, *(pytest.param(name, marks=pytest.mark.slow) for name in slow)])


FIRST, TINY_ONES, MORE = dict(quick_policies(SMALL)), dict(quick_policies(TINIEST)), dict(more_policies())
SMALL_POLICIES, WHOLE_POLICIES = FIRST | TINY_ONES | MORE, dict(whole_policies())
EACH = quick_or_slow(FIRST, MORE)
NOT_TINY = [name for name in FIRST | MORE if name not in TINY_ONES]


def compiled(state: CloudState, eni: Eni) -> Table:
    return compile_policy(resolve(state, interfaces_of(state, eni), DEFAULTS), DEFAULTS, EPOCH, SECRET)


@cache
def small(name: str) -> tuple[CloudState, Table]:
    state = SMALL_POLICIES[name]()
    return state, compiled(state, targets(state)[0])


def packets_at(state: CloudState, eni: Eni, seed: str, count: int) -> Iterator[Packet]:
    """Four of five at the edges of one of the ENI's rules, the others at the edges of anything that is mentioned."""
    chance = random.Random(seed)
    interesting = {family: sorted(gen._edges(state, family)) for family in Family}
    rules = [rule for group in eni.security_group_ids for rule in state.group[group].rules]
    for number in range(count):
        if number % 5:
            yield aimed(state, eni, chance.choice(rules), chance)
        else:
            yield gen._anywhere(eni, interesting, chance)


def aimed(state: CloudState, eni: Eni, rule: SecurityGroupRule, chance: random.Random) -> Packet:
    """At or beside the edges of a rule; in half of the cases inside of all of them, so that it is the rule's if no
    stronger one takes it."""
    packet = gen._aimed(state, eni, rule, chance)
    remotes = gen._remote_prefixes(state, rule, packet.family)
    if not remotes or chance.random() < 0.5:
        return packet
    inside = replace(packet, remote=edge(chance.choice(remotes), chance))
    if rule.port_range is not None:
        inside = replace(inside, port=chance.choice((rule.port_range.first, rule.port_range.last)))
    if rule.source_port_range is not None:
        ends = (rule.source_port_range.first, rule.source_port_range.last)
        inside = replace(inside, source_port=chance.choice(ends))
    narrowing = rule.narrowing
    if narrowing is None or narrowing.family is not packet.family or packet.local in narrowing:
        return inside
    return replace(inside, local=edge(narrowing, chance))


def edge(prefix: Prefix, chance: random.Random) -> Address:
    return Address(prefix.family_bits, chance.choice((prefix.first, prefix.last)))


def check_packets(state: CloudState, table: Table, seed: str, count: int) -> None:
    """Openings, and the replies to those that rules are asked about. What is asked must come out both ways."""
    verdicts = set()
    for packet in packets_at(state, targets(state)[0], seed, count):
        decision = decide(state, packet)
        outcome = check_opening(table, IFNAME, packet, decision)
        if not JUDGED.isdisjoint(outcome.chains) and is_answerable(state, packet, DEFAULTS):
            check_reply(table, IFNAME, packet, decision)
            verdicts.add(decision.verdict)
    assert len(verdicts) == 2, "all judged packets have one verdict, so they show nothing"


@EACH
def test_interpreter_agrees_with_decide(name: str) -> None:
    state, table = small(name)
    check_packets(state, table, name, PACKETS)


@EACH
def test_no_path_makes_more_than_eight_map_look_ups(name: str) -> None:
    path = most_lookups(small(name)[1], with_sets=False)
    assert path.lookups <= MAX_LOOKUPS, path


@quick_or_slow(TINY_ONES, NOT_TINY)
def test_many_enis_add_one_look_up(name: str) -> None:
    state = SMALL_POLICIES[name]()
    first = targets(state)[0]
    others = tuple(
        replace(first, network_interface_id=f"{first.network_interface_id}-{n}") for n in range(MANY_ENIS - 1)
    )
    state = replace(state, network_interfaces=(*state.network_interfaces, *others))
    interfaces = {eni.network_interface_id: f"eth{n}" for n, eni in enumerate((first, *others))}
    path = most_lookups(compile_policy(resolve(state, interfaces, DEFAULTS), DEFAULTS), with_sets=False)
    assert path.lookups <= MAX_LOOKUPS + 1, path  # the map that leads to the ENI's mark


@quick_or_slow(TINY_ONES, NOT_TINY)
def test_sets_before_the_profile_add_a_fixed_number_of_look_ups(name: str) -> None:
    """Own addresses and kinds of ICMP are sets without a name: they don't grow with the rules."""
    path = most_lookups(small(name)[1], with_sets=True)
    assert path.lookups <= MAX_LOOKUPS + MAX_SETS, path


@EACH
def test_lists_are_short_and_no_map_is_empty(name: str) -> None:
    _, table = small(name)
    assert max(len(chain.rules) for chain in table.chains if chain.hook is None) <= MAX_STEPS
    maps = [s for chain in table.chains for rule in chain.rules for s in rule.statements if isinstance(s, VerdictMap)]
    assert all(entry.entries or entry.name for entry in maps)


def check_proof(state: CloudState, table: Table) -> None:
    """Of the first target's namespace."""
    proof = prove(Specification(state, interfaces_of(state, targets(state)[0]), DEFAULTS), table)
    print(proof)
    assert proof.holds
    assert proof.chains <= len(table.chains)


@EACH
def test_table_is_proven(name: str) -> None:
    check_proof(*small(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE_POLICIES)
def test_whole_quota_keeps_the_bound_and_agrees_with_decide(name: str) -> None:
    state = WHOLE_POLICIES[name]()
    table = compiled(state, targets(state)[0])
    check_packets(state, table, name, MANY_PACKETS)
    path = most_lookups(table, with_sets=False)
    assert path.lookups <= MAX_LOOKUPS, path
    check_proof(state, table)
