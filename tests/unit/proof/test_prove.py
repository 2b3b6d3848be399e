"""prove() on right and wrong tables: its account, the packet that differs, and what it leaves out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.contract.fields import CtState, Field
from sgdataplane.contract.tables import MIDSTREAM, dispatch_name
from sgdataplane.errors import InternalError, ProofError
from sgdataplane.model.options import DEFAULTS, Options
from sgdataplane.net.values import Direction
from sgdataplane.nft.ir import (
    DROP,
    Chain,
    Count,
    Key,
    Log,
    Match,
    Range,
    Rule,
    SetPriority,
    Table,
    Verdict,
    VerdictMap,
    goto,
)
from sgdataplane.nft.text import rule_text
from sgdataplane.policy.resolve import resolve
from sgdataplane.proof.prove import Proof, prove, require_proof
from sgdataplane.proof.spec.specification import Specification
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state

RULES = ["ingress tcp 443/443 from 203.0.113.0/24", "ingress tcp 1/1000 from 203.0.113.0/28 drop"]
STATE = make_state(
    [make_group("sg-0", RULES), make_group("sg-1", ["egress all to 192.0.2.0/24 drop"])],
    [
        make_eni("eni-a", "10.0.0.1 2001:db8::1", "sg-0", instance_id="i-a"),
        make_eni("eni-b", "10.0.0.2", "sg-1", instance_id="i-a"),
    ],
)
INTERFACES = {"eni-a": "eth0", "eni-b": "eth1"}


def specification(options: Options = DEFAULTS, internal: tuple[str, ...] = ()) -> Specification:
    return Specification(STATE, INTERFACES, options, internal)


@cache
def compiled(options: Options = DEFAULTS, internal: tuple[str, ...] = ()) -> Table:
    return compile_policy(resolve(STATE, INTERFACES, options, internal), options)


@cache
def first_proof() -> Proof:
    """Of the right table, from nothing."""
    return prove(specification(), compiled())


def with_chain(table: Table, name: str, change: Callable[[tuple[Rule, ...]], tuple[Rule, ...]]) -> Table:
    """With the rules of the one chain whose name begins so changed."""
    (chain,) = (chain for chain in table.chains if chain.name.startswith(name))
    changed = replace(chain, rules=change(chain.rules))
    return replace(table, chains=tuple(changed if other is chain else other for other in table.chains))


def counting(table: Table, counter: str) -> Chain:
    """The chain that counts so."""
    return next(chain for chain in table.chains for rule in chain.rules if Count(counter) in rule.statements)


def without_leaf(table: Table) -> Table:
    """The stronger rule of sg-0, a drop, accepts instead."""
    leaf = counting(table, next(c.name for c in table.counters if c.name.startswith("rule.sg-0") and "drop" in c.name))
    count = leaf.rules[-2].statements[0]
    accepting = Rule((count, SetPriority(0), goto("ingress-accept.ingress")))
    return with_chain(table, leaf.name, lambda rules: (*rules[:-2], accepting))


def test_a_right_table_is_proven_with_an_account() -> None:
    proof = first_proof()
    assert proof.holds
    assert (proof.profiles, proof.counterexample, proof.problem) == (2, None, "")
    assert proof.cells > 500
    assert proof.classes > 15
    assert proof.chains <= len(compiled().chains)
    assert str(proof).startswith(f"proven: {proof.cells:,} cells")


def test_a_wrong_verdict_is_shown_by_a_packet_that_meets_it() -> None:
    found = prove(specification(), without_leaf(compiled())).counterexample
    assert found is not None
    assert found.is_shown
    assert (found.hook, found.fields[Field.L4PROTO]) == (Direction.INGRESS, 6)
    text = str(found)
    assert "expected: drop: ingress_tcp_1/1000_from_203.0.113.0/28_drop of sg-0 (priority 1)" in text
    assert "ruleset:  accept (counted as rule.sg-0." in text
    assert "chains:   ingress > ingress-gate > eni-ingress" in text


def test_who_needs_a_proof_gets_an_error_that_is_a_bug_of_ours() -> None:
    with pytest.raises(ProofError, match="the compiled ruleset is wrong, and was refused") as caught:
        require_proof(specification(), without_leaf(compiled()))
    assert "packet:   ingress at eth0: protocol tcp from 203.0.113." in caught.value.difference
    assert isinstance(caught.value, InternalError)
    assert require_proof(specification(), compiled()).holds


def test_what_is_proven_and_stays_is_not_proven_again() -> None:
    first = first_proof()
    again = prove(specification(), compiled(), first.proven)
    assert again.holds
    assert (first.profiles, again.profiles, again.cells) == (2, 0, 0)
    assert again.proven is not None
    assert first.proven is not None
    assert (again.proven.gates, again.proven.profiles) == (first.proven.gates, first.proven.profiles)


def test_a_changed_profile_is_proven_again_and_no_other() -> None:
    known = first_proof().proven
    state = specification().state
    group, other = state.security_groups
    group = replace(group, rules=(*group.rules, make_rule("ingress gre from 192.0.2.0/24")))
    wanted = replace(specification(), state=replace(state, security_groups=(group, other)))
    table = compile_policy(resolve(wanted.state, wanted.interfaces, DEFAULTS), DEFAULTS)
    found = prove(wanted, table, known)
    assert (found.holds, found.profiles) == (True, 1)
    assert not prove(wanted, compiled(), known).holds, "the state has changed, and the table has not"


@pytest.mark.parametrize("chain", ["eni-egress.eth0", "egress-entry", "ingress-refuse", "profile-ingress.sg-0"])
def test_a_wrong_table_is_refused_whatever_was_proven_before(chain: str) -> None:
    known = first_proof().proven
    assert not prove(specification(), with_chain(compiled(), chain, lambda rules: rules[1:]), known).holds


def test_a_wrong_leaf_is_refused_whatever_was_proven_before() -> None:
    assert not prove(specification(), without_leaf(compiled()), first_proof().proven).holds


@pytest.mark.parametrize("internal", [(), ("docker0",), ("veth*",)], ids=["none", "one", "many"])
def test_interfaces_of_the_instance_itself_pass(internal: tuple[str, ...]) -> None:
    assert prove(specification(internal=internal), compiled(internal=internal)).holds
    other = prove(specification(internal=(*internal, "br0")), compiled(internal=internal)).counterexample
    assert other is not None
    assert "at br0" in str(other)
    assert "accept, as the instance's own business" in str(other)


def test_an_interface_that_no_eni_has_may_not_be_judged() -> None:
    """An element too many in the dispatch map."""
    table, name = compiled(), dispatch_name(Direction.INGRESS)
    entry = table.map[name]
    more = replace(entry, elements=(*entry.elements, ("eth9", entry.elements[0][1])))
    wrong = replace(table, maps=tuple(more if other is entry else other for other in table.maps))
    found = prove(specification(), wrong).counterexample
    assert found is not None
    assert found.fields[Field.IIFNAME] == "eth9"


def test_what_happens_while_an_eni_is_adopted_is_proven_though_no_element_is_there() -> None:
    def drop_all(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        return rules[1:]

    found = prove(specification(), with_chain(compiled(), MIDSTREAM, drop_all)).counterexample
    assert found is not None
    assert found.is_adopting
    assert "when:     its ENI is being adopted" in str(found)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda rules: (*rules[:-1], Rule((goto("egress"),))), "chains lead in a cycle"),
        (lambda rules: (*rules[:-1], Rule((goto("nowhere"),))), "there is no chain nowhere"),
    ],
    ids=["circle", "no-chain"],
)
def test_a_table_that_the_kernel_would_refuse_is_refused(
    change: Callable[[tuple[Rule, ...]], tuple[Rule, ...]], says: str
) -> None:
    proof = prove(specification(), with_chain(compiled(), "egress-entry", change))
    assert not proof.holds
    assert says in proof.problem
    assert says in str(proof)


def test_base_chains_stand_where_they_must() -> None:
    table = compiled()
    base = table.chain["ingress"]
    assert base.hook is not None
    moved = replace(base, hook=replace(base.hook, priority=-300))
    wrong = replace(table, chains=tuple(moved if other is base else other for other in table.chains))
    assert "base chains stand at" in prove(specification(), wrong).problem


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (Match(Field.IP_FRAGMENT, (Range.of(0),)), "reads ip_fragment"),
        (Count("no-such-counter"), "no counter no-such-counter"),
        (Log("ingress.always", 1, 1), "no counter right before it"),
        (VerdictMap(Field.L4PROTO, name="no-such-map"), "no map no-such-map"),
        (Match(Field.TH_DPORT, (Range.of(53),)), "reads th_dport"),
        (Match(Field.CT_ORIGINAL_DPORT, (Range.of(53),)), "a port of a packet without ports"),
        (Match(Field.CT_PROTOCOL, (Range(9, 6),)), "out of order"),
        (VerdictMap(Field.CT_PROTOCOL, ((Range(6, 9), DROP), (Range(7, 7), DROP))), "out of order"),
    ],
    ids=["field", "counter", "log", "map", "header", "portless", "backwards", "overlap"],
)
def test_what_the_proof_does_not_know_is_refused(statement: Match | Count | Log | VerdictMap, says: str) -> None:
    def first(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        return (Rule((statement, DROP) if not isinstance(statement, VerdictMap) else (statement,)), *rules)

    found = prove(specification(), with_chain(compiled(), "profile-ingress.sg-0", first)).counterexample
    assert found is not None
    assert says in found.problem
    assert "problem:  chain profile-ingress.sg-0" in str(found)


INVALID = Count("ingress.invalid")


@pytest.mark.parametrize(
    "statements",
    [(INVALID, Log("ingress.spoofed", 1, 1)), (INVALID, Log(INVALID.counter, 1, 1), DROP)],
    ids=["another-name", "not-the-end"],
)
def test_a_log_names_the_counter_before_it_and_decides_nothing(statements: tuple[Count | Log | Verdict, ...]) -> None:
    wrong = with_chain(compiled(), "ingress-drop.invalid", lambda rules: (Rule(statements), *rules[1:]))
    found = prove(specification(), wrong).counterexample
    assert found is not None
    assert "after ingress.invalid" in found.problem


def test_a_packet_behind_an_authentication_header_marks_no_session() -> None:
    """Else a rule that lets protocol 51 pass would open every port."""

    found = prove(specification(), with_chain(compiled(), "ingress-refuse", without(Field.L4PROTO, 51))).counterexample
    assert found is not None
    assert found.fields[Field.L4PROTO] == 51
    assert found.chain == "ingress-refuse"


def test_an_icmp_error_marks_no_session() -> None:
    """That its own addresses are right says nothing of its session's: a spoofed one would pass from then on."""
    of_errors = "ct state related meta l4proto 1 "
    assert any(rule_text(one).startswith(of_errors) for one in compiled().chain["egress-accept.egress"].rules)

    def without_errors(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        return tuple(one for one in rules if not rule_text(one).startswith(of_errors))

    wrong = with_chain(compiled(), "egress-accept.egress", without_errors)
    found = prove(specification(), wrong).counterexample
    assert found is not None
    assert found.fields[Field.CT_STATE] == CtState.RELATED
    assert (found.fields[Field.L4PROTO], found.chain) == (1, "egress-accept.egress")


def test_an_icmp_error_unmarks_no_session() -> None:
    found = prove(specification(), with_chain(compiled(), "ingress-refuse", without(Field.L4PROTO, 1))).counterexample
    assert found is not None
    assert (found.fields[Field.CT_STATE], found.fields[Field.L4PROTO]) == (CtState.RELATED, 1)
    assert found.chain == "ingress-refuse"


def without(asked: Field, value: int) -> Callable[[tuple[Rule, ...]], tuple[Rule, ...]]:
    """Rules without their questions whether a field has another value."""
    gone = Match(asked, (Range.of(value),), negate=True)
    return lambda rules: tuple(Rule(tuple(s for s in rule.statements if s != gone)) for rule in rules)


def test_a_member_that_is_missing_is_found() -> None:
    state = make_state(
        [make_group("sg-0", ["ingress all from sg-1"]), make_group("sg-1")],
        [make_eni("eni-a", "10.0.0.1", "sg-0"), make_eni("eni-b", "10.0.0.9 10.0.0.10", "sg-1")],
    )
    table = compile_policy(resolve(state, {"eni-a": "eth0"}, DEFAULTS), DEFAULTS)
    missing: Key = 0x0A00000A
    maps = tuple(replace(m, elements=tuple(e for e in m.elements if e[0] != missing)) for m in table.maps)
    found = prove(Specification(state, {"eni-a": "eth0"}, DEFAULTS), replace(table, maps=maps)).counterexample
    assert found is not None
    assert "10.0.0.10" in str(found)
    assert "expected: accept: ingress_all_from_sg-1 of sg-0" in str(found)
