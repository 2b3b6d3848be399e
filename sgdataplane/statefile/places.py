"""Where the objects of a state come from: the place in a file, and Terraform's address of the resource.

Owns Origins. Is given drafts. Must not know formats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sgdataplane.errors import Where
from sgdataplane.statefile.fields import Fields
from sgdataplane.statefile.sections import Drafts, Sections

Key = tuple[str, ...]  # the id of a group or an ENI; or the ids of a group and a rule


@dataclass(frozen=True, slots=True)
class Origins:
    """Where groups, rules and ENIs come from, by their ids."""

    addresses: Mapping[Key, str] = field(default_factory=dict)
    """The addresses of Terraform's resources; empty for other formats."""
    places: Mapping[Key, Where] = field(default_factory=dict)
    """The places in files, without lines; empty unless they were asked for."""

    def address(self, *ids: str) -> str:
        """Return the address of the resource; "" if Terraform didn't make it."""
        return self.addresses.get(tuple(filter(None, ids)), "")

    def as_json(self) -> dict[str, object]:
        """Return the addresses by `GROUP`, `GROUP/RULE` or `ENI`, as JSON outputs have them; {} for other formats."""
        named = {"/".join(key): address for key, address in sorted(self.addresses.items())}
        return {"addresses": named} if named else {}

    def place(self, *ids: str) -> Where | None:
        """Return the place of a rule, or else of its group; None if neither is known."""
        return self.places.get(ids) or self.places.get(ids[:1])


def places_of(sections: Sections, drafts: Drafts, *, with_places: bool) -> Origins:
    """Return where the records come from, as far as it is known and wanted."""
    found = list(_objects(drafts)) if with_places or sections.addresses else []
    addresses = {key: address for key, fields in found if (address := _address(sections, fields))}
    return Origins(addresses, {key: fields.where() for key, fields in found} if with_places else {})


def _objects(drafts: Drafts) -> Iterator[tuple[Key, Fields]]:
    for group in drafts.security_groups:
        group_id = group.record.security_group_id
        yield (group_id,), group.fields
        for rule in group.rules:
            yield (group_id, rule.record.security_group_rule_id), rule.fields
    for eni in drafts.network_interfaces:
        yield (eni.record.network_interface_id,), eni.fields


def _address(sections: Sections, fields: Fields) -> str:
    """Return the address of the resource that an object stands in, and behind it the path to the object.

    An example is `aws_security_group.db.ingress[0]`.
    """
    pointer, inside = fields.pointer, ""
    while pointer:
        address = sections.addresses.get((fields.file, pointer))
        if address is not None:
            return address + inside
        pointer, _, token = pointer.rpartition("/")
        inside = f"[{token}]{inside}" if token.isdecimal() else f".{token}{inside}"
    return ""
