"""What a proof takes over from the one before: claims where the rules are the same, and how outcomes are found."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from sgdataplane.model.options import DEFAULTS
from sgdataplane.model.semantics import order_candidates
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Direction, Family
from sgdataplane.nft.ir import Count, Range, goto
from sgdataplane.proof.reuse.shared import ByCounter
from sgdataplane.proof.spec import order
from sgdataplane.proof.spec.axes import MalformedError
from sgdataplane.proof.spec.claims import ClaimMemo, EarlierClaims, Said
from sgdataplane.proof.spec.order import BoxOrder
from sgdataplane.proof.spec.outcomes import Outcome
from sgdataplane.proof.walk.step import near
from tests.support.inputs.hardpolicies import POLICIES, targets

INGRESS, OPTIONS = Direction.INGRESS, DEFAULTS


def _state(rules: int = 30) -> CloudState:
    return POLICIES["mixture"](1, rules)


def _turned(state: CloudState) -> CloudState:
    """The same with one rule less, another one weaker, and all groups as new objects."""
    first, *others = state.security_groups
    rules = (replace(first.rules[0], priority=90), *first.rules[2:])
    groups = (replace(first, rules=rules), *(replace(group, description="") for group in others))
    return replace(state, security_groups=groups)


def _next(memo: ClaimMemo) -> ClaimMemo:
    return ClaimMemo(memo.rules, memo.found_groups, memo.found_others)


def test_candidates_are_those_of_decide_whatever_was_remembered() -> None:
    memo, eni = ClaimMemo(), targets(_state())[0]
    for state in (_state(), _turned(_state()), _state()):
        for direction in Direction:
            expected = list(order_candidates(state, eni, direction, OPTIONS))
            found = memo.candidates(state, eni, direction, OPTIONS)
            assert [c.decision for c in found] == [c.decision for c in expected]
            assert [c.rule for c in found] == [c.rule for c in expected]
        memo = _next(memo)


def test_a_rule_that_is_the_same_keeps_its_candidate() -> None:
    memo, state, eni = ClaimMemo(), _state(), targets(_state())[0]
    before = memo.candidates(state, eni, INGRESS, OPTIONS)
    after = _next(memo).candidates(_turned(state), eni, INGRESS, OPTIONS)
    kept = set(map(id, before)) & set(map(id, after))
    assert len(kept) == len(after) - sum(entry.decision not in {b.decision for b in before} for entry in after)
    assert len(kept) < len(before)


def test_a_group_that_is_another_one_has_new_candidates() -> None:
    memo, state, eni = ClaimMemo(), _state(), targets(_state())[0]
    before = memo.candidates(state, eni, INGRESS, OPTIONS)
    moved = tuple(replace(group, vpc_id="vpc-other") for group in state.security_groups)
    after = _next(memo).candidates(replace(state, security_groups=moved), eni, INGRESS, OPTIONS)
    of_groups = [entry for entry in after if entry.group is not None]
    assert of_groups
    assert not set(map(id, before)) & set(map(id, of_groups))


@pytest.mark.parametrize("family", Family)
def test_what_candidates_say_is_the_same_with_and_without_memory(family: Family) -> None:
    memo, eni = ClaimMemo(), targets(_state())[0]
    before: EarlierClaims = ((), ())
    for state in (_state(), _turned(_state()), _state()):
        candidates = memo.candidates(state, eni, INGRESS, OPTIONS)
        found = memo.claims_of(state, candidates, family, before)
        alone = ClaimMemo().claims_of(state, candidates, family)
        assert list(map(_shown, found)) == list(map(_shown, alone))
        before, memo = (candidates, found), _next(memo)


def _shown(said: Said) -> object:
    return said.outcome, said.claim, said.is_on_group, said.is_fixed


def _outcome(counter: str, stop: str = "accept") -> Outcome:
    return (Count(counter),), stop


def test_an_outcome_is_found_by_its_counter_only_if_all_of_it_is_the_same() -> None:
    places = ByCounter([_outcome("one"), _outcome("two")])
    assert places.is_clear
    assert dict(places) == {_outcome("one"): 0, _outcome("two"): 1}
    assert _outcome("two", "refuse") not in places
    assert ((), "accept") not in places
    assert not ByCounter([_outcome("one"), _outcome("one", "refuse")]).is_clear


def test_entries_far_from_what_matters_are_left_out_but_must_be_in_order() -> None:
    entries = [(Range(1, 2), goto("low")), (Range(5, 5), goto("here")), (Range(9, 9), goto("high"))]
    assert list(near(entries, None)) == entries
    assert [verdict.chain for _, verdict in near(entries, (2, 5))] == ["low", "here"]
    with pytest.raises(MalformedError):
        near([*entries, (Range(8, 8), goto("again"))], (5, 5))


def test_what_is_forgotten_of_an_axis_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(1)
    full, most = (0xFF, 0xFF), 2
    cells = [(chance.randrange(1, 256), chance.randrange(1, 256)) for _ in range(60)]
    known, forgetful = (BoxOrder(full, [*cells[:20], full], range(21)) for _ in range(2))
    expected = [known.relevant(cell, known.all) for cell in cells]
    monkeypatch.setattr(order, "MAX_KNOWN", most)
    assert [forgetful.relevant(cell, forgetful.all) for cell in cells] == expected
    assert len(set(expected)) > most
    assert [forgetful.relevant(cell, forgetful.all) for cell in cells] == expected
    assert all(len(dimension._known) <= most for _, dimension in forgetful._dimensions)
