"""DescribePrefixListAttributes, DescribePortRangeLists and DescribePortRangeListEntries -> prefix lists and port lists.

Owns the question which list a port list's entries belong to. Is given answers. Must not know what values mean.
"""

from __future__ import annotations

from collections.abc import Mapping

from sgdataplane.policy.findings import Finding, Severity, subject
from sgdataplane.statefile import ecs_answers as ecs
from sgdataplane.statefile.ecs_answers import Answer, Item
from sgdataplane.statefile.ecs_names import (
    PORT_ENTRY_NAMES,
    PORT_LIST_NAMES,
    PREFIX_ENTRY_NAMES,
    PREFIX_LIST_NAMES,
)
from sgdataplane.statefile.ecs_translate import Translation, translated
from sgdataplane.statefile.fields import Fields, Place, is_id

# Remotes that win over a prefix list, which is ignored then.
STRONGER = ("cidr_ip", "ipv6_cidr_ip", "source_security_group_id", "dest_security_group_id")


def add_prefix_lists(translation: Translation) -> None:
    for answer in translation.answers.of(ecs.PREFIX_LIST):
        item = answer.item
        values = {**translated(item, PREFIX_LIST_NAMES), "entries": entries(item, PREFIX_ENTRY_NAMES, translation)}
        names = {**PREFIX_LIST_NAMES, "entries": "Entries"}
        translation.sections.prefix_lists.append(Fields(item.file, item.pointer, values, names))
    refuse_unknown(translation, "prefix_list_id", translation.sections.prefix_lists, ecs.PREFIX_LIST)


def add_port_lists(translation: Translation) -> None:
    """Entries come in one answer a list; names and sizes, for all lists, in DescribePortRangeLists."""
    described = {item.text("PortRangeListId"): item for item in translation.answers.objects(ecs.PORT_LISTS)}
    for answer in translation.answers.of(ecs.PORT_LIST):
        list_id = port_list_id(answer)
        if list_id:
            add_port_list(list_id, answer.item, described.get(list_id), translation)
        else:
            why = f"it doesn't say of which list; name the file {ecs.PORT_LIST}-<id>.json"
            translation.answers.ignore(answer, why)
    refuse_unknown(translation, "port_list_id", translation.sections.port_lists, ecs.PORT_LIST)


def port_list_id(answer: Answer) -> str:
    """The answer's own word for it, which the cloud leaves out; else what its file's name says after the call's."""
    given = answer.item.text("PortRangeListId")
    tail = answer.stem.removeprefix(ecs.PORT_LIST)
    return given or (tail[1:] if tail != answer.stem and tail[:1] in "-_." and is_id(tail[1:]) else "")


def add_port_list(list_id: str, item: Item, described: Item | None, translation: Translation) -> None:
    found = entries(item, PORT_ENTRY_NAMES, translation)
    values: dict[str, object] = {"port_list_id": list_id, "entries": found}
    names: dict[str, Place] = {"port_list_id": "PortRangeListId", "entries": "Entries"}
    if described is not None:
        values |= translated(described, PORT_LIST_NAMES)
        names |= {name: described.where(key) for name, key in PORT_LIST_NAMES.items()}
    else:
        values["max_entries"] = max(1, len(found))
        message = f"the size of {list_id} is unknown; taken as its {len(found)} entries"
        translation.answers.findings.append(
            Finding("AssumedMaxEntries", Severity.INFO, message, subject(port_list_id=list_id))
        )
    translation.sections.port_lists.append(Fields(item.file, item.pointer, values, names))


def entries(item: Item, names: Mapping[str, str], translation: Translation) -> tuple[Fields, ...]:
    found = item.items("Entries", "Entry", translation.problems)
    return tuple(Fields(entry.file, entry.pointer, translated(entry, names), names) for entry in found)


def refuse_unknown(translation: Translation, name: str, lists: list[Fields], call: str) -> None:
    """Name the call to make for every list that a rule uses and no answer tells of."""
    argument = "PrefixListId" if call == ecs.PREFIX_LIST else "PortRangeListId"
    known = {fields.said(name) for fields in lists}
    for group in translation.sections.security_groups:
        for rule in group.children("rules"):
            value = rule.said(name)
            is_ignored = name == "prefix_list_id" and any(stronger in rule.values for stronger in STRONGER)
            if value and value not in known and not is_ignored:
                known.add(value)
                translation.refuse_missing(rule.where(name), call, argument, value)
