"""What the next proof takes from an earlier one, and from the proof of another table; and what it must not take."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.enforce import Desired, build
from sgdataplane.errors import ProofError
from sgdataplane.model.options import DEFAULTS, Placement
from sgdataplane.model.state import CloudState, Eni
from sgdataplane.net.values import Address, Verdict
from sgdataplane.nft.ir import Chain, Table
from sgdataplane.policy.resolve import resolve
from sgdataplane.proof.prove import Proof, ProvenTable, prove
from sgdataplane.proof.spec.specification import Specification
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.building import table_of
from tests.support.run.amounts import few_or_many

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


def proven_by(proof: Proof) -> ProvenTable:
    assert proof.holds, str(proof)
    assert proof.proven is not None
    return proof.proven


@cache
def known_of_six() -> ProvenTable:
    return proven_by(prove(*host(ENIS, [MEMBER])))


def test_interface_that_comes_is_proven_and_no_other() -> None:
    before = proven_by(prove(*host(ENIS[:5], [MEMBER])))
    after = proven_by(prove(*host(ENIS, [MEMBER]), before))
    anew = {name for name, gate in after.gates.items() if before.gates.get(name) is not gate}
    assert anew == {"veth-5"}
    back = proven_by(prove(*host(ENIS[:5], [MEMBER]), after))
    assert {name for name, gate in back.gates.items() if after.gates.get(name) is not gate} == set()


@pytest.mark.parametrize("where", Placement)
def test_step_that_went_before_its_candidate_is_in_no_way(where: Placement) -> None:
    """Members of a group have no delegated prefix any more; later the group's members aren't let in any more."""

    def desired(delegated: str, inner: Verdict) -> Desired:
        enis = [
            make_eni("eni-own", "10.0.0.1", "sg-a sg-b"),
            make_eni("eni-a", "10.0.1.1 10.0.2.0/28", "sg-a"),
            make_eni("eni-b", f"10.0.1.2 {delegated}", "sg-b"),
        ]
        return Desired(
            make_state([make_group("sg-a"), make_group("sg-b", inner=inner)], enis), {"eni-own": "v1"}, placement=where
        )

    made = build(desired("10.0.3.0/28", Verdict.ACCEPT))
    made = build(desired("", Verdict.ACCEPT), previous=made)
    made = build(desired("", Verdict.DROP), previous=made)
    assert made.table == build(made.desired).table


def test_interface_whose_eni_has_another_address_is_proven_anew() -> None:
    wanted, table = host(ENIS, [MEMBER])
    before = known_of_six()
    moved = replace(ENIS[2], private_ip_addresses=(Address.parse("10.0.7.7"),))
    state = replace(wanted.state, network_interfaces=(*ENIS[:2], moved, *ENIS[3:], MEMBER))
    found = prove(replace(wanted, state=state), table, before)
    assert not found.holds
    assert found.counterexample is not None
    assert "at veth-2" in str(found.counterexample)


def test_member_that_joins_is_looked_up_and_nothing_else_is_compared() -> None:
    more = make_eni("eni-n", "10.0.9.2", "sg-1")
    wanted, table = host(ENIS, [MEMBER, more])
    before = known_of_six()
    found = prove(wanted, table, before)
    assert (found.holds, found.cells, found.profiles) == (True, 0, 0)
    assert not prove(wanted, host(ENIS, [MEMBER])[1], before).holds, "the member isn't in the table"


def test_map_whose_elements_go_by_themselves_now_is_another_one() -> None:
    wanted, table = host(ENIS, [MEMBER])
    before = known_of_six()
    maps = tuple(replace(entry, lifetime=1000) if entry.name == "egress-enis" else entry for entry in table.maps)
    for start in (None, before):
        assert not prove(wanted, replace(table, maps=maps), start).holds


@few_or_many("step", 3, 1)
def test_counter_that_is_gone_is_missed(step: int) -> None:
    wanted, table = host(ENIS, [MEMBER])
    for counter in table.counters[::step]:
        fewer = replace(table, counters=tuple(other for other in table.counters if other is not counter))
        assert prove(wanted, fewer, known_of_six()).holds == prove(wanted, fewer).holds, counter.name


def test_chain_that_nothing_led_to_in_between_is_not_taken_for_what_it_was() -> None:
    """It is left over when its rule goes, is made another one, and the rule comes back."""
    wanted, table = host(ENIS, [MEMBER])
    first = known_of_six()
    fewer = replace(GROUPS[0], rules=GROUPS[0].rules[1:])
    other = replace(wanted, state=replace(wanted.state, security_groups=(fewer, GROUPS[1])))
    policy = replace(resolve(other.state, other.interfaces, DEFAULTS), placement=Placement.HOST)
    between = replace(compile_policy(policy, DEFAULTS), counters=table.counters)
    left = [chain for chain in table.chains if chain.name not in between.chain]
    tried = 0
    for chain in left:
        if set(chain.ways.chains) <= between.chain.keys():
            wrong = replace(chain, rules=chain.rules[1:])
            second = proven_by(prove(other, with_chain(between, chain), first))
            third = proven_by(prove(other, with_chain(between, wrong), second))
            last = with_chain(table, wrong)
            holds = prove(wanted, last).holds
            assert prove(wanted, last, third).holds == holds, chain.name
            tried += not holds
    assert tried


def with_chain(table: Table, chain: Chain) -> Table:
    """With one more, or another one of that name."""
    return replace(table, chains=tuple(sorted((table.chain | {chain.name: chain}).values(), key=lambda c: c.name)))


THREE = [make_eni(f"eni-{n}", f"10.0.0.{n + 1}", group) for n, group in enumerate(["sg-0", "sg-0", "sg-1"])]


def state_of(*rules: str) -> CloudState:
    return make_state([make_group("sg-0", ["ingress tcp 22/22 from sg-1", *rules]), make_group("sg-1")], THREE)


OLD, NEW = state_of("ingress tcp 1/1000 from 192.0.2.0/24 drop"), state_of("ingress tcp 1/1001 from 192.0.2.0/24 drop")


@cache
def table_for(state: CloudState, eni: str) -> Table:
    return table_of(Desired(replace(state), {eni: "eth0"}))


def proof_of(state: CloudState, eni: str, before: ProvenTable | None = None, like: ProvenTable | None = None) -> Proof:
    return prove(Specification(state, {eni: "eth0"}, DEFAULTS), table_for(state, eni), before, like)


def test_what_changed_in_a_profile_is_proven_once_for_all_namespaces_that_have_it() -> None:
    before = {eni: proven_by(proof_of(OLD, eni)) for eni in ("eni-0", "eni-1")}
    first = proof_of(NEW, "eni-0", before["eni-0"])
    assert first.profiles == 1
    second = proof_of(NEW, "eni-1", before["eni-1"], proven_by(first))
    assert second.holds
    assert (second.profiles, second.cells) == (0, 0)
    again = proof_of(NEW, "eni-1", proven_by(second))
    assert (again.holds, again.cells) == (True, 0)
    back = proof_of(OLD, "eni-1", proven_by(second))
    assert back.holds
    assert back.profiles == 1


def test_another_profile_is_proven_all_the_same() -> None:
    other = proven_by(proof_of(NEW, "eni-0"))
    assert proof_of(NEW, "eni-2", None, other).profiles == 1


@pytest.mark.parametrize("like_of", [OLD, NEW])
@pytest.mark.parametrize("has_before", [False, True])
def test_a_wrong_table_is_refused_whatever_is_alike(like_of: CloudState, has_before: bool) -> None:
    like, before = proven_by(proof_of(like_of, "eni-0")), proven_by(proof_of(OLD, "eni-1")) if has_before else None
    assert prove(Specification(NEW, {"eni-1": "eth0"}, DEFAULTS), table_for(NEW, "eni-1"), before, like).holds
    for table in (table_for(OLD, "eni-1"), table_for(NEW, "eni-0"), table_for(NEW, "eni-2")):
        assert not prove(Specification(NEW, {"eni-1": "eth0"}, DEFAULTS), table, before, like).holds


def test_what_stands_elsewhere_with_the_same_groups_is_compiled_and_proven_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = Desired(NEW, {"eni-0": "eth0"}), Desired(NEW, {"eni-1": "eth0"})
    like = build(first)
    found = build(second, similar=like)
    assert found.table == table_for(NEW, "eni-1")
    assert found.proof is not None
    assert found.proof.profiles == 0
    wrong = table_for(OLD, "eni-1")
    monkeypatch.setattr("sgdataplane.enforce.proven.compile_policy", lambda *_, **__: wrong)
    with pytest.raises(ProofError):
        build(second, similar=like)
