"""Where only some packets of a profile are walked again, the result is the one of a walk of all of them: for right
tables, for wrong compiles after a change of the state, and for chains that change without one."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from sgdataplane.enforce import Proven, build
from sgdataplane.model.options import Placement
from sgdataplane.nft.ir import Table
from sgdataplane.proof.checks import kindcheck
from sgdataplane.proof.checks.profile import ProvenKind
from sgdataplane.proof.prove import ProvenTable, prove
from sgdataplane.proof.reuse.partial import PartialWalk
from tests.property.test_proof_before import desired_of, known_of, specification_of
from tests.support.inputs import hardpolicies
from tests.support.inputs.edits import edited
from tests.support.inputs.mutate import mutants

MUTANTS, TRIED = 5, 400
# Policies, how many rules they have, how many changes are made, and how many wrong chains are tried at each.
# Each walk of a mixture takes ten times as long as one of a typical policy.
CHANGES = [
    ("typical", 20, 2, 3),
    ("mixture", 40, 1, 2),
    pytest.param("typical", 60, 9, MUTANTS, marks=pytest.mark.slow),
    pytest.param("mixture", 60, 3, MUTANTS, marks=pytest.mark.slow),
]


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> Counter[bool]:
    """How often walks of a part showed that all is right, and how often they didn't."""
    found: Counter[bool] = Counter()

    class Counted(PartialWalk):
        def shows_all_right(self, entries: object) -> bool:
            result = super().shows_all_right(entries)  # type: ignore[arg-type]
            found[result] += 1
            return result

    monkeypatch.setattr(kindcheck, "PartialWalk", Counted)
    return found


def kinds_of(proven: ProvenTable) -> dict[object, ProvenKind]:
    return {(key, kind): known for key, p in proven.profiles.items() for kind, known in p.kinds.items()}


def wrong_chains(made: Proven, chance: random.Random, count: int) -> Iterator[tuple[Table, str]]:
    """One of the chains changed that the walks of addresses read."""
    names = set().union(*(kind.addresses.names for kind in kinds_of(known_of(made)).values()))
    found = [mutant for mutant in mutants(made.table, chance, TRIED) if mutant.touched in names]
    for mutant in found[:count]:
        yield mutant.table, mutant.what


def check(made: Proven, table: Table, known: ProvenTable, what: str) -> bool:
    """Whether the table is right; the same from nothing. If it is, all leaves are known that packets come to."""
    specification = specification_of(made.desired)
    found, anew = prove(specification, table, known), prove(specification, table)
    assert found.holds == anew.holds, what
    if found.proven is not None and anew.proven is not None:
        for key, whole in kinds_of(anew.proven).items():
            part = kinds_of(found.proven)[key]
            assert set(whole.addresses.leaves.values()) <= set(part.addresses.leaves.values()), what
    return found.holds


@pytest.mark.parametrize(("policy", "rules", "changes", "count"), CHANGES)
def test_part_and_whole_agree(policy: str, rules: int, changes: int, count: int, walked: Counter[bool]) -> None:
    chance = random.Random(policy)
    last = build(desired_of(getattr(hardpolicies, policy)(0, rules), Placement.INSTANCE))
    verdicts: Counter[bool] = Counter()
    for number in range(changes):
        made = build(desired_of(edited(last.desired.state, chance), Placement.INSTANCE), previous=last)
        assert check(made, made.table, known_of(last), f"{policy}, step {number}")
        for known in (known_of(last), known_of(made)):
            for table, what in wrong_chains(made, chance, count):
                verdicts[check(made, table, known, f"{policy}, step {number}: {what}")] += 1
        last = made
    print(dict(verdicts), dict(walked))
    assert verdicts[False] > verdicts[True]
    assert walked[True], "no walk of a part showed anything"
    assert walked[False], "no walk of a part found a difference"
