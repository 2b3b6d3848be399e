"""Tables on which two doors to the kernel are compared: of all golden states, and of states at random.

Owns which these are, with their fences. Must not know how they are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from sgdataplane.compiler.arp import compile_arp
from sgdataplane.compiler.compile import with_epoch
from sgdataplane.enforce import Desired
from sgdataplane.enforce.fence import fence_of
from sgdataplane.model.options import Options, Placement
from sgdataplane.model.state import CloudState
from sgdataplane.nft.ir import Table
from sgdataplane.statefile import load
from tests.support.inputs import gen
from tests.support.inputs.building import table_of

GOLDEN = sorted((Path(__file__).parents[2] / "golden" / "cases").iterdir())
Both = Callable[[Table], None]  # fails unless the table is the same by both doors


def check_golden(both: Both, case: Path) -> None:
    state = load(next(case.glob("state.*"))).state
    for eni in state.network_interfaces:
        desired = Desired(state, {eni.network_interface_id: "eth0"})
        both(with_epoch(table_of(desired), 3, 7))
        both(fence_of(desired, ("eth0",), 7))


def check_generated(both: Both, where: Placement, number: int, count: int) -> None:
    """So many states, drawn from the seed `number`; each one's first VPC."""
    uplinks = ("up*",) if where is Placement.HOST else ()

    @seed(number)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(gen.states(), gen.options(), st.integers(1, 9))
    def is_same(state: CloudState, options: Options, epoch: int) -> None:
        vpc_id = state.network_interfaces[0].vpc_id
        enis = [eni.network_interface_id for eni in state.network_interfaces if eni.vpc_id == vpc_id]
        interfaces = {eni_id: f"eth{number}" for number, eni_id in enumerate(enis)}
        desired = Desired(state, interfaces, options, where, uplinks)
        both(with_epoch(table_of(desired), epoch, 5))
        there = tuple(sorted({"eth0", "eth1"} & set(interfaces.values())))
        both(fence_of(desired, there, 5))
        if where.is_outside:
            both(compile_arp(5))

    is_same()
