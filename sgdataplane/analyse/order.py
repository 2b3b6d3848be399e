"""Permissions in the order in which they decide, with the traffic that each one's conditions hold for.

Owns the far addresses: those that the same permissions hold for are one class, within which arrangement.py says what
decides. Is given permissions and a state. Must not know the kernel, nor how the compiler does the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from sgdataplane.analyse.arrangement import Mask, Shape, mask_of, overlay
from sgdataplane.analyse.regions import WHOLE, addresses
from sgdataplane.model.state import CloudState, GroupRef, Remote
from sgdataplane.net.ranges import Ranges, meet, unite
from sgdataplane.net.values import Family, Verdict
from sgdataplane.policy.dimensions import conditions
from sgdataplane.policy.resolve import Permission, resolve_remote


class FarAddresses:
    """The addresses behind remotes, in one state; each is resolved once."""

    def __init__(self, state: CloudState) -> None:
        self._state = state
        self._known: dict[tuple[Remote | None, Family], Ranges] = {}

    def of(self, remote: Remote | None, family: Family) -> Ranges:
        """Return the addresses of a remote; None is everyone.

        A group is one of the VPC of the group that names it (`resolve` leaves out any other).
        """
        key = remote, family
        if key not in self._known:
            self._known[key] = addresses(family) if remote is None else self._resolve(remote, family)
        return self._known[key]

    def _resolve(self, remote: Remote, family: Family) -> Ranges:
        found = resolve_remote(self._state, remote, family)
        return unite((*((single, single) for single in found.singles), *found.ranges))


class MemberAddresses(FarAddresses):
    """The addresses behind remotes for a far end that no ENI has yet, and that is a member of some groups.

    It may be any address. So a group is everyone if it is among these, and nobody if not.
    """

    def __init__(self, known: FarAddresses, groups: frozenset[str]) -> None:
        self._others, self._groups = known, groups

    def of(self, remote: Remote | None, family: Family) -> Ranges:
        """Return the addresses of a remote; those of a group are all or none."""
        if isinstance(remote, GroupRef):
            return addresses(family) if remote.security_group_id in self._groups else ()
        return self._others.of(remote, family)


@dataclass(frozen=True, slots=True)
class Entry:
    """A permission and the traffic that its conditions hold for."""

    permission: Permission
    far: Ranges
    """The addresses of its remote; may be empty."""
    shape: Shape
    """The numbers that its conditions match, in the order of CONDITIONS."""

    @property
    def can_match(self) -> bool:
        """Whether any traffic meets all conditions."""
        return bool(self.far) and all(self.shape)


@dataclass(frozen=True)
class PermissionOrder:
    """The permissions of one profile, direction and family, strongest first; the last one holds for everything."""

    entries: tuple[Entry, ...]
    """One entry for each permission, in the same order."""
    family: Family

    @classmethod
    def of(cls, permissions: Iterable[Permission], family: Family, far: FarAddresses) -> PermissionOrder:
        """Return the order of permissions that are given strongest first."""
        return cls(tuple(_entry(permission, family, far) for permission in permissions), family)

    def classes(self, within: Ranges) -> dict[Mask, Ranges]:
        """Return the far addresses by the set of entries whose remote they are in."""
        return overlay(((meet(e.far, within), 1 << index) for index, e in enumerate(self.entries)), within)

    @cached_property
    def accepting(self) -> Mask:
        """The entries whose verdict is accept."""
        verdicts = enumerate(entry.permission.decision.verdict for entry in self.entries)
        return mask_of(index for index, verdict in verdicts if verdict is Verdict.ACCEPT)


def _entry(permission: Permission, family: Family, far: FarAddresses) -> Entry:
    shape = shape_of(permission, family)
    return Entry(permission, far.of(permission.remote, family) if all(shape) else (), shape)


def shape_of(permission: Permission, family: Family) -> Shape:
    """Return all that a permission requires except the remote; one part is empty if it can't match in that family."""
    pairs = zip(conditions(permission, family), WHOLE[family], strict=True)
    return tuple([whole if ranges is None else ranges for ranges, whole in pairs])
