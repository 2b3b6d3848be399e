"""The documents as a relay holds them: small, and only what is needed to serve hosts.

Owns what is left out, and how the rest is kept. Must not know which host gets what.

A document is kept as a compressed text, and made of it anew whenever somebody asks. Of what the API tells besides the
state, only that stays which says where something is bound, what a host may, and which epoch it is. VSwitches and access
keys aren't held at all: what a relay doesn't have, nobody can take from it.
"""

from __future__ import annotations

import ctypes
import gc
import json
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from sgdataplane.control.documents import (
    Documents,
    Fields,
    OfKind,
    ResourceKind,
    about,
    changed,
    kind_of,
    name_of,
    state_in,
)
from sgdataplane.control.hosts import FIELD
from sgdataplane.control.layered import Layered, Stepping
from sgdataplane.control.store import Body, Path, Revision, Snapshot, Store

# What stays of `about`; None: all of it.
ABOUT: dict[ResourceKind, tuple[str, ...] | None] = {
    ResourceKind.ENI: (FIELD,),
    ResourceKind.INSTANCE: ("tags",),
    ResourceKind.HOST: None,
    ResourceKind.STORE: None,
}
KINDS = frozenset(map(str, ResourceKind))
LEFT_OUT = (ResourceKind.VSWITCH, ResourceKind.ACCESS_KEY)
# What most texts have in them, so that it takes no room in each: it is part of no format, and may change at any time.
COMMON = (
    b'"type":"ingress","ip_protocol":"tcp","port_range":"80/80","cidr_ip":"10.0.0.0/8","priority":1,'
    b'"security_group_rule_id":"sgr-"},{"source_security_group_id":"prefix_list_id":"policy":"drop",'
    b'"security_group_type":"normal","inner_access_policy":"Accept","rules":[{"security_group_name":"'
    b'"about":{"tags":{"sgdp:host":"{"state":{"instance_id":"i-","instance_name":""},"about":{}}'
    b'{"state":{"network_interface_id":"eni-","vpc_id":"vpc-","mac_address":"00:16:3e:",'
    b'"private_ip_addresses":["10."],"ipv6_addresses":["security_group_ids":["sg-","sg-"],"instance_id":"i-",'
    b'"type":"secondary""type":"primary"},"about":{"host":"'
)
LEVEL, WINDOW, ROOM = 1, -15, 5  # of zlib: fast, without a header, and with little to set up


class PackedBodies(Stepping[str, Body]):
    """Documents of one kind, by id."""

    __slots__ = ("_kind", "_texts")

    def __init__(self, kind: ResourceKind, texts: Layered[str, bytes] | None = None) -> None:
        self._kind = kind
        self._texts: Layered[str, bytes] = texts if texts is not None else Layered()

    def after(self, puts: Mapping[str, Body], deletes: Collection[str] = ()) -> PackedBodies:
        if self._kind in LEFT_OUT:
            return self
        kept = ABOUT.get(self._kind, ())
        texts = {name: _packed(body, kept) for name, body in puts.items()}
        return PackedBodies(self._kind, self._texts.after(texts, deletes))

    def whole(self) -> Mapping[str, Body]:
        return self

    def __getitem__(self, name: str) -> Body:
        found: dict[str, object] = json.loads(zlib.decompressobj(WINDOW, COMMON).decompress(self._texts[name]))
        return found  # type: ignore[return-value]

    def __contains__(self, name: object) -> bool:
        return name in self._texts

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


def _packed(body: Body, kept: tuple[str, ...] | None) -> bytes:
    more: Fields = {name: value for name, value in about(body).items() if kept is None or name in kept}
    text = json.dumps({"state": state_in(body), "about": more}, separators=(",", ":"))
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, WINDOW, ROOM, zlib.Z_DEFAULT_STRATEGY, COMMON)
    return packer.compress(text.encode()) + packer.flush()


def _nothing() -> OfKind:
    return {kind: PackedBodies(kind) for kind in ResourceKind}


@dataclass(frozen=True, slots=True)
class HeldDocuments(Documents):
    """Documents of a relay. They are for reading: `users`, `taken` and `guards`, which a write needs, are empty."""

    of_kind: OfKind = field(default_factory=_nothing)

    @staticmethod
    def of(snapshot: Snapshot) -> HeldDocuments:
        texts: dict[ResourceKind, dict[str, bytes]] = {kind: {} for kind in ResourceKind}
        for path, body in snapshot.documents.items():
            if is_known(path) and (kind := kind_of(path)) not in LEFT_OUT:
                texts[kind][name_of(path)] = _packed(body, ABOUT.get(kind, ()))
        return HeldDocuments(
            snapshot.revision, of_kind={kind: PackedBodies(kind, Layered(texts[kind])) for kind in texts}
        )

    def after(self, change: Revision) -> HeldDocuments:
        return HeldDocuments(change.revision, of_kind=changed(self.of_kind, change))


def is_known(path: Path) -> bool:
    """Whether a document is of a kind that there is. A newer API may have more of them, which no host of ours needs."""
    return path.partition("/")[0] in KINDS


def known(change: Revision) -> Revision:
    """A revision without what isn't known."""
    puts = {path: body for path, body in change.puts.items() if is_known(path)}
    return replace(change, puts=puts, deletes=frozenset(filter(is_known, change.deletes)))


def hold(store: Store) -> HeldDocuments:
    """All documents of a store, as they are now. StoreError."""
    documents = HeldDocuments.of(store.snapshot())
    give_back()
    return documents


def give_back() -> None:
    """Memory that isn't used any more: a third of all after the documents were read, or many streams have ended. The
    collector and the C library would keep it for long. It takes some 20 ms."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # it is glibc's
        trim(0)
