"""What has been proven, and what that rests on, so that the next proof is of what changed.

Owns the question whether a part must be proven again. Is given specifications and tables. Must not know how a part is
proven.

A part's proof rests on the chains and maps that it read, and on what of the state it was compared with. Where these
are equal, it would be the same once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sgdataplane.model.semantics import has_inner_accept
from sgdataplane.model.state import CloudState, Eni, GroupRef, PrefixListRef, SecurityGroup
from sgdataplane.nft.ir import Chain, KeyType, Map, Table
from sgdataplane.proof.gate import GateCheck, Roots
from sgdataplane.proof.profile import ProfileCheck

Carriers = Sequence[tuple[str, Eni]]  # the ENIs with one profile, and the interfaces that carry them


@dataclass(frozen=True, slots=True)
class Part:
    """One part that is right. `basis`: all of the specification that it was compared with."""

    basis: object
    chains: Mapping[str, Chain]
    maps: Mapping[str, Map]

    @classmethod
    def of(cls, basis: object, table: Table, chains: Iterable[str], maps: Iterable[str]) -> Part:
        return cls(basis, {name: table.chain[name] for name in chains}, {name: table.map[name] for name in maps})

    def is_same(self, basis: object, table: Table) -> bool:
        """Whether it would be compared with the same, and reads the same."""
        return (
            self.basis == basis
            and all(table.chain.get(name) == chain for name, chain in self.chains.items())
            and all(table.map.get(name) == entry for name, entry in self.maps.items())
        )


@dataclass(frozen=True, slots=True)
class Known:
    """The parts of one table, all of which are right. `roots`: where the gate leads to."""

    gate: Part
    roots: Roots
    profiles: Mapping[object, Part] = field(default_factory=dict)


def gate_part(check: GateCheck) -> Part:
    """Of a gate that is proven."""
    table = check.table
    return Part.of(gate_basis(check), table, check.chains, (m.name for m in table.maps if m.key_type is KeyType.IFNAME))


def gate_basis(check: GateCheck) -> object:
    """Interfaces, and what their ENIs have but for rules."""
    namespace, wanted = check.namespace, check.namespace.wanted
    enis = {ifname: replace(eni, security_group_ids=()) for ifname, eni in namespace.enis.items()}
    standing = wanted.options, wanted.placement, wanted.internal, wanted.uplinks
    return namespace.epoch, namespace.secret, standing, enis, check.names()


def profile_part(check: ProfileCheck) -> Part:
    """Of a profile that is proven."""
    return Part.of(profile_basis(check), check.table, check.chains, check.maps)


def profile_basis(check: ProfileCheck) -> object:
    """The rules of its groups, the lists and members that these speak of, and where it begins."""
    state, (_, eni) = check.state, check.carriers[0]
    groups = [state.group[group_id] for group_id in eni.security_group_ids]
    roots = {place: frozenset(names) for place, names in check.roots.items()}
    return check.options, tuple(check.carriers), groups, _spoken_of(state, groups), state.vpcs, roots


def _spoken_of(state: CloudState, groups: Sequence[SecurityGroup]) -> list[object]:
    found: dict[object, object] = {}
    for rule in (rule for group in groups for rule in group.rules):
        if rule.port_list_id:
            found[rule.port_list_id] = state.port_list[rule.port_list_id]
        match rule.remote:
            case PrefixListRef(prefix_list_id):
                found[prefix_list_id] = state.prefix_list[prefix_list_id]
            case GroupRef(group_id):
                other = state.group.get(group_id)
                found[group_id] = other and other.vpc_id
    has_members = any(map(has_inner_accept, groups)) or any(
        isinstance(rule.remote, GroupRef) for group in groups for rule in group.rules
    )
    return [found, state.network_interfaces if has_members else ()]
