"""What decision diagrams say of a table is what the interpreter does: at ends of their intervals, drawn at random.

The exhaustive comparison of tables (tests/support/models/exhaust.py) is as good as these diagrams.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from sgdataplane.contract.fields import Hook
from sgdataplane.nft.ir import Chain, Table, goto, rule
from tests.property.test_proof_mutants import CASES, Case, audited, router, three_interfaces
from tests.property.test_proof_walk import random_table
from tests.support.models.exhaust import Comparison

HOOKS = {"ingress": "prerouting", "egress": "postrouting"}
SHARDS, TABLES, POINTS = 4, 100, 40
QUICK_SHARDS = 1
LARGE = (three_interfaces, router, audited)  # their diagrams are, too
OF_COMPILED = 1000


def at_both_hooks(made: Table) -> Table:
    """Its first chain, for packets of both hooks."""
    chains = [replace(chain, hook=None) for chain in made.chains]
    hooks = [Chain(name, (rule(goto(chains[0].name)),), Hook(kernel, 0)) for name, kernel in HOOKS.items()]
    return replace(made, chains=(*hooks, *chains))


def checked(table: Table, chance: random.Random, count: int) -> Counter[object]:
    """What becomes of packets that were drawn. AssertionError if diagram and interpreter disagree about any."""
    compared = Comparison(table)
    points = (compared.diagrams.drawn(compared.meaning, chance) for _ in range(count))
    return Counter(compared.checked(table, compared.meaning, point) for point in points)


@pytest.mark.parametrize(
    "shard", [pytest.param(shard, marks=[pytest.mark.slow] if shard >= QUICK_SHARDS else []) for shard in range(SHARDS)]
)
def test_diagrams_of_random_tables_equal_the_interpreter(shard: int) -> None:
    chance = random.Random(shard)
    found = [checked(at_both_hooks(random_table(chance)), chance, POINTS) for _ in range(TABLES)]
    several = sum(len(each) > 2 for each in found)
    print(f"seed {shard}: {several} tables with more than two outcomes")
    assert several > TABLES // 4, "hardly any table does several things: this proves nothing"


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.__name__, marks=[pytest.mark.slow] if case in LARGE else []) for case in CASES]
)
def test_diagrams_of_compiled_tables_equal_the_interpreter(case: Callable[[], Case]) -> None:
    found = checked(case().table, random.Random(0), OF_COMPILED)
    print(f"{case.__name__}: {len(found)} outcomes")
    assert len(found) > 20, "packets end at few places: this proves nothing"
