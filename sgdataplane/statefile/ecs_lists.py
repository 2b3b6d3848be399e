"""Prefix lists and port lists in the cloud's answers: read into sections, and written from native fields.

Owns their keys' places in an answer, in both directions. Must not know files or documents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from sgdataplane.model.ids import is_id
from sgdataplane.policy.findings import Finding, Severity, subject
from sgdataplane.statefile import ecs_answers as calls
from sgdataplane.statefile import ecs_names
from sgdataplane.statefile.ecs_answers import EcsAnswer, Item
from sgdataplane.statefile.ecs_translation import AnswerFields, Names, Translation, Values, translate, translate_values
from sgdataplane.statefile.fields import Fields
from sgdataplane.statefile.native_objects import NativePortList, NativePrefixList

GROUP_REMOTES = ("source_security_group_id", "dest_security_group_id")
# Remotes that win over a prefix list, which is then ignored.
STRONGER = ("cidr_ip", "ipv6_cidr_ip", *GROUP_REMOTES)


def add_prefix_lists(translation: Translation) -> None:
    """Add the prefix lists; a problem for each that a rule uses and no answer is about."""
    for answer in translation.answers.of(calls.PREFIX_LIST):
        item = answer.item
        values = {**translate_values(item, ecs_names.PREFIX_LIST), "entries": entries(item, ecs_names.PREFIX_ENTRY)}
        fields = item.fields(values, {**ecs_names.PREFIX_LIST, "entries": "Entries"})
        translation.sections.prefix_lists.append(fields)
    refuse_unknown(translation, "prefix_list_id", translation.sections.prefix_lists, calls.PREFIX_LIST)


def add_port_lists(translation: Translation) -> None:
    """Add the port lists; a problem for each that a rule uses and no answer is about.

    There is an answer for each list's entries. DescribePortRangeLists has the names and sizes of all lists.
    """
    described = {item.text("PortRangeListId"): item for item in translation.answers.objects(calls.PORT_LISTS)}
    for answer in translation.answers.of(calls.PORT_LIST):
        list_id = port_list_id(answer)
        if list_id:
            add_port_list(list_id, answer.item, described.get(list_id), translation)
        else:
            why = f"it doesn't say which list it is about; name the file {calls.PORT_LIST}-<id>.json"
            translation.answers.ignore(answer, why)
    refuse_unknown(translation, "port_list_id", translation.sections.port_lists, calls.PORT_LIST)


def port_list_id(answer: EcsAnswer) -> str:
    """Return the id of the list that the answer is about; "" if nothing says it.

    The cloud leaves the id out, so it may follow the call in the file's name.
    """
    given = answer.item.text("PortRangeListId")
    tail = answer.stem.removeprefix(calls.PORT_LIST)
    return given or (tail[1:] if tail != answer.stem and tail[:1] in "-_." and is_id(tail[1:]) else "")


def add_port_list(list_id: str, item: Item, described: Item | None, translation: Translation) -> None:
    """Add one port list; if its size isn't known, a finding says that the number of its entries stands in for it."""
    found = entries(item, ecs_names.PORT_ENTRY)
    values: Values = {"port_list_id": list_id, "entries": found}
    names: Names = {"port_list_id": "PortRangeListId", "entries": "Entries"}
    if described is not None:
        values |= translate_values(described, ecs_names.PORT_LIST)
        names |= {name: described.where(key) for name, key in ecs_names.PORT_LIST.items()}
    else:
        values["max_entries"] = max(1, len(found))
        message = f"the size of {list_id} is unknown, so the number of its entries is taken: {len(found)}"
        about = subject(port_list_id=list_id)
        translation.answers.findings.append(Finding("AssumedMaxEntries", Severity.INFO, message, about))
    translation.sections.port_lists.append(item.fields(values, names))


def entries(item: Item, names: Mapping[str, str]) -> tuple[Fields, ...]:
    """Return the entries of a list."""
    return tuple(translate(entry, names) for entry in item.items("Entries", "Entry"))


def refuse_unknown(translation: Translation, name: str, lists: list[Fields], call: str) -> None:
    """Name the call to make for every list that a rule uses and that no answer is about."""
    argument = "PrefixListId" if call == calls.PREFIX_LIST else "PortRangeListId"
    known = {fields.text_of(name) for fields in lists}
    for rule in translation.rules():
        value = rule.text_of(name)
        is_ignored = name == "prefix_list_id" and any(stronger in rule.values for stronger in STRONGER)
        if value and value not in known and not is_ignored:
            known.add(value)
            translation.refuse_missing(rule.where(name), call, argument, value)


def list_head(state: NativePrefixList | NativePortList, names: Mapping[str, str]) -> AnswerFields:
    """Return a prefix list or a port list without its entries, under these names of the cloud."""
    return _translate(state, names)


def list_entries(state: NativePrefixList | NativePortList, names: Mapping[str, str]) -> list[AnswerFields]:
    """Return the entries of a list under these names of the cloud."""
    return [_translate(entry, names) for entry in state.get("entries", [])]


def _translate(fields: Mapping[str, object], names: Mapping[str, str]) -> AnswerFields:
    found = cast(AnswerFields, fields)
    return {key: found.get(name, "") for name, key in names.items()}
