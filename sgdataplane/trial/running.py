"""The table of a trial in one namespace: put there, read, removed.

Owns the order of the commits. Is given tables. Must not know what they count, or where the namespace came from.

Everything but the base chains is named by what it holds, so what is there under a name that is wanted stays. A change
adds what is missing; then changes the base chains' rules, in one moment; then removes what nothing leads to. Between
two of these it waits until no packet is inside the rules, so that no packet is missed or counted twice. Counters that
stay keep their counts. Each commit renews the stamp of the policy's table, which is as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sgdataplane.enforce.run import can_log, without_logs
from sgdataplane.errors import KernelError
from sgdataplane.nft.counters import Counted
from sgdataplane.nft.delta import list_creations, list_deletions
from sgdataplane.nft.ir import Chain, Counter, Map, Table
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.nft.snapshot import Inventory
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb


def put(kernel: NetlinkKernel, table: Table) -> Mapping[str, Counted]:
    """Make the namespace have this table, and return the last values of counters that were removed.

    Raises:
        KernelError: The kernel refuses. Then nothing is counted that wasn't before, or the old table still counts.
    """
    wanted = table if can_log(kernel) else without_logs(table)
    held = kernel.inventory(table.name)
    if held.exists and _is_odd(held):
        kernel.run_beside(_make_deletion(table.name))
        held = kernel.inventory(table.name)
    stage, switch = _stage(wanted, held), _switch(wanted, held)
    for part in stage.parts():
        kernel.run_beside(part)
    if not len(switch):
        return {}
    kernel.settle()
    kernel.run_beside(switch)
    return _sweep(kernel, wanted, held)


def _is_odd(held: Inventory) -> bool:
    """Return whether somebody else has put something into the table, or its flags say that it isn't asked."""
    return bool(held.has_flags or held.is_crowded or held.odd)


def _stage(wanted: Table, held: Inventory) -> Transaction:
    """Return the transaction that adds what is missing, except base chains."""
    there = {*held.chains, *held.maps, *held.counters}
    new = [entry for entry in _objects(wanted) if entry.name not in there and not _is_base(entry)]
    first = () if held.exists else (Operation(Verb.ADD, Kind.TABLE, wanted),)
    return Transaction.of(wanted, (*first, *list_creations(new)))


def _switch(wanted: Table, held: Inventory) -> Transaction:
    """Return the transaction that gives the base chains their rules.

    It is empty if all that is wanted is there and nothing else: then they have them.
    """
    if _names(wanted) == {*held.chains, *held.maps, *held.counters}:
        return Transaction(wanted.name)
    bases = [chain for chain in wanted.chains if _is_base(chain)]
    old = [Operation(Verb.FLUSH, Kind.RULES, chain) for chain in bases if chain.name in held.chains]
    new = [Operation(Verb.ADD, Kind.CHAIN, chain) for chain in bases if chain.name not in held.chains]
    rules = [Operation(Verb.ADD, Kind.RULES, chain) for chain in bases]
    return Transaction.of(wanted, (*old, *new, *rules))


def _sweep(kernel: NetlinkKernel, wanted: Table, held: Inventory) -> Mapping[str, Counted]:
    """Remove what isn't wanted, once no packet can be in it; return the last values of counters that go."""
    gone = list(_find_unwanted(held, _names(wanted)))
    ending = [entry.name for entry in gone if isinstance(entry, Counter)]
    if not gone:
        return {}
    kernel.settle()
    last = kernel.read_counters(wanted.name, ending) if ending else {}
    kernel.run_beside(Transaction.of(wanted, list_deletions(gone)))
    return last


def _find_unwanted(held: Inventory, wanted: set[str]) -> Iterator[Chain | Map | Counter]:
    """Yield what is there and isn't wanted."""
    yield from (Chain(name, ()) for name in held.chains if name not in wanted)
    yield from (_map(name, held) for name in held.maps if name not in wanted)
    yield from (Counter(name) for name in held.counters if name not in wanted)


def _map(name: str, held: Inventory) -> Map:
    """Return a map that is there, as a deletion names it.

    Raises:
        KernelError: Its key isn't one that trials use.
    """
    key_type = held.maps[name].key_type
    if key_type is None:
        raise KernelError(f"map {name} of the trial isn't one that sgdataplane makes")
    return Map(name, key_type, ())


def _objects(table: Table) -> Iterator[Chain | Map | Counter]:
    yield from table.chains
    yield from table.maps
    yield from table.counters


def _names(table: Table) -> set[str]:
    return {entry.name for entry in _objects(table)}


def _is_base(entry: Chain | Map | Counter) -> bool:
    return isinstance(entry, Chain) and entry.hook is not None


def read(kernel: NetlinkKernel, table: str, counters: Iterable[str]) -> dict[str, Counted]:
    """Return what these counters have counted; nothing if the table isn't there."""
    return kernel.read_counters(table, counters)


def remove(kernel: NetlinkKernel, table: str) -> None:
    """Remove a trial's table, if it is there."""
    if kernel.inventory(table).exists:
        kernel.run_beside(_make_deletion(table))


def _make_deletion(table: str) -> Transaction:
    return Transaction.of(Table(table), (Operation(Verb.DELETE, Kind.TABLE, Table(table)),))
