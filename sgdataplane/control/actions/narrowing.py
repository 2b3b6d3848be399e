"""The documents that a call may mean by its filters, from indexes.

Owns which index answers which filter. Must not know what a filter means: whoever asks looks at each document, too. So
an index may find too many documents, and never too few.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic

from sgdataplane.control.actions.repository import Repository
from sgdataplane.control.actions.scope import Scope
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.store.bodies import A, S, TypedDocument
from sgdataplane.store.documents import ResourceKind, name_of
from sgdataplane.store.finding import Trait, tag_text

# The other document that each filter names.
USED = {
    "InstanceId": ResourceKind.INSTANCE,
    "SecurityGroupId": ResourceKind.GROUP,
    "VSwitchId": ResourceKind.VSWITCH,
    "VpcId": ResourceKind.VPC,
}
OF_ALL_KINDS = ("ResourceGroupId", "Tag")  # filters that most kinds have (`is_grouped_and_tagged`)


@dataclass(slots=True)
class Narrowing(Generic[S, A]):
    """What is left of the documents of one kind, filter by filter. A filter that a call doesn't use leaves all."""

    scope: Scope
    documents: Repository[S, A]
    _left: list[Collection[str]] = field(default_factory=list)
    """The ids that each filter leaves."""

    def by_ids(self, ids: Collection[str]) -> None:
        """Leave the documents with these ids, if there are any."""
        if ids:
            self.leave(ids)

    def by_ids_in(self, parameter: str) -> None:
        """Leave the documents with the ids that the call names in a parameter.

        Raises:
            ApiError: They are no list of texts, and there are documents of which one could be meant.
        """
        if self.scope.workspace.ids(self._kind):
            self.by_ids(self.scope.texts(parameter))

    def by_name(self, pattern: str) -> None:
        """Leave those with a name. A pattern with `*` leaves all."""
        if pattern and "*" not in pattern:
            self.leave(self._find(Trait.NAME, pattern))

    def by_uses(self, parameters: Mapping[str, ResourceKind] = USED) -> None:
        """Leave those that name the other documents that the call names. A pattern with `*` leaves all."""
        for parameter, kind in parameters.items():
            name = self.scope.text(parameter)
            if name and "*" not in name and kind is not self._kind:
                users = self.scope.workspace.users(kind, name, self._kind)
                self.leave([name_of(path) for path in users])

    def by_addresses(self, *groups: Sequence[str]) -> None:
        """Leave the ENIs with one of the addresses that a call names in the parameters of each group."""
        for parameters in groups:
            with suppress(ApiError):  # whoever looks at the first document refuses the call
                if asked := [text for each in parameters for text in self.scope.texts(each)]:
                    self.leave({one for text in asked for one in self._find(Trait.ADDRESS, text)})

    def by_tags_and_group(self) -> None:
        """Leave those in the resource group, and with each tag, that the call names."""
        if group := self.scope.text("ResourceGroupId"):
            self.leave(self._find(Trait.RESOURCE_GROUP, group))
        for tag in self.scope.objects("Tag"):
            key, value = str(tag.get("Key", "")), tag.get("Value")
            if value in (None, ""):
                self.leave(self._find(Trait.TAG_KEY, key))
            elif isinstance(value, str):
                self.leave(self._find(Trait.TAG, tag_text(key, value)))

    def choose(
        self, filters: Collection[str], is_wanted: Callable[[TypedDocument[S, A]], bool]
    ) -> Sequence[TypedDocument[S, A]]:
        """Return the documents that are wanted, by id. If the call uses none of these filters, all of them are."""
        if not any(map(self.scope.has, (*filters, *OF_ALL_KINDS))):
            return self.documents.every()
        return [one for one in self._read() if is_wanted(one)]

    def leave(self, ids: Collection[str]) -> None:
        """Leave the documents with these ids."""
        self._left.append(ids)

    def least(self) -> Collection[str] | None:
        """Return the ids that the strictest filter leaves; None if no filter is used."""
        return min(self._left, key=len, default=None)

    def _read(self) -> Iterator[TypedDocument[S, A]]:
        ids = self.least()
        return self.documents.all() if ids is None else self.documents.some(ids)

    def _find(self, trait: Trait, value: str) -> Collection[str]:
        return self.scope.workspace.find(self._kind, trait, value)

    @property
    def _kind(self) -> ResourceKind:
        return self.documents.of.kind
