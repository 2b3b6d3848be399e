"""compile_policy(): HostPolicy -> one nftables table, the same bytes for the same policy.

Owns the order of the steps. Is given a resolved policy and the epoch. Must not do I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from sgdataplane.compiler import skeleton
from sgdataplane.compiler.lower import Lowering
from sgdataplane.errors import InternalError
from sgdataplane.model.options import Options
from sgdataplane.net.values import Direction
from sgdataplane.nft import names
from sgdataplane.nft.ir import Chain, Counter, Map, Table, Timeout
from sgdataplane.nft.text import render_table
from sgdataplane.policy.resolve import HostPolicy

FIRST_EPOCH = 1
Named = TypeVar("Named", Chain, Map, Counter, Timeout)


def compile_policy(policy: HostPolicy, options: Options, epoch: int = FIRST_EPOCH) -> Table:
    """The table that makes a namespace obey `policy`, with sessions accepted from now on marked `epoch` (1..65535).

    LimitError if the policy has more disjoint cells than we hold.
    """
    lowering = Lowering(policy.remotes)
    roots = [{hook: lowering.profile(profile, hook) for hook in Direction} for profile in policy.profiles]
    links = [
        skeleton.Link(eni.ifname, eni.own, roots[eni.profile], skeleton.timeouts(eni.connection_tracking))
        for eni in policy.enis
    ]
    preambles = {hook: skeleton.preamble(hook, options) for hook in Direction}
    enis = {
        hook: {link.ifname: skeleton.eni_chain(hook, link, preambles[hook], options) for link in links}
        for hook in Direction
    }
    eni_chains = [chain for hook in Direction for chain in enis[hook].values()]
    table = Table(
        skeleton.TABLE,
        _sorted([*lowering.chains.values(), *eni_chains, *preambles.values()]),
        _sorted([*lowering.maps.values(), *(skeleton.dispatch(hook, enis[hook]) for hook in Direction)]),
        _sorted([*lowering.counters.values(), *skeleton.fixed_counters()]),
        _sorted({timeout for link in links for timeout in link.timeouts}),
    )
    return with_epoch(table, epoch)


def with_epoch(table: Table, epoch: int) -> Table:
    """Add (or replace) what depends on the epoch: the base chains, where sessions are marked, and the stamp.

    The stamp's digest is of everything else, so that it is equal for equal policies.
    """
    if not 1 <= epoch <= skeleton.LAST_EPOCH:
        raise InternalError(f"epoch {epoch} is outside 1..{skeleton.LAST_EPOCH}")
    moving = {chain.name: chain for hook in Direction for chain in skeleton.epoch_chains(hook, epoch)}
    chains = [chain for chain in table.chains if chain.name not in moving]
    maps = [entry for entry in table.maps if entry.name != skeleton.APPLIED]
    digest = names.digest(render_table(replace(table, chains=tuple(chains), maps=tuple(maps))), 32)
    return replace(
        table,
        chains=_sorted([*chains, *moving.values()]),
        maps=_sorted([*maps, skeleton.applied(epoch, digest)]),
    )


def _sorted(items: Iterable[Named]) -> tuple[Named, ...]:
    return tuple(sorted(items, key=lambda item: item.name))
