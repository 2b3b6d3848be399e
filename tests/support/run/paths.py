"""The paths through the tables that a run of the suite compiles: counted as they are made, and held to a bound.

Owns the bound, and the one place that they all pass. Must not know what a test compiles for.
"""

from __future__ import annotations

from functools import wraps

from sgdataplane.compiler import compile as compiler
from sgdataplane.compiler.memo import Memo
from sgdataplane.contract.marks import FIRST_EPOCH
from sgdataplane.enforce import desired
from sgdataplane.model.options import Options
from sgdataplane.nft.ir import Table
from sgdataplane.nft.validation import Visits
from sgdataplane.policy.resolve import HostPolicy

MAX_CHAINS = 1_000  # to count larger ones takes a third of their compile; tests/property/test_paths.py has some
MAX_TIMES = 6  # of what a kernel with memory visits; today at most twice as many


def check_paths(table: Table) -> None:
    """AssertionError if a kernel without memory would walk more than is bearable."""
    if len(table.chains) > MAX_CHAINS:
        return
    visits = Visits.of(table)
    most = visits.remembered * MAX_TIMES
    assert visits.every_path <= most, f"{visits.every_path:,} paths, {most:,} were expected at most"


def watch() -> None:
    """From now on every table is looked at. Before tests are imported, as they take the compiler by its name."""
    compile_policy = compiler.compile_policy
    if hasattr(compile_policy, "__wrapped__"):
        return

    @wraps(compile_policy)
    def compile_and_check(
        policy: HostPolicy, options: Options, epoch: int = FIRST_EPOCH, secret: int = 0, memo: Memo | None = None
    ) -> Table:
        table = compile_policy(policy, options, epoch, secret, memo)
        check_paths(table)
        return table

    for module in (compiler, desired):
        setattr(module, "compile_policy", compile_and_check)  # noqa: B010
