"""A plan's transactions, run in order, with the waiting between them; and tables without what this kernel can't do.

Owns what happens when the kernel refuses one, and how we find out that it can't log. Is given plans and tables. Must
not know what they are for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from sgdataplane.contract.counters import LOG_GROUP
from sgdataplane.contract.tables import TABLE
from sgdataplane.errors import KernelError, PrivilegeError
from sgdataplane.host.nflog import NEEDS
from sgdataplane.nft.counters import Counted
from sgdataplane.nft.delta import Change, Plan, undo
from sgdataplane.nft.ir import Chain, Log, Rule, Table, rule
from sgdataplane.nft.kernel import Kernel
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb


@dataclass(frozen=True, slots=True)
class Ran:
    """`leftover`: what the kernel refused after the policy came into force, or "". `counted`: the last values of the
    counters that were removed, read when no packet could reach them any more."""

    leftover: str
    counted: Mapping[str, Counted]


def run(kernel: Kernel, steps: Plan, *, is_live: bool) -> Ran:
    """Run the changes. A refusal before the policy is in force is raised, and everything is as it was."""
    counted: dict[str, Counted] = {}
    for change in steps.changes:
        try:
            _switch(kernel, change, is_live=is_live)
        except KernelError as error:
            if change is steps.changes[0]:
                raise
            return Ran(error.detail, counted)
        refusal = _sweep(kernel, change, counted)
        if refusal:
            return Ran(refusal, counted)
    return Ran("", counted)


def _switch(kernel: Kernel, change: Change, *, is_live: bool) -> None:
    staged: list[Operation] = []
    try:
        for part in change.stage.parts():
            kernel.run(part)
            staged += part.operations
        if is_live:
            kernel.settle()
        kernel.run(change.switch)
    except KernelError:
        with suppress(KernelError):  # what is staged has no effect; the next apply removes it
            kernel.run(undo(replace(change.stage, operations=tuple(staged))))
        raise


def _sweep(kernel: Kernel, change: Change, counted: dict[str, Counted]) -> str:
    """Return what the kernel refused, or "". Adds the last values of removed counters to `counted`."""
    if not len(change.sweep):
        return ""
    kernel.settle()
    # only the policy's counters: the fence's are removed only with the whole fence
    has_counted = change.ending and change.sweep.family == "inet"
    last = kernel.counted(change.sweep.name, change.ending) if has_counted else {}
    try:
        kernel.run(change.sweep)
    except KernelError as error:
        return error.detail
    counted.update(last)
    return ""


FEATURE = "nflog"
LOGGER = logging.getLogger("sgdataplane.nflog")
PROBE = Chain("probe", (rule(Log("probe", LOG_GROUP, 1)),))


def fitted(kernel: Kernel, table: Table) -> Table:
    """The table as this kernel can have it: without logs if it can't log. The digest stays that of the whole table,
    which is the policy's. A kernel that learns to log (a module) does so with the next table that is written anew
    (`resync`). PrivilegeError if we may not ask."""
    return table if can_log(kernel) else without_logs(table)


def can_log(kernel: Kernel) -> bool:
    """Whether the kernel takes a rule that logs; logs a warning if not. Changes nothing."""
    probe = Table(f"{TABLE}-probe")
    kinds = ((Kind.TABLE, probe), (Kind.CHAIN, PROBE), (Kind.RULES, PROBE))
    try:
        kernel.check(Transaction.of(probe, (Operation(Verb.ADD, kind, subject) for kind, subject in kinds)), FEATURE)
    except PrivilegeError:
        raise
    except KernelError as error:
        LOGGER.warning("denied packets are counted but not logged: %s; logging needs %s", error.detail, NEEDS)
        return False
    return True


def without_logs(table: Table) -> Table:
    """The table without the logs in its rules."""
    return replace(table, chains=tuple(_silent(chain) for chain in table.chains))


def _silent(chain: Chain) -> Chain:
    if not any(isinstance(statement, Log) for entry in chain.rules for statement in entry.statements):
        return chain
    return replace(chain, rules=tuple(_without(entry) for entry in chain.rules))


def _without(entry: Rule) -> Rule:
    return replace(entry, statements=tuple(s for s in entry.statements if not isinstance(s, Log)))
