"""Prefix lists and port range lists: create, describe, change, delete.

Owns these actions. Must not know HTTP or the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from sgdataplane.control.actions.repository import Repository
from sgdataplane.control.actions.rules import DONE
from sgdataplane.control.actions.scope import Scope, is_grouped_and_tagged, is_like
from sgdataplane.control.calls.answers import NOT_FOUND, ApiError
from sgdataplane.statefile import ecs_lists, ecs_names, ecs_translation
from sgdataplane.statefile.native_objects import NativePortEntry, NativePortList, NativePrefixEntry, NativePrefixList
from sgdataplane.store.bodies import About, TypedDocument
from sgdataplane.store.documents import Fields, ResourceKind, name_of
from sgdataplane.store.interface import Body, Json

L = TypeVar("L", NativePrefixList, NativePortList)
E = TypeVar("E", bound=Mapping[str, object])


@dataclass(frozen=True, slots=True)
class ListKind(Generic[L, E]):
    """The differences between the two kinds of lists."""

    kind: ResourceKind
    prefix: str  # the beginning of ids
    own: str  # the prefix of native fields
    entry: str  # the native field of an entry
    names: Mapping[str, str]  # the cloud's names of a list's fields
    entry_names: Mapping[str, str]  # the cloud's names of an entry's fields
    outer: str  # where Describe* answers have their lists
    inner: str  # the key within that; "" if there is none
    documents: Callable[[Scope], Repository[L, About]]
    make: Callable[[Scope, str], L]  # makes a list with this id, of what a call asks for
    make_entry: Callable[[Fields], E]  # makes an entry of what a call asks for
    entries_of: Callable[[L], list[E]]
    read_change: Callable[[Scope, list[E]], L]  # what a call changes of a list that gets these entries

    @property
    def id_key(self) -> str:
        """The cloud's name for a list's id."""
        return self.names[f"{self.own}_id"]

    @property
    def name_key(self) -> str:
        """The cloud's name for a list's name."""
        return self.names[f"{self.own}_name"]

    @property
    def entry_key(self) -> str:
        """The cloud's name for an entry."""
        return self.entry_names[self.entry]


def _make_prefix_list(scope: Scope, list_id: str) -> NativePrefixList:
    return {
        "prefix_list_id": list_id,
        "prefix_list_name": scope.require("PrefixListName"),
        "description": scope.text("Description"),
        "max_entries": scope.number("MaxEntries", 0),
        "entries": [_make_prefix_entry(one) for one in scope.objects("Entry")],
        "address_family": scope.require("AddressFamily"),
    }


def _make_prefix_entry(asked: Fields) -> NativePrefixEntry:
    entry: NativePrefixEntry = {}
    if cidr := str(asked.get("Cidr", "")):
        entry["cidr"] = cidr
    if description := str(asked.get("Description") or ""):
        entry["description"] = description
    return entry


def _prefix_entries(state: NativePrefixList) -> list[NativePrefixEntry]:
    return state.get("entries", [])


def _read_prefix_change(scope: Scope, entries: list[NativePrefixEntry]) -> NativePrefixList:
    change: NativePrefixList = {}
    if scope.gives("PrefixListName"):
        change["prefix_list_name"] = scope.text("PrefixListName")
    if scope.gives("Description"):
        change["description"] = scope.text("Description")
    change["entries"] = entries
    return change


def _make_port_list(scope: Scope, list_id: str) -> NativePortList:
    return {
        "port_list_id": list_id,
        "port_list_name": scope.require("PortRangeListName"),
        "description": scope.text("Description"),
        "max_entries": scope.number("MaxEntries", 0),
        "entries": [_make_port_entry(one) for one in scope.objects("Entry")],
    }


def _make_port_entry(asked: Fields) -> NativePortEntry:
    entry: NativePortEntry = {}
    if ports := str(asked.get("PortRange", "")):
        entry["port_range"] = ports
    if description := str(asked.get("Description") or ""):
        entry["description"] = description
    return entry


def _port_entries(state: NativePortList) -> list[NativePortEntry]:
    return state.get("entries", [])


def _read_port_change(scope: Scope, entries: list[NativePortEntry]) -> NativePortList:
    change: NativePortList = {}
    if scope.gives("PortRangeListName"):
        change["port_list_name"] = scope.text("PortRangeListName")
    if scope.gives("Description"):
        change["description"] = scope.text("Description")
    change["entries"] = entries
    return change


PREFIXES = ListKind(
    kind=ResourceKind.PREFIX_LIST,
    prefix="pl",
    own="prefix_list",
    entry="cidr",
    names=ecs_names.PREFIX_LIST,
    entry_names=ecs_names.PREFIX_ENTRY,
    outer="PrefixLists",
    inner="PrefixList",
    documents=lambda scope: scope.prefix_lists,
    make=_make_prefix_list,
    make_entry=_make_prefix_entry,
    entries_of=_prefix_entries,
    read_change=_read_prefix_change,
)
PORTS = ListKind(
    kind=ResourceKind.PORT_LIST,
    prefix="prl",
    own="port_list",
    entry="port_range",
    names=ecs_names.PORT_LIST,
    entry_names=ecs_names.PORT_ENTRY,
    outer="PortRangeLists",
    inner="",
    documents=lambda scope: scope.port_lists,
    make=_make_port_list,
    make_entry=_make_port_entry,
    entries_of=_port_entries,
    read_change=_read_port_change,
)


def create(of: ListKind[L, E], scope: Scope) -> Body:
    """Answer CreatePrefixList or CreatePortRangeList."""
    list_id = scope.new_id(of.prefix)
    more: About = {
        "created": scope.time,
        "tags": scope.tags(),
        "resource_group_id": scope.text("ResourceGroupId"),
    }
    of.documents(scope).put(list_id, of.make(scope, list_id), more)
    return {of.id_key: list_id}


def modify(of: ListKind[L, E], scope: Scope) -> Body:
    """Answer ModifyPrefixList or ModifyPortRangeList: remove and add entries, change the name and the description."""
    list_id, documents = scope.require(of.id_key), of.documents(scope)
    entries = {str(entry[of.entry]): entry for entry in of.entries_of(documents.find(list_id).state)}
    for asked in scope.objects("RemoveEntry"):
        if entries.pop(str(asked.get(of.entry_key)), None) is None:
            raise ApiError("InvalidEntry.NotFound", f"{list_id} has no entry {asked.get(of.entry_key)}", NOT_FOUND)
    for asked in scope.objects("AddEntry"):
        entry = of.make_entry(asked)
        entries[str(entry.get(of.entry))] = entry  # one that is there gets the description
    documents.change(list_id, of.read_change(scope, list(entries.values())))
    return DONE


def delete(of: ListKind[L, E], scope: Scope) -> Body:
    """Answer DeletePrefixList or DeletePortRangeList for a list that no rule uses."""
    list_id, documents = scope.require(of.id_key), of.documents(scope)
    documents.find(list_id)
    scope.refuse_used(of.kind, list_id, f"DependencyViolation.{of.inner or 'PortRangeList'}")
    documents.delete(list_id)
    return DONE


def describe_all(of: ListKind[L, E], scope: Scope) -> Body:
    """Answer DescribePrefixLists or DescribePortRangeLists."""
    ids, name, family = scope.texts(of.id_key), scope.text(of.name_key), scope.text("AddressFamily").lower()
    found = [
        one
        for one in of.documents(scope).among(ids)
        if is_like(str(one.state.get(f"{of.own}_name", "")), name)
        and family in ("", str(one.state.get("address_family", "")).lower())
        and is_grouped_and_tagged(scope, one)
    ]

    def shape(one: TypedDocument[L, About]) -> Json:
        tags = ecs_translation.tag_items(sorted(one.tags.items()))
        uses = len(scope.workspace.users(of.kind, one.id))
        return {
            **_describe_list(of, one),
            "AssociationCount": uses,
            "Tags": {"Tag": tags} if of.kind is ResourceKind.PREFIX_LIST else tags,
        }

    return scope.page(found, shape, of.outer, of.inner)


def _describe_list(of: ListKind[L, E], one: TypedDocument[L, About]) -> Fields:
    """Return a list as its Describe* answers have it."""
    keys = (of.id_key, of.name_key, "Description", "MaxEntries", "CreationTime", "ResourceGroupId")
    return {
        **dict.fromkeys(keys, ""),
        **ecs_lists.list_head(one.state, of.names),
        of.id_key: one.id,
        "CreationTime": one.about.get("created", ""),
        "ResourceGroupId": one.about.get("resource_group_id", ""),
    }


def describe(of: ListKind[L, E], scope: Scope) -> Body:
    """Answer DescribePrefixListAttributes or DescribePortRangeListEntries."""
    one = of.documents(scope).find(scope.require(of.id_key))
    entries = ecs_lists.list_entries(one.state, of.entry_names)
    if of.kind is ResourceKind.PORT_LIST:
        return {"Entries": entries}
    return {**_describe_list(of, one), "Entries": {"Entry": entries}}


def describe_uses(of: ListKind[L, E], scope: Scope) -> Body:
    """Answer Describe*Associations of either kind: the groups with rules that use the list."""
    list_id = scope.require(of.id_key)
    of.documents(scope).find(list_id)
    users = scope.workspace.users(of.kind, list_id)
    outer = f"{of.inner or 'PortRangeList'}Associations"
    inner = "PrefixListAssociation" if of.kind is ResourceKind.PREFIX_LIST else ""
    return scope.page(users, _use, outer, inner)


def _use(path: str) -> Json:
    return {"ResourceId": name_of(path), "ResourceType": "securitygroup"}


Act = Callable[[Scope], Body]


def actions() -> dict[str, tuple[Act, bool]]:
    """Return the actions of both kinds by name, each with its function and whether it writes."""
    return {**_actions(PREFIXES, "PrefixList", "Attributes"), **_actions(PORTS, "PortRangeList", "Entries")}


def _actions(of: ListKind[L, E], word: str, one: str) -> dict[str, tuple[Act, bool]]:
    return {
        f"Create{word}": (partial(create, of), True),
        f"Modify{word}": (partial(modify, of), True),
        f"Delete{word}": (partial(delete, of), True),
        f"Describe{word}s": (partial(describe_all, of), False),
        f"Describe{word}{one}": (partial(describe, of), False),
        f"Describe{word}Associations": (partial(describe_uses, of), False),
    }
