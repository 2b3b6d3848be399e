"""Claims keep their proof where others come and go."""

from __future__ import annotations

from dataclasses import replace

from sgdataplane.model.options import DEFAULTS
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Direction, Family
from sgdataplane.proof.claims import Claim, claims
from sgdataplane.proof.profile import Renumbering
from tests.support.builders import make_eni, make_group, make_rule, make_state

ENIS = [make_eni("eni-0", "10.0.0.1 2001:db8::1", "sg-0")]


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
