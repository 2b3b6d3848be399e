"""Hard policies are proven, too, in about the time that they take to compile.

Small sizes here; the whole quota is slow. Names have sizes and seeds in them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.model.options import DEFAULTS
from sgdataplane.model.state import CloudState
from sgdataplane.nft.ir import Table
from sgdataplane.policy.resolve import interfaces_of, resolve
from sgdataplane.proof.prove import Proof, prove
from sgdataplane.proof.specification import Specification
from tests.support.classbench import classbench
from tests.support.classbench_seeds import SEEDS
from tests.support.hardpolicies import POLICIES, QUOTA, targets

SMALL, TINY = 100, 30
MOST = 2.0  # times the compile's processor time; and 0.1 s, which is what the fixed part and a busy machine take
Make = Callable[[], CloudState]


def small_policies() -> Iterator[tuple[str, Make]]:
    for name, make in POLICIES.items():
        size = TINY if name in ("kinships", "host") else SMALL
        for seed in (0, 1):
            yield f"{name}-{size}-seed{seed}", partial(make, seed, size)
    for kind in SEEDS:
        yield f"{kind}-{SMALL}-seed0", partial(classbench, kind, 0, SMALL)


def whole_policies() -> Iterator[tuple[str, Make]]:
    for name, make in POLICIES.items():
        yield f"{name}-{QUOTA}-seed0", partial(make, 0, QUOTA)
    for kind in SEEDS:
        yield f"{kind}-{QUOTA}-seed0", partial(classbench, kind, 0, QUOTA)


SMALL_POLICIES, WHOLE_POLICIES = dict(small_policies()), dict(whole_policies())


def compiled(specification: Specification) -> Table:
    return compile_policy(resolve(specification.state, specification.interfaces, DEFAULTS), DEFAULTS)


def specification_of(state: CloudState) -> Specification:
    """The first target's namespace."""
    return Specification(state, interfaces_of(state, targets(state)[0]), DEFAULTS)


def proven(specification: Specification, table: Table) -> Proof:
    proof = prove(specification, table)
    assert proof.holds, proof
    assert proof.chains <= len(table.chains)
    return proof


@pytest.mark.parametrize("name", SMALL_POLICIES)
def test_small_policy_is_proven(name: str) -> None:
    specification = specification_of(SMALL_POLICIES[name]())
    proven(specification, compiled(specification))


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE_POLICIES)
def test_whole_policy_is_proven_about_as_fast_as_compiled(name: str) -> None:
    specification = specification_of(WHOLE_POLICIES[name]())
    times = [time.process_time()]
    table = compiled(specification)
    times.append(time.process_time())
    proof = proven(specification, table)
    times.append(time.process_time())
    compiling, proving = times[1] - times[0], times[2] - times[1]
    print(f"{name}: compile {compiling:.2f} s, {proof}")
    assert proving < MOST * compiling + 0.1
