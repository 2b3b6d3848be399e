"""Compile what ENIs in audit mode need: what rules refuse there passes, is counted and is logged.

Owns what a table has for them, and nothing else of it: their profiles, ranks and leaves are those of all ENIs. It is
given the ENIs and the ranks of refusals. It must not know how a rank is found, or how an accept is carried out.

    <hook>-audited   interface of such an ENI -> audit-<hook>. The base chain asks it for packets with a rank, before it
                     asks which leaf that leads to (verdicts.py). So the mode is the interface's, and not the profile's
    audit-<hook>     counts by ENI and rank; then the rank leads to another leaf if it is a refusal's. Others return
    audited          (rank, interface) -> counter
    audits           rank -> leaf: counts by rule, logs as what would be dropped, notes that the packet is accepted
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sgdataplane.compiler.lower import audit_leaf
from sgdataplane.compiler.parts import Part
from sgdataplane.compiler.ranks import Ranks
from sgdataplane.contract.counters import name_audited_at
from sgdataplane.contract.fields import Field, KeyType
from sgdataplane.contract.sites import Site
from sgdataplane.contract.tables import AUDITED, AUDITS, audit_name, name_audited_enis_map
from sgdataplane.errors import LimitError
from sgdataplane.model.decision import Decision
from sgdataplane.net.values import Direction, Verdict
from sgdataplane.nft.ir import Chain, Count, Counter, Map, MapCount, VerdictMap, jump, rule
from sgdataplane.policy.resolve import EniPolicy, HostPolicy, Profile

MAX_COUNTERS = 65_536  # one for each ENI in audit mode and refusal; so many objects take the kernel half a second


def audit_part(policy: HostPolicy, site: Site, ranks: Ranks) -> Part | None:
    """Return what the table has for ENIs in audit mode; None if there are none.

    Raises:
        LimitError: They have too many rules that refuse.
    """
    audited = [eni for eni in policy.enis if eni.is_audited]
    if not audited:
        return None
    refusals = {decision: rank for decision, rank in ranks.items() if decision.verdict is Verdict.DROP}
    leaves = {rank: audit_leaf(decision) for decision, rank in refusals.items()}
    counted = _find_counters(audited, policy.profiles, refusals)
    chains = [_chain(site, hook) for hook in Direction]
    maps = [_interfaces(hook, audited) for hook in Direction]
    maps.append(
        Map(AUDITS, KeyType.CLASSID, tuple((rank, jump(leaf.chain.name)) for rank, leaf in sorted(leaves.items())))
    )
    elements = tuple(sorted((pair, Count(name)) for pair, name in counted.items()))
    maps.append(Map(AUDITED, KeyType.CLASSID_IFNAME, elements, holds=KeyType.COUNTER))
    counters = [counter for leaf in leaves.values() for counter in leaf.counters]
    chains += [leaf.chain for leaf in leaves.values()]
    return Part.of(chains, maps, [*counters, *map(Counter, counted.values())])


def _find_counters(
    audited: Sequence[EniPolicy], profiles: Sequence[Profile], refusals: Ranks
) -> Mapping[tuple[int, str], str]:
    """Return the counter of each refusal at each of these ENIs, by rank and interface."""
    own = {eni.profile: list(_refusals(profiles[eni.profile], refusals)) for eni in audited}
    number = sum(len(own[eni.profile]) for eni in audited)
    if number > MAX_COUNTERS:
        raise LimitError("what would be dropped at ENIs in audit mode, by ENI and rule", MAX_COUNTERS, number)
    pairs = ((eni.ifname, decision) for eni in audited for decision in own[eni.profile])
    return {(refusals[decision], ifname): name_audited_at(ifname, decision) for ifname, decision in pairs}


def _refusals(profile: Profile, refusals: Ranks) -> Iterator[Decision]:
    """Yield the decisions of a profile that refuse packets, each once."""
    every = (permission.decision for side in Direction for permission in profile.permissions(side))
    return (decision for decision in dict.fromkeys(every) if decision in refusals)


def _chain(site: Site, hook: Direction) -> Chain:
    by_eni = rule(MapCount(Field.PACKET_PRIORITY, AUDITED, site.interface(hook)))
    return Chain(audit_name(hook), (by_eni, rule(VerdictMap(Field.PACKET_PRIORITY, name=AUDITS))))


def _interfaces(hook: Direction, audited: Sequence[EniPolicy]) -> Map:
    ifnames = sorted(eni.ifname for eni in audited)
    return Map(
        name_audited_enis_map(hook), KeyType.IFNAME, tuple((ifname, jump(audit_name(hook))) for ifname in ifnames)
    )
