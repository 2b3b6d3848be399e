"""Everything of an input by id, for the checks of one record against another.

Owns Index and the check that ids are unique. Is given drafts. Must not know what is valid otherwise.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from sgdataplane.model.state import Instance, NetworkType, PortList, PrefixList, SecurityGroup, Vpc
from sgdataplane.statefile.fields import Fields
from sgdataplane.statefile.problems import Problems
from sgdataplane.statefile.sections import Drafts, Sections

ID_FIELD = {
    "vpcs": "vpc_id",
    "prefix_lists": "prefix_list_id",
    "port_lists": "port_list_id",
    "security_groups": "security_group_id",
    "instances": "instance_id",
    "network_interfaces": "network_interface_id",
}
MAX_GUESSED = 500  # among more ids a guess at the right spelling costs too much: 30 us each, for each problem


@dataclass(frozen=True, slots=True)
class Index:
    """`ids` has every id that the input gives, by section, those of refused objects too, so that one mistake isn't
    reported again by all who refer to it; the rest are the records."""

    problems: Problems
    ids: dict[str, AbstractSet[str]]
    vpc: dict[str, Vpc]
    prefix_list: dict[str, PrefixList]
    port_list: dict[str, PortList]
    group: dict[str, SecurityGroup]
    instance: dict[str, Instance]

    def is_classic(self, vpc_id: str) -> bool:
        vpc = self.vpc.get(vpc_id)
        return vpc is not None and vpc.network_type is NetworkType.CLASSIC

    def nearest(self, section: str, wanted: str) -> str:
        """What would be right instead of an id that nothing has."""
        ids = self.ids[section]
        near = difflib.get_close_matches(wanted, ids, n=1) if len(ids) <= MAX_GUESSED else []
        kind = section.replace("_", " ")
        return f"the id of one of the {kind}" + (f", perhaps {near[0]}" if near else "")


def make_index(sections: Sections, drafts: Drafts, problems: Problems) -> Index:
    ids: dict[str, AbstractSet[str]] = {
        section: {str(fields.values.get(name)) for fields in getattr(sections, section)}
        for section, name in ID_FIELD.items()
    }
    return Index(
        problems,
        ids,
        {draft.record.vpc_id: draft.record for draft in drafts.vpcs},
        {draft.record.prefix_list_id: draft.record for draft in drafts.prefix_lists},
        {draft.record.port_list_id: draft.record for draft in drafts.port_lists},
        {draft.record.security_group_id: draft.record for draft in drafts.security_groups},
        {draft.record.instance_id: draft.record for draft in drafts.instances},
    )


def check_unique_ids(sections: Sections, problems: Problems) -> None:
    """Refuse the second object of a kind with an id, saying where the first is."""
    for section, name in ID_FIELD.items():
        check_unique(getattr(sections, section), name, problems)


def check_unique(objects: Iterable[Fields], name: str, problems: Problems) -> None:
    first: dict[object, Fields] = {}
    for fields in objects:
        value = fields.values.get(name)
        if not isinstance(value, str):
            continue
        if value in first:
            place = first[value].where()
            message = f"the id is taken by {place.pointer}" + (f" of {place.file}" if place.file != fields.file else "")
            where = fields.where(name)
            problems.add(where, "InvalidDocument.DuplicateId", message, value=value, expected="an id of its own")
        else:
            first[value] = fields
