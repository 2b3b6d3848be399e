"""Far addresses: gaps between members, numbers of group sets, and pages that stay."""

from __future__ import annotations

from dataclasses import replace

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.model.options import DEFAULTS
from sgdataplane.net.values import Address, Family
from sgdataplane.nft.ir import Key, Map
from sgdataplane.policy.resolve import resolve
from sgdataplane.proof.prove import Proof, ProvenTable, prove
from sgdataplane.proof.spec.specification import Specification
from sgdataplane.proof.walk.far import NO_MEMBER, GroupSetAtoms, Kinships
from sgdataplane.proof.walk.lookups import Lookup
from tests.support.inputs.builders import make_eni, make_group, make_state

GROUPS = [
    make_group("sg-0", ["ingress tcp 443/443 from sg-1", "ingress tcp 1/1000 from 203.0.113.0/28 drop"]),
    make_group("sg-1", ["egress all to 192.0.2.0/24 drop"]),
]
ENIS = [make_eni(f"eni-{number}", f"10.0.0.{number + 1} 2001:db8::{number + 1}", "sg-0") for number in range(6)]
MEMBER = make_eni("eni-m", "10.0.9.1", "sg-1")


def proven_by(proof: Proof) -> ProvenTable:
    assert proof.holds, str(proof)
    assert proof.proven is not None
    return proof.proven


def test_gap_in_a_block_that_is_nearly_full() -> None:
    """Only the address in it is told from the members around it."""
    members = [make_eni(f"eni-{n}", f"203.0.113.{n}", "sg-1") for n in (0, 1, 2, 4, 5, 6, 7)]
    group = make_group("sg-0", ["ingress tcp 80/80 from sg-1", "ingress tcp 80/80 from 203.0.113.0/29 drop"])
    state = make_state([group, make_group("sg-1")], [make_eni("eni-own", "10.0.0.1", "sg-0"), *members])
    interfaces = {"eni-own": "eth0"}
    table = compile_policy(resolve(state, interfaces, DEFAULTS), DEFAULTS)
    before = proven_by(prove(Specification(state, interfaces, DEFAULTS), table))
    gap: Key = Address.parse("203.0.113.3").value
    maps = tuple(_with(entry, gap) if entry.name == "members-ipv4" else entry for entry in table.maps)
    assert maps != table.maps
    found = prove(Specification(state, interfaces, DEFAULTS), replace(table, maps=maps), before)
    assert not found.holds
    assert "203.0.113.3" in str(found)


def _with(entry: Map, key: Key) -> Map:
    elements = list(entry.elements)
    return replace(entry, elements=tuple(sorted((*elements, (key, elements[0][1])))))


def test_atoms_of_pages_that_stay_are_the_same_objects() -> None:
    state = make_state(GROUPS, [*ENIS, MEMBER])
    before = Kinships.read(state)
    joined = make_eni("eni-z", "10.0.9.9", "sg-1")
    after = Kinships.read(replace(state, network_interfaces=(*ENIS, MEMBER, joined)), before)
    one = GroupSetAtoms.read(before.pages[Family.IPV4], Lookup({}))
    other = GroupSetAtoms.read(after.pages[Family.IPV4], Lookup({}), one)
    kept = [number for number, page in one.pages.items() if other.pages[number] is page]
    assert len(kept) == len(one.pages)
    assert len(other.pages) == len(one.pages) + 1
    assert other.all is one.all, "its kin isn't the first of that sort"
    assert set(one.all) == {NO_MEMBER, (("sg-0",), None), (("sg-1",), None)}


def test_number_that_two_kins_share_is_found() -> None:
    state = make_state(GROUPS, [*ENIS, MEMBER])
    interfaces = {"eni-0": "eth0"}
    table = compile_policy(resolve(state, interfaces, DEFAULTS), DEFAULTS)
    members = dict(table.map["members-ipv4"].elements)
    own, other = ENIS[0].private_ip_addresses[0].value, MEMBER.private_ip_addresses[0].value
    assert members[own] != members[other]
    wrong = replace(table.map["members-ipv4"], elements=tuple(sorted((members | {own: members[other]}).items())))
    maps = tuple(wrong if entry.name == wrong.name else entry for entry in table.maps)
    found = prove(Specification(state, interfaces, DEFAULTS), replace(table, maps=maps))
    assert "10.0.0.1" in str(found)
    assert not found.holds
