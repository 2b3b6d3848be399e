"""The frame of a table: all but the rules of its profiles and what names the epoch.

Owns which fixed chains and maps there are. Is given the policy's interfaces, with the roots of their profiles. Must not
know how any chain is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sgdataplane.compiler import drops, fastpath, skeleton
from sgdataplane.compiler.eni import Link, eni_chain, errors_chain, shared_chains
from sgdataplane.contract.counters import eni_counter
from sgdataplane.contract.sites import SITES, Site
from sgdataplane.contract.tables import LOOPBACK
from sgdataplane.model.options import Options
from sgdataplane.net.values import Direction
from sgdataplane.nft.ir import ACCEPT, Chain, Counter, Map, Rule, goto
from sgdataplane.policy.resolve import HostPolicy


@dataclass
class Frame:
    chains: list[Chain] = field(default_factory=list)
    maps: list[Map] = field(default_factory=list)
    counters: list[Counter] = field(default_factory=list)

    @classmethod
    def of(cls, policy: HostPolicy, links: Sequence[Link], options: Options, elsewhere: Sequence[Rule] = ()) -> Frame:
        """`links`: of the policy's ENIs. `elsewhere`: the rules that set timeouts where packets leave by no ENI's
        interface."""
        site, made = SITES[policy.placement], cls()
        slots = site.marks.slots(link.ifname for link in links)
        made._add(([skeleton.midstream_chain(site)], [skeleton.adopting()]))
        arriving = ACCEPT
        if policy.uplinks:
            chains, maps = skeleton.uplink_chains([prefix for eni in policy.enis for prefix in eni.private])
            arriving = goto(chains[0].name)
            made._add((chains, maps))
        if not fastpath.is_few(slots):
            made._add(([], fastpath.mark_maps(slots)))
        for hook in Direction:
            uplink, timeouts = (ACCEPT, elsewhere) if site.is_leaving(hook) else (arriving, ())
            passing = dict.fromkeys((LOOPBACK, *policy.internal), ACCEPT)
            passing |= dict.fromkeys(policy.uplinks, uplink)
            made._add(([skeleton.entry_chain(site, hook, timeouts, passing)], []))
            made._links(site, hook, slots, links, options)
        made._drops(site, [link.ifname for link in links])
        return made

    def _links(
        self, site: Site, hook: Direction, slots: Mapping[str, int], links: Sequence[Link], options: Options
    ) -> None:
        shared = shared_chains(hook, options)
        enis = {link.ifname: eni_chain(site, hook, link, shared, options) for link in links}
        errors = {link.ifname: errors_chain(hook, link) for link in links}
        self._add(([shared.link, shared.checks, *enis.values(), *errors.values()], [skeleton.dispatch(hook, enis)]))
        if fastpath.is_few(slots):
            self._add(([], [skeleton.errors(hook, errors)]))
        else:
            self._add(fastpath.session_chains(site, hook, slots, enis, errors))

    def _drops(self, site: Site, ifnames: Sequence[str]) -> None:
        """With the chains of those causes that are there."""
        self.counters.extend(Counter(eni_counter(side, ifname)) for side in Direction for ifname in ifnames)
        needed = {name for chain in self.chains for name in chain.ways.chains}
        for hook in Direction:
            self._add(([chain for chain in drops.cause_chains(hook) if chain.name in needed], []))
            self._add(drops.end_chains(site, hook, ifnames))

    def _add(self, made: tuple[Iterable[Chain], Iterable[Map]]) -> None:
        self.chains.extend(made[0])
        self.maps.extend(made[1])
