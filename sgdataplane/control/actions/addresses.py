"""The choice of addresses for ENIs whose call names none.

It counts in intervals, as a block may have more numbers than anybody can walk. Must not know actions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice

from sgdataplane.control.actions.scope import Scope
from sgdataplane.control.calls.answers import FORBIDDEN, ApiError
from sgdataplane.net.ranges import Interval, Ranges, minus, unite
from sgdataplane.net.values import Address, Family, Prefix
from sgdataplane.store.bodies import ENIS
from sgdataplane.store.documents import ADDRESSES, ResourceKind, texts

# Addresses at a block's start and at its end, which the cloud keeps.
KEPT = {Family.IPV4: (1, 3), Family.IPV6: (16, 1)}
LENGTHS = {"ipv4_prefixes": 28, "ipv6_prefixes": 80}
MAX_LOOKED_UP = 64  # taken blocks that are passed one by one; a walk over all of a large VPC takes as long


class Chooser:
    """Chooses free addresses of a VSwitch, the lowest first."""

    def __init__(self, scope: Scope, vpc_id: str, switch_id: str) -> None:
        self._scope, self._vpc_id, self._switch_id = scope, vpc_id, switch_id

    def choose(self, count: int, besides: Iterable[str] = ()) -> list[str]:
        """Return so many private addresses, none of which is among `besides`.

        Raises:
            ApiError: There aren't so many free ones.
        """
        return self._addresses(self._ipv4_block(), count, besides) if count else []

    def choose_ipv6(self, count: int) -> list[str]:
        """Return addresses of the VSwitch's own IPv6 block, or of the VPC's if it has none.

        Raises:
            ApiError: There is no block, or there aren't so many free addresses.
        """
        if not count:
            return []
        block = self._ipv6_block()
        if block is None:
            raise ApiError("InvalidVSwitch.Ipv6NotTurnOn", f"{self._vpc_id} has no IPv6 block", FORBIDDEN)
        return self._addresses(block, count)

    def choose_prefix(self, name: str, count: int) -> list[str]:
        """Return delegated blocks, from the end downwards.

        They are taken from what the VSwitch reserves for them, or else from all of it. `name` is the ENI's field.

        Raises:
            ApiError: There aren't so many free ones.
        """
        block, length = self._ipv6_block() if name == "ipv6_prefixes" else self._ipv4_block(), LENGTHS[name]
        reserved = [one for one in self._list_reserved() if block is not None and one.family is block.family]
        outer = [one for one in reserved or (() if block is None else (block,)) if one.length <= length]
        if block is None or not outer:
            raise ApiError("InvalidParameter.PrefixCount", f"the VSwitch has no block for {name}", FORBIDDEN)
        found = islice((one for each in outer for one in self._free_prefixes(block, each, length)), count)
        return self._so_many(map(str, found), count)

    def _addresses(self, block: Prefix, count: int, besides: Iterable[str] = ()) -> list[str]:
        used, bits = [*self._list_reserved(), *self._own_new(), *_parse_all(besides)], block.family_bits
        numbers = islice(self._free_numbers(block, _free(block, block, used)), count)
        return self._so_many((str(Address(bits, number)) for number in numbers), count)

    def _free_numbers(self, block: Prefix, free: Ranges) -> Iterator[int]:
        """Yield the numbers among these that no ENI has.

        The first ones are looked up one by one. If most of them are taken, everything that is taken is read once
        instead.
        """
        bits, passed = block.family_bits, 0
        for first, last in free:
            number = first
            while number <= last:
                taken = next(self._find_taken(Prefix(bits, number, bits)), None)
                if taken is None:
                    yield number
                number, passed = (number + 1, passed) if taken is None else (taken.last + 1, passed + 1)
                if passed > MAX_LOOKED_UP:
                    left = minus(free, unite([(0, number - 1), *_intervals(self._find_taken(block), block)]))
                    yield from (one for start, end in left for one in range(start, end + 1))
                    return

    def _free_prefixes(self, block: Prefix, outer: Prefix, length: int) -> Iterator[Prefix]:
        """Yield the free blocks of a length within another one, the last first."""
        size = 1 << (block.family_bits - length)
        for first, last in reversed(_free(block, outer, [*self._find_taken(outer), *self._own_new()])):
            for number in range((last + 1) // size * size - size, first - 1, -size):
                yield Prefix(block.family_bits, number, length)

    def _so_many(self, found: Iterable[str], count: int) -> list[str]:
        chosen = [*found]
        if len(chosen) < count:
            raise ApiError("InvalidVSwitchId.IpNotEnough", f"{self._switch_id} has no free address left", FORBIDDEN)
        return chosen

    def _ipv4_block(self) -> Prefix:
        return Prefix.parse(self._scope.vswitches.state(self._switch_id)["cidr_block"])

    def _ipv6_block(self) -> Prefix | None:
        own = self._scope.vswitches.state(self._switch_id).get("ipv6_cidr_block", "")
        blocks = self._scope.vpcs.state(self._vpc_id).get("cidr_blocks", [])
        return next((Prefix.parse(text) for text in (own, *blocks) if ":" in text), None)

    def _list_reserved(self) -> list[Prefix]:
        """Return the blocks of the VSwitch that are reserved for delegated prefixes."""
        blocks = self._scope.vswitches.find(self._switch_id).about.get("reservations", {})
        return [Prefix.parse(one["block"]) for one in blocks.values()]

    def _find_taken(self, prefix: Prefix) -> Iterator[Prefix]:
        return self._scope.workspace.documents.taken.find_overlapping(self._vpc_id, prefix)

    def _own_new(self) -> Iterator[Prefix]:
        """Yield addresses and prefixes of the ENIs that this call makes, which nobody has checked yet."""
        for path, body in self._scope.workspace.puts.items():
            if path.startswith(f"{ResourceKind.ENI}/"):
                for name in ADDRESSES:
                    yield from _parse_all(texts(ENIS.state_in(body), name))


def _parse_all(written: Iterable[str]) -> Iterator[Prefix]:
    """Yield the texts that are addresses or prefixes. All others are refused when the call is checked."""
    for text in written:
        with suppress(ValueError):
            yield Prefix.parse(str(text))


def _free(block: Prefix, outer: Prefix, used: Iterable[Prefix]) -> Ranges:
    """Return what is left of `outer`, which lies in a VSwitch's block, without what is used and what no ENI gets."""
    start, end = KEPT[block.family]
    kept: list[Interval] = [
        (block.first, min(block.last, block.first + start - 1)),
        (max(block.first, block.last - end + 1), block.last),
    ]
    return minus(((outer.first, outer.last),), unite([*kept, *_intervals(used, block)]))


def _intervals(prefixes: Iterable[Prefix], block: Prefix) -> Iterator[Interval]:
    """Return those of the block's family as intervals."""
    return ((one.first, one.last) for one in prefixes if one.family is block.family)
