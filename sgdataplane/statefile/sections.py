"""What a format module hands on: the objects of an input by kind, the records made of them, and both by id.

Owns Sections (before reading), Drafts (after it) and Index (for checks of one record against another). Must not know
formats, nor what is valid.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import chain
from typing import Generic, TypeVar

from sgdataplane.errors import Where
from sgdataplane.model.pending import PendingEni
from sgdataplane.model.state import (
    Eni,
    Instance,
    NetworkType,
    PortList,
    PrefixList,
    SecurityGroup,
    SecurityGroupRule,
    Vpc,
)
from sgdataplane.policy.findings import Finding
from sgdataplane.statefile.fields import Fields
from sgdataplane.statefile.memory import Memory
from sgdataplane.statefile.problems import Problems

R = TypeVar("R")
ID_FIELD = {
    "vpcs": "vpc_id",
    "prefix_lists": "prefix_list_id",
    "port_lists": "port_list_id",
    "security_groups": "security_group_id",
    "instances": "instance_id",
    "network_interfaces": "network_interface_id",
}
MAX_GUESSED = 500  # guessing the right spelling among more ids costs too much: 30 us an id and problem


@dataclass(slots=True)
class Sections:
    """The objects of an input by kind, under native names."""

    vpcs: list[Fields] = field(default_factory=list)
    prefix_lists: list[Fields] = field(default_factory=list)
    port_lists: list[Fields] = field(default_factory=list)
    security_groups: list[Fields] = field(default_factory=list)
    instances: list[Fields] = field(default_factory=list)
    network_interfaces: list[Fields] = field(default_factory=list)
    pending: list[PendingEni] = field(default_factory=list)
    """Interfaces that have no address yet."""
    unknown_groups: set[str] = field(default_factory=set)
    """Groups that rules name as remotes and of which only the id is known."""
    is_complete: bool = True
    """False where a file or an answer is missing: whatever refers to it would be reported as wrong, too."""
    inexact: str = "refuse"
    """What becomes of another cloud's rules that can't be expressed exactly (allowonly.py)."""
    has_quotas: bool = True
    """Whether the cloud's quotas apply, as they do to its own groups."""
    memory: Memory = field(default_factory=Memory)
    """What an earlier load left."""
    addresses: dict[tuple[str, str], str] = field(default_factory=dict)
    """Terraform's address of the object at a place (file, pointer)."""
    coming: dict[str, list[Iterable[Fields]]] = field(default_factory=dict)
    """Objects by kind that haven't been examined yet."""

    def expect(self, kind: str, objects: Iterable[Fields]) -> None:
        """Add objects of a kind that are examined only when they are needed.

        In a document that is wrong all over, most never are.
        """
        self.coming.setdefault(kind, []).append(objects)

    def objects(self, kind: str, problems: Problems) -> Iterator[Fields]:
        """Yield all objects of a kind; afterwards they are in its list.

        If there are too many for a state, note a problem and end.
        """
        known: list[Fields] = getattr(self, kind)
        yield from known
        for fields in chain.from_iterable(self.coming.pop(kind, ())):
            known.append(fields)
            if not problems.takes(known, fields.where):
                return
            yield fields


@dataclass(frozen=True, slots=True)
class Draft(Generic[R]):
    """A record, and where it came from."""

    record: R
    fields: Fields


@dataclass(frozen=True, slots=True)
class GroupDraft:
    """A group and its rules, each with its place; `record.rules` holds the same rules, sorted."""

    record: SecurityGroup
    fields: Fields
    rules: tuple[Draft[SecurityGroupRule], ...]


@dataclass(slots=True)
class Drafts:
    """Records before they are checked against each other."""

    vpcs: list[Draft[Vpc]] = field(default_factory=list)
    prefix_lists: list[Draft[PrefixList]] = field(default_factory=list)
    port_lists: list[Draft[PortList]] = field(default_factory=list)
    security_groups: list[GroupDraft] = field(default_factory=list)
    instances: list[Draft[Instance]] = field(default_factory=list)
    network_interfaces: list[Draft[Eni]] = field(default_factory=list)
    unknown_groups: frozenset[str] = frozenset()
    findings: list[Finding] = field(default_factory=list)
    """What was odd while they were read."""


@dataclass(frozen=True, slots=True)
class Index:
    """Records by id, for checks of one against another."""

    problems: Problems
    """Gets what is wrong between records."""
    ids: dict[str, AbstractSet[str]]
    """Every id that the input gives, by section, even of refused objects.

    A reference to a refused object isn't reported as well.
    """
    vpc: dict[str, Vpc]
    prefix_list: dict[str, PrefixList]
    port_list: dict[str, PortList]
    group: dict[str, SecurityGroup]

    def refuse(self, where: Where, code: str, message: str, value: str, expected: str) -> None:
        """Note a problem."""
        self.problems.add(where, code, message, value=value, expected=expected)

    def check_known(self, where: Where, code: str, what: str, section: str, wanted: str) -> None:
        """Refuse an id that nothing in a section has; `what` says what it should be the id of."""
        ids = self.ids[section]
        if wanted not in ids:
            near = difflib.get_close_matches(wanted, ids, n=1) if len(ids) <= MAX_GUESSED else []
            expected = f"the id of one of the {section.replace('_', ' ')}" + (f", perhaps {near[0]}" if near else "")
            self.refuse(where, code, f"{what} is not in the state", wanted, expected)

    def is_classic(self, vpc_id: str) -> bool:
        """Return whether a VPC's record is that of a classic network; False if it isn't known."""
        vpc = self.vpc.get(vpc_id)
        return vpc is not None and vpc.network_type is NetworkType.CLASSIC


def make_index(sections: Sections, drafts: Drafts, problems: Problems) -> Index:
    """Return an index of the records and of all ids."""
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
    )
