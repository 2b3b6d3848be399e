"""prove(): does a compiled table do what the specification says, for every packet? If not, one packet that differs.

Owns the order of the comparisons and the account of them. Is given a state and a table. Must not do I/O, nor know how
the table was compiled.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import product

from sgdataplane.compiler.collection import no_collection
from sgdataplane.errors import ProofError
from sgdataplane.model.state import Eni
from sgdataplane.net.values import Direction, Family
from sgdataplane.nft.ir import Table
from sgdataplane.proof.far import Kinships
from sgdataplane.proof.gate import GateCheck, GateMismatch, Roots
from sgdataplane.proof.profile import ProfileCheck, ProfileMismatch
from sgdataplane.proof.specification import Namespace, Specification
from sgdataplane.proof.structure import problem_of
from sgdataplane.proof.witness import Counterexample, of_gate, of_profile


@dataclass(frozen=True, slots=True)
class Proof:
    """What was compared. A cell is a set of packets that take one path through the table. `classes`: of far addresses,
    of all profiles, families and hooks. `counterexample`, `problem`: None and "" if the table is right."""

    cells: int
    classes: int
    chains: int
    profiles: int
    seconds: float
    counterexample: Counterexample | None = None
    problem: str = ""

    @property
    def holds(self) -> bool:
        return self.counterexample is None and not self.problem

    def __str__(self) -> str:
        if self.holds:
            what = f"{self.cells} cells of {self.classes} classes of far addresses, {self.chains} chains"
            rules_of = "1 profile" if self.profiles == 1 else f"{self.profiles} profiles"
            return f"proven: {what}, {rules_of}, in {self.seconds:.2f} s"
        return "\n".join(str(part) for part in (self.problem, self.counterexample) if part)


def prove(specification: Specification, table: Table, enis: Collection[str] | None = None) -> Proof:
    """Compare all packets at all interfaces; rules only for the profiles of these ENIs (None: all of them)."""
    work = _Work(specification, table, enis)
    with no_collection():
        return work.proof()


def require_proof(specification: Specification, table: Table, enis: Collection[str] | None = None) -> Proof:
    """prove(), for who must not go on without: ProofError, with the packet that differs."""
    proof = prove(specification, table, enis)
    if not proof.holds:
        raise ProofError(str(proof))
    return proof


class _Work:
    def __init__(self, specification: Specification, table: Table, enis: Collection[str] | None) -> None:
        self._table, self._namespace = table, Namespace.of(specification, table)
        self._only = set(specification.interfaces if enis is None else enis)
        self._checks: list[ProfileCheck] = []
        self._gate = GateCheck(table, self._namespace)
        self._kinships = Kinships.read(specification.state)
        self._started = time.monotonic()

    def proof(self) -> Proof:
        problem = problem_of(self._table)
        if problem:
            return self._account(None, problem)
        try:
            self._gate.check()
            self._profiles(self._gate.roots)
        except GateMismatch as difference:
            return self._account(of_gate(self._table, self._namespace, difference))
        except ProfileMismatch as difference:
            return self._account(self._shown(difference))
        return self._account(None)

    def _shown(self, difference: ProfileMismatch) -> Counterexample:
        """If no packet comes to that one, perhaps the chains are wrong about others, too."""
        found = of_profile(self._table, self._namespace, difference)
        if not found.is_shown:
            try:
                replace(self._checks[-1], is_strict=False).check(self._kinships)
            except ProfileMismatch as other:
                return of_profile(self._table, self._namespace, other)
        return found

    def _profiles(self, roots: Roots) -> None:
        wanted = self._namespace.wanted
        for carriers in self._by_profile():
            if self._only.isdisjoint(eni.network_interface_id for _, eni in carriers):
                continue
            of_these: dict[tuple[Direction, Family], set[str]] = {}
            for (ifname, _), hook, family in product(carriers, Direction, Family):
                of_these.setdefault((hook, family), set()).update(roots[ifname, hook, family])
            check = ProfileCheck(wanted.state, wanted.options, self._table, carriers, of_these)
            self._checks.append(check)
            check.check(self._kinships)

    def _by_profile(self) -> list[list[tuple[str, Eni]]]:
        """The ENIs with the interfaces that carry them, by what makes their rules the same."""
        found: dict[object, list[tuple[str, Eni]]] = {}
        for ifname, eni in sorted(self._namespace.enis.items()):
            key = (frozenset(eni.security_group_ids), eni.nic_type, eni.vpc_id)
            found.setdefault(key, []).append((ifname, eni))
        return list(found.values())

    def _account(self, counterexample: Counterexample | None, problem: str = "") -> Proof:
        return Proof(
            self._gate.cells + sum(check.cells for check in self._checks),
            sum(check.classes for check in self._checks),
            len(self._gate.chains.union(*(check.chains for check in self._checks))),
            len(self._checks),
            time.monotonic() - self._started,
            counterexample,
            problem,
        )
