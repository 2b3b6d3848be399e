"""Permanent neighbour entries of one namespace: which MAC an address has on a link, without asking the link.

Owns these messages (linux/neighbour.h). Its input is a namespace's name and plain values. Must not know labs or policy.

The kernel limits the entries that it learns by itself, for all namespaces together (`gc_thresh3`), and refuses new ones
beyond that. Permanent entries don't count towards the limit, and nobody can push them out.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from sgdataplane.host import netns
from sgdataplane.host.links import AF, FAMILIES, RTPROT_OURS
from sgdataplane.host.netlink import attribute, refusals_of, text_of
from sgdataplane.host.rtnetlink import LINK_NAME, NDMSG, Rtnetlink
from sgdataplane.net.values import Address

NEWNEIGH, DELNEIGH = 28, 29  # RTM_*
NLM_F_REPLACE, NLM_F_CREATE = 0x100, 0x400
PERMANENT = 0x80  # NUD_PERMANENT
TARGET, MAC, PROTOCOL = 1, 2, 12  # NDA_*


@dataclass(frozen=True, slots=True, order=True)
class Neighbour:
    """An address at an interface, and its MAC."""

    ifname: str
    address: Address
    mac: str


def introduce(
    namespace: str,
    wanted: Iterable[Neighbour],
    known: Iterable[Neighbour] | None = None,
    pinned: Mapping[str, int] | None = None,
) -> int:
    """Make these our permanent entries in the namespace, and no others; return the number of changes.

    Entries of interfaces that aren't there, or are down, are left out.

    Args:
        namespace: Its name.
        wanted: The entries.
        known: Those that are there, and may go; None: the kernel is asked.
        pinned: As for `Links`.

    Raises:
        HostError: The kernel refuses.
    """
    with netns.inside(namespace), Rtnetlink() as netlink, refusals_of(f"neighbour entries of namespace {namespace}"):
        fixed = dict(pinned or {})
        if known is not None:
            return _introduce(netlink, set(wanted), set(known), _some_indices(netlink, {*wanted, *known}) | fixed)
        index = {text_of(found[LINK_NAME]): fields[2] for fields, found in netlink.links()} | fixed
        return _introduce(
            netlink, set(wanted), set(_ours(netlink, {number: name for name, number in index.items()})), index
        )


def _some_indices(netlink: Rtnetlink, entries: Iterable[Neighbour]) -> dict[str, int]:
    found = {ifname: netlink.link(ifname) for ifname in {entry.ifname for entry in entries}}
    return {ifname: entry[0][2] for ifname, entry in found.items() if entry is not None}


def _introduce(netlink: Rtnetlink, wanted: set[Neighbour], known: set[Neighbour], index: Mapping[str, int]) -> int:
    kept = {(entry.ifname, entry.address) for entry in wanted}
    gone = [entry for entry in known - wanted if (entry.ifname, entry.address) not in kept]
    surplus = [entry for entry in gone if entry.ifname in index]
    missing = [entry for entry in wanted - known if entry.ifname in index]
    for entry in sorted(surplus):
        _change(netlink, DELNEIGH, 0, entry, index[entry.ifname])
    for entry in sorted(missing):
        _change(netlink, NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, entry, index[entry.ifname])
    return len(surplus) + len(missing)


def _ours(netlink: Rtnetlink, names: dict[int, str]) -> Iterator[Neighbour]:
    for (family, number, state, _, _), found in netlink.neighbours():
        is_ours = state & PERMANENT and found.get(PROTOCOL) == bytes([RTPROT_OURS])
        if is_ours and family in FAMILIES and number in names:
            address = Address(FAMILIES[family].bits, int.from_bytes(found[TARGET]))
            yield Neighbour(names[number], address, found.get(MAC, b"").hex(":"))


def _change(netlink: Rtnetlink, kind: int, flags: int, entry: Neighbour, index: int) -> None:
    """Add or delete one entry; no error if the one to be deleted is gone."""
    address, mac = entry.address, bytes.fromhex(entry.mac.replace(":", ""))
    header = NDMSG.pack(AF[address.family], index, PERMANENT, 0, 0)
    said = attribute(TARGET, address.value.to_bytes(address.family_bits // 8)) + attribute(MAC, mac)
    try:
        netlink.change(kind, flags, header + said + attribute(PROTOCOL, bytes([RTPROT_OURS])))
    except OSError as error:
        if kind != DELNEIGH or error.errno not in (errno.ENOENT, errno.ENODEV):
            raise
