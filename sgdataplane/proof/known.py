"""What has been proven, and what that rests on, so that the next proof is of what changed.

Owns what is remembered, and of a profile all of the specification that its proof rests on. Is given specifications.
Must not know how anything is proven.

A part's proof rests on the chains and maps that it read, and on what of the state it was compared with. Where these
are equal, it would be the same once more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sgdataplane.model.options import Options
from sgdataplane.model.semantics import has_inner_accept
from sgdataplane.model.state import CloudState, Eni, GroupRef, PrefixListRef, SecurityGroup
from sgdataplane.net.values import Family
from sgdataplane.proof.carried import KnownProfile
from sgdataplane.proof.far import Words
from sgdataplane.proof.gate import KnownGate
from sgdataplane.proof.kinships import Kinships
from sgdataplane.proof.shape import Form
from sgdataplane.proof.structure import Structure

Carriers = Sequence[tuple[str, Eni]]  # the ENIs with one profile, and the interfaces that carry them
WordsKey = tuple[Family, tuple[str, ...]]  # the maps that are asked


@dataclass(frozen=True)
class Known:
    """One table, and the state that it was compared with. All of it is right: `gates`, by interface, and `profiles`.
    `forms`: of walks of gates; `words`: what is said of far addresses."""

    structure: Structure
    kinships: Kinships
    gates: Mapping[str, KnownGate] = field(default_factory=dict)
    profiles: Mapping[object, KnownProfile] = field(default_factory=dict)
    forms: Mapping[Form, tuple[int, ...]] = field(default_factory=dict)
    words: Mapping[WordsKey, Words] = field(default_factory=dict)


def profile_basis(state: CloudState, options: Options, eni: Eni) -> object:
    """All that the claims of an ENI's profile follow from, but for who the members of groups are."""
    groups = [state.group[group_id] for group_id in sorted(eni.security_group_ids)]
    return options, eni.nic_type, eni.vpc_id, groups, dict(_lists(state, groups)), state.vpcs


def spoken_of(state: CloudState, eni: Eni) -> frozenset[str]:
    """The groups whose members it matters to a profile who they are."""
    groups = [state.group[group_id] for group_id in eni.security_group_ids]
    remotes = (rule.remote for group in groups for rule in group.rules)
    named = {remote.security_group_id for remote in remotes if isinstance(remote, GroupRef)}
    return frozenset(named.union(group.security_group_id for group in groups if has_inner_accept(group)))


def _lists(state: CloudState, groups: Sequence[SecurityGroup]) -> Iterator[tuple[object, object]]:
    """What rules speak of: lists, and the VPCs of groups."""
    for rule in (rule for group in groups for rule in group.rules):
        if rule.port_list_id:
            yield rule.port_list_id, state.port_list[rule.port_list_id]
        match rule.remote:
            case PrefixListRef(prefix_list_id):
                yield prefix_list_id, state.prefix_list[prefix_list_id]
            case GroupRef(group_id):
                other = state.group.get(group_id)
                yield group_id, other and other.vpc_id
