"""One interface as the kernel describes it, and changes to one that is named by its number.

Owns which of rtnetlink's attributes we read of a link (linux/if_link.h), and these changes. Its input is entries of
lists, and numbers. Must not know whose link it is.

Others may rename a link at any moment, or make another one of its name; its number stays. So code that has to meet one
certain link asks by number.
"""

from __future__ import annotations

import errno
import struct
import sys
from dataclasses import dataclass

from sgdataplane.host.netlink import attribute, nest, parse_attributes, text_of
from sgdataplane.host.rtnetlink import IFINFOMSG, LINK_ALIAS, LINK_MAC, LINK_NAME, TARGET, Entry, Rtnetlink

IFF_UP = 1
DELLINK, SETLINK = 17, 19  # RTM_*
# IFLA_*, linux/if_link.h
LINK_LOWER, LINK_MASTER, LINK_OPERSTATE, LINK_INFO, LINK_NSID, LINK_XDP = 5, 10, 16, 18, 37, 43
INFO_KIND, XDP_FD, XDP_ATTACHED = 1, 1, 2
OPERSTATES = ("UNKNOWN", "NOTPRESENT", "DOWN", "LOWERLAYERDOWN", "TESTING", "DORMANT", "UP")  # IF_OPER_*
NO_NSID = -1
STACKED = frozenset({"macvlan", "macvtap", "ipvlan", "ipvtap", "vlan", "macsec"})  # kinds that are on top of a link
INT = struct.Struct("=i")


@dataclass(frozen=True, slots=True)
class Link:
    """One interface."""

    ifname: str
    index: int
    kind: str  # such as veth; "" for loopback
    mac: str
    alias: str
    is_up: bool
    operstate: str  # the kernel's word, such as UP
    master: int = 0  # the index of the interface that it is a part of, such as the bridge whose port it is; 0: none
    lower: int = 0  # the index of a veth's other end, or of the interface below a macvlan or the like
    lower_nsid: int = NO_NSID  # the number of the namespace that has the lower link; NO_NSID: this one
    has_xdp: bool = False  # whether an XDP program sees its packets first

    @property
    def is_on_top_elsewhere(self) -> bool:
        """Whether it is on top of a link of another namespace."""
        return self.kind in STACKED and self.lower_nsid != NO_NSID


def link_of(entry: Entry) -> Link:
    """Return the interface that an entry describes.

    Root of a namespace names its interfaces freely; what isn't UTF-8 is escaped.
    """
    (_, _, index, flags, _), found = entry
    state = found.get(LINK_OPERSTATE, b"\0")[0]
    return Link(
        ifname=text_of(found[LINK_NAME]),
        index=index,
        kind=text_of(parse_attributes(found.get(LINK_INFO, b"")).get(INFO_KIND, b"")),
        mac=found.get(LINK_MAC, b"").hex(":"),
        alias=text_of(found.get(LINK_ALIAS, b"")),
        is_up=bool(flags & IFF_UP),
        operstate=OPERSTATES[state] if state < len(OPERSTATES) else "",
        master=int.from_bytes(found.get(LINK_MASTER, b""), sys.byteorder),
        lower=int.from_bytes(found.get(LINK_LOWER, b""), sys.byteorder),
        lower_nsid=int(INT.unpack(found[LINK_NSID])[0]) if LINK_NSID in found else NO_NSID,
        has_xdp=any(parse_attributes(found.get(LINK_XDP, b"")).get(XDP_ATTACHED, b"")),
    )


class LinkChanges:
    """Changes to links of the namespace of that socket, by their number. Errors are OSError."""

    def __init__(self, netlink: Rtnetlink) -> None:
        self._netlink = netlink

    def set_up(self, index: int, *, is_up: bool = True) -> None:
        """Set a link up, or down."""
        self._netlink.change(SETLINK, 0, IFINFOMSG.pack(0, 0, index, IFF_UP if is_up else 0, IFF_UP))

    def rename(self, index: int, ifname: str) -> None:
        """Rename a link, which has to be down: only newer kernels rename a link that is up (Linux 6.2)."""
        self._set(index, attribute(LINK_NAME, ifname.encode() + b"\0"))

    def release(self, index: int) -> None:
        """Take a link out of its bridge, bond or other master."""
        self._set(index, attribute(LINK_MASTER, INT.pack(0)))

    def set_mac(self, index: int, mac: str) -> None:
        """Set a link's MAC."""
        self._set(index, attribute(LINK_MAC, bytes.fromhex(mac.replace(":", ""))))

    def set_alias(self, index: int, alias: str) -> None:
        """Set a link's alias."""
        self._set(index, attribute(LINK_ALIAS, alias.encode()))

    def remove_xdp(self, index: int) -> None:
        """Take a link's XDP program away."""
        self._set(index, nest(LINK_XDP, [attribute(XDP_FD, INT.pack(-1))]))

    def delete(self, index: int, number: int | None = None) -> None:
        """Delete a link, if it is there.

        With `number`, the link is in the namespace that has this number in that of the socket.
        """
        target = b"" if number is None else attribute(TARGET, INT.pack(number))
        try:
            self._netlink.change(DELLINK, 0, IFINFOMSG.pack(0, 0, index, 0, 0) + target)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise

    def _set(self, index: int, what: bytes) -> None:
        self._netlink.change(SETLINK, 0, IFINFOMSG.pack(0, 0, index, 0, 0) + what)
