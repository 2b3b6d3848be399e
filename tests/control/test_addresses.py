"""Which addresses are chosen, held against a choice that tries every number of a small block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from sgdataplane.control.actions import addresses
from sgdataplane.net.values import Address, Prefix
from sgdataplane.store.interface import Json
from tests.support.inputs.controlling import Client, eni

BLOCK = Prefix.parse("10.0.0.0/26")
NUMBERS = range(BLOCK.first, BLOCK.last + 1)
KEPT = {NUMBERS[0], *NUMBERS[-3:]}  # by the cloud
TOO_FEW = "InvalidVSwitchId.IpNotEnough"
TRIED = settings(max_examples=100, deadline=None)


def text(number: int) -> str:
    return str(Address(32, number))


def parts(numbers: set[int]) -> list[Prefix]:
    """The blocks of 16 of these numbers, 0 to 3."""
    return [Prefix(32, BLOCK.first + 16 * number, 28) for number in sorted(numbers)]


def within(blocks: list[Prefix]) -> set[int]:
    return {number for one in blocks for number in range(one.first, one.last + 1)}


@dataclass
class Neighbours:
    """What others have of a VSwitch's block, and what it reserves. `looked_up`: how many taken addresses are passed one
    by one."""

    taken: set[int]
    delegated: set[int]
    reserved: set[int]
    looked_up: int

    @property
    def used(self) -> set[int]:
        return self.taken | within(parts(self.delegated))

    def make(self) -> tuple[Client, dict[str, Json]]:
        """A client, and what a call names that makes an ENI in that VSwitch."""
        client = Client()
        where: dict[str, Json] = {"VpcId": client.text("CreateVpc", "VpcId", CidrBlock="10.0.0.0/16"), "ZoneId": "a"}
        group = client.group(str(where["VpcId"]))
        switch, far = (
            client.text("CreateVSwitch", "VSwitchId", **where, CidrBlock=block) for block in (str(BLOCK), "10.0.9.0/24")
        )
        for part in map(str, parts(self.reserved)):
            client("vpc:CreateVSwitchCidrReservation", VSwitchId=switch, VSwitchCidrReservationCidr=part)
        own = [cast(Json, text(number)) for number in sorted(self.used - within(parts(self.delegated)))]
        others: list[Json] = [*map(str, parts(self.delegated))]
        away: dict[str, Json] = {"VSwitchId": far, "SecurityGroupId": group}
        client("CreateNetworkInterface", **away, PrivateIpAddress=own, Ipv4Prefix=others)
        return client, {"VSwitchId": switch, "SecurityGroupId": group}


NEIGHBOURS = st.builds(
    Neighbours,
    st.sets(st.sampled_from(NUMBERS[1:-3]), max_size=40),
    st.sets(st.sampled_from([1, 2]), max_size=1),
    st.sets(st.integers(0, 3), max_size=2),
    st.sampled_from([0, 3, 64]),
)


@TRIED
@given(NEIGHBOURS, st.integers(1, 12))
def test_the_lowest_free_addresses_are_chosen(neighbours: Neighbours, count: int) -> None:
    client, where = neighbours.make()
    gone = KEPT | neighbours.used | within(parts(neighbours.reserved))
    free = [text(number) for number in NUMBERS if number not in gone]
    asked: dict[str, Json] = {**where, "SecondaryPrivateIpAddressCount": count - 1}
    with patch.object(addresses, "MAX_LOOKED_UP", neighbours.looked_up):
        if len(free) < count:
            assert client.refused("CreateNetworkInterface", **asked) == TOO_FEW
            return
        made = client.text("CreateNetworkInterface", "NetworkInterfaceId", **asked)
    sets = eni(client, made)["PrivateIpSets"]["PrivateIpSet"]
    assert [one["PrivateIpAddress"] for one in sets] == free[:count]


@TRIED
@given(NEIGHBOURS, st.integers(1, 3))
def test_the_last_free_blocks_are_delegated(neighbours: Neighbours, count: int) -> None:
    client, where = neighbours.make()
    possible = parts(neighbours.reserved or {*range(4)})
    free = [str(one) for one in possible if (KEPT | neighbours.used).isdisjoint(within([one]))]
    asked: dict[str, Json] = {**where, "PrimaryIpAddress": "10.0.9.99", "Ipv4PrefixCount": count}
    if len(free) < count:
        assert client.refused("CreateNetworkInterface", **asked) == TOO_FEW
        return
    made = client.text("CreateNetworkInterface", "NetworkInterfaceId", **asked)
    found = {one["Ipv4Prefix"] for one in eni(client, made)["Ipv4PrefixSets"]["Ipv4PrefixSet"]}
    assert len(found) == count
    assert found <= {*free}
    assert neighbours.reserved or found == {*free[-count:]}
