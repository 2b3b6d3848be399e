"""Messages about traced packets, as kernels spell them."""

from __future__ import annotations

import pytest

from sgdataplane.host.netlink import attribute
from sgdataplane.host.nfnetlink import GENMSG
from sgdataplane.nft import uapi
from sgdataplane.nft.tracing import BY_RETURN, BY_RULE, CHAIN, HANDLE, ID, MESSAGE, TABLE, TYPE, VERDICT, parse_event

CONTINUE, RETURN = -1, -5  # NFT_CONTINUE, NFT_RETURN
INET = bytes((1, 0, 0, 0))  # of GENMSG: family, version, resource


def message(how: int, verdict: int, handle: int | None) -> bytes:
    code = attribute(uapi.VERDICT_CODE, verdict.to_bytes(4, "big", signed=True))
    found = [
        attribute(TABLE, b"sgdataplane\0"),
        attribute(CHAIN, b"steps-1\0"),
        attribute(TYPE, how.to_bytes(4, "big")),
        attribute(ID, b"\0\0\0\7"),
        attribute(VERDICT, code),
    ]
    if handle is not None:
        found.append(attribute(HANDLE, handle.to_bytes(8, "big")))
    return INET + b"".join(found)


@pytest.mark.parametrize("how", [BY_RULE, BY_RETURN], ids=["later kernels", "Linux 6.1"])
def test_a_rule_that_returns_is_told(how: int) -> None:
    assert len(INET) == GENMSG.size
    event = parse_event(uapi.kind_of(MESSAGE), message(how, RETURN, 41))
    assert event is not None
    assert (event.chain, event.handle, event.verdict) == ("steps-1", 41, "return")


def test_the_end_of_a_chain_is_no_rule() -> None:
    assert parse_event(uapi.kind_of(MESSAGE), message(BY_RETURN, CONTINUE, None)) is None
