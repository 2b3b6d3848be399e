"""Limit fragments at a router's interfaces: how many may come, and the memory that they take.

Owns these limits (docs/design/router.md says why), and the chain that applies them. It must not know what else the
fence asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sgdataplane.compiler.skeleton import make_shared_rule, text_chain
from sgdataplane.contract import names
from sgdataplane.contract.fields import Field
from sgdataplane.nft.ir import Chain, Exceeds, Match, Range, Rule, Statement, goto, is_value, jump, rule

IPV4, IPV6 = 0x0800, 0x86DD  # IEEE 802 EtherTypes
FRAGMENTED = 0x3FFF  # the bits of the flag "more fragments" and of the offset
FRAGMENTS, FRAGMENT_BYTES = Exceeds(4000, burst=2000), Exceeds(6_000_000, burst=3_000_000, is_bytes=True)
ENIS_OF_UPLINK = 4  # an uplink may carry as many fragments as this many ENIs may send
FRAGMENTS_ELSEWHERE = tuple(limit.times(ENIS_OF_UPLINK) for limit in (FRAGMENTS, FRAGMENT_BYTES))
PACKET_BYTES, BYTES_OF_BYTE = 1024, 2  # at most so much of the kernel's memory for a packet, and for each byte of it


def drop_name(cause: str) -> str:
    """Return the name of the fence's chain that drops frames for that cause."""
    return names.identifier("fence-drop", cause)


def fragments_chain(ifname: str, *limits: Exceeds) -> Chain:
    """Return the chain that limits fragments at an interface.

    Incomplete datagrams take memory that all ENIs of a router share, and it holds only a few thousand fragments. They
    take it before any policy is asked, for as long as the rest may be late.
    """
    rules = (make_shared_rule(limit, goto(drop_name("fragments"))) for limit in limits)
    return text_chain(names.identifier("fragments", ifname), rules)


def fragment_bytes(seconds: int, enis: int, uplinks: int) -> int:
    """Return how many bytes of memory fragments from so many interfaces take at most.

    `seconds` is how long the kernel keeps a fragment.
    """
    packets, size = (limit.per_second * seconds + limit.burst for limit in (FRAGMENTS, FRAGMENT_BYTES))
    return (packets * PACKET_BYTES + size * BYTES_OF_BYTE) * (enis + uplinks * ENIS_OF_UPLINK)


def parts_rules(fragments: Chain, kinds: Mapping[int, tuple[Statement, ...]]) -> Iterator[Rule]:
    """Yield rules that send fragments to their limits. `kinds` has the conditions for each EtherType."""
    is_part = Match(Field.IP_FRAGMENT, (Range.of(0),), negate=True, mask=FRAGMENTED)
    yield rule(*kinds[IPV4], is_part, jump(fragments.name))
    yield rule(*kinds[IPV6], is_value(Field.IP6_FRAGMENT, 1), jump(fragments.name))
