"""No address belongs to two ENIs of one VPC: found in one sweep over sorted intervals.

Owns that check. Is given ENIs with their places. Must not know anything else about them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sgdataplane.model.state import Eni
from sgdataplane.net.values import Address, Prefix
from sgdataplane.statefile.problems import Problems
from sgdataplane.statefile.sections import Draft


@dataclass(frozen=True, slots=True)
class Held:
    """An address or delegated prefix of an ENI, as an interval, and the field that gives it."""

    first: int
    last: int
    name: str
    text: str
    draft: Draft[Eni]


def check_overlaps(enis: Iterable[Draft[Eni]], problems: Problems) -> None:
    """Refuse every address that lies in one held before it, within each VPC and family."""
    by_space: dict[tuple[str, int], list[Held]] = {}
    for draft in enis:
        for bits, held in held_by(draft):
            by_space.setdefault((draft.record.vpc_id, bits), []).append(held)
    for holders in by_space.values():
        sweep(sorted(holders, key=lambda held: (held.first, -held.last)), problems)


def sweep(holders: list[Held], problems: Problems) -> None:
    """Blocks nest or are disjoint, so only the one that reaches furthest so far can overlap the next."""
    furthest: Held | None = None
    for held in holders:
        if furthest is not None and held.first <= furthest.last:
            refuse(held, furthest, problems)
        if furthest is None or held.last > furthest.last:
            furthest = held


def refuse(held: Held, other: Held, problems: Problems) -> None:
    """An ENI may hold an address inside its own delegated prefix, but nothing twice."""
    is_same = held.draft is other.draft
    if is_same and (held.first, held.last) != (other.first, other.last):
        return
    owner = "the ENI itself" if is_same else other.draft.record.network_interface_id
    message = f"{held.text} is taken by {owner} ({other.text})"
    where = held.draft.fields.where_is(held.name, held.text)
    expected = "an address of its own in the VPC"
    problems.add(where, "InvalidIp.IpAssigned", message, value=held.text, expected=expected)


def held_by(draft: Draft[Eni]) -> Iterator[tuple[int, Held]]:
    eni = draft.record
    singles: tuple[tuple[str, tuple[Address, ...]], ...] = (
        ("private_ip_addresses", eni.private_ip_addresses),
        ("ipv6_addresses", eni.ipv6_addresses),
    )
    for name, addresses in singles:
        for address in addresses:
            yield address.family_bits, Held(address.value, address.value, name, str(address), draft)
    blocks: tuple[tuple[str, tuple[Prefix, ...]], ...] = (
        ("ipv4_prefixes", eni.ipv4_prefixes),
        ("ipv6_prefixes", eni.ipv6_prefixes),
    )
    for name, prefixes in blocks:
        for prefix in prefixes:
            yield prefix.family_bits, Held(prefix.first, prefix.last, name, str(prefix), draft)
