"""The part of a document that is left for a host that needs no more of it.

Owns both such parts: a group that is only named, and an ENI elsewhere. Must not know which host needs what.
"""

from __future__ import annotations

from collections.abc import Container

from sgdataplane.model.state import EniType, NicType
from sgdataplane.store.documents import ADDRESSES, Fields, state_in, texts
from sgdataplane.store.interface import Body, Json

# The id comes first, as everywhere.
STUB = ("security_group_id", "vpc_id", "security_group_type", "service_managed")
FAR_END = ("network_interface_id", "vpc_id", *ADDRESSES)


def stub(body: Body) -> Fields:
    """Return a group without its rules: as much as the rules that name it are checked against."""
    state = state_in(body)
    return {name: state[name] for name in STUB if name in state}


def far_end(body: Body, among: Container[str] | None = None, *, is_told: bool = False) -> Fields | None:
    """Return an ENI as a member of the groups `among`, or of all its groups; None if it is a member of none.

    With `is_told`, also one that is in these groups and whose addresses are no members.
    """
    state = state_in(body)
    groups: list[Json] = [group for group in texts(state, "security_group_ids") if among is None or group in among]
    if not groups or not (is_told or is_member(state)):
        return None
    names = FAR_END if is_member(state) else (*FAR_END, "nic_type")
    return {**{name: state[name] for name in names if name in state}, "security_group_ids": groups}


def is_member(state: Fields) -> bool:
    """Whether an ENI's addresses are members of its groups; those of an internet interface aren't."""
    return state.get("nic_type", NicType.INTRANET.value) == NicType.INTRANET.value


def is_primary(state: Fields) -> bool:
    """Whether an ENI is its instance's primary one; so is one that doesn't say."""
    return state.get("type", EniType.PRIMARY.value) == EniType.PRIMARY.value
