"""prove(): does a compiled table do what the specification says, for every packet? If not, one packet that differs.

Owns the order of the comparisons, the account of them, and what the next proof may take from this one. Is given a state
and a table. Must not do I/O, or know how the table was compiled.

The proof of a part rests on the chains and maps that it read, and on what of the state it was compared with. Where
these are equal, the same proof would come out once more.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from sgdataplane.collection import no_collection
from sgdataplane.errors import ProofError
from sgdataplane.model.options import Options
from sgdataplane.model.semantics import has_inner_accept
from sgdataplane.model.state import CloudState, Eni, GroupRef, PrefixListRef, SecurityGroup
from sgdataplane.net.values import Direction, Family
from sgdataplane.nft.ir import Table
from sgdataplane.proof.far import Kinships, Words
from sgdataplane.proof.gate import Form, GateCheck, GateMismatch, ProvenGate, Roots
from sgdataplane.proof.profile import ProfileCheck, ProfileMismatch, ProvenProfile, WordsOf
from sgdataplane.proof.specification import Namespace, Specification
from sgdataplane.proof.structure import Structure, StructureError
from sgdataplane.proof.timeouts import wrong_timeouts
from sgdataplane.proof.witness import Counterexample, of_gate, of_profile

Carriers = Sequence[tuple[str, Eni]]  # the ENIs with one profile, and the interfaces that carry them
WordsKey = tuple[Family, tuple[str, ...]]  # the maps that are asked


@dataclass(frozen=True)
class ProvenTable:
    """One table, and the state that it was compared with. All of it is right: `gates`, by interface, and `profiles`.
    `forms`: of walks of gates; `words`: what is said of far addresses."""

    structure: Structure
    kinships: Kinships
    gates: Mapping[str, ProvenGate] = field(default_factory=dict)
    profiles: Mapping[object, ProvenProfile] = field(default_factory=dict)
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


MOST_FORMS = 1000  # of walks that are remembered, the latest ones; one interface has 22


@dataclass(frozen=True, slots=True)
class Proof:
    """What was compared. A cell is a set of packets that take one path through the table. `classes`: of far addresses,
    of all profiles, families and hooks. `counterexample`, `problem`: None and "" if the table is right; then `known` is
    for the next proof. What was known already is in no count."""

    cells: int
    classes: int
    chains: int
    profiles: int
    seconds: float
    counterexample: Counterexample | None = None
    problem: str = ""
    known: ProvenTable | None = field(default=None, repr=False)

    @property
    def holds(self) -> bool:
        return self.counterexample is None and not self.problem

    def __str__(self) -> str:
        if self.holds:
            what = f"{self.cells} cells of {self.classes} classes of far addresses, {self.chains} chains"
            rules_of = "1 profile" if self.profiles == 1 else f"{self.profiles} profiles"
            return f"proven: {what}, {rules_of}, in {self.seconds:.2f} s"
        return "\n".join(str(part) for part in (self.problem, self.counterexample) if part)


def prove(
    specification: Specification, table: Table, known: ProvenTable | None = None, alike: ProvenTable | None = None
) -> Proof:
    """Compare all packets at all interfaces. `known`: of a proof before; what it rests on isn't compared again.
    `alike`: of another table, from which profiles are taken that both have."""
    work = _Work(specification, table, known, alike)
    with no_collection():
        return work.proof()


def require_proof(
    specification: Specification, table: Table, known: ProvenTable | None = None, alike: ProvenTable | None = None
) -> Proof:
    """prove(), for who must not go on without: ProofError, with the packet that differs."""
    proof = prove(specification, table, known, alike)
    if not proof.holds:
        raise ProofError(str(proof))
    return proof


class _Work:
    def __init__(
        self, specification: Specification, table: Table, known: ProvenTable | None, alike: ProvenTable | None = None
    ) -> None:
        self._table, self._namespace = table, Namespace.of(specification, table)
        self._known = known or alike
        self._alike = None if alike is self._known else alike
        self._checks: list[ProfileCheck] = []
        self._gate: GateCheck | None = None
        self._words: dict[WordsKey, Words] = {}
        self._started = time.monotonic()

    def proof(self) -> Proof:
        wanted, known = self._namespace.wanted, self._known
        try:
            structure = Structure.read(self._table, wanted.site, known.structure if known else None)
        except StructureError as error:
            return self._account(None, str(error))
        wrong = wrong_timeouts(self._namespace, self._table)
        if wrong:
            return self._account(None, wrong)
        kinships = Kinships.read(wanted.state, known.kinships if known else None)
        try:
            gates = dict(self._gates(structure))
            profiles, kinships_alike = self._profiles_alike(gates)
            profiles |= dict(self._profiles(structure, kinships, gates, profiles.keys()))
        except GateMismatch as difference:
            return self._account(of_gate(self._table, self._namespace, difference))
        except ProfileMismatch as difference:
            return self._account(self._shown(kinships, difference))
        forms = dict(list(self._gate.forms.items())[-MOST_FORMS:]) if self._gate is not None else {}
        found = ProvenTable(structure, kinships_alike or kinships, gates, profiles, forms, self._words_kept(structure))
        return self._account(None, known=found)

    def _shown(self, kinships: Kinships, difference: ProfileMismatch) -> Counterexample:
        """If no packet comes to that one, perhaps the chains are wrong about others, too."""
        found = of_profile(self._table, self._namespace, difference)
        if not found.is_shown:
            try:
                anew = replace(self._checks[-1], known=None, is_strict=False)
                anew.check(kinships, self._words_of(anew.structure, kinships))
            except ProfileMismatch as other:
                return of_profile(self._table, self._namespace, other)
        return found

    def _gates(self, structure: Structure) -> Iterator[tuple[str, ProvenGate]]:
        self._gate = GateCheck(structure, self._namespace, {} if self._known is None else dict(self._known.forms))
        for ifname in self._gate.names():
            known = None if self._known is None else self._known.gates.get(ifname)
            if known is None or not known.is_same(self._namespace.basis(ifname), structure):
                known = self._gate.check(ifname)
            yield ifname, known

    def _profiles_alike(self, gates: Mapping[str, ProvenGate]) -> tuple[dict[object, ProvenProfile], Kinships | None]:
        """Those that the other table has, and that are the same here; and the kinships that it shares with this one, if
        that is all of them."""
        found: dict[object, ProvenProfile] = {}
        if self._alike is None:
            return found, None
        wanted, groups = self._namespace.wanted, self._by_profile()
        structure = Structure.read(self._table, wanted.site, self._alike.structure)
        kinships = Kinships.read(wanted.state, self._alike.kinships)
        for key, carriers in groups.items():
            known, roots = self._alike.profiles.get(key), _roots(gates[ifname].roots for ifname, _ in carriers)
            is_known = known is not None and known.basis == profile_basis(wanted.state, wanted.options, carriers[0][1])
            if known is not None and is_known and _is_same(known, roots, structure, kinships):
                found[key] = known.without(structure.turned)
        return found, kinships if found.keys() == groups.keys() else None

    def _profiles(
        self, structure: Structure, kinships: Kinships, gates: Mapping[str, ProvenGate], done: AbstractSet[object]
    ) -> Iterator[tuple[object, ProvenProfile]]:
        """All others that interfaces have."""
        wanted = self._namespace.wanted
        for key, carriers in self._by_profile().items():
            if key in done:
                continue
            eni, roots = carriers[0][1], _roots(gates[ifname].roots for ifname, _ in carriers)
            known = None if self._known is None else self._known.profiles.get(key)
            basis = profile_basis(wanted.state, wanted.options, eni)
            has_known_claims = known is not None and known.basis == basis
            if known is not None and has_known_claims and _is_same(known, roots, structure, kinships):
                yield key, known.without(structure.turned)
                continue
            check = ProfileCheck(wanted.state, wanted.options, wanted.site, structure, carriers, roots, known)
            self._checks.append(check)
            check.check(kinships, self._words_of(structure, kinships), has_known_claims=has_known_claims)
            yield key, ProvenProfile(basis, spoken_of(wanted.state, eni), roots, check.sides, check.views)

    def _words_of(self, structure: Structure, kinships: Kinships) -> WordsOf:
        """What is said of far addresses; once for all profiles that ask the same maps."""

        def words_of(family: Family, maps: Sequence[str]) -> Words:
            key = (family, tuple(maps))
            if key not in self._words:
                before = None if self._known is None else self._known.words.get(key)
                lookups = {name: structure.lookups[name] for name in maps}
                self._words[key] = Words.read(kinships.pages[family], lookups, before)
            return self._words[key]

        return words_of

    def _words_kept(self, structure: Structure) -> dict[WordsKey, Words]:
        """With those of profiles that weren't compared: they know of which pages they are."""
        before = [known.words for known in (self._known, self._alike) if known is not None]
        found = {key: words for some in (*before, self._words) for key, words in some.items()}
        return {key: words for key, words in found.items() if structure.lookups.keys() >= set(key[1])}

    def _by_profile(self) -> dict[object, list[tuple[str, Eni]]]:
        """The ENIs with the interfaces that carry them, by what makes their rules the same."""
        found: dict[object, list[tuple[str, Eni]]] = {}
        for ifname, eni in sorted(self._namespace.enis.items()):
            key = (frozenset(eni.security_group_ids), eni.nic_type, eni.vpc_id)
            found.setdefault(key, []).append((ifname, eni))
        return found

    def _account(
        self, counterexample: Counterexample | None, problem: str = "", known: ProvenTable | None = None
    ) -> Proof:
        cells, chains = (0, set[str]()) if self._gate is None else (self._gate.cells, self._gate.chains)
        return Proof(
            cells + sum(check.cells for check in self._checks),
            sum(check.classes for check in self._checks),
            len(chains.union(*(check.chains for check in self._checks))),
            len(self._checks),
            time.monotonic() - self._started,
            counterexample,
            problem,
            known,
        )


def _roots(of_carriers: Iterable[Roots]) -> dict[tuple[Direction, Family], frozenset[str]]:
    """Where the rules of any of them begin."""
    found: dict[tuple[Direction, Family], frozenset[str]] = {}
    for place, names in (item for roots in of_carriers for item in roots.items()):
        found[place] = found.get(place, frozenset()) | names
    return found


def _is_same(known: ProvenProfile, roots: Roots, structure: Structure, kinships: Kinships) -> bool:
    """Whether a profile with the same claims begins with the same chains, and has the same members to speak of."""
    return (
        known.roots == roots
        and all(structure.turned.isdisjoint(names) for names in roots.values())
        and kinships.turned.isdisjoint(known.spoken)
    )
