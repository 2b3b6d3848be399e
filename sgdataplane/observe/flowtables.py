"""Who else carries packets past our hooks: the flowtables of a namespace, all of which are others'.

Owns the numbers of these messages (linux/netfilter/nf_tables.h). Is asked in a namespace. Must not know rules, or what
is done about it.

A flowtable takes established sessions over from conntrack, by a rule `flow add` in a forward chain. From then on their
packets go from the netdev ingress hook of one of its devices straight to the interface that they leave by: they meet
neither prerouting nor postrouting. Not seen: sessions that tc (act_ct) or Open vSwitch has a network card forward, BPF.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from sgdataplane.errors import HostError
from sgdataplane.host.netlink import list_attributes, parse_attributes, text_of
from sgdataplane.host.nfnetlink import Nfnetlink, message_kind
from sgdataplane.model.options import Placement
from sgdataplane.observe.markusers import FAMILIES, SUBSYSTEM

GETFLOWTABLE = 23  # NFT_MSG_*
TABLE, NAME, HOOK, FLAGS = 1, 2, 3, 7  # NFTA_FLOWTABLE_*
DEVICES = 3  # NFTA_FLOWTABLE_HOOK_DEVS
MOST = 100  # who makes more is complained of often enough
IN_HARDWARE = 1  # NFT_FLOWTABLE_HW_OFFLOAD
CONSEQUENCES = {
    Placement.INSTANCE: "the fence drops what it sends out of an ENI, so that sessions which it takes over stall",
    Placement.HOST: "they are neither counted nor logged, and one that a change refuses stops once the change is "
    "applied, not at its next packet",
}


@dataclass(frozen=True, slots=True)
class Flowtable:
    """As `nft list flowtables` shows it. `devices`: where it takes packets up."""

    family: str
    table: str
    name: str
    devices: tuple[str, ...]
    is_in_hardware: bool

    def complaint(self, placement: Placement) -> str:
        """What somebody should know, in one line."""
        where = f"flowtable {self.family} {self.table} {self.name} ({', '.join(self.devices) or 'no device'})"
        hardware = ", some in hardware, where we don't see them" if self.is_in_hardware else ""
        return f"{where} carries sessions past the policy{hardware}: {CONSEQUENCES[placement]}"


def read_flowtables() -> tuple[Flowtable, ...]:
    """In the calling thread's namespace, in the order of tables, up to MOST. HostError if the kernel refuses."""
    with Nfnetlink() as door:
        try:
            found = door.dump(message_kind(SUBSYSTEM, GETFLOWTABLE))
            return tuple(parse_flowtable(*entry) for entry in found[:MOST])
        except OSError as error:
            raise HostError("nftables flowtables", os.strerror(error.errno or 0)) from error


def parse_flowtable(family: int, found: Mapping[int, bytes]) -> Flowtable:
    """A flowtable from a message's attributes."""
    devices = parse_attributes(found.get(HOOK, b"")).get(DEVICES, b"")
    return Flowtable(
        FAMILIES.get(family, str(family)),
        text_of(found[TABLE]),
        text_of(found[NAME]),
        tuple(sorted(text_of(name) for _, name in list_attributes(devices))),
        bool(int.from_bytes(found.get(FLAGS, b""), "big") & IN_HARDWARE),
    )
