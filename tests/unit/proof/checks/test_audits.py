"""ENIs in audit mode: each wrong way to let pass what rules refuse is refused by the proof."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.contract.fields import Field, KeyType
from sgdataplane.contract.priority import CODES
from sgdataplane.contract.tables import AUDITED, AUDITS, WINNERS, audit_name, name_audited_enis_map
from sgdataplane.model.modes import Mode
from sgdataplane.model.options import DEFAULTS, Placement
from sgdataplane.net.values import Direction, Verdict
from sgdataplane.nft.ir import (
    ACCEPT,
    Chain,
    Count,
    Map,
    MapCount,
    Rule,
    SetPriority,
    Table,
    VerdictMap,
    goto,
    jump,
    rule,
)
from sgdataplane.policy.resolve import resolve
from sgdataplane.proof.prove import Proof, ProvenTable, prove
from sgdataplane.proof.spec.specification import Specification
from tests.support.inputs.builders import make_eni, make_group, make_state

IN, OUT = Direction.INGRESS, Direction.EGRESS
RULES = ["ingress tcp 22/22 from sg-0 drop", "ingress tcp 80/80 from sg-0", "egress all to 192.0.2.7 drop"]
INTERFACES = {"eni-a": "veth-a", "eni-b": "veth-b"}
STATE = make_state(
    [make_group("sg-0", RULES)],
    [make_eni("eni-a", "10.0.0.1", "sg-0", mode=Mode.AUDIT), make_eni("eni-b", "10.0.0.2", "sg-0")],
)
ENFORCED = STATE.with_mode({"eni-a"}, Mode.ENFORCE)


def compiled(state: object) -> Table:
    policy = resolve(state, INTERFACES, DEFAULTS)  # type: ignore[arg-type]
    return compile_policy(replace(policy, placement=Placement.HOST), DEFAULTS)


TABLE = compiled(STATE)


def judged(table: Table, state: object = STATE) -> Proof:
    return prove(Specification(state, INTERFACES, DEFAULTS, placement=Placement.HOST), table)  # type: ignore[arg-type]


def with_map(name: str, change: Callable[[Map], Map]) -> Table:
    assert name in TABLE.map
    return replace(TABLE, maps=tuple(change(entry) if entry.name == name else entry for entry in TABLE.maps))


def with_chain(name: str, *rules: Rule) -> Table:
    assert name in TABLE.chain
    chains = (replace(chain, rules=rules) if chain.name == name else chain for chain in TABLE.chains)
    return replace(TABLE, chains=tuple(chains))


def without_first(entry: Map) -> Map:
    return replace(entry, elements=tuple(entry.elements)[1:])


def leaf_of(decision: str) -> Chain:
    return next(chain for chain in TABLE.chains if chain.name.startswith(f"audit.{decision}"))


def accepts(entry: Map) -> Map:
    """The rank of an accept leads on, too, to the leaf of a refusal."""
    known = dict(entry.elements)
    rank = next(rank for rank, _ in TABLE.map[WINNERS].elements if rank not in known)
    return replace(entry, elements=tuple(sorted({**known, rank: next(iter(known.values()))}.items())))


def swapped(entry: Map) -> Map:
    """Each key has the value of another one."""
    keys, values = zip(*entry.elements, strict=True)
    return replace(entry, elements=tuple(zip(keys, (*values[1:], values[0]), strict=True)))


def with_neighbour(entry: Map) -> Map:
    """What the ENI beside it has, which is enforced."""
    more = ("veth-b", dict(entry.elements)["veth-a"])
    return replace(entry, elements=(*entry.elements, more))


def with_neighbours_pairs(entry: Map) -> Map:
    pairs = [((key[0], "veth-b"), value) for key, value in entry.elements if isinstance(key, tuple)]
    return replace(entry, elements=(*entry.elements, *pairs))


def base(hook: Direction, change: Callable[[list[Rule]], list[Rule]]) -> Table:
    return with_chain(hook.value, *change(list(TABLE.chain[hook.value].rules)))


def asks(entry: Rule, name: str) -> bool:
    return any(getattr(part, "name", "") == name for part in entry.statements)


def audit_behind(hook: Direction) -> Table:
    """The leaf that refuses is asked first."""

    def change(rules: list[Rule]) -> list[Rule]:
        place = next(i for i, entry in enumerate(rules) if asks(entry, name_audited_enis_map(hook)))
        return [*rules[:place], rules[place + 1], rules[place], *rules[place + 2 :]]

    return base(hook, change)


def refusing_at_once() -> Table:
    """A profile's chain decides to refuse by itself, which no audited ENI would let pass."""
    chain = next(chain for chain in TABLE.chains if chain.name.startswith("rank.ingress.default"))
    refusal = (Count("default.ingress.drop"), SetPriority(CODES[IN, Verdict.DROP]))
    return with_chain(chain.name, *chain.rules[:-1], rule(*refusal))


DEFAULT, BY_RULE = leaf_of("ingress.default"), leaf_of("egress.")
COUNT = DEFAULT.rules[0]
MUTANTS: dict[str, Callable[[], Table]] = {
    "no rule asks for the mode": lambda: base(IN, lambda rs: [r for r in rs if not asks(r, name_audited_enis_map(IN))]),
    "the mode is asked too late": lambda: audit_behind(OUT),
    "an audited ENI is missing": lambda: with_map(name_audited_enis_map(IN), without_first),
    "an enforced ENI is audited": lambda: with_map(name_audited_enis_map(OUT), with_neighbour),
    "it leads to the other hook": lambda: with_map(
        name_audited_enis_map(IN), lambda e: replace(e, elements=(("veth-a", jump(audit_name(OUT))),))
    ),
    "it doesn't come back": lambda: with_map(
        name_audited_enis_map(IN), lambda e: replace(e, elements=(("veth-a", goto(audit_name(IN))),))
    ),
    "a refusal doesn't pass": lambda: with_map(AUDITS, without_first),
    "a refusal passes as another": lambda: with_map(AUDITS, swapped),
    "an accept is audited": lambda: with_map(AUDITS, accepts),
    "a refusal isn't counted by ENI": lambda: with_map(AUDITED, without_first),
    "a refusal is counted as another": lambda: with_map(AUDITED, swapped),
    "another ENI's is counted": lambda: with_map(AUDITED, with_neighbours_pairs),
    "elements expire": lambda: with_map(name_audited_enis_map(IN), lambda e: replace(e, lifetime=1000)),
    "it counts by the wrong interface": lambda: with_chain(
        audit_name(IN),
        rule(MapCount(Field.PACKET_PRIORITY, AUDITED, Field.IIFNAME)),
        TABLE.chain[audit_name(IN)].rules[1],
    ),
    "it counts nothing": lambda: with_chain(audit_name(IN), TABLE.chain[audit_name(IN)].rules[1]),
    "it accepts what is no refusal": lambda: with_chain(
        audit_name(IN), *TABLE.chain[audit_name(IN)].rules, rule(ACCEPT)
    ),
    "a leaf accepts at once": lambda: with_chain(DEFAULT.name, COUNT, rule(ACCEPT)),
    "a leaf refuses": lambda: with_chain(DEFAULT.name, COUNT, rule(SetPriority(CODES[IN, Verdict.DROP]))),
    "a leaf accepts for the other side": lambda: with_chain(
        DEFAULT.name, COUNT, rule(SetPriority(CODES[OUT, Verdict.ACCEPT]))
    ),
    "a leaf counts as dropped": lambda: with_chain(
        DEFAULT.name, rule(Count("default.ingress.drop")), *DEFAULT.rules[1:]
    ),
    "a leaf doesn't count": lambda: with_chain(BY_RULE.name, *BY_RULE.rules[1:]),
    "another chain leads there": lambda: with_chain(
        "ingress-gate", rule(jump(audit_name(IN))), *TABLE.chain["ingress-gate"].rules
    ),
    "a rule refuses without a rank": refusing_at_once,
    "the map isn't one": lambda: with_map(AUDITS, lambda e: replace(e, key_type=KeyType.MARK)),
}


@cache
def known_of_the_right_one() -> ProvenTable | None:
    return judged(TABLE).proven


@pytest.mark.parametrize("make", MUTANTS.values(), ids=MUTANTS)
def test_a_wrong_table_is_refused(make: Callable[[], Table]) -> None:
    """Also by a proof that starts from the right one."""
    mutant, known = make(), known_of_the_right_one()
    assert mutant != TABLE
    assert not judged(mutant).holds
    again = prove(Specification(STATE, INTERFACES, DEFAULTS, placement=Placement.HOST), mutant, known)
    assert not again.holds


def test_the_right_tables_are_proven() -> None:
    assert judged(TABLE).holds
    assert judged(compiled(ENFORCED), ENFORCED).holds


def test_a_table_of_the_other_mode_is_refused() -> None:
    assert not judged(TABLE, ENFORCED).holds
    assert not judged(compiled(ENFORCED)).holds


def test_without_an_audited_eni_a_table_has_nothing_of_it() -> None:
    names = {*compiled(ENFORCED).map, *compiled(ENFORCED).chain, *compiled(ENFORCED).counter}
    assert not any(name.startswith("audit") or name.endswith("-audited") for name in names)


def test_the_profiles_chains_are_those_of_enforced_enis() -> None:
    """So the chains of rules are shared, whichever mode an ENI has."""
    of_rules = ("profile-", "groups-", "address-", "rank.", "steps-", "leaf.", "protocol-")
    both = ({c for c in table.chains if c.name.startswith(of_rules)} for table in (TABLE, compiled(ENFORCED)))
    audited, enforced = both
    assert audited == enforced


def test_the_mode_of_an_eni_is_an_element_once_another_is_audited() -> None:
    """To put a second ENI into audit mode changes no rule."""
    both = compiled(STATE.with_mode({"eni-b"}, Mode.AUDIT))
    assert [chain for chain in both.chains if TABLE.chain.get(chain.name) != chain] == []
    changed = {entry.name for entry in both.maps if TABLE.map.get(entry.name) != entry} - {"applied"}
    assert changed == {AUDITED, name_audited_enis_map(IN), name_audited_enis_map(OUT)}


def test_ranks_lead_to_leaves_by_jumps() -> None:
    leads = [part for entry in TABLE.chain[audit_name(IN)].rules for part in entry.statements]
    assert leads[-1] == VerdictMap(Field.PACKET_PRIORITY, name=AUDITS)
