"""The conntrack marks of the calling thread's network namespace: clearing those that have had their day.

Owns the shape of these ctnetlink requests (linux/netfilter/nfnetlink_conntrack.h). Is given numbers.
Must not know what a mark means.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Container, Iterable, Iterator, Mapping

from sgdataplane.errors import HostError
from sgdataplane.host import sysctl
from sgdataplane.host.modules import COUNT, is_tracking
from sgdataplane.host.netlink import attribute, nested
from sgdataplane.host.nfnetlink import Nfnetlink, message_kind

CTNETLINK, CT_NEW, CT_GET = 1, 0, 1
CTA_TUPLE_ORIG, CTA_MARK, CTA_ZONE, CTA_MARK_MASK = 1, 8, 18, 21


def clear_mark_fields(fields: Iterable[int], values: Container[int]) -> int:
    """In every session's mark, set each field (a mask) to 0 whose value is one of `values`; how many were set.

    Other fields of the mark aren't touched, though the kernel may be writing them at the moment. Sessions that end
    meanwhile don't matter. HostError if the kernel refuses.

    Where there is no session none is asked for: the kernel goes through those of all namespaces (10 ms).
    """
    masks, cleared = tuple(fields), 0
    with Nfnetlink() as netlink:
        if not is_tracking(netlink) or sysctl.read(COUNT) == "0":
            return 0
        try:
            for family, entry in netlink.dump(message_kind(CTNETLINK, CT_GET)):
                mark = int.from_bytes(entry.get(CTA_MARK, b""), "big")
                for mask in _stale(mark, masks, values):
                    cleared += _clear(netlink, family, entry, mask)
        except OSError as error:
            raise HostError("conntrack marks", os.strerror(error.errno or 0)) from error
    return cleared


def _stale(mark: int, masks: Iterable[int], values: Container[int]) -> Iterator[int]:
    for mask in masks:
        value = (mark & mask) // (mask & -mask)  # shifted down by the mask's trailing zeros
        if value and value in values:
            yield mask


def _clear(netlink: Nfnetlink, family: int, entry: Mapping[int, bytes], mask: int) -> bool:
    """Set one field of one session to 0; False if the session has ended. The kernel takes its tuple as it gave it."""
    parts = [nested(CTA_TUPLE_ORIG, [entry[CTA_TUPLE_ORIG]]), attribute(CTA_MARK, bytes(4))]
    parts.append(attribute(CTA_MARK_MASK, mask.to_bytes(4, "big")))
    if CTA_ZONE in entry:
        parts.append(attribute(CTA_ZONE, entry[CTA_ZONE]))
    try:
        netlink.tell(message_kind(CTNETLINK, CT_NEW), family, b"".join(parts))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True
