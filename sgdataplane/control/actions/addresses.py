"""Which addresses an ENI gets where its call names none.

Owns the choice. Must not know actions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

from sgdataplane.control.actions.scope import Scope
from sgdataplane.control.calls.answers import FORBIDDEN, ApiError
from sgdataplane.net.values import Address, Prefix
from sgdataplane.store.documents import ADDRESSES, Fields, ResourceKind, about, state_in, texts

RESERVED = 3  # addresses at a block's end, which the cloud keeps
LENGTHS = {"ipv4_prefixes": 28, "ipv6_prefixes": 80}


class Chooser:
    """Chooses free addresses of a VSwitch, the lowest first."""

    def __init__(self, scope: Scope, vpc_id: str, switch_id: str) -> None:
        self._scope, self._vpc_id, self._switch_id = scope, vpc_id, switch_id

    def choose(self, count: int, besides: Iterable[str] = ()) -> list[str]:
        if not count:
            return []
        block = self._ipv4_block()
        numbers = range(block.first + 1, block.last - RESERVED + 1)
        kept = [one for one in self._reserved() if one.family is block.family]
        free = (number for number in numbers if not any(one.first <= number <= one.last for one in kept))
        return self._free(block.family_bits, free, count, set(besides))

    def choose_ipv6(self, count: int) -> list[str]:
        """Of the VSwitch's own block; of the VPC's if it has none."""
        if not count:
            return []
        block = self._ipv6_block()
        if block is None:
            raise ApiError("InvalidVSwitch.Ipv6NotTurnOn", f"{self._vpc_id} has no IPv6 block", FORBIDDEN)
        return self._free(128, range(block.first + 16, block.last), count, set())

    def choose_prefix(self, name: str, count: int) -> list[str]:
        """Delegated blocks: of what the VSwitch reserves for them, else of all of it, from the end downwards."""
        block = self._ipv6_block() if name == "ipv6_prefixes" else self._ipv4_block()
        length, found = LENGTHS[name], list[str]()
        block = next((one for one in self._reserved() if block and one.family is block.family), block)
        if block is None or block.length > length:
            raise ApiError("InvalidParameter.PrefixCount", f"the VSwitch has no block for {name}", FORBIDDEN)
        size, new = 1 << (block.family_bits - length), set(self._own_new())
        for number in range(block.last + 1 - 2 * size, block.first, -size):
            if len(found) == count:
                break
            prefix = Prefix(block.family_bits, number, length)
            if str(prefix) not in new and not self._is_taken(prefix):
                found.append(str(prefix))
        return found

    def _ipv4_block(self) -> Prefix:
        return Prefix.parse(str(self._scope.workspace.state(ResourceKind.VSWITCH, self._switch_id)["cidr_block"]))

    def _ipv6_block(self) -> Prefix | None:
        own = self._scope.workspace.state(ResourceKind.VSWITCH, self._switch_id).get("ipv6_cidr_block")
        blocks = texts(self._scope.workspace.state(ResourceKind.VPC, self._vpc_id), "cidr_blocks")
        return next((Prefix.parse(text) for text in (str(own or ""), *blocks) if ":" in text), None)

    def _reserved(self) -> list[Prefix]:
        """Blocks of the VSwitch that are for delegated prefixes."""
        body = self._scope.find(ResourceKind.VSWITCH, self._switch_id)
        blocks = cast("dict[str, Fields]", about(body).get("reservations", {}))
        return [Prefix.parse(str(one["block"])) for one in blocks.values()]

    def _free(self, bits: int, numbers: Iterable[int], count: int, besides: set[str]) -> list[str]:
        found: list[str] = []
        new = {*besides, *self._own_new()}
        for number in numbers:
            address = Address(bits, number)
            if str(address) not in new and not self._is_taken(Prefix.of(address)):
                found.append(str(address))
            if len(found) == count:
                return found
        raise ApiError("InvalidVSwitchId.IpNotEnough", f"{self._switch_id} has no free address left", FORBIDDEN)

    def _is_taken(self, prefix: Prefix) -> bool:
        taken = self._scope.workspace.documents.taken
        return any(True for _ in taken.others(self._vpc_id, prefix))

    def _own_new(self) -> Iterator[str]:
        """Addresses and prefixes of the ENIs that this call makes, as they are written: nobody has checked them yet."""
        for path, body in self._scope.workspace.puts.items():
            if path.startswith(f"{ResourceKind.ENI}/"):
                for name in ADDRESSES:
                    yield from texts(state_in(body), name)
