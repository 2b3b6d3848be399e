"""DescribeVpcs -> VPCs. The other answers name VPCs by id only, so this one is optional."""

from __future__ import annotations

from sgdataplane.statefile import ecs_answers as ecs
from sgdataplane.statefile.ecs_names import NETWORK_TYPE
from sgdataplane.statefile.ecs_translate import Translation, translated
from sgdataplane.statefile.fields import Fields, Place

NAMES = {"vpc_id": "VpcId", "network_type": NETWORK_TYPE}
SINGLE = ("CidrBlock", "Ipv6CidrBlock")
LISTS = (("SecondaryCidrBlocks", "SecondaryCidrBlock", ""), ("Ipv6CidrBlocks", "Ipv6CidrBlock", "Ipv6CidrBlock"))


def add_vpcs(translation: Translation) -> None:
    for item in translation.answers.objects(ecs.VPCS):
        blocks = [(key, value) for key in SINGLE if (value := item.get(key)) is not None]
        for lists in LISTS:
            blocks += item.elements(*lists, translation.problems)
        values = {**translated(item, NAMES), "cidr_blocks": [value for _, value in blocks]}
        names: dict[str, Place] = {**NAMES, "cidr_blocks": tuple(path for path, _ in blocks)}
        translation.sections.vpcs.append(Fields(item.file, item.pointer, values, names))
        translation.vpcs.known.add(item.text("VpcId"))
