"""Prove that a compiled table does what the specification says, for every packet, or find one packet that differs.

Owns the order of the comparisons, the account of them, and what the next proof may take from this one. It is given a
state and a table. It must not do I/O, or know how the table was compiled.

The proof of a part rests on the chains and maps that it read, and on what of the state it was compared with. Where
these are equal, the same proof would come out once more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial

from sgdataplane.collection import no_collection
from sgdataplane.contract.fields import KeyType
from sgdataplane.contract.tables import members_name
from sgdataplane.errors import ProofError
from sgdataplane.model.options import Options
from sgdataplane.model.semantics import has_inner_accept
from sgdataplane.model.state import CloudState, Eni, GroupRef, PrefixListRef, SecurityGroup
from sgdataplane.model.words import pluralize
from sgdataplane.net.values import Direction, Family
from sgdataplane.nft.ir import Table
from sgdataplane.proof.checks.audits import AuditCheck, ProvenAudits
from sgdataplane.proof.checks.gate import GateCheck, GateMismatch, Kind
from sgdataplane.proof.checks.kindcheck import ProfileMismatch
from sgdataplane.proof.checks.limits import wrong_limits
from sgdataplane.proof.checks.origin import wrong_origin
from sgdataplane.proof.checks.profile import ProfileCheck, ProvenProfile
from sgdataplane.proof.checks.timeouts import wrong_timeouts
from sgdataplane.proof.reuse.proven import ProvenGate, Roots
from sgdataplane.proof.reuse.shared import Remembered, Shared
from sgdataplane.proof.reuse.template import Template
from sgdataplane.proof.spec.specification import Namespace, Specification
from sgdataplane.proof.walk.far import GroupSetAtoms, Kinships
from sgdataplane.proof.walk.lookups import Lookup
from sgdataplane.proof.walk.structure import Structure, StructureError
from sgdataplane.proof.witness import Counterexample, of_gate, of_profile

Carriers = Sequence[tuple[str, Eni]]  # the ENIs with one profile, each with its interface in front


@dataclass(frozen=True)
class ProvenTable:
    """A table that is proven, for the next proof to start from."""

    structure: Structure
    kinships: Kinships
    atoms: Mapping[Family, GroupSetAtoms] = field(default_factory=dict)
    """The atoms of far addresses by group set."""
    remembered: Remembered = field(default_factory=Remembered)
    """What all profiles share."""
    places: Places | None = None
    """The fixed part at all interfaces."""
    profiles: Mapping[object, ProvenProfile] = field(default_factory=dict)
    """The profiles, by what makes the rules of ENIs the same."""
    templates: Mapping[Kind, Template] = field(default_factory=dict)
    """Interfaces whose fixed part is a template for interfaces of their kind."""
    vpc_of: Mapping[str, str] = field(default_factory=dict)
    """The VPC of each group."""
    audits: ProvenAudits = field(default_factory=ProvenAudits)
    """What ENIs in audit mode have of their own."""

    @property
    def gates(self) -> Mapping[str, ProvenGate]:
        """The fixed part, by interface."""
        return {} if self.places is None else self.places.gates


@dataclass(frozen=True)
class Places:
    """The fixed part of a table at all interfaces."""

    basis: object
    """All of the specification that any of it was compared with."""
    interfaces: AbstractSet[str]
    """The interfaces that the table names."""
    gates: Mapping[str, ProvenGate]
    """The proven fixed part, by interface."""
    carriers: Mapping[object, Carriers]
    """The ENIs, by what makes their rules the same."""
    roots: Mapping[object, Roots]
    """The chains where these rules begin."""

    def is_same(self, basis: object, structure: Structure) -> bool:
        """Return whether each interface would be proven as it was.

        `structure` says what has changed since then.
        """
        return (
            structure.interfaces is self.interfaces
            and structure.changed.isdisjoint(self._chains)
            and structure.changed_maps.isdisjoint(self._maps)
            and self.basis == basis
        )

    @cached_property
    def _chains(self) -> AbstractSet[str]:
        return frozenset[str]().union(*(gate.chains for gate in self.gates.values()))

    @cached_property
    def _maps(self) -> AbstractSet[str]:
        keys = (name for gate in self.gates.values() for name, _ in gate.keys)
        return frozenset(keys).union(*(gate.maps for gate in self.gates.values()))


def profile_basis(state: CloudState, options: Options, eni: Eni) -> object:
    """Return what the claims of an ENI's profile follow from in a state, except the members of groups."""
    groups = [state.group[group_id] for group_id in sorted(eni.security_group_ids)]
    return options, eni.nic_type, eni.vpc_id, groups, dict(_lists(state, groups)), state.vpcs


def find_peer_groups(state: CloudState, eni: Eni) -> frozenset[str]:
    """Return the groups whose members matter to an ENI's profile."""
    groups = [state.group[group_id] for group_id in eni.security_group_ids]
    remotes = (rule.remote for group in groups for rule in group.rules)
    named = {remote.security_group_id for remote in remotes if isinstance(remote, GroupRef)}
    return frozenset(named.union(group.security_group_id for group in groups if has_inner_accept(group)))


def _lists(state: CloudState, groups: Sequence[SecurityGroup]) -> Iterator[tuple[object, object]]:
    """Yield the lists that rules name, and the VPCs of the groups that they name."""
    for rule in (rule for group in groups for rule in group.rules):
        if rule.port_list_id:
            yield rule.port_list_id, state.port_list[rule.port_list_id]
        match rule.remote:
            case PrefixListRef(prefix_list_id):
                yield prefix_list_id, state.prefix_list[prefix_list_id]
            case GroupRef(group_id):
                other = state.group.get(group_id)
                yield group_id, other and other.vpc_id


MAX_TEMPLATES = 64  # so many templates are kept, the latest ones; each has a few dozen chains


@dataclass(frozen=True, slots=True)
class Proof:
    """The result of a proof. Its counts don't include what was taken from an earlier proof."""

    cells: int
    """How many ends of walks were compared. Each is a set of packets that take one path through the table."""
    classes: int
    """How many classes of far addresses there are, in all profiles, families and directions together."""
    chains: int
    """How many chains were read."""
    profiles: int
    """How many profiles were compared."""
    seconds: float
    """How long it took, in seconds of the clock."""
    counterexample: Counterexample | None = None
    """A packet that differs; None if the table is right."""
    problem: str = ""
    """What is wrong with the table, if no packet shows it; "" if nothing is."""
    proven: ProvenTable | None = field(default=None, repr=False)
    """What the next proof can start from; None if the table is wrong."""

    @property
    def holds(self) -> bool:
        """Whether the table is right."""
        return self.counterexample is None and not self.problem

    def __str__(self) -> str:
        if self.holds:
            classes = pluralize(self.classes, "class", "es")
            what = f"{pluralize(self.cells, 'cell')} of {classes} of far addresses, {pluralize(self.chains, 'chain')}"
            return f"proven: {what}, {pluralize(self.profiles, 'profile')}, in {self.seconds:.2f} s"
        return "\n".join(str(part) for part in (self.problem, self.counterexample) if part)


def prove(
    specification: Specification, table: Table, previous: ProvenTable | None = None, similar: ProvenTable | None = None
) -> Proof:
    """Compare table and specification for all packets at all interfaces.

    `previous` is what an earlier proof left; parts that haven't changed since aren't compared again. `similar` is what
    the proof of another table left; profiles that both have are taken from it. Neither changes the result.
    """
    work = _Work(specification, table, previous, similar)
    with no_collection():
        return work.prove()


def require_proof(
    specification: Specification, table: Table, previous: ProvenTable | None = None, similar: ProvenTable | None = None
) -> Proof:
    """Prove a table as prove() does, for callers that must not go on without.

    Raises:
        ProofError: The table is wrong; the message has a packet that differs, or what is wrong if no packet shows it.
    """
    proof = prove(specification, table, previous, similar)
    if not proof.holds:
        raise ProofError(str(proof))
    return proof


@dataclass(frozen=True, slots=True)
class _EarlierProof:
    """An earlier proof, and what its table's successor has for all profiles to share."""

    proven: ProvenTable
    shared: Shared

    @classmethod
    def of(cls, proven: ProvenTable, table: Table, wanted: Specification) -> _EarlierProof:
        """Read the present table as the successor of a proven one."""
        structure = Structure.read(table, wanted.site, proven.structure)
        kinships = Kinships.read(wanted.state, proven.kinships)
        atoms = {
            family: GroupSetAtoms.read(kinships.pages[family], _members(structure, family), proven.atoms.get(family))
            for family in Family
        }
        return cls(proven, Shared(structure, kinships, atoms, proven.remembered))

    def profile(
        self, key: object, quick_basis: object, compute_basis: Callable[[], object], roots: Roots
    ) -> ProvenProfile | None:
        """Return the earlier profile if it is the same here; else None.

        It is the same with the same claims and chains, and the same members of groups that it names. `compute_basis`
        returns what its claims follow from, and is called only if `quick_basis` doesn't show that already.
        """
        found = self.proven.profiles.get(key)
        if found is None or (found.quick_basis != quick_basis and found.basis != compute_basis()):
            return None
        is_same = all(
            known.has_same_chains(kind, self.shared, roots.get((kind.direction, kind.family), ()))
            for kind, known in found.kinds.items()
        )
        return replace(found, quick_basis=quick_basis) if is_same else None


def _members(structure: Structure, family: Family) -> Lookup:
    """Return the map of members: the number that the table has for each address."""
    name = members_name(family)
    entry = structure.table.map.get(name)
    return structure.lookups[name] if entry is not None and entry.holds is KeyType.CLASSID else Lookup({})


class _Work:
    """One proof, from an earlier one on."""

    def __init__(
        self, specification: Specification, table: Table, previous: ProvenTable | None, similar: ProvenTable | None
    ) -> None:
        self._table, self._namespace = table, Namespace.of(specification, table)
        self._previous = previous or similar or ProvenTable(Structure.empty(table.name), Kinships())
        self._similar = similar if similar is not self._previous else None
        vpc_of = {group.security_group_id: group.vpc_id for group in specification.state.security_groups}
        self._vpc_of = self._previous.vpc_of if self._previous.vpc_of == vpc_of else vpc_of
        self._checks: list[ProfileCheck] = []
        self._gate: GateCheck | None = None
        self._audits = ProvenAudits()
        self._started = time.monotonic()

    def prove(self) -> Proof:
        """Check timeouts, origin, limits and audits first, then the fixed part and all profiles."""
        wanted = self._namespace.wanted
        try:
            start = _EarlierProof.of(self._previous, self._table, wanted)
        except StructureError as error:
            return self._account(None, str(error))
        wrong = (
            wrong_timeouts(self._namespace, self._table)
            or wrong_origin(self._namespace, self._table)
            or wrong_limits(start.shared.structure, wanted.site)
        )
        audits = AuditCheck(start.shared.structure, self._namespace, start.shared.winners).check(self._previous.audits)
        if wrong or isinstance(audits, str):
            return self._account(None, wrong or str(audits))
        self._audits = audits
        try:
            return self._account(None, proven=self._prove_parts(start))
        except GateMismatch as difference:
            return self._account(of_gate(self._table, self._namespace, difference))
        except ProfileMismatch as difference:
            return self._account(self._make_counterexample(difference))

    def _prove_parts(self, start: _EarlierProof) -> ProvenTable:
        """Prove the fixed part and all profiles. Return all that the next proof can start from."""
        places = self._prove_gates(start.shared.structure)
        other = None if self._similar is None else _EarlierProof.of(self._similar, self._table, self._namespace.wanted)
        profiles = self._prove_profiles(start, other, places)
        templates = self._previous.templates if self._gate is None else self._gate.templates
        latest = dict(list(templates.items())[-MAX_TEMPLATES:])
        shared = start.shared
        return ProvenTable(
            shared.structure, shared.kinships, shared.atoms, shared.remembered, places, profiles, latest, self._vpc_of,
            self._audits,
        )  # fmt: skip

    def _make_counterexample(self, difference: ProfileMismatch) -> Counterexample:
        """Return the counterexample for a difference in rules.

        If no packet can show that difference, the chains may be wrong about other packets, too, so these are tried.
        """
        found = of_profile(self._table, self._namespace, difference)
        if not found.is_shown:
            try:
                replace(self._checks[-1], known=(), is_strict=False).check()
            except ProfileMismatch as other:
                return of_profile(self._table, self._namespace, other)
        return found

    def _prove_gates(self, structure: Structure) -> Places:
        """Prove the fixed part at all interfaces, unless all of it is as before."""
        wanted, previous = self._namespace.wanted, self._previous.places
        fixed = (wanted.options, wanted.placement, wanted.uplinks, wanted.internal, wanted.time_scale)
        basis = (self._namespace.epoch, self._namespace.secret, fixed, self._namespace.enis)
        if previous is not None and previous.is_same(basis, structure):
            return previous
        gates = dict(self._prove_each_gate(structure))
        carriers = self._by_profile()
        roots = {key: _roots(gates[ifname].roots for ifname, _ in some) for key, some in carriers.items()}
        return Places(basis, structure.interfaces, gates, carriers, roots)

    def _prove_each_gate(self, structure: Structure) -> Iterator[tuple[str, ProvenGate]]:
        """Yield each interface with its proven fixed part."""
        self._gate = GateCheck(structure, self._namespace, dict(self._previous.templates))
        for ifname in self._gate.names():
            gate = self._previous.gates.get(ifname)
            is_same = gate is not None and gate.is_same(self._namespace.basis(ifname), structure)
            yield ifname, gate if gate is not None and is_same else self._gate.check(ifname)

    def _prove_profiles(
        self, start: _EarlierProof, other: _EarlierProof | None, places: Places
    ) -> dict[object, ProvenProfile]:
        """Prove the profiles of all interfaces, or take them from earlier proofs."""
        found = dict[object, ProvenProfile]()
        for key, carriers in places.carriers.items():
            roots = places.roots[key]
            eni = carriers[0][1]
            quick_basis, compute_basis = self._quick_basis(start, eni), cache(partial(self._basis, start, eni))
            earlier = [start] if other is None else [other, start]
            same = (one.profile(key, quick_basis, compute_basis, roots) for one in earlier)
            known = [(one.proven.profiles[key], one.shared) for one in earlier if key in one.proven.profiles]
            found[key] = next((p for p in same if p), None) or replace(
                self._prove_profile(start, compute_basis(), carriers, roots, known), quick_basis=quick_basis
            )
        return found

    def _quick_basis(self, start: _EarlierProof, eni: Eni) -> object:
        """Return objects that the claims of an ENI's profile follow from, and maybe more.

        Where these are the same, so is what _basis() makes of them, which costs more.
        """
        wanted, state = self._namespace.wanted, self._namespace.wanted.state
        groups = tuple([state.group[group_id] for group_id in sorted(eni.security_group_ids)])
        lists = state.vpcs, state.prefix_lists, state.port_lists
        return groups, self._vpc_of, lists, start.shared.kinships.carriers, wanted.options, eni.nic_type, eni.vpc_id

    def _basis(self, start: _EarlierProof, eni: Eni) -> object:
        """Return all that the claims of an ENI's profile follow from."""
        wanted = self._namespace.wanted
        peer_groups = find_peer_groups(wanted.state, eni)
        delegated = [
            (one.security_group_ids, one.delegated_prefixes)
            for one in start.shared.kinships.carriers
            if not peer_groups.isdisjoint(one.security_group_ids)
        ]
        return profile_basis(wanted.state, wanted.options, eni), delegated

    def _prove_profile(
        self,
        start: _EarlierProof,
        basis: object,
        carriers: Carriers,
        roots: Roots,
        known: Sequence[tuple[ProvenProfile, Shared]],
    ) -> ProvenProfile:
        """Prove one profile by walks."""
        wanted = self._namespace.wanted
        check = ProfileCheck(wanted.state, wanted.options, wanted.site, start.shared, carriers, roots, known)
        self._checks.append(check)
        check.check()
        return ProvenProfile(basis, check.kinds)

    def _by_profile(self) -> dict[object, list[tuple[str, Eni]]]:
        """Return the ENIs with their interfaces, by what makes their rules the same."""
        found: dict[object, list[tuple[str, Eni]]] = {}
        for ifname, eni in sorted(self._namespace.enis.items()):
            key = (frozenset(eni.security_group_ids), eni.nic_type, eni.vpc_id)
            found.setdefault(key, []).append((ifname, eni))
        return found

    def _account(
        self, counterexample: Counterexample | None, problem: str = "", proven: ProvenTable | None = None
    ) -> Proof:
        """Return the result with its counts."""
        cells, chains = (0, set[str]()) if self._gate is None else (self._gate.cells, self._gate.chains)
        return Proof(
            cells + sum(check.cells for check in self._checks),
            sum(check.classes for check in self._checks),
            len(chains.union(*(check.chains for check in self._checks))),
            sum(bool(check.chains) for check in self._checks),
            time.monotonic() - self._started,
            counterexample,
            problem,
            proven,
        )


def _roots(of_carriers: Iterable[Roots]) -> dict[tuple[Direction, Family], frozenset[str]]:
    """Return the chains where the rules of any of these ENIs begin."""
    found: dict[tuple[Direction, Family], frozenset[str]] = {}
    for place, names in (item for roots in of_carriers for item in roots.items()):
        found[place] = found.get(place, frozenset()) | names
    return found
