"""The execution of plans: their transactions in order, with the waiting between them.

Owns what happens when the kernel refuses one, how we find out that it can't log, and tables without what this kernel
can't do. Its input is plans and tables. Must not know what they are for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from sgdataplane.contract.counters import LOG_GROUP
from sgdataplane.contract.fields import KeyType
from sgdataplane.contract.tables import TABLE, limit_name
from sgdataplane.errors import KernelError, PrivilegeError
from sgdataplane.host.nflog import NEEDS
from sgdataplane.net.values import Direction
from sgdataplane.nft.counters import Counted
from sgdataplane.nft.delta import Change, Plan, undo
from sgdataplane.nft.ir import Chain, Log, Map, OneIn, Rule, SessionsExceed, Table, rule
from sgdataplane.nft.kernel import Kernel
from sgdataplane.nft.stamps import restamp
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb

EMPTY = Transaction(TABLE)
NOTHING = Change(EMPTY, EMPTY, EMPTY)
NEVER = 0  # no namespace ever has this generation


@dataclass(frozen=True, slots=True)
class Ran:
    """The outcome of running plans."""

    leftover: str
    """What the kernel refused after the policy came into force, or ""."""
    counted: Mapping[str, Counted]
    """The last values of the counters that were removed, read when no packet could reach them any more."""


def run(kernel: Kernel, *plans: Plan, is_live: bool) -> Ran:
    """Run plans for different tables, in this order. `is_live` is whether packets may be on their way through a table.

    If the first of two plans has one change, it shares its commits with the other's first one: both stages; the first
    switch; the first sweep and the second switch; the second sweep. Between two of these, packets leave as usual.

    Raises:
        KernelError: The kernel refuses something before a plan's table is in force. Everything is as it was, but for
            the plans before it.
    """
    counted: dict[str, Counted] = {}
    refusals = []
    for rounds in _rounds(plans):
        for number, (first, second) in enumerate(rounds):
            try:
                refusal = _run_round(kernel, first, second, counted, is_live=is_live)
            except KernelError as error:
                if number == 0:
                    raise
                refusal = error.detail
            if refusal:
                refusals.append(refusal)
                break
    return Ran("; ".join(refusals), counted)


def commits_of(*plans: Plan) -> int:
    """Return how many commits these plans take if nothing is refused."""
    return sum(_commits(*pair) for rounds in _rounds(plans) for pair in rounds)


def _rounds(plans: Iterable[Plan]) -> list[list[tuple[Change, Change]]]:
    """Return the pairs of changes that run together. In each list, the first pair puts a table in force, or two."""
    changes = [steps.changes for steps in plans if steps.changes]
    match changes:
        case [(first,), (second, *others)]:
            return [[(first, second), *((change, NOTHING) for change in others)]]
        case _:
            return [[(change, NOTHING) for change in some] for some in changes]


def _commits(first: Change, second: Change) -> int:
    commits = ((first.switch,), (first.sweep, second.switch), (second.sweep,))
    return len(_stages(first, second)) + sum(any(map(len, commit)) for commit in commits)


def _stages(first: Change, second: Change) -> list[tuple[Transaction, ...]]:
    """Return the parts of both stages, those together that meet in one commit."""
    parts, others = first.stage.parts(), second.stage.parts()
    if not parts or not others:
        return [(part,) for part in (*parts, *others)]
    return [*((part,) for part in parts[:-1]), (parts[-1], others[0]), *((part,) for part in others[1:])]


def _run_round(kernel: Kernel, first: Change, second: Change, counted: dict[str, Counted], *, is_live: bool) -> str:
    """Return what the kernel refused once both were in force, or "".

    The last values of removed counters are added to `counted`.
    """
    staged: list[Transaction] = []
    with _undo_if_refused(kernel, staged):
        for parts in kernel.run_each(_stages(first, second)):
            staged += parts
        if is_live:
            kernel.settle()
        kernel.run(first.switch)
    refusal = _sweep(kernel, first, counted, second)
    return refusal or _sweep(kernel, second, counted)


@contextmanager
def _undo_if_refused(kernel: Kernel, staged: Sequence[Transaction]) -> Iterator[None]:
    """Take away what is staged if the kernel refuses something in the block.

    What is staged has no effect; if it stays, the next apply removes it.
    """
    try:
        yield
    except KernelError:
        by_family: dict[str, list[Operation]] = {}
        for part in staged:
            by_family.setdefault(part.family, []).extend(part.operations)
        for family, operations in by_family.items():
            with suppress(KernelError):
                kernel.run(undo(Transaction(TABLE, tuple(operations), family)))
        raise


def _sweep(kernel: Kernel, change: Change, counted: dict[str, Counted], other: Change = NOTHING) -> str:
    """Sweep, and switch the other one. Return what the kernel refused of the sweep, or ""."""
    if not len(change.sweep) and not len(other.switch):
        return ""
    kernel.settle()
    # only the policy's counters: the fence's are removed only with the whole fence
    has_counted = change.ending and change.sweep.family == "inet"
    last = kernel.read_counters(change.sweep.name, change.ending) if has_counted else {}
    try:
        kernel.run(change.sweep, other.switch)
    except KernelError as error:
        return error.detail if other is NOTHING else _sweep_apart(kernel, change, other)
    counted.update(last)
    return ""


def _sweep_apart(kernel: Kernel, change: Change, other: Change) -> str:
    """Sweep and switch in two commits, as one of the two was refused in a common one. Return the sweep's refusal.

    If the sweep is refused, no stamp may vouch for what it has left.
    """
    refusal = ""
    try:
        kernel.run(change.sweep)
    except KernelError as error:
        refusal = error.detail
    with _undo_if_refused(kernel, [other.stage]):
        kernel.run(other.switch)
    if refusal:
        kernel.run(restamp(NEVER))
    return refusal


FEATURE = "nflog"
LOGGER = logging.getLogger("sgdataplane.nflog")
LIMITS = tuple(limit_name(side) for side in Direction)
PROBE = Chain("probe", (rule(Log("probe", LOG_GROUP, 1)),))


def fit_to_kernel(kernel: Kernel, table: Table) -> Table:
    """Return the table as this kernel can have it: without logs or limits of sessions that it can't have.

    The digest stays that of the whole table, which is the policy's. A kernel that learns to log or to count (by a
    module) does so with the next table that is written anew (`resync`).

    Raises:
        PrivilegeError: We may not ask.
    """
    found = table if can_log(kernel) else without_logs(table)
    limits = [chain for name in LIMITS if (chain := chain_in(table, name)) is not None and chain.rules]
    return found if not limits or can_limit(kernel, limits[0]) else without_limits(found)


def can_limit(kernel: Kernel, limit: Chain) -> bool:
    """Whether the kernel takes such a chain's statements; logs a warning if not. It changes nothing."""
    parts = [part for entry in limit.rules for part in entry.statements if isinstance(part, OneIn | SessionsExceed)]
    counted = [part for part in parts if isinstance(part, SessionsExceed)]
    sets = [Map(part.name, KeyType.MARK_IFNAME, (), holds=KeyType.NOTHING, room=1) for part in counted]
    return _can(
        kernel, Chain("probe", (rule(*parts),)), sets, "sessions aren't limited", "nft_connlimit and nft_numgen"
    )


def chain_in(table: Table, name: str) -> Chain | None:
    """Return a table's chain of that name; None if it has none."""
    try:
        return table.chain_of(name)
    except KeyError:
        return None


def without_limits(table: Table) -> Table:
    """Return the table with limits that limit nothing."""
    chains = tuple(replace(chain, rules=()) if chain.name in LIMITS else chain for chain in table.chains)
    return replace(table, chains=chains)


def can_log(kernel: Kernel) -> bool:
    """Whether the kernel takes a rule that logs; logs a warning if not. It changes nothing."""
    return _can(kernel, PROBE, (), "denied packets are counted but not logged", NEEDS)


def _can(kernel: Kernel, chain: Chain, sets: Iterable[Map], otherwise: str, needs: str) -> bool:
    probe = Table(f"{TABLE}-probe")
    made = [Operation(Verb.ADD, Kind.TABLE, probe), *(Operation(Verb.ADD, Kind.MAP, one) for one in sets)]
    made += (Operation(Verb.ADD, kind, chain) for kind in (Kind.CHAIN, Kind.RULES))
    try:
        kernel.check(Transaction.of(probe, made), FEATURE)
    except PrivilegeError:
        raise
    except KernelError as error:
        LOGGER.warning("%s: %s; that needs %s", otherwise, error.detail, needs)
        return False
    return True


def without_logs(table: Table) -> Table:
    """Return the table without the logs in its rules."""
    return replace(table, chains=tuple(_silent(chain) for chain in table.chains))


def _silent(chain: Chain) -> Chain:
    if not any(isinstance(statement, Log) for entry in chain.rules for statement in entry.statements):
        return chain
    return replace(chain, rules=tuple(_without(entry) for entry in chain.rules))


def _without(entry: Rule) -> Rule:
    return replace(entry, statements=tuple(s for s in entry.statements if not isinstance(s, Log)))
