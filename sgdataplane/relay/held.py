"""The documents as a relay holds them: small, and only what is needed to serve hosts.

Owns what is left out, and how the rest is kept. Must not know which host gets what.

A document is kept as a text that is compressed against another one of its VPC, and made of it anew whenever somebody
asks: so an ENI takes some 60 bytes, with its id. The API writes more than the state. A relay keeps only three kinds of
that: where something is bound, what a host may do, and which epoch it is. VSwitches and access keys aren't kept at
all: what a relay doesn't have, nobody can take from it.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from json import JSONDecoder
from typing import cast

from sgdataplane.host.memory import give_back
from sgdataplane.relay.table import Lines
from sgdataplane.relay.wire import canonical
from sgdataplane.store.documents import (
    IDS,
    Documents,
    Fields,
    OfKind,
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
MAX_EXAMPLES = 16_384
AS_IT_IS = 1 << 15  # beside an example's number: the text has the object's id


class Examples:
    """Example texts to compress others against. Texts of one VPC have much in common.

    All revisions share the examples, and none ever changes.
    """

    def __init__(self) -> None:
        self._texts: list[bytes] = [COMMON]
        self._numbers: dict[str, int] = {}

    def number_for(self, like: str, text: bytes) -> int:
        """Return the number of the example for all texts that are `like` this one.

        The first such text becomes the example. Once there are `MAX_EXAMPLES`, the others get number 0, the common
        one.
        """
        number = self._numbers.get(like)
        if number is None:
            number = 0
            if len(self._texts) < MAX_EXAMPLES:
                number = self._numbers[like] = len(self._texts)
                self._texts.append(COMMON + text)
        return number

    def __getitem__(self, number: int) -> bytes:
        return self._texts[number]


class PackedBodies(Stepping[str, Body]):
    """Documents of one kind by id, each of them compressed."""

    __slots__ = ("_examples", "_kind", "_texts")

    def __init__(self, kind: ResourceKind, texts: Lines | None = None, examples: Examples | None = None) -> None:
        self._kind = kind
        self._texts = Lines() if texts is None else texts
        self._examples = Examples() if examples is None else examples

    def after(self, puts: Mapping[str, Body], deletes: Collection[str] = ()) -> PackedBodies:
        """Return the documents after a change. A kind that a relay doesn't hold stays empty."""
        if self._kind in LEFT_OUT:
            return self
        texts = self._texts.copy()
        for name in deletes:
            texts.pop(name)
        for name, body in puts.items():
            texts.put(name, self.pack(name, body))
        return PackedBodies(self._kind, texts, self._examples)

    def has(self, name: str, packed: bytes) -> bool:
        """Whether the document of this name is packed to exactly these bytes."""
        return self._texts.get(name) == packed

    def pack(self, name: str, body: Body) -> bytes:
        """Return a document in its compressed form.

        That is the number of an example (2 bytes), then `[state, about]` or `[state]` compressed against that example.
        The state has no id, unless it differs from the document's.
        """
        kept, state = ABOUT.get(self._kind, ()), state_in(body)
        more: Fields = {name: value for name, value in about(body).items() if kept is None or name in kept}
        has_name = state.get(IDS.get(self._kind, "")) == name
        if has_name:
            state = {key: value for key, value in state.items() if key != IDS[self._kind]}
        text = canonical([state, more] if more else [state]).encode()
        number = self._examples.number_for(str(state.get("vpc_id", "")), text)
        packer = zlib.compressobj(LEVEL, zlib.DEFLATED, WINDOW, ROOM, zlib.Z_DEFAULT_STRATEGY, self._examples[number])
        head = (number if has_name else number | AS_IT_IS).to_bytes(2, "big")
        return head + packer.compress(text) + packer.flush()

    def whole(self) -> Mapping[str, Body]:
        """Return the documents as one mapping: this one."""
        return self

    def __getitem__(self, name: str) -> Body:
        found = self._texts.get(name)
        if found is None:
            raise KeyError(name)
        number = int.from_bytes(found[:2], "big")
        example = self._examples[number & ~AS_IT_IS]
        state, *more = DECODER.decode(zlib.decompressobj(WINDOW, example).decompress(found[2:]).decode())
        if not number & AS_IT_IS:
            state = {IDS[self._kind]: name, **state}
        return {"state": state, "about": more[0] if more else {}}

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._texts

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


def _nothing() -> OfKind:
    return {kind: PackedBodies(kind) for kind in ResourceKind}


@dataclass(frozen=True, slots=True)
class HeldDocuments(Documents):
    """Documents of a relay, for reading only: `users`, `taken` and `guards`, which a write needs, are empty."""

    of_kind: OfKind = field(default_factory=_nothing)

    @staticmethod
    def read(seen: Reading) -> HeldDocuments:
        """Return the documents of a reading, packed."""
        tables = {kind: Lines() for kind in ResourceKind}
        held = {kind: PackedBodies(kind, table) for kind, table in tables.items()}
        for path, body in seen.documents:
            if is_held(path):
                kind, name = kind_of(path), name_of(path)
                tables[kind].put(name, held[kind].pack(name, body))
        return HeldDocuments(seen.revision, of_kind=held)

    def after(self, change: Revision) -> HeldDocuments:
        """Return the documents after a revision."""
        return HeldDocuments(change.revision, of_kind=apply_change(self.of_kind, change))

    def change_to(self, seen: Reading) -> Revision:
        """Return the revision that leads from here to a reading, whatever came between."""
        puts, there = dict[Path, Body](), {kind: set[str]() for kind in ResourceKind}
        for path, body in seen.documents:
            if is_held(path):
                kind, name = kind_of(path), name_of(path)
                held = cast(PackedBodies, self.of_kind[kind])
                there[kind].add(name)
                if not held.has(name, held.pack(name, body)):
                    puts[path] = body
        gone = (path_of(kind, name) for kind, held in self.of_kind.items() for name in held if name not in there[kind])
        return Revision(seen.revision, puts, frozenset(gone), frozenset())


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
    while True:
        with suppress(GoneError), store.open_reading() as seen:
            documents = HeldDocuments.read(seen)
            give_back()
            return documents
