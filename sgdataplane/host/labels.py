"""What the interfaces of a network namespace are called there, asked from outside.

Owns what is read of the answer (by host/rtnetlink.py: pyroute2 is twenty times slower, and who looks at all namespaces
of a host asks often). Is given the number that a namespace has in ours (host/events.py). Must not know what names mean.
"""

from __future__ import annotations

from dataclasses import dataclass

from sgdataplane.errors import HostError
from sgdataplane.host.netlink import text_of
from sgdataplane.host.rtnetlink import LINK_ALIAS, LINK_MAC, LINK_NAME, Entry, Rtnetlink

IFF_LOOPBACK = 8
MOST = 2000  # interfaces of a namespace: who makes more keeps us from looking at theirs, and no others


@dataclass(frozen=True, slots=True)
class Label:
    """What an interface says of itself: any bytes that who is root there likes; what is no UTF-8 is escaped. `mac` is
    in small letters, "" for none."""

    ifname: str
    alias: str
    mac: str
    is_loopback: bool = False


def labels_of(number: int) -> tuple[Label, ...]:
    """Of all interfaces of that namespace, up or down. HostError if there is none of that number, or too many in it."""
    try:
        with Rtnetlink() as netlink:
            return tuple(_label(entry) for entry in netlink.links(number, MOST))
    except OSError as error:
        raise HostError(f"namespace of number {number}", error.strerror or str(error)) from error


def _label(entry: Entry) -> Label:
    (_, _, _, flags, _), said = entry
    return Label(
        text_of(said.get(LINK_NAME, b"")),
        text_of(said.get(LINK_ALIAS, b"")),
        said.get(LINK_MAC, b"").hex(":"),
        bool(flags & IFF_LOOPBACK),
    )
