"""Profiles that another namespace's table has, too, aren't proven again; nothing else is taken from it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.enforce import Desired, build
from sgdataplane.errors import ProofError
from sgdataplane.model.options import DEFAULTS
from sgdataplane.model.state import CloudState
from sgdataplane.nft.ir import Table
from sgdataplane.proof.prove import Proof, ProvenTable, prove
from sgdataplane.proof.specification import Specification
from tests.support.builders import make_eni, make_group, make_state
from tests.support.building import table_of

ENIS = [make_eni(f"eni-{n}", f"10.0.0.{n + 1}", group) for n, group in enumerate(["sg-0", "sg-0", "sg-1"])]


def state_of(*rules: str) -> CloudState:
    return make_state([make_group("sg-0", ["ingress tcp 22/22 from sg-1", *rules]), make_group("sg-1")], ENIS)


OLD, NEW = state_of("ingress tcp 1/1000 from 192.0.2.0/24 drop"), state_of("ingress tcp 1/1001 from 192.0.2.0/24 drop")


def compiled(state: CloudState, eni: str) -> Table:
    return table_of(Desired(replace(state), {eni: "eth0"}))


def proven(state: CloudState, eni: str, known: ProvenTable | None = None, alike: ProvenTable | None = None) -> Proof:
    return prove(Specification(state, {eni: "eth0"}, DEFAULTS), compiled(state, eni), known, alike)


def known_of(proof: Proof) -> ProvenTable:
    assert proof.holds, str(proof)
    assert proof.known is not None
    return proof.known


def test_what_changed_in_a_profile_is_proven_once_for_all_namespaces_that_have_it() -> None:
    before = {eni: known_of(proven(OLD, eni)) for eni in ("eni-0", "eni-1")}
    first = proven(NEW, "eni-0", before["eni-0"])
    assert first.profiles == 1
    second = proven(NEW, "eni-1", before["eni-1"], known_of(first))
    assert second.holds
    assert (second.profiles, second.cells) == (0, 0)
    again = proven(NEW, "eni-1", known_of(second))
    assert (again.holds, again.cells) == (True, 0)
    back = proven(OLD, "eni-1", known_of(second))
    assert back.holds
    assert back.profiles == 1


def test_another_profile_is_proven_all_the_same() -> None:
    other = known_of(proven(NEW, "eni-0"))
    assert proven(NEW, "eni-2", None, other).profiles == 1


@pytest.mark.parametrize("alike_of", [OLD, NEW])
@pytest.mark.parametrize("is_known", [False, True])
def test_a_wrong_table_is_refused_whatever_is_alike(alike_of: CloudState, is_known: bool) -> None:
    alike, known = known_of(proven(alike_of, "eni-0")), known_of(proven(OLD, "eni-1")) if is_known else None
    assert prove(Specification(NEW, {"eni-1": "eth0"}, DEFAULTS), compiled(NEW, "eni-1"), known, alike).holds
    for table in (compiled(OLD, "eni-1"), compiled(NEW, "eni-0"), compiled(NEW, "eni-2")):
        assert not prove(Specification(NEW, {"eni-1": "eth0"}, DEFAULTS), table, known, alike).holds


def test_what_stands_elsewhere_with_the_same_groups_is_compiled_and_proven_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = Desired(NEW, {"eni-0": "eth0"}), Desired(NEW, {"eni-1": "eth0"})
    like = build(first)
    found = build(second, like=like)
    assert found.table == compiled(NEW, "eni-1")
    assert found.proof is not None
    assert found.proof.profiles == 0
    wrong = compiled(OLD, "eni-1")
    monkeypatch.setattr("sgdataplane.enforce.proven.compile_policy", lambda *_, **__: wrong)
    with pytest.raises(ProofError):
        build(second, like=like)
