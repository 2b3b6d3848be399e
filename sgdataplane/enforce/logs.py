"""Tables for kernels that can't log: the same, less the logs.

Owns how that is found out. Is given tables. Must not know what is logged.

The digest of such a table is that of the whole one: it is of the policy. A kernel that learns to log (a module) does so
with the next table that is written anew (`resync`).
"""

from __future__ import annotations

import logging
from dataclasses import replace

from sgdataplane.contract.counters import LOG_GROUP
from sgdataplane.contract.tables import TABLE
from sgdataplane.errors import KernelError, PrivilegeError
from sgdataplane.host.nflog import NEEDS
from sgdataplane.nft.ir import Chain, Log, Rule, Table, rule
from sgdataplane.nft.kernel import Kernel
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb

FEATURE = "nflog"
LOGGER = logging.getLogger("sgdataplane.nflog")
PROBE = Chain("probe", (rule(Log("probe", LOG_GROUP, 1)),))


def fitted(kernel: Kernel, table: Table) -> Table:
    """What this kernel can have of it. PrivilegeError if we may not ask."""
    return table if can_log(kernel) else without_logs(table)


def can_log(kernel: Kernel) -> bool:
    """Whether it takes a rule that logs; a warning if not. Nothing is changed."""
    probe = Table(f"{TABLE}-probe")
    kinds = ((Kind.TABLE, probe), (Kind.CHAIN, PROBE), (Kind.RULES, PROBE))
    try:
        kernel.check(Transaction.of(probe, (Operation(Verb.ADD, kind, subject) for kind, subject in kinds)), FEATURE)
    except PrivilegeError:
        raise
    except KernelError as error:
        LOGGER.warning("denied packets are counted, but not logged: %s; that needs %s", error.detail, NEEDS)
        return False
    return True


def without_logs(table: Table) -> Table:
    """The same without a log in any rule."""
    return replace(table, chains=tuple(_silent(chain) for chain in table.chains))


def _silent(chain: Chain) -> Chain:
    if not any(isinstance(statement, Log) for entry in chain.rules for statement in entry.statements):
        return chain
    return replace(chain, rules=tuple(_without(entry) for entry in chain.rules))


def _without(entry: Rule) -> Rule:
    return replace(entry, statements=tuple(s for s in entry.statements if not isinstance(s, Log)))
