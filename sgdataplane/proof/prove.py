"""prove(): does a compiled table do what the specification says, for every packet? If not, one packet that differs.

Owns the order of the comparisons and the account of them. Is given a state and a table. Must not do I/O, nor know how
the table was compiled.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product

from sgdataplane.compiler.collection import no_collection
from sgdataplane.errors import ProofError
from sgdataplane.model.state import Eni
from sgdataplane.net.values import Direction, Family
from sgdataplane.nft.ir import Table
from sgdataplane.proof.far import Kinships
from sgdataplane.proof.gate import GateCheck, GateMismatch, Roots
from sgdataplane.proof.known import Known, Part, gate_basis, gate_part, profile_basis, profile_part
from sgdataplane.proof.profile import ProfileCheck, ProfileMismatch
from sgdataplane.proof.specification import Namespace, Specification
from sgdataplane.proof.structure import problem_of
from sgdataplane.proof.witness import Counterexample, of_gate, of_profile


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
    known: Known | None = field(default=None, repr=False)

    @property
    def holds(self) -> bool:
        return self.counterexample is None and not self.problem

    def __str__(self) -> str:
        if self.holds:
            what = f"{self.cells} cells of {self.classes} classes of far addresses, {self.chains} chains"
            rules_of = "1 profile" if self.profiles == 1 else f"{self.profiles} profiles"
            return f"proven: {what}, {rules_of}, in {self.seconds:.2f} s"
        return "\n".join(str(part) for part in (self.problem, self.counterexample) if part)


def prove(specification: Specification, table: Table, known: Known | None = None) -> Proof:
    """Compare all packets at all interfaces. `known`: of a proof before; what it rests on isn't compared again."""
    work = _Work(specification, table, known)
    with no_collection():
        return work.proof()


def require_proof(specification: Specification, table: Table, known: Known | None = None) -> Proof:
    """prove(), for who must not go on without: ProofError, with the packet that differs."""
    proof = prove(specification, table, known)
    if not proof.holds:
        raise ProofError(str(proof))
    return proof


class _Work:
    def __init__(self, specification: Specification, table: Table, known: Known | None) -> None:
        self._table, self._namespace, self._known = table, Namespace.of(specification, table), known
        self._checks: list[ProfileCheck] = []
        self._gate = GateCheck(table, self._namespace)
        self._started = time.monotonic()

    def proof(self) -> Proof:
        problem = problem_of(self._table, self._namespace.wanted.site)
        if problem:
            return self._account(None, problem)
        try:
            known = self._gate_known()
            return self._account(None, known=replace(known, profiles=dict(self._profiles(known.roots))))
        except GateMismatch as difference:
            return self._account(of_gate(self._table, self._namespace, difference))
        except ProfileMismatch as difference:
            return self._account(self._shown(difference))

    def _shown(self, difference: ProfileMismatch) -> Counterexample:
        """If no packet comes to that one, perhaps the chains are wrong about others, too."""
        found = of_profile(self._table, self._namespace, difference)
        if not found.is_shown:
            try:
                replace(self._checks[-1], is_strict=False).check(self._kinships)
            except ProfileMismatch as other:
                return of_profile(self._table, self._namespace, other)
        return found

    @cached_property
    def _kinships(self) -> Kinships:
        return Kinships.read(self._namespace.wanted.state)

    def _gate_known(self) -> Known:
        known = self._known
        if known is not None and known.gate.is_same(gate_basis(self._gate), self._table):
            return known
        self._gate.check()
        return Known(gate_part(self._gate), self._gate.roots)

    def _profiles(self, roots: Roots) -> Iterator[tuple[object, Part]]:
        wanted = self._namespace.wanted
        for key, carriers in self._by_profile().items():
            of_these: dict[tuple[Direction, Family], set[str]] = {}
            for (ifname, _), hook, family in product(carriers, Direction, Family):
                of_these.setdefault((hook, family), set()).update(roots[ifname, hook, family])
            check = ProfileCheck(wanted.state, wanted.options, self._table, carriers, of_these)
            part = None if self._known is None else self._known.profiles.get(key)
            if part is None or not part.is_same(profile_basis(check), self._table):
                self._checks.append(check)
                check.check(self._kinships)
                part = profile_part(check)
            yield key, part

    def _by_profile(self) -> dict[object, list[tuple[str, Eni]]]:
        """The ENIs with the interfaces that carry them, by what makes their rules the same."""
        found: dict[object, list[tuple[str, Eni]]] = {}
        for ifname, eni in sorted(self._namespace.enis.items()):
            key = (frozenset(eni.security_group_ids), eni.nic_type, eni.vpc_id)
            found.setdefault(key, []).append((ifname, eni))
        return found

    def _account(self, counterexample: Counterexample | None, problem: str = "", known: Known | None = None) -> Proof:
        return Proof(
            self._gate.cells + sum(check.cells for check in self._checks),
            sum(check.classes for check in self._checks),
            len(self._gate.chains.union(*(check.chains for check in self._checks))),
            len(self._checks),
            time.monotonic() - self._started,
            counterexample,
            problem,
            known,
        )
