"""The documents of one kind as an action reads and writes them, with the types of their fields.

Owns the cloud's codes for what isn't there. Must not know the call, or single actions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import starmap
from typing import Generic, SupportsIndex, overload

from sgdataplane.control.calls.answers import NOT_FOUND, ApiError
from sgdataplane.store.bodies import A, S, TypedDocument, TypedKind
from sgdataplane.store.documents import ResourceKind, Workspace

# The cloud's code for an id that isn't there.
UNKNOWN = {
    ResourceKind.VPC: "InvalidVpcId.NotFound",
    ResourceKind.VSWITCH: "InvalidVSwitchId.NotFound",
    ResourceKind.GROUP: "InvalidSecurityGroupId.NotFound",
    ResourceKind.PREFIX_LIST: "InvalidPrefixListId.NotFound",
    ResourceKind.PORT_LIST: "InvalidPortRangeListId.NotFound",
    ResourceKind.INSTANCE: "InvalidInstanceId.NotFound",
    ResourceKind.ENI: "InvalidEniId.NotFound",
    ResourceKind.HOST: "InvalidHost.NotFound",
    ResourceKind.KEY_PAIR: "InvalidKeyPair.NotFound",
}
NOTHING: Mapping[str, object] = {}


def unknown(kind: ResourceKind, name: str) -> ApiError:
    """Return the error for a document that isn't there."""
    return ApiError(UNKNOWN[kind], f"The specified {kind.replace('_', ' ')} {name} doesn't exist.", NOT_FOUND)


class Repository(Generic[S, A]):
    """The documents of one kind, with the changes that the action has made."""

    __slots__ = ("of", "workspace")

    def __init__(self, workspace: Workspace, of: TypedKind[S, A]) -> None:
        self.workspace, self.of = workspace, of

    def get(self, name: str) -> TypedDocument[S, A] | None:
        """Return a document; None if it isn't there."""
        body = self.workspace.get(self.of.kind, name)
        return None if body is None else self.of.read(name, body)

    def find(self, name: str) -> TypedDocument[S, A]:
        """Return a document that the call names.

        Raises:
            ApiError: It isn't there; the code is the cloud's.
        """
        body = self.workspace.get(self.of.kind, name)
        if body is None:
            raise unknown(self.of.kind, name)
        return self.of.read(name, body)

    def state(self, name: str) -> S:
        """Return the state of a document that another one names, so that it must be there.

        Raises:
            LookupError: It isn't there.
        """
        body = self.workspace.get(self.of.kind, name)
        if body is None:
            raise LookupError(f"{self.of.kind}/{name}")
        return self.of.state_in(body)

    def all(self) -> Iterator[TypedDocument[S, A]]:
        """Return every document, by id."""
        return starmap(self.of.read, self.workspace.all(self.of.kind))

    def among(self, names: Iterable[str]) -> Iterator[TypedDocument[S, A]]:
        """Return the documents with these ids, by id; every document if no id is given."""
        wanted = {*names}
        return self.some(wanted) if wanted else self.all()

    def every(self, names: Collection[str] = ()) -> Sequence[TypedDocument[S, A]]:
        """Return the same as a sequence, which reads the documents only as it is asked for them."""
        return [*self.some(names)] if names else EveryDocument(self)

    def some(self, names: Collection[str]) -> Iterator[TypedDocument[S, A]]:
        """Return those of these documents that are there, by id."""
        found = ((name, self.workspace.get(self.of.kind, name)) for name in sorted({*names}))
        return (self.of.read(name, body) for name, body in found if body is not None)

    def put(self, name: str, state: S, about: A) -> None:
        """Write a document. Empty texts and lists of its state are left out: absent means the same."""
        self.workspace.put(self.of.kind, name, state, about)

    def change(self, name: str, state: S | None = None, about: A | None = None) -> None:
        """Change some fields of a document.

        Raises:
            ApiError: It isn't there.
        """
        found = self.find(name)
        state_after = {**found.state, **(state or NOTHING)}
        self.workspace.put(self.of.kind, name, state_after, {**found.about, **(about or NOTHING)})

    def delete(self, name: str) -> None:
        """Delete a document, if it is there."""
        self.workspace.delete(self.of.kind, name)


class EveryDocument(Sequence[TypedDocument[S, A]], Generic[S, A]):
    """All documents of one kind, by id. Only those are read that somebody asks for."""

    def __init__(self, documents: Repository[S, A]) -> None:
        self._documents, self._ids = documents, documents.workspace.ids(documents.of.kind)

    @overload
    def __getitem__(self, place: SupportsIndex) -> TypedDocument[S, A]: ...

    @overload
    def __getitem__(self, place: slice) -> list[TypedDocument[S, A]]: ...

    def __getitem__(self, place: SupportsIndex | slice) -> TypedDocument[S, A] | list[TypedDocument[S, A]]:
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self._ids))
            return [*self._documents.some(self._ids.cut(start, stop))][::step]
        return self[range(len(self._ids))[place] :][0]

    def __len__(self) -> int:
        return len(self._ids)
