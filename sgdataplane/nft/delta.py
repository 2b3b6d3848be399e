"""Plan the steps by which a table becomes the desired one, so that each packet is judged by the old one or the new one.

Owns the order of changes. It is given tables and an inventory, and is pure. It must not know clouds, or run anything.

A packet keeps the generation of rules that it met at the base chain, but each look-up that it makes takes the
generation of that moment. So a packet that is on its way during a commit goes through the old rules, and
  - a chain made in that commit is empty for it: a packet that a new element sends there comes to the final drop;
  - a map deleted in that commit is empty for it, though an old rule still asks it;
  - an anonymous set or map, which goes with its rule, is empty for it too: the next rule decides, and may accept;
  - old rules look up new elements, a mixture that belongs to neither policy;
  - a priority that an old element gave it must still be a key of the maps that it asks next;
  - on some kernels a key that the commit gives another value has neither value for a moment (Kernel.may_miss);
  - a base chain made in that commit is empty for it, so its policy decides, which takes effect at once.
And the kernel fills a set or map of ranges a moment after the commit that makes it: packets in the new rules find it
empty. Hence there are three transactions. `stage` adds new objects, which nothing refers to yet, and elements by
priorities that no packet has yet. `switch` alone changes what packets meet; it changes only those chains in place that
have no anonymous set. `sweep` deletes what nothing refers to any more, including objects that others made, and
elements by priorities that no packet has any more; and it lets new base chains drop what no rule decides. The kernel
keeps two generations of each chain and uses them in turn. So before each of the last two transactions, the caller waits
until all packets that were on their way have left (Kernel.settle). Where one switch isn't enough, there are two
changes. If rules and elements change together, or a key gets another value on such a kernel, the first one leads to
rules that ask other maps (detour.py). If what is held isn't known, it leads to a copy of the desired table under other
names, so that only base chains change in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from sgdataplane.contract.fields import KeyType
from sgdataplane.contract.stamp import GENERATION_KEY, STAMP_MAP, next_generation
from sgdataplane.nft.changes import changes
from sgdataplane.nft.detour import copy_table, detour
from sgdataplane.nft.inflight import can_switch_at_once, check_in_place, edit
from sgdataplane.nft.ir import RETURN, Chain, Counter, Map, Table, Timeout
from sgdataplane.nft.outline import stamp_of
from sgdataplane.nft.snapshot import MAX_FOREIGN_OBJECTS, Inventory, MapShape, with_generation, without_policy
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb, make_addition

Named = Chain | Map | Counter | Timeout
Objects = Mapping[tuple[Kind, str], Named]


@dataclass(frozen=True, slots=True)
class Change:
    """Three transactions, to be run in this order. Empty ones are skipped."""

    stage: Transaction
    """Adds what nothing refers to yet. It is run in parts."""
    switch: Transaction
    """Changes what packets meet, in one commit."""
    sweep: Transaction
    """Deletes what nothing refers to any more."""
    ending: frozenset[str] = frozenset()
    """The names of the counters that the sweep deletes."""

    @property
    def commits(self) -> int:
        """How many commits it takes."""
        return len(self.stage.parts()) + bool(len(self.switch)) + bool(len(self.sweep))


@dataclass(frozen=True, slots=True)
class Plan:
    """Changes, to be made one after the other.

    The first one already enforces the new policy, by a detour or a copy if there are two; the second one only gives it
    its own names.
    """

    changes: tuple[Change, ...] = ()
    is_full_resync: bool = False
    """Whether this is a full resync: the kernel's table wasn't trusted, so everything is written anew."""


def plan(held: Table | None, inventory: Inventory, desired: Table, *, may_miss: bool = True) -> Plan:
    """Plan how to get from the kernel's table to `desired`. There are no changes if it is there already.

    `held` is the table that the caller believes to be there. It is trusted only if its stamp is the kernel's and nobody
    has committed anything since. Else everything that the inventory names is written anew. `may_miss` is what the
    kernel says of itself (Kernel.may_miss).
    """
    if not inventory.exists:
        return Plan((_first(inventory.generation, desired),))
    if inventory.is_inert:
        return Plan((_first(inventory.generation, desired, Verb.DELETE),))
    is_certain = held is not None and _is_certain(held, inventory)
    if _has_misfits(inventory, desired, held if is_certain and inventory.is_derived else None):
        return Plan((_plan_replacement(inventory.generation, desired),), is_full_resync=True)
    if held is not None and is_certain:
        return Plan(_delta(held, inventory.generation, desired, may_miss=may_miss))
    copy = without_policy(copy_table(desired, f".{inventory.generation}"))
    if _is_crowded(inventory, desired) or _has_misfits(inventory, copy):
        return Plan((_plan_replacement(inventory.generation, desired),), is_full_resync=True)
    return Plan(_plan_full_resync(inventory, copy, desired), is_full_resync=True)


def with_commits_beside(steps: Plan, commits: int) -> Plan:
    """Return the plan with a stamp whose generation is so many commits later.

    These commits are to another table of the namespace, before the plan's last commit or after it.
    """
    *others, last = steps.changes
    operations = tuple(_later(entry, commits) for entry in last.switch.operations)
    return replace(steps, changes=(*others, replace(last, switch=replace(last.switch, operations=operations))))


def _later(operation: Operation, commits: int) -> Operation:
    """Return an operation that adds the stamp with a later generation; any other one as it is."""
    entry = operation.subject
    if not isinstance(entry, Map) or entry.name != STAMP_MAP or operation.verb is not Verb.ADD:
        return operation
    elements = tuple(
        (key, next_generation(value, commits) if key == GENERATION_KEY and isinstance(value, int) else value)
        for key, value in entry.elements
    )
    return replace(operation, subject=replace(entry, elements=elements))


def undo(stage: Transaction) -> Transaction:
    """Return the transaction that takes away what a stage, or its first parts, have added."""
    added = [entry.subject for entry in stage.operations if entry.kind not in (Kind.RULES, Kind.ELEMENTS)]
    tables = [entry for entry in added if isinstance(entry, Table)]
    if tables:  # deleting the table deletes all that is in it
        return replace(stage, operations=tuple(Operation(Verb.DELETE, Kind.TABLE, entry) for entry in tables))
    made = [entry for entry in added if not isinstance(entry, Table)]
    new = {entry.name for entry in made if isinstance(entry, Map)}
    elements = (entry for entry in stage.operations if entry.kind is Kind.ELEMENTS)
    early = [e for e in elements if isinstance(e.subject, Map) and e.subject.name not in new and not e.subject.lifetime]
    return replace(stage, operations=(*(replace(entry, verb=Verb.DELETE) for entry in early), *list_deletions(made)))


def _first(generation: int, desired: Table, *verbs: Verb) -> Change:
    """Plan the first load, when no table is in force yet.

    Without base chains a table has no effect; they bring the policy into force at once. `verbs` are what happens to the
    table before it is added.
    """
    early, late = ([e for e in _objects(desired).values() if _is_live(e) is is_live] for is_live in (False, True))
    opening = [Operation(verb, Kind.TABLE, desired) for verb in (*verbs, Verb.ADD)]
    stage = Transaction.of(desired, [*opening, *list_creations(early)])
    sweep = Transaction.of(desired, _close_chains(late))
    stamped = with_generation(desired, _generation_after(generation, stage, sweep))
    live = [entry for entry in _objects(stamped).values() if _is_live(entry)]
    return Change(stage, Transaction.of(desired, list_creations(live)), sweep)


def _plan_replacement(generation: int, desired: Table) -> Change:
    """Plan to delete a table and add the desired one, in one commit.

    It is for a table that can't be converted, or is crowded: whoever made it so has taken the policy out of force, or
    wants to keep us busy. Packets on their way may be lost; none passes that the old base chains drop.
    """
    table = with_generation(desired, next_generation(generation, 2))
    operations = [Operation(verb, Kind.TABLE, table) for verb in (Verb.DELETE, Verb.ADD)]
    switch = Transaction.of(desired, [*operations, *list_creations(_objects(table).values())])
    return Change(Transaction.of(desired, ()), switch, Transaction.of(desired, _close_chains(table.chains)))


def plan_removal(inventory: Inventory, name: str, family: str) -> Change:
    """Plan to remove the table.

    First its base chains get the policy accept, as they lose their rules a moment before they go.
    """
    table = Table(name, family=family)
    bases = [Chain(chain, (), hook) for chain, hook in sorted(inventory.chains.items()) if hook is not None]
    opened = (Operation(Verb.DELETE, Kind.POLICY, chain) for chain in bases)
    deleted = (Operation(Verb.DELETE, Kind.TABLE, table),)
    return Change(Transaction.of(table, ()), Transaction.of(table, opened), Transaction.of(table, deleted))


def _delta(held: Table, generation: int, desired: Table, *, may_miss: bool) -> tuple[Change, ...]:
    """Plan the changes from a table that is certainly there: none, one, or two by way of a detour."""
    if held is desired or held == desired:
        return ()
    if can_switch_at_once(held, desired, may_miss=may_miss):
        return (_difference(held, generation, desired),)
    between = without_policy(detour(held, desired, f".{generation}"))
    return _and_on(_difference(held, generation, between), between, generation, desired)


def _plan_full_resync(inventory: Inventory, copy: Table, desired: Table) -> tuple[Change, ...]:
    """Plan a full resync: make everything anew, first under other names, since somebody may have changed anything.

    Counters stay.
    """
    return _and_on(_replace_everything(inventory, copy), copy, inventory.generation, desired)


def _and_on(first: Change, between: Table, generation: int, desired: Table) -> tuple[Change, Change]:
    """Plan a second change, from an intermediate table to the desired one.

    The intermediate stamp is of no policy, so that a full resync follows an apply that ends half-way.
    """
    return first, _difference(between, next_generation(generation, first.commits), desired)


def _difference(held: Table, generation: int, desired: Table) -> Change:
    """Plan to change what differs, and nothing else."""
    chains, maps = changes(held.chains, desired.chains), changes(held.maps, desired.maps)
    counters, timeouts = changes(held.counters, desired.counters), changes(held.timeouts, desired.timeouts)
    kinds = (timeouts, counters, chains, maps)
    new = [entry for found in kinds for name, entry in found.come.items() if name not in found.gone]
    gone = [entry for found in kinds for name, entry in found.gone.items() if name not in found.come]
    changed = [name for name in maps.come if name in maps.gone and name != STAMP_MAP]
    edits = [edit(held, desired, name) for name in changed]
    made = list_creations(entry for entry in new if not _is_live(entry))
    early, late = (_each(Verb.ADD, [e.early for e in edits]), _each(Verb.DELETE, [e.late for e in edits]))
    stage = Transaction.of(desired, [*made, *early, *_away(e.come for e in edits)])
    sweep = Transaction.of(desired, [*late, *list_deletions(gone), *_close_chains(new)])
    before = with_generation(held, generation)
    after = with_generation(desired, _generation_after(generation, stage, sweep))
    edits.append(edit(before, after, STAMP_MAP))
    changed_chains = {name: chain for name, chain in chains.come.items() if name in chains.gone}
    changed_chains = {name: chain for name, chain in changed_chains.items() if chains.gone[name].rules != chain.rules}
    check_in_place([*changed_chains.values(), *(chains.gone[name] for name in changed_chains)])
    switch = [
        *(Operation(Verb.FLUSH, Kind.RULES, chain) for chain in changed_chains.values()),
        *_each(Verb.DELETE, [e.gone for e in edits]),
        *list_creations(entry for entry in new if _is_live(entry)),
        *(Operation(Verb.ADD, Kind.RULES, chain) for chain in changed_chains.values()),
        *_each(Verb.ADD, [e.come for e in edits]),
    ]
    ending = frozenset(entry.name for entry in gone if isinstance(entry, Counter))
    return Change(stage, Transaction.of(desired, switch), sweep, ending)


def _away(coming: Iterable[Map]) -> Iterator[Operation]:
    """Yield operations that remove elements that expire, so that the switch adds them with their full time.

    Before Linux 6.12 an element that is added again keeps the time that it has left. To delete one that isn't there is
    an error, so each is added first.
    """
    expiring = [entry for entry in coming if entry.lifetime]
    yield from (Operation(verb, Kind.ELEMENTS, entry) for entry in expiring for verb in (Verb.ADD, Verb.DELETE))


def _each(verb: Verb, maps: Iterable[Map]) -> Iterator[Operation]:
    return (Operation(verb, Kind.ELEMENTS, entry) for entry in maps)


def _replace_everything(inventory: Inventory, desired: Table) -> Change:
    """Plan to replace everything that is there, whoever made it.

    `desired` is a copy under other names. So only base chains, the stamp and maps that keep their names are there
    already: these are emptied and filled anew. Counters and timeouts stay. The sweep removes the rest, whoever made it;
    until then, packets meet it as before.
    """
    present, wanted = _placeholders(inventory), _objects(desired)
    missing = _without(wanted, present)
    stage = Transaction.of(desired, list_creations(entry for entry in missing.values() if not _is_live(entry)))
    pruned = Operation(Verb.PRUNE, Kind.TABLE, desired)
    sweep = Transaction.of(desired, [pruned, *_close_chains(desired.chains)])
    filled = _objects(with_generation(desired, _generation_after(inventory.generation, stage, sweep)))
    kept = [filled[key] for key in wanted if key in present]
    chains, maps = [c for c in kept if isinstance(c, Chain)], [m for m in kept if isinstance(m, Map)]
    switch = [
        *(Operation(Verb.FLUSH, Kind.RULES, chain) for chain in chains),
        *(Operation(Verb.FLUSH, Kind.ELEMENTS, entry) for entry in maps),
        *list_creations(filled[key] for key in missing if _is_live(filled[key])),
        *(Operation(Verb.ADD, Kind.RULES, chain) for chain in chains),
        *(Operation(Verb.ADD, Kind.ELEMENTS, entry) for entry in maps),
        *(Operation(Verb.ADD, Kind.ELEMENTS, entry) for entry in _select_unexpired(inventory, maps)),
    ]
    return Change(stage, Transaction.of(desired, switch), sweep, frozenset(inventory.counters - desired.counter.keys()))


def _select_unexpired(inventory: Inventory, maps: Iterable[Map]) -> Iterator[Map]:
    """Yield the elements that haven't expired, each with the time that it has left: a full resync keeps them."""
    for entry in maps:
        added = dict(entry.elements)
        for key, left in inventory.expiring.get(entry.name, {}).items():
            if key not in added and left:
                yield replace(entry, elements=((key, RETURN),), lifetime=min(left, entry.lifetime))


# what can be trusted


def _is_certain(held: Table, inventory: Inventory) -> bool:
    """Return whether the kernel holds exactly `held`."""
    ours, theirs = stamp_of(held), inventory.stamp
    is_same = theirs is not None and (ours.epoch, ours.digest) == (theirs.epoch, theirs.digest)
    return is_same and inventory.is_untouched


def _is_crowded(inventory: Inventory, desired: Table) -> bool:
    """Return whether there are too many objects to delete one by one."""
    present = _placeholders(inventory).keys() - _objects(desired).keys()
    return inventory.is_crowded or inventory.odd + len(present) > MAX_FOREIGN_OBJECTS


def _has_misfits(inventory: Inventory, desired: Table, held: Table | None = None) -> bool:
    """Return whether the table can't be converted: it has flags, or a name that we need with another hook or type.

    `held` is the table that the inventory is derived from, if it is.
    """
    if inventory.has_flags:
        return True
    if held is None:
        hooks, shapes = inventory.chains, inventory.maps
        chains, maps = {chain.name: chain for chain in desired.chains}, {entry.name: entry for entry in desired.maps}
    else:
        of_chains, of_maps = changes(held.chains, desired.chains), changes(held.maps, desired.maps)
        hooks = {name: chain.hook for name, chain in of_chains.gone.items()}
        shapes = {name: MapShape.of(entry) for name, entry in of_maps.gone.items()}
        chains, maps = {**of_chains.come}, {**of_maps.come}
    return any(hooks.get(name, chain.hook) != chain.hook for name, chain in chains.items()) or any(
        name in shapes and shapes[name] != MapShape.of(entry) for name, entry in maps.items()
    )


def _generation_after(generation: int, stage: Transaction, sweep: Transaction) -> int:
    """Return the generation that the change's last transaction will make."""
    return next_generation(generation, len(stage.parts()) + 1 + bool(len(sweep)))


# objects


def _objects(table: Table) -> dict[tuple[Kind, str], Named]:
    """Return all objects of a table, by kind and name."""
    return _by_key([*table.timeouts, *table.counters, *table.chains, *table.maps])


def _placeholders(inventory: Inventory) -> dict[tuple[Kind, str], Named]:
    """Return the objects that are there. Only their names are known, which is enough to flush them."""
    return _by_key(
        [
            *(Timeout(name, "", "", ()) for name in sorted(inventory.timeouts)),
            *(Counter(name) for name in sorted(inventory.counters)),
            *(Chain(name, (), hook) for name, hook in sorted(inventory.chains.items())),
            *(Map(name, KeyType.MARK, ()) for name in sorted(inventory.maps)),
        ]
    )


_KINDS: Mapping[type[Named], Kind] = {
    Timeout: Kind.TIMEOUT,
    Counter: Kind.COUNTER,
    Chain: Kind.CHAIN,
    Map: Kind.MAP,
}


def _by_key(entries: Iterable[Named]) -> dict[tuple[Kind, str], Named]:
    return {(_KINDS[type(entry)], entry.name): entry for entry in entries}


def _without(objects: Objects, others: Objects) -> Objects:
    return {key: entry for key, entry in objects.items() if key not in others}


def _is_base(entry: Named) -> bool:
    return isinstance(entry, Chain) and entry.hook is not None


def _is_live(entry: Named) -> bool:
    """Return whether an object has an effect as soon as it is there.

    Base chains meet packets, and the stamp says what is in force.
    """
    return _is_base(entry) or (isinstance(entry, Map) and entry.name == STAMP_MAP)


# operations, in an order that nft accepts


def list_creations(entries: Iterable[Named]) -> Iterator[Operation]:
    """Yield the operations that add these objects, in an order that nft accepts.

    Objects come before what refers to them: elements name chains; rules name chains, maps, counters and timeouts. Maps
    come late, since the kernel compares each set without a name with the names of all that exist. Their elements come
    last, since it walks all elements of a map that another chain begins to ask.
    """
    found = list(entries)
    maps = [entry for entry in found if isinstance(entry, Map)]
    chains = [entry for entry in found if isinstance(entry, Chain)]
    others = sorted((entry for entry in found if not isinstance(entry, Map)), key=_rank)
    yield from (make_addition(_KINDS[type(entry)], entry) for entry in others)
    yield from (make_addition(Kind.RULES, entry) for entry in chains if not entry.ways.maps)
    yield from (make_addition(Kind.MAP, entry) for entry in maps)
    yield from (make_addition(Kind.RULES, entry) for entry in chains if entry.ways.maps)
    yield from (make_addition(Kind.ELEMENTS, entry) for entry in maps)


def _close_chains(entries: Iterable[Named]) -> Iterator[Operation]:
    """Yield operations that set the policy of base chains that are new, or that somebody may have opened."""
    return (Operation(Verb.ADD, Kind.POLICY, entry) for entry in entries if _is_base(entry))


def list_deletions(entries: Iterable[Named]) -> Iterator[Operation]:
    """Yield the operations that delete these objects, in an order that nft accepts.

    What refers to others goes first: rules, then maps with their elements, then the rest.
    """
    found = sorted(entries, key=_rank, reverse=True)
    yield from (Operation(Verb.FLUSH, Kind.RULES, entry) for entry in found if isinstance(entry, Chain))
    yield from (Operation(Verb.DELETE, _KINDS[type(entry)], entry) for entry in found)


def _rank(entry: Named) -> int:
    return list(_KINDS).index(type(entry))
