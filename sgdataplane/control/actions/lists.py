"""Prefix lists and port range lists: create, describe, change, delete.

Owns these actions. Must not know HTTP or the store.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

from sgdataplane.control.actions.rules import DONE
from sgdataplane.control.actions.scope import Scope, is_among, is_in_resource_group, is_like, tag_items
from sgdataplane.control.calls.answers import NOT_FOUND, ApiError
from sgdataplane.store.documents import Fields, ResourceKind, about, name_of, state_in
from sgdataplane.store.interface import Body, Json


@dataclass(frozen=True, slots=True)
class ListKind:
    """The differences between the two kinds of lists."""

    kind: ResourceKind
    prefix: str  # the beginning of ids
    id_key: str  # the cloud's name for a list's id
    name_key: str  # the cloud's name for its name
    entry_key: str  # the cloud's name for an entry
    entry: str  # the native field of an entry
    own: str  # the prefix of native fields
    outer: str  # where Describe* answers have their lists
    inner: str  # the key within that; "" if there is none


PREFIXES = ListKind(
    ResourceKind.PREFIX_LIST,
    "pl",
    "PrefixListId",
    "PrefixListName",
    "Cidr",
    "cidr",
    "prefix_list",
    "PrefixLists",
    "PrefixList",
)
PORTS = ListKind(
    ResourceKind.PORT_LIST, "prl", "PortRangeListId", "PortRangeListName", "PortRange", "port_range", "port_list",
    "PortRangeLists", "",
)  # fmt: skip


def create(of: ListKind, scope: Scope) -> Body:
    """Answer CreatePrefixList or CreatePortRangeList."""
    list_id = scope.new_id(of.prefix)
    state: Fields = {
        f"{of.own}_id": list_id,
        f"{of.own}_name": scope.required(of.name_key),
        "description": scope.text("Description"),
        "max_entries": scope.number("MaxEntries", 0),
        "entries": [_entry(of, one) for one in scope.objects("Entry")],
    }
    if of is PREFIXES:
        state["address_family"] = scope.required("AddressFamily")
    more: Fields = {
        "created": scope.time,
        "tags": scope.tags(),
        "resource_group_id": scope.text("ResourceGroupId"),
    }
    scope.workspace.put(of.kind, list_id, state, more)
    return {of.id_key: list_id}


def _entry(of: ListKind, asked: Fields) -> Fields:
    found = {of.entry: str(asked.get(of.entry_key, "")), "description": str(asked.get("Description") or "")}
    return {name: value for name, value in found.items() if value}


def modify(of: ListKind, scope: Scope) -> Body:
    """Answer ModifyPrefixList or ModifyPortRangeList: remove and add entries, change the name and the description."""
    list_id = scope.required(of.id_key)
    state = state_in(scope.find(of.kind, list_id))
    entries = {str(entry[of.entry]): entry for entry in cast("list[Fields]", state.get("entries", []))}
    for asked in scope.objects("RemoveEntry"):
        if entries.pop(str(asked.get(of.entry_key)), None) is None:
            raise ApiError("InvalidEntry.NotFound", f"{list_id} has no entry {asked.get(of.entry_key)}", NOT_FOUND)
    for asked in scope.objects("AddEntry"):
        entry = _entry(of, asked)
        entries[str(entry.get(of.entry))] = entry  # one that is there gets the description
    given = {
        name: scope.text(key)
        for name, key in ((f"{of.own}_name", of.name_key), ("description", "Description"))
        if key in scope.call.parameters
    }
    scope.change(of.kind, list_id, {**given, "entries": list(entries.values())})
    return DONE


def delete(of: ListKind, scope: Scope) -> Body:
    """Answer DeletePrefixList or DeletePortRangeList for a list that no rule uses."""
    list_id = scope.required(of.id_key)
    scope.find(of.kind, list_id)
    scope.refuse_used(of.kind, list_id, f"DependencyViolation.{of.inner or 'PortRangeList'}")
    scope.workspace.delete(of.kind, list_id)
    return DONE


def describe_all(of: ListKind, scope: Scope) -> Body:
    """Answer DescribePrefixLists or DescribePortRangeLists."""
    ids, name, family = scope.texts(of.id_key), scope.text(of.name_key), scope.text("AddressFamily").lower()
    found = [
        entry
        for entry in scope.workspace.all(of.kind)
        if is_among(entry[0], ids)
        and is_like(str(state_in(entry[1]).get(f"{of.own}_name", "")), name)
        and family in ("", str(state_in(entry[1]).get("address_family", "")).lower())
        and is_in_resource_group(scope, entry[1])
        and scope.is_tagged(entry[1])
    ]

    def shape(entry: tuple[str, Body]) -> Json:
        tags = tag_items(entry[1])
        uses = len(scope.workspace.users(of.kind, entry[0]))
        return {
            **_describe_list(of, *entry),
            "AssociationCount": uses,
            "Tags": {"Tag": tags} if of is PREFIXES else tags,
        }

    return scope.page(found, shape, of.outer, of.inner)


def _describe_list(of: ListKind, list_id: str, body: Body) -> dict[str, Json]:
    state = state_in(body)
    found: dict[str, Json] = {
        of.id_key: list_id,
        of.name_key: state.get(f"{of.own}_name", ""),
        "Description": state.get("description", ""),
        "MaxEntries": state["max_entries"],
        "CreationTime": about(body).get("created", ""),
        "ResourceGroupId": about(body).get("resource_group_id", ""),
    }
    return found | ({"AddressFamily": state["address_family"]} if of is PREFIXES else {})


def describe(of: ListKind, scope: Scope) -> Body:
    """Answer DescribePrefixListAttributes or DescribePortRangeListEntries."""
    list_id = scope.required(of.id_key)
    body = scope.find(of.kind, list_id)
    entries: list[Json] = [
        {of.entry_key: entry[of.entry], "Description": entry.get("description", "")}
        for entry in cast("list[Fields]", state_in(body).get("entries", []))
    ]
    if of is PORTS:
        return {"Entries": entries}
    return {**_describe_list(of, list_id, body), "Entries": {"Entry": entries}}


def describe_uses(of: ListKind, scope: Scope) -> Body:
    """Answer Describe*Associations of either kind: the groups with rules that use the list."""
    list_id = scope.required(of.id_key)
    scope.find(of.kind, list_id)
    users = scope.workspace.users(of.kind, list_id)
    outer = f"{of.inner or 'PortRangeList'}Associations"
    inner = "PrefixListAssociation" if of is PREFIXES else ""
    return scope.page(users, _use, outer, inner)


def _use(path: str) -> Json:
    return {"ResourceId": name_of(path), "ResourceType": "securitygroup"}


Act = Callable[[Scope], Body]


def actions() -> dict[str, tuple[Act, bool]]:
    """Return the actions of both kinds by name, each with its function and whether it writes."""
    found: dict[str, tuple[Act, bool]] = {}
    for of, word, one in ((PREFIXES, "PrefixList", "Attributes"), (PORTS, "PortRangeList", "Entries")):
        found[f"Create{word}"] = partial(create, of), True
        found[f"Modify{word}"] = partial(modify, of), True
        found[f"Delete{word}"] = partial(delete, of), True
        found[f"Describe{word}s"] = partial(describe_all, of), False
        found[f"Describe{word}{one}"] = partial(describe, of), False
        found[f"Describe{word}Associations"] = partial(describe_uses, of), False
    return found
