"""What a format module hands on: the objects of an input by kind, and the records made of them with their places.

Owns Sections (before reading) and Drafts (after it). Must not know formats or rules of validity.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Generic, TypeVar

from sgdataplane.model.state import Eni, Instance, PortList, PrefixList, SecurityGroup, SecurityGroupRule, Vpc
from sgdataplane.policy.findings import Finding
from sgdataplane.statefile.fields import Fields
from sgdataplane.statefile.memory import Memory
from sgdataplane.statefile.problems import Problems

R = TypeVar("R")


@dataclass(slots=True)
class Sections:
    """Objects by kind, under native names. `unknown_groups` are groups known by id only, as remotes. Where a file or an
    answer is missing, `is_complete` is false: everything that refers to it would be reported as wrong too.
    `memory`: what an earlier load left."""

    vpcs: list[Fields] = field(default_factory=list)
    prefix_lists: list[Fields] = field(default_factory=list)
    port_lists: list[Fields] = field(default_factory=list)
    security_groups: list[Fields] = field(default_factory=list)
    instances: list[Fields] = field(default_factory=list)
    network_interfaces: list[Fields] = field(default_factory=list)
    unknown_groups: set[str] = field(default_factory=set)
    is_complete: bool = True
    memory: Memory = field(default_factory=Memory)
    coming: dict[str, list[Iterable[Fields]]] = field(default_factory=dict)

    def expect(self, kind: str, objects: Iterable[Fields]) -> None:
        """More objects of a kind, not looked at before they are asked for: of a document that is wrong all over, most
        never are."""
        self.coming.setdefault(kind, []).append(objects)

    def objects(self, kind: str, problems: Problems) -> Iterator[Fields]:
        """All objects of a kind; afterwards they are in its list. A problem if they are too many to be a state's."""
        known: list[Fields] = getattr(self, kind)
        yield from known
        for fields in chain.from_iterable(self.coming.pop(kind, ())):
            known.append(fields)
            if not problems.takes(known, fields.where()):
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
    """Records before they are checked against each other, and what was odd while reading them."""

    vpcs: list[Draft[Vpc]] = field(default_factory=list)
    prefix_lists: list[Draft[PrefixList]] = field(default_factory=list)
    port_lists: list[Draft[PortList]] = field(default_factory=list)
    security_groups: list[GroupDraft] = field(default_factory=list)
    instances: list[Draft[Instance]] = field(default_factory=list)
    network_interfaces: list[Draft[Eni]] = field(default_factory=list)
    unknown_groups: frozenset[str] = frozenset()
    findings: list[Finding] = field(default_factory=list)
