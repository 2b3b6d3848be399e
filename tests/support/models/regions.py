"""Packets and traffic: whether a packet is in a region, or among the traffic of a change."""

from __future__ import annotations

from sgdataplane.analyse.regions import Block, Region
from sgdataplane.analyse.view import VerdictChange
from sgdataplane.net.packet import Packet
from sgdataplane.net.ranges import holds
from sgdataplane.policy.dimensions import DIMENSIONS


def in_region(region: Region, packet: Packet) -> bool:
    """Whether a packet of the region's ENI, direction and family is in it."""
    return any(in_block(block, packet) for block in region)


def in_block(block: Block, packet: Packet) -> bool:
    values = (each.of_packet(packet) for each in DIMENSIONS)
    return all(value is None or holds(ranges, value) for ranges, value in zip(block, values, strict=True))


def in_change(change: VerdictChange, packet: Packet) -> bool:
    """Whether a packet is among the traffic whose verdict changes."""
    values = zip((each.of_packet(packet) for each in DIMENSIONS), change.ranges, strict=True)
    place = packet.eni_id, packet.direction, packet.family
    return place == (change.eni_id, change.direction, change.family) and all(
        number is None or interval is None or interval[0] <= number <= interval[1] for number, interval in values
    )
