"""Hiding, in an answer, of what the key that asks may not see.

Owns which ids are hidden. Its input is an answer, the documents, and the rights of keys. Must not know what the answer
means.

The cloud's own actions answer only about the resources that a call names, and policies are about these. SgdpExplain and
SgdpDiff also name what is at the other end, and the groups whose rules decide; SgdpDescribeEvents has what others did.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import cast

from sgdataplane.control.access.permissions import Rights
from sgdataplane.store.call import Call
from sgdataplane.store.documents import Documents, ResourceKind, path_of
from sgdataplane.store.interface import Body, Json

HIDDEN = "(hidden)"
WORD = re.compile(r"[A-Za-z0-9_.:-]+")
# Of each kind: the action and the parameter by which a key may see it.
SEEN_BY = {
    ResourceKind.ENI: ("DescribeNetworkInterfaceAttribute", "NetworkInterfaceId"),
    ResourceKind.GROUP: ("DescribeSecurityGroupAttribute", "SecurityGroupId"),
    ResourceKind.PREFIX_LIST: ("DescribePrefixListAttributes", "PrefixListId"),
    ResourceKind.PORT_LIST: ("DescribePortRangeListEntries", "PortRangeListId"),
    ResourceKind.INSTANCE: ("DescribeInstances", "InstanceId"),
    ResourceKind.VPC: ("DescribeVpcs", "VpcId"),
}


def hide_unseen(answer: Body, documents: Documents, call: Call, rights: Rights) -> Body:
    """Return the answer with `HIDDEN` in place of each id that the call's key may not see."""

    @cache
    def is_hidden(word: str) -> bool:
        kinds = [kind for kind in SEEN_BY if documents.get(path_of(kind, word)) is not None]
        return any(not rights.permits(_look(call, kind, word)) for kind in kinds)

    return cast(Body, _hide(dict(answer), is_hidden))


def may_see_group(group_id: str, call: Call, rights: Rights) -> bool:
    """Return whether the call's key may see a group and its rules, also one that isn't there any more."""
    return rights.permits(_look(call, ResourceKind.GROUP, group_id))


def _look(call: Call, kind: ResourceKind, name: str) -> Call:
    action, parameter = SEEN_BY[kind]
    return replace(call, action=action, parameters={parameter: name}, extensions={})


def _hide(value: Json, is_hidden: Callable[[str], bool]) -> Json:
    if isinstance(value, dict):
        return {key: _hide(inner, is_hidden) for key, inner in value.items()}
    if isinstance(value, list):
        return [_hide(inner, is_hidden) for inner in value]
    if isinstance(value, str):
        return WORD.sub(lambda found: HIDDEN if is_hidden(found[0]) else found[0], value)
    return value
