"""All documents at one revision, and the changes that an action makes.

Owns the kinds of documents, what each refers to, and the indexes. Must not know actions, HTTP, or how documents are
kept.

A document's body is {"state": ..., "about": ...}. `state` is the object in the native format (state-format.md, section
A), so that all of them together are a state. `about` is what the API adds and no policy needs: names, times, tags.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TypeAlias, cast

from sgdataplane.collection import no_collection
from sgdataplane.net.values import Address, Prefix
from sgdataplane.store.encoded import Decoded
from sgdataplane.store.finding import Clue, Findings, Trait, clues
from sgdataplane.store.history import EPOCH, Version, epoch_in
from sgdataplane.store.interface import Body, Json, Path, Revision, Snapshot
from sgdataplane.store.layered import Layered, Stepping
from sgdataplane.store.sortedids import SortedIds, update_index


class ResourceKind(enum.StrEnum):
    """The kind of thing that a document is about; the first part of its path."""

    VPC = "vpc"
    VSWITCH = "vswitch"
    GROUP = "security_group"
    PREFIX_LIST = "prefix_list"
    PORT_LIST = "port_list"
    INSTANCE = "instance"
    ENI = "network_interface"
    ACCESS_KEY = "access_key"
    STORE = "store"
    HOST = "host"
    REFUSAL = "refusal"
    KEY_PAIR = "key_pair"


KINDS: Mapping[str, ResourceKind] = {kind.value: kind for kind in ResourceKind}
# Of the kinds that a state has: the section of the native format.
SECTIONS = {
    ResourceKind.VPC: "vpcs",
    ResourceKind.PREFIX_LIST: "prefix_lists",
    ResourceKind.PORT_LIST: "port_lists",
    ResourceKind.GROUP: "security_groups",
    ResourceKind.INSTANCE: "instances",
    ResourceKind.ENI: "network_interfaces",
}
# The same: the field that is an object's id.
IDS = {
    ResourceKind.VPC: "vpc_id",
    ResourceKind.PREFIX_LIST: "prefix_list_id",
    ResourceKind.PORT_LIST: "port_list_id",
    ResourceKind.GROUP: "security_group_id",
    ResourceKind.INSTANCE: "instance_id",
    ResourceKind.ENI: "network_interface_id",
}
# What a rule refers to, by the native field that does so.
RULE_REFERENCES = {
    "source_security_group_id": ResourceKind.GROUP,
    "dest_security_group_id": ResourceKind.GROUP,
    "prefix_list_id": ResourceKind.PREFIX_LIST,
    "port_list_id": ResourceKind.PORT_LIST,
}
ADDRESSES = ("private_ip_addresses", "ipv6_addresses", "ipv4_prefixes", "ipv6_prefixes")
LISTS = "lists"  # the guard of prefix and port lists, which are of no VPC
INSTANCES = "instances"  # and that of instances
HOSTS = "hosts"  # and that of the hosts that there are

Fields = dict[str, Json]
OfKind: TypeAlias = Mapping[ResourceKind, Stepping[str, Body]]
Sorted: TypeAlias = Mapping[ResourceKind, Mapping[str, Body]]


def path_of(kind: ResourceKind, name: str) -> Path:
    """Return the path of the document of a kind and a name."""
    return kind + "/" + name  # half the time that formatting an enum takes, and a start does it 450,000 times


def kind_of(path: Path) -> ResourceKind:
    """Return the kind of the document at a path."""
    word = path.partition("/")[0]
    return KINDS.get(word) or ResourceKind(word)


def name_of(path: Path) -> str:
    """Return the name, usually the id, of the document at a path."""
    return path.partition("/")[2]


def state_in(body: Body) -> Fields:
    """Return the object in the native format; {} for what is no part of a state. Callers must not change it."""
    return cast(Fields, body.get("state", {}))


def about(body: Body) -> Fields:
    """Return what the API adds to the object. Callers must not change it."""
    return cast(Fields, body.get("about", {}))


def texts(fields: Mapping[str, object], name: str) -> list[str]:
    """Return a list of texts; [] if it is absent."""
    return cast("list[str]", fields.get(name, []))


def rules_in(body: Body) -> list[Fields]:
    """Return the rules of a group's document, in the native format."""
    return cast("list[Fields]", state_in(body).get("rules", []))


def trial_rules_in(body: Body) -> list[Fields]:
    """Return the rules that are on trial for a group, in the native format."""
    trial = cast("Fields", state_in(body).get("trial", {}))
    return cast("list[Fields]", trial.get("rules", []))


def find_named(rules: Iterable[Mapping[str, object]]) -> Iterator[Path]:
    """Yield the paths of the groups and lists that rules name."""
    for rule in rules:
        yield from (path_of(kind, str(rule[name])) for name, kind in RULE_REFERENCES.items() if name in rule)


def references(kind: ResourceKind, body: Body) -> Iterator[Path]:
    """Yield the path of everything that a document names.

    What is named can't be deleted while this document is there.
    """
    state, more = state_in(body), about(body)
    if kind in (ResourceKind.GROUP, ResourceKind.ENI, ResourceKind.VSWITCH):
        yield path_of(ResourceKind.VPC, str(state["vpc_id"]))
    yield from find_named(rules_in(body) if kind is ResourceKind.GROUP else ())
    if kind is ResourceKind.ENI:
        yield from (path_of(ResourceKind.GROUP, group) for group in texts(state, "security_group_ids"))
        if state.get("instance_id"):
            yield path_of(ResourceKind.INSTANCE, str(state["instance_id"]))
        if more.get("vswitch_id"):
            yield path_of(ResourceKind.VSWITCH, str(more["vswitch_id"]))


def realm_of(kind: ResourceKind, name: str, body: Body) -> str:
    """Return the guard that every commit moves that changes such a document."""
    if kind in (ResourceKind.PREFIX_LIST, ResourceKind.PORT_LIST):
        return LISTS
    if kind in (ResourceKind.INSTANCE, ResourceKind.KEY_PAIR):
        return INSTANCES
    if kind in (ResourceKind.HOST, ResourceKind.REFUSAL):
        return HOSTS
    return name if kind is ResourceKind.VPC else str(state_in(body).get("vpc_id", ""))


def prefixes_in(body: Body) -> Iterator[Prefix]:
    """Yield the addresses and delegated prefixes of an ENI.

    Raises:
        ValueError: One is no address or prefix.
    """
    state = state_in(body)
    for name in ADDRESSES:
        for text in texts(state, name):
            yield Prefix.of(Address.parse(text)) if name.endswith("addresses") else Prefix.parse(text, strict=True)


@dataclass(frozen=True, slots=True)
class Taken:
    """The taken addresses of each VPC.

    Delegated prefixes have few lengths, which are tried one by one.
    """

    owners: Layered[tuple[str, Prefix], Path] = field(default_factory=Layered)
    lengths: Mapping[tuple[str, int], Counter[int]] = field(default_factory=dict)  # VPC, family -> length -> how many

    def after(self, gone: Iterable[Body], come: Mapping[Path, Body]) -> Taken:
        """Return the taken addresses once these ENIs are gone and those have come."""
        counts: dict[tuple[str, int], Counter[int]] = {}
        left = [*chain.from_iterable(map(_addresses, gone))]
        taken = {key: path for path, body in come.items() for key in _addresses(body)}
        for step, keys in ((-1, left), (1, taken)):
            for vpc_id, prefix in keys:
                space = vpc_id, prefix.family_bits
                if space not in counts:
                    counts[space] = Counter(self.lengths.get(space, ()))
                counts[space][prefix.length] += step
        lengths = {**self.lengths, **{space: +found for space, found in counts.items()}}
        return Taken(self.owners.after(taken, left), {space: found for space, found in lengths.items() if found})

    def others(self, vpc_id: str, prefix: Prefix) -> Iterator[Path]:
        """Yield the ENIs with an address or a prefix that lies in this one, or that it lies in."""
        return (self.owners[vpc_id, one] for one in self.find_overlapping(vpc_id, prefix))

    def find_overlapping(self, vpc_id: str, prefix: Prefix) -> Iterator[Prefix]:
        """Yield what is taken and lies in this prefix, or that it lies in.

        For a single address it costs a few look-ups; for a block, a walk over all that is taken.
        """
        lengths = self.lengths.get((vpc_id, prefix.family_bits), ())
        wider = (widen(prefix, length) for length in lengths if length <= prefix.length)
        yield from (one for one in wider if (vpc_id, one) in self.owners)
        if any(length > prefix.length for length in lengths):
            bits, first, last = prefix.family_bits, prefix.first, prefix.last
            own = (one for vpc, one in self.owners if vpc == vpc_id and one.family_bits == bits)
            yield from (one for one in own if first <= one.first <= last and one.length > prefix.length)


def _addresses(body: Body) -> Iterator[tuple[str, Prefix]]:
    """Return what an ENI takes, with its VPC."""
    vpc_id = str(state_in(body)["vpc_id"])
    return ((vpc_id, prefix) for prefix in prefixes_in(body))


def widen(prefix: Prefix, length: int) -> Prefix:
    """Return the block of that length that holds the prefix."""
    shift = prefix.family_bits - length
    return Prefix(prefix.family_bits, prefix.first >> shift << shift, length)


@dataclass(frozen=True, slots=True)
class Documents:
    """Everything at one revision.

    It never changes, and neither do bodies: any thread may keep it and read it. The next revision shares with it what
    stays.
    """

    revision: int = 0
    guards: Mapping[str, int] = field(default_factory=dict)  # the revision at which each guard was moved last
    of_kind: OfKind = field(default_factory=lambda: {kind: Layered() for kind in ResourceKind})
    users: Layered[Path, SortedIds] = field(default_factory=Layered)  # path -> paths of documents that name this one
    taken: Taken = field(default_factory=Taken)  # the addresses that ENIs have
    ids: Mapping[ResourceKind, SortedIds] = field(default_factory=lambda: dict.fromkeys(ResourceKind, SortedIds()))
    findings: Findings = field(default_factory=Layered)  # a name, tag or address -> the ids of what has it

    @staticmethod
    def of(snapshot: Snapshot) -> Documents:
        """Return the documents of a snapshot, with their indexes."""
        with no_collection():
            found = snapshot.documents
            puts = found.decode_all() if isinstance(found, Decoded) else dict(found)
            everything = Documents().after(Revision(0, puts, frozenset(), frozenset()))
        return replace(everything, revision=snapshot.revision, guards=dict(snapshot.guards))

    def after(self, change: Revision) -> Documents:
        """Return everything at the next revision."""
        changed = change.deletes | change.puts.keys() if any(self.of_kind.values()) else ()
        former = {path: body for path in changed if (body := self.get(path)) is not None}
        before, steps = sort_puts(former), sort_puts(change.puts)
        gone, come = (_paths(some.get(ResourceKind.ENI, {})) for some in (before, steps))
        deletes = sort_paths(change.deletes - change.puts.keys())
        return Documents(
            change.revision,
            {**self.guards, **dict.fromkeys(change.guards, change.revision)},
            apply_steps(self.of_kind, steps, sort_paths(change.deletes)),
            update_index(self.users, _uses(former), _uses(change.puts)),
            self.taken.after(gone.values(), come) if gone or come else self.taken,
            {**self.ids, **{kind: self._new_ids(kind, steps, deletes) for kind in steps.keys() | deletes}},
            update_index(self.findings, _clues(before), _clues(steps)),
        )

    def _new_ids(self, kind: ResourceKind, puts: Sorted, deletes: Mapping[ResourceKind, list[str]]) -> SortedIds:
        known = self.of_kind[kind]
        come = [name for name in puts.get(kind, {}) if name not in known]
        return self.ids[kind].after(come, deletes.get(kind, ()))

    def find(self, kind: ResourceKind, trait: Trait, value: str) -> SortedIds:
        """Return the ids of the documents of a kind that have this name, tag or address, as text."""
        return self.findings.get(Clue(kind, trait, value), NO_IDS)

    def get(self, path: Path) -> Body | None:
        """Return the document at a path; None if it isn't there."""
        kind, _, name = path.partition("/")
        return self.of_kind[ResourceKind(kind)].get(name)

    @property
    def version(self) -> Version:
        """The epoch and revision of these documents."""
        return Version(epoch_in(self.get(EPOCH)), self.revision)

    def bodies(self) -> Iterator[tuple[ResourceKind, Body]]:
        """Return every document, with its kind."""
        return ((kind, body) for kind, of_kind in self.of_kind.items() for body in of_kind.values())


NO_IDS = SortedIds()


def _paths(enis: Mapping[str, Body]) -> dict[Path, Body]:
    return {path_of(ResourceKind.ENI, name): body for name, body in enis.items()}


def _uses(bodies: Mapping[Path, Body]) -> Iterator[tuple[Path, Path]]:
    """Yield each path that a document names, with the document's own. Equal paths are one object."""
    known = dict(zip(bodies, bodies, strict=True))
    for path, body in bodies.items():
        for target in references(kind_of(path), body):
            yield known.setdefault(target, target), path


def _clues(bodies: Sorted) -> Iterator[tuple[Clue, str]]:
    return ((clue, name) for kind, some in bodies.items() for name, body in some.items() for clue in clues(kind, body))


def sort_puts(puts: Mapping[Path, Body]) -> Sorted:
    """Return documents by kind and id. If a document has its id, that is the one, so that there is no second string."""
    found: dict[ResourceKind, dict[str, Body]] = {}
    for path, body in puts.items():
        kind, name = kind_of(path), name_of(path)
        state = body.get("state")
        own = state.get(IDS.get(kind, "")) if isinstance(state, Mapping) else None
        found.setdefault(kind, {})[own if isinstance(own, str) and own == name else name] = body
    return found


def sort_paths(paths: Iterable[Path]) -> dict[ResourceKind, list[str]]:
    """Return ids by kind."""
    found: dict[ResourceKind, list[str]] = {}
    for path in paths:
        found.setdefault(kind_of(path), []).append(name_of(path))
    return found


def apply_change(of_kind: OfKind, change: Revision) -> OfKind:
    """Return the documents after a change. One that is replaced keeps its place."""
    return apply_steps(of_kind, sort_puts(change.puts), sort_paths(change.deletes))


def apply_steps(of_kind: OfKind, puts: Sorted, deletes: Mapping[ResourceKind, list[str]]) -> OfKind:
    """Return the documents after some were deleted, and then others put."""
    kinds = puts.keys() | deletes.keys()
    return {**of_kind, **{kind: of_kind[kind].after(puts.get(kind, {}), deletes.get(kind, ())) for kind in kinds}}


class Workspace:
    """Documents as an action sees them, with its own changes.

    The documents themselves stay as they are until the changes are committed.
    """

    def __init__(self, documents: Documents) -> None:
        self.documents = documents
        self.puts: dict[Path, Body] = {}
        self.deletes: set[Path] = set()

    @property
    def is_changed(self) -> bool:
        """Whether the action has changed anything."""
        return bool(self.puts or self.deletes)

    @property
    def changed(self) -> set[Path]:
        """The paths that the action puts or deletes."""
        return self.puts.keys() | self.deletes

    def get(self, kind: ResourceKind, name: str) -> Body | None:
        """Return a document as the action sees it; None if it isn't there."""
        path = path_of(kind, name)
        if path in self.deletes:
            return None
        return self.puts.get(path) or self.documents.get(path)

    def put(self, kind: ResourceKind, name: str, state: Mapping[str, object], more: Mapping[str, object]) -> None:
        """Write a document of what JSON can hold.

        Empty texts and lists of its state are left out: absent means the same.
        """
        path = path_of(kind, name)
        said = {key: value for key, value in state.items() if value not in ("", [], {}, None)}
        self.deletes.discard(path)
        self.puts[path] = {"state": cast(Fields, said), "about": cast(Fields, dict(more))}

    def delete(self, kind: ResourceKind, name: str) -> None:
        """Delete a document, if it is there."""
        path = path_of(kind, name)
        self.puts.pop(path, None)
        if self.documents.get(path) is not None:
            self.deletes.add(path)

    def all(self, kind: ResourceKind) -> Iterator[tuple[str, Body]]:
        """Return id and body of every document of a kind, by id."""
        if not self.is_changed:
            of_kind = self.documents.of_kind[kind]
            return ((name, of_kind[name]) for name in self.documents.ids[kind])
        return ((name, body) for name in self.ids(kind) if (body := self.get(kind, name)) is not None)

    def ids(self, kind: ResourceKind) -> SortedIds:
        """Return the ids of all documents of a kind."""
        found = self.documents.ids[kind]
        if not self.is_changed:
            return found
        puts, deletes = (
            [name_of(path) for path in paths if kind_of(path) is kind] for paths in (self.puts, self.deletes)
        )
        return found.after(puts, deletes)

    def find(self, kind: ResourceKind, trait: Trait, value: str) -> set[str]:
        """Return the ids of the documents of a kind that may have this name, tag or address, as text."""
        own = {name_of(path) for path in self.puts if kind_of(path) is kind}
        return {*self.documents.find(kind, trait, value)} | own

    def users(self, kind: ResourceKind, name: str, who: ResourceKind | None = None) -> list[Path]:
        """Return the paths of the documents that name this one, in order; with `who`, only those of that kind."""
        target = path_of(kind, name)
        found = self.documents.users.get(target, NO_IDS)
        if self.is_changed:
            own = [path for path, body in self.puts.items() if target in references(kind_of(path), body)]
            found = found.after(own, self.changed)
        return [path for path in found if who is None or path.startswith(f"{who}/")]

    def members(self, group_id: str) -> list[str]:
        """Return the ids of a group's ENIs."""
        return [name_of(path) for path in self.users(ResourceKind.GROUP, group_id, ResourceKind.ENI)]

    def enis_of(self, instance_id: str) -> list[str]:
        """Return the ids of an instance's ENIs, the primary one first."""
        names = [name_of(path) for path in self.users(ResourceKind.INSTANCE, instance_id, ResourceKind.ENI)]
        return sorted(names, key=lambda name: (self.state(ResourceKind.ENI, name).get("type") != "primary", name))

    def state(self, kind: ResourceKind, name: str) -> Fields:
        """Return the state of a document that is there.

        Raises:
            LookupError: It isn't there.
        """
        body = self.get(kind, name)
        if body is None:
            raise LookupError(path_of(kind, name))
        return state_in(body)

    @property
    def guards(self) -> dict[str, int]:
        """The guards of all that is changed, and of all that it names: the revision at which each was moved last."""
        found = {self._realm(path, body) for path, body in self._bodies(self.changed)}
        for path, body in self.puts.items():
            found |= {self._realm(*one) for one in self._bodies(references(kind_of(path), body))}
        return {name: self.documents.guards.get(name, 0) for name in found}

    def _bodies(self, paths: Iterable[Path]) -> Iterator[tuple[Path, Body]]:
        for path in paths:
            body = self.puts.get(path) or self.documents.get(path)
            if body is not None:
                yield path, body

    def _realm(self, path: Path, body: Body) -> str:
        return realm_of(kind_of(path), name_of(path), body)


def native(
    bodies: Iterable[tuple[ResourceKind, Body]], also: Callable[[ResourceKind, Body], Fields] | None = None
) -> dict[str, object]:
    """Return documents as one document of the native format. `also` makes another object of one."""
    sections: dict[str, object] = {"version": 1}
    for kind, body in bodies:
        if kind in SECTIONS:
            found = cast("list[object]", sections.setdefault(SECTIONS[kind], []))
            found.append(also(kind, body) if also else state_in(body))
    return sections
