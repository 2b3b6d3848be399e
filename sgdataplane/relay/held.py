"""The documents as a relay holds them: on disk, and only what is needed to serve hosts.

Owns what is left out, and how the rest is kept. Must not know which host gets what.

A document is kept as a compressed text, and made of it anew whenever somebody asks. The API writes more than the state.
A relay keeps only three kinds of that: where something is bound, what a host may do, and which epoch it is. VSwitches
and access keys aren't kept at all: what a relay doesn't have, nobody can take from it.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from json import JSONDecoder
from typing import cast

from sgdataplane.host.memory import give_back
from sgdataplane.relay.spill import SpillFile
from sgdataplane.relay.table import Lines, LinesLoader
from sgdataplane.relay.wire import canonical
from sgdataplane.store.documents import (
    Documents,
    Fields,
    ResourceKind,
    about,
    apply_change,
    kind_of,
    name_of,
    path_of,
    state_in,
)
from sgdataplane.store.hosts import FIELD
from sgdataplane.store.interface import Body, GoneError, Path, Reading, Revision, Store
from sgdataplane.store.layered import Stepping

# What stays of `about`; None: all of it.
ABOUT: dict[ResourceKind, tuple[str, ...] | None] = {
    ResourceKind.ENI: (FIELD,),
    ResourceKind.INSTANCE: ("tags",),
    ResourceKind.HOST: None,
    ResourceKind.REFUSAL: None,
    ResourceKind.STORE: None,
}
DECODER = JSONDecoder()
KINDS = frozenset(map(str, ResourceKind))
LEFT_OUT = (ResourceKind.VSWITCH, ResourceKind.ACCESS_KEY)
# What most texts have in them, so that it takes no room in each: it is part of no format, and may change at any time.
COMMON = (
    b'"prefix_list_id":"source_security_group_id":"policy":"drop",'
    b'"inner_access_policy":"Accept","rules":[{"cidr_ip":"10.0.0.0/8","ip_protocol":"tcp","port_range":"80/80",'
    b'"priority":1,"security_group_rule_id":"sgr-","type":"ingress"},{"security_group_name":"'
    b'"security_group_type":"normal","vpc_id":"vpc-"{"about":{"tags":{"sgdp:host":"[{"instance_name":""}]'
    b'"instance_id":"i-","ipv6_addresses":["mac_address":"00:16:3e:","network_interface_id":"eni-",'
    b'"private_ip_addresses":["10."],"security_group_ids":["sg-","sg-"],"type":"secondary""type":"primary",'
    b'"vpc_id":"vpc-"},{"host":"'
)
LEVEL, WINDOW, ROOM = 1, -15, 5  # of zlib: fast, without a header, and with little to set up


class PackedBodies(Stepping[str, Body]):
    """Documents of one kind by id, each of them compressed."""

    __slots__ = ("_kind", "_texts")

    def __init__(self, kind: ResourceKind, texts: Lines) -> None:
        self._kind, self._texts = kind, texts

    def after(self, puts: Mapping[str, Body], deletes: Collection[str] = ()) -> PackedBodies:
        """Return the documents after a change. A kind that a relay doesn't hold stays empty."""
        if self._kind in LEFT_OUT:
            return self
        texts = self._texts.copy()
        packed = {name: pack(self._kind, body) for name, body in puts.items()}
        texts.change({**dict.fromkeys(deletes), **packed})
        return PackedBodies(self._kind, texts)

    def find_changes(self, after: PackedBodies) -> tuple[Iterator[str], Iterator[str]]:
        """Return the names of the documents that are new or different after these, and of those that are gone."""
        new = (name for name, text in after._texts.items() if self._texts.get(name) != text)
        return new, (name for name in self._texts if name not in after)

    def whole(self) -> Mapping[str, Body]:
        """Return the documents as one mapping: this one."""
        return self

    def __getitem__(self, name: str) -> Body:
        found = self._texts.get(name)
        if found is None:
            raise KeyError(name)
        return unpack(found)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._texts

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


def pack(kind: ResourceKind, body: Body) -> bytes:
    """Return what a relay holds of a document, compressed: `[state, about]`, or `[state]`."""
    kept, state = ABOUT.get(kind, ()), state_in(body)
    more: Fields = {name: value for name, value in about(body).items() if kept is None or name in kept}
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, WINDOW, ROOM, zlib.Z_DEFAULT_STRATEGY, COMMON)
    return packer.compress(canonical([state, more] if more else [state]).encode()) + packer.flush()


def unpack(packed: bytes) -> Body:
    """Return a document that was packed."""
    state, *more = DECODER.decode(zlib.decompressobj(WINDOW, COMMON).decompress(packed).decode())
    return {"state": state, "about": more[0] if more else {}}


@dataclass(frozen=True, slots=True)
class HeldDocuments(Documents):
    """Documents of a relay, for reading only: `users`, `taken` and `guards`, which a write needs, are empty."""

    file: SpillFile = field(default_factory=SpillFile)

    @staticmethod
    def read(seen: Reading, file: SpillFile | None = None) -> HeldDocuments:
        """Return the documents of a reading, packed, in a file."""
        file = file or SpillFile()
        loaders = {kind: LinesLoader(file) for kind in ResourceKind}
        for path, body in seen.documents:
            if is_held(path):
                kind = kind_of(path)
                loaders[kind].add(name_of(path), pack(kind, body))
        of_kind = {kind: PackedBodies(kind, loader.build()) for kind, loader in loaders.items()}
        return HeldDocuments(seen.revision, of_kind=of_kind, file=file)

    def after(self, change: Revision) -> HeldDocuments:
        """Return the documents after a revision."""
        return HeldDocuments(change.revision, of_kind=apply_change(self.of_kind, change), file=self.file)

    def change_to(self, seen: Reading) -> Revision:
        """Return the revision that leads from here to a reading, whatever came between."""
        there = HeldDocuments.read(seen, self.file)
        puts, deletes = dict[Path, Body](), set[Path]()
        for kind, before in self.of_kind.items():
            after = there.of_kind[kind]
            new, gone = cast(PackedBodies, before).find_changes(cast(PackedBodies, after))
            puts.update((path_of(kind, name), after[name]) for name in new)
            deletes.update(path_of(kind, name) for name in gone)
        return Revision(seen.revision, puts, frozenset(deletes), frozenset())


def is_held(path: Path) -> bool:
    """Whether a relay holds the document at a path."""
    return is_known(path) and kind_of(path) not in LEFT_OUT


def is_known(path: Path) -> bool:
    """Whether a document is of a known kind. A newer API may have more kinds, which no host of ours needs."""
    return path.partition("/")[0] in KINDS


def without_unknown_kinds(change: Revision) -> Revision:
    """Return a revision without the paths of unknown kinds."""
    puts = {path: body for path, body in change.puts.items() if is_known(path)}
    return replace(change, puts=puts, deletes=frozenset(filter(is_known, change.deletes)))


def hold(store: Store) -> HeldDocuments:
    """Return all documents of a store, as they are now.

    Raises:
        StoreError: The store can't be read.
    """
    file = SpillFile()
    while True:
        with suppress(GoneError), store.open_reading() as seen:
            documents = HeldDocuments.read(seen, file)
            give_back()
            return documents
