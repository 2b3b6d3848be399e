"""VPCs in the cloud's answers: read into sections, and written from native fields.

Owns their keys' places in an answer, in both directions. Must not know files or documents.
"""

from __future__ import annotations

from collections.abc import Sequence

from sgdataplane.statefile import ecs_answers as calls
from sgdataplane.statefile import ecs_names
from sgdataplane.statefile.ecs_translation import AnswerFields, Names, Translation, put_elements, translate_values


def add_vpcs(translation: Translation) -> None:
    """Add VPCs from DescribeVpcs, which is optional: the other answers name VPCs by id."""
    for item in translation.answers.objects(calls.VPCS):
        blocks = [(key, value) for key in ecs_names.VPC_BLOCKS if (value := item.get(key)) is not None]
        for keys in ecs_names.VPC_BLOCK_LISTS:
            blocks += item.elements(*keys)
        values, names = translate_values(item, ecs_names.VPC), Names(ecs_names.VPC)
        put_elements(values, names, "cidr_blocks", blocks)
        translation.sections.vpcs.append(item.fields(values, names))
        translation.vpcs.known.add(item.text("VpcId"))


def vpc_blocks(blocks: Sequence[str], isp: str = "") -> AnswerFields:
    """Return a VPC's blocks under the cloud's keys: the first of each family apart from the others.

    `isp` is the kind of its IPv6 blocks; "" if it isn't known.
    """
    ipv4, ipv6 = ([block for block in blocks if (":" in block) is is_ipv6] for is_ipv6 in (False, True))
    kind = {"Ipv6Isp": isp} if isp else {}
    return {
        "CidrBlock": next(iter(ipv4), ""),
        "SecondaryCidrBlocks": {"SecondaryCidrBlock": ipv4[1:]},
        "Ipv6CidrBlock": next(iter(ipv6), ""),
        "Ipv6CidrBlocks": {"Ipv6CidrBlock": [{"Ipv6CidrBlock": block, **kind} for block in ipv6]},
    }
