"""Check that at ENIs in audit mode exactly the packets that rules refuse pass, each counted as such.

Owns what the chains and maps for these ENIs must hold. It is given the table, what ranks stand for, and the state. It
must not know how the table was compiled.

The rest of such an ENI's policy is proven like that of any other ENI: a refusal returns to the base chain with its
rank. The proof of the gate shows at which interfaces the base chain leads ranks to the audit chains first
(gatewalk.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from sgdataplane.contract.counters import name_audited_at, name_audited_of
from sgdataplane.contract.fields import Field, KeyType
from sgdataplane.contract.sites import Site
from sgdataplane.contract.tables import AUDIT, AUDITED, AUDITS, audit_name, name_audited_enis_map
from sgdataplane.model.decision import Decision
from sgdataplane.model.semantics import order_candidates
from sgdataplane.model.state import Eni
from sgdataplane.net.values import Direction, Verdict
from sgdataplane.nft.ir import Count, Map, MapCount, MapKey, Rule, VerdictMap, jump, rule
from sgdataplane.proof.spec.claims import derive_outcome, end_chain
from sgdataplane.proof.spec.outcomes import Outcome
from sgdataplane.proof.spec.specification import Namespace
from sgdataplane.proof.walk.ranks import Winners, outcomes
from sgdataplane.proof.walk.structure import Structure

OWN_MAPS = frozenset({AUDITED, AUDITS, *map(name_audited_enis_map, Direction)})


@dataclass(frozen=True)
class ProvenAudits:
    """What an earlier proof showed about ENIs in audit mode, kept for the next proof."""

    basis: object = None
    """What the chains and maps were compared with."""
    chains: AbstractSet[str] = frozenset()
    """The chains that were read."""

    def is_same(self, basis: object, structure: Structure) -> bool:
        """Return whether the earlier result still holds: same basis, and none of its chains and maps changed."""
        touched = structure.touched_maps.isdisjoint(OWN_MAPS) and structure.changed.isdisjoint(self.chains)
        return self.basis == basis and touched


@dataclass
class AuditCheck:
    """The check of one table's audit chains and maps."""

    structure: Structure
    namespace: Namespace
    """What the table must do."""
    winners: Winners
    """Where each rank of the table leads."""
    _refusals: dict[object, Mapping[int, Decision]] = field(default_factory=dict)

    def check(self, previous: ProvenAudits) -> ProvenAudits | str:
        """Return what was proven, or a sentence that says what is wrong.

        `previous` is returned as it is if nothing that it rests on has changed.
        """
        enis, table = self.namespace.enis, self.structure.table
        audited = {ifname: eni for ifname, eni in enis.items() if eni.is_audited}
        stray = next(self._strays(), "")
        if stray:
            return f"chain {stray} leads where only base chains and ENIs in audit mode lead"
        if not audited:
            found = sorted(OWN_MAPS & table.map.keys())
            return f"map {found[0]} is there, but no ENI is in audit mode" if found else ProvenAudits()
        basis = {ifname: self._refusals_of(eni) for ifname, eni in audited.items()}, self.winners
        if previous.is_same(basis, self.structure):
            return previous
        wrong = next(self._wrong(audited), "")
        chains = {*map(audit_name, Direction), *self._leaves().values()}
        return wrong or ProvenAudits(basis, frozenset(chains))

    def _wrong(self, audited: Mapping[str, Eni]) -> Iterator[str]:
        """Yield what is wrong with the chains and maps, given that some ENIs are in audit mode."""
        maps, chains, site = self.structure.table.map, self.structure.table.chain, self.namespace.wanted.site
        missing = OWN_MAPS - maps.keys()
        if missing:
            yield f"there is no map {min(missing)}, but an ENI is in audit mode"
            return
        for hook in Direction:
            name = audit_name(hook)
            if chains.get(name) is None or chains[name].rules != _rules(site, hook):
                yield f"chain {name} doesn't count by ENI and lead each rank on, or does more"
            leads: dict[MapKey, object] = {ifname: jump(name) for ifname in audited}
            if not _has_elements(maps[name_audited_enis_map(hook)], leads, KeyType.IFNAME):
                yield f"map {name_audited_enis_map(hook)} doesn't name the interfaces of exactly the ENIs in audit mode"
        yield from self._wrong_leaves()
        counted = dict(self._list_counters(audited))
        if not _has_elements(maps[AUDITED], counted, KeyType.CLASSID_IFNAME, KeyType.COUNTER):
            yield f"map {AUDITED} doesn't count each refusal of exactly these ENIs by its own counter"

    def _wrong_leaves(self) -> Iterator[str]:
        """Yield what is wrong with where ranks of refusals lead.

        Each must lead to a leaf that accepts in place of the refusal, and no other rank may lead anywhere.
        """
        accepting = ((rank, _accepting(outcome)) for rank, outcome in self.winners.leaves.items())
        refused = {rank: outcome for rank, outcome in accepting if outcome is not None}
        leads = self.structure.table.map[AUDITS]
        names = self._leaves()
        if names.keys() != refused.keys() or not _has_elements(
            leads, {r: jump(n) for r, n in names.items()}, KeyType.CLASSID
        ):
            yield f"map {AUDITS} doesn't lead on exactly the ranks of refusals"
            return
        said = dict(outcomes(self.structure.table, list(dict.fromkeys(names.values()))))
        for rank, name in names.items():
            if said[name] != refused[rank]:
                yield f"chain {name}, where rank {rank} leads, doesn't count it as audited and accept it, or does more"

    def _leaves(self) -> dict[int, str]:
        """Return the chain that each rank leads to by the map of audits, as far as such a chain exists."""
        elements = self.structure.table.map[AUDITS].elements if AUDITS in self.structure.table.map else ()
        leads = ((rank, getattr(to, "chain", "")) for rank, to in elements)
        return {rank: name for rank, name in leads if isinstance(rank, int) and name in self.structure.table.chain}

    def _list_counters(self, audited: Mapping[str, Eni]) -> Iterator[tuple[MapKey, Count]]:
        """Yield the elements that the map of audit counters must hold: (rank, interface) and the counter."""
        for ifname, eni in audited.items():
            for rank, decision in self._refusals_of(eni).items():
                yield (rank, ifname), Count(name_audited_at(ifname, decision))

    def _refusals_of(self, eni: Eni) -> Mapping[int, Decision]:
        """Return the decisions that may refuse packets of an ENI, by rank.

        A decision without a rank refuses no packet, as the proof of the ENI's profile shows.
        """
        key = frozenset(eni.security_group_ids), eni.nic_type, eni.vpc_id
        if key not in self._refusals:
            state, options = self.namespace.wanted.state, self.namespace.wanted.options
            every = (c.decision for side in Direction for c in order_candidates(state, eni, side, options))
            refused = [decision for decision in every if decision.verdict is Verdict.DROP]
            ranks = ((self.winners.of.get(derive_outcome(decision)), decision) for decision in refused)
            self._refusals[key] = {rank: decision for rank, decision in ranks if rank is not None}
        return self._refusals[key]

    def _strays(self) -> Iterator[str]:
        """Yield the changed chains that lead to an audit chain, or use an audit map, although they must not.

        The walk of the gate doesn't follow jumps to audit chains, so they are looked for here.
        """
        asking = {hook.value: {name_audited_enis_map(hook)} for hook in Direction}
        asking |= {audit_name(hook): {AUDITED, AUDITS} for hook in Direction}
        for name in self.structure.changed & self.structure.facts.keys():
            facts = self.structure.facts[name]
            is_leading = any(chain.startswith(AUDIT) for chain in facts.chains)
            if is_leading or not facts.maps & OWN_MAPS <= asking.get(name, set()):
                yield name


def _rules(site: Site, hook: Direction) -> tuple[Rule, ...]:
    """Return the rules that an audit chain must have: count by rank and interface, then lead the rank on."""
    by_eni = rule(MapCount(Field.PACKET_PRIORITY, AUDITED, site.interface(hook)))
    return by_eni, rule(VerdictMap(Field.PACKET_PRIORITY, name=AUDITS))


def _has_elements(entry: Map, wanted: Mapping[MapKey, object], key_type: KeyType, holds: KeyType | None = None) -> bool:
    """Return whether a map has exactly these elements, of these types, and elements don't expire."""
    is_plain = (entry.key_type, entry.holds, entry.lifetime, entry.room) == (key_type, holds, 0, 0)
    return is_plain and dict(entry.elements) == dict(wanted)


def _accepting(outcome: Outcome | None) -> Outcome | None:
    """Return what the audit leaf must do in place of a refusal: count it as audited, and accept.

    Return None if the outcome is no refusal.
    """
    if outcome is None:
        return None
    effects, end = outcome
    side = next((side for side in Direction if end == end_chain(side, Verdict.DROP)), None)
    if side is None or len(effects) != 1 or not isinstance(effects[0], Count):
        return None
    return (Count(name_audited_of(effects[0].counter)),), end_chain(side, Verdict.ACCEPT)
