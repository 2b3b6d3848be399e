"""compile_policy(): HostPolicy -> one nftables table, the same bytes for the same policy.

Owns the order of the steps, which fixed chains and maps there are, and the stamp. Is given a resolved policy and the
epoch. Must not do I/O, or know how any chain is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from sgdataplane.collection import no_collection
from sgdataplane.compiler import skeleton, verdicts
from sgdataplane.compiler.eni import EniInterface, eni_chain, errors_chain, shared_chains
from sgdataplane.compiler.memo import Memo
from sgdataplane.compiler.profiles import Profiles
from sgdataplane.compiler.timeouts import IdleTimeouts
from sgdataplane.contract import names
from sgdataplane.contract.counters import eni_counter
from sgdataplane.contract.marks import FIRST_EPOCH
from sgdataplane.contract.sites import SITES, Site
from sgdataplane.contract.stamp import STAMP_MAP
from sgdataplane.contract.tables import LOOPBACK, TABLE, dispatch_name
from sgdataplane.errors import InternalError, LimitError
from sgdataplane.model import always
from sgdataplane.model.options import Options
from sgdataplane.net.values import Direction
from sgdataplane.nft import pages
from sgdataplane.nft.ir import ACCEPT, Chain, Counter, Map, Rule, Table, Timeout, goto
from sgdataplane.nft.snapshot import stamp_of
from sgdataplane.nft.text import render_table
from sgdataplane.policy.resolve import HostPolicy


@dataclass
class Frame:
    chains: list[Chain] = field(default_factory=list)
    maps: list[Map] = field(default_factory=list)
    counters: list[Counter] = field(default_factory=list)

    @classmethod
    def of(
        cls, policy: HostPolicy, links: Sequence[EniInterface], options: Options, elsewhere: Sequence[Rule] = ()
    ) -> Frame:
        """`links`: the interfaces of the policy's ENIs. `elsewhere`: rules that set timeouts for packets that leave by
        no ENI's interface."""
        site, made = SITES[policy.placement], cls()
        slots = site.marks.slots(link.ifname for link in links)
        made._add([skeleton.midstream_chain(site)], [skeleton.adopting(), *verdicts.mark_maps(slots)])
        arriving = ACCEPT
        if policy.uplinks:
            chains, maps = skeleton.uplink_chains([prefix for eni in policy.enis for prefix in eni.private])
            arriving = goto(chains[0].name)
            made._add(chains, maps)
        for hook in Direction:
            uplink, timeouts = (ACCEPT, elsewhere) if site.is_leaving(hook) else (arriving, ())
            passing = dict.fromkeys((LOOPBACK, *policy.internal), ACCEPT)
            passing |= dict.fromkeys(policy.uplinks, uplink)
            made._add([skeleton.entry_chain(site, hook, timeouts, passing)])
            made._links(site, hook, slots, links, options)
        made._drops(site, [link.ifname for link in links])
        return made

    def _links(
        self, site: Site, hook: Direction, slots: Mapping[str, int], links: Sequence[EniInterface], options: Options
    ) -> None:
        shared = shared_chains(hook, options)
        enis = {link.ifname: eni_chain(site, hook, link, shared, options) for link in links}
        errors = {link.ifname: errors_chain(hook, link) for link in links}
        self._add([shared.link, shared.checks, *enis.values(), *errors.values()], [skeleton.dispatch(hook, enis)])
        if verdicts.is_few(slots):
            self._add([], [skeleton.errors(hook, errors)])
        else:
            self._add(*verdicts.session_chains(site, hook, slots, enis, errors))

    def _drops(self, site: Site, ifnames: Sequence[str]) -> None:
        """Adds the chains that drop: those of a cause only if a chain leads there."""
        self.counters.extend(Counter(eni_counter(side, ifname)) for side in Direction for ifname in ifnames)
        needed = {name for chain in self.chains for name in chain.ways.chains}
        for hook in Direction:
            self._add(chain for chain in verdicts.cause_chains(hook) if chain.name in needed)
            self._add(*verdicts.end_chains(site, hook, ifnames))

    def _add(self, chains: Iterable[Chain], maps: Iterable[Map] = ()) -> None:
        self.chains.extend(chains)
        self.maps.extend(maps)


Named = TypeVar("Named", Chain, Map, Counter, Timeout)


def compile_policy(
    policy: HostPolicy, options: Options, epoch: int = FIRST_EPOCH, secret: int = 0, memo: Memo | None = None
) -> Table:
    """The table that makes a namespace obey `policy`. It marks the sessions that it accepts with `epoch`
    (1..last_epoch), and for the fence (fence.py) the packets that may leave with `secret`, if that isn't 0.

    `memo`: what an earlier compile of a similar policy left; it only makes this one faster.
    LimitError if the namespace has more ENIs than the mark has slots.
    """
    most = SITES[policy.placement].marks.max_links
    if len(policy.enis) > most:
        raise LimitError("one namespace's ENIs", most, len(policy.enis))
    with no_collection():
        return _stamped(_compiled(policy, options, memo or Memo()), SITES[policy.placement], epoch, secret)


def _compiled(policy: HostPolicy, options: Options, memo: Memo) -> Table:
    """The table without the chains that name the epoch, and without a stamp."""
    memo.follow(policy.members)
    site = SITES[policy.placement]
    lowering = Profiles(policy.remotes, policy.members, site, memo)
    roots = [lowering.profile(profile) for profile in policy.profiles]
    idle, links = IdleTimeouts.of(policy), []
    for eni in policy.enis:
        on_link = always.on_link(eni.own, options, policy.placement)
        ends = (roots[eni.profile], idle.rules(eni.ifname))
        links.append(EniInterface(eni.ifname, eni.private, eni.own, eni.link, on_link, *ends))
    fixed = Frame.of(policy, links, options, idle.elsewhere())
    return Table(
        TABLE,
        _sorted([*lowering.chains.values(), *fixed.chains, *idle.chains.values()]),
        _sorted([*lowering.maps.values(), *fixed.maps, *idle.maps.values()]),
        _sorted([*lowering.counters.values(), *fixed.counters, *skeleton.fixed_counters()]),
        _sorted(idle.objects),
    )


def with_epoch(table: Table, epoch: int, secret: int = 0) -> Table:
    """The table with another epoch and secret: with other base chains, chains that write marks, and stamp.

    The stamp's digest is of everything else, so that it is equal for equal policies.
    """
    return _stamped(table, _site_of(table), epoch, secret)


def _stamped(table: Table, site: Site, epoch: int, secret: int) -> Table:
    last = site.marks.last_epoch
    if not 1 <= epoch <= last:
        raise InternalError(f"epoch {epoch} is outside 1..{last}")
    ifnames = (str(ifname) for ifname, _ in table.map[dispatch_name(Direction.INGRESS)].elements)
    moving = {chain.name: chain for chain in verdicts.epoch_chains(site, site.marks.slots(ifnames), epoch, secret)}
    chains = [chain for chain in table.chains if chain.name not in moving]
    maps = [entry for entry in table.maps if entry.name != STAMP_MAP]
    is_stamped = len(maps) < len(table.maps)
    digest = stamp_of(table).digest if is_stamped else _digest(replace(table, chains=tuple(chains), maps=tuple(maps)))
    return replace(
        table,
        chains=_sorted([*chains, *moving.values()]),
        maps=_sorted([*maps, skeleton.applied(epoch, digest, secret)]),
    )


def _digest(table: Table) -> str:
    """A hash of 128 bits over all that the table holds. A chain that is named after its content counts by its name
    alone. The elements of maps, which can be very many, aren't made into nft text for it."""
    bare = tuple(replace(entry, elements=()) for entry in table.maps)
    text = render_table(replace(table, chains=tuple(chain for chain in table.chains if not chain.texts), maps=bare))
    named = "\n".join(chain.name for chain in table.chains if chain.texts)
    return names.digest("\n".join([text, named, *map(_elements, table.maps)]), 32)


def _elements(entry: Map) -> str:
    """A text that only equal elements share. Most values of a large map are one object."""
    if isinstance(entry.elements, pages.Paged):
        return f"{entry.name} {entry.elements.digest}"
    values = {id(value): value for _, value in entry.elements}
    texts = {known: repr(value) for known, value in values.items()}
    return f"{entry.name} " + ",".join([f"{key!r}:{texts[id(value)]}" for key, value in entry.elements])


def with_adoption(table: Table, ifnames: Iterable[str], milliseconds: int) -> Table:
    """The table with open adoption windows for these interfaces. Its digest stays the same."""
    opened = skeleton.adopting(ifnames, milliseconds)
    return replace(table, maps=tuple(opened if entry.name == opened.name else entry for entry in table.maps))


def _sorted(items: Iterable[Named]) -> tuple[Named, ...]:
    return tuple(sorted(items, key=lambda item: item.name))


def _site_of(table: Table) -> Site:
    """Where a compiled table stands, which its base chains show."""
    hooks = {side: table.chain[side.value].hook for side in Direction}
    return next(site for site in SITES.values() if site.hooks == hooks)
