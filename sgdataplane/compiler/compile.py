"""Compile a policy into one nftables table: the same bytes for the same policy.

Owns the order of the steps, which fixed chains and maps there are, and the stamp. It is given a resolved policy and the
epoch. It must not do I/O, or know how any chain is made.

A table has these parts: what profiles make, the fixed chains without ENIs' own addresses, those of each ENI, the maps
that lead to them, timeouts, and what ENIs in audit mode need, if there are any. The first two are the same for many
ENIs. These and an ENI's are taken over as objects. The chains and sets that name the epoch, and the stamp, belong to
none of the parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from sgdataplane.collection import no_collection
from sgdataplane.compiler import skeleton, verdicts
from sgdataplane.compiler.audit import audit_part
from sgdataplane.compiler.eni import (
    EniInterface,
    ends_chain,
    eni_chain,
    make_errors_chain,
    make_shared_chains,
)
from sgdataplane.compiler.memo import Memo
from sgdataplane.compiler.parts import Joined, Part, Rules, by_name
from sgdataplane.compiler.profiles import Profiles
from sgdataplane.compiler.sessionlimit import limit_chain, limit_sets
from sgdataplane.compiler.timeouts import IdleTimeouts
from sgdataplane.contract import names
from sgdataplane.contract.counters import INJECTED, eni_counter
from sgdataplane.contract.marks import FIRST_EPOCH
from sgdataplane.contract.sites import SITES, Site
from sgdataplane.contract.stamp import Stamp
from sgdataplane.contract.tables import LOOPBACK, dispatch_name, drop_name, name_audited_enis_map, pass_name
from sgdataplane.errors import InternalError, LimitError
from sgdataplane.model import always
from sgdataplane.model.options import Options, Placement
from sgdataplane.net.values import Direction, Prefix
from sgdataplane.nft.changes import ById
from sgdataplane.nft.ir import ACCEPT, Chain, Counter, Rule, Table, goto
from sgdataplane.nft.outline import stamp_of
from sgdataplane.policy.resolve import HostPolicy

MAX_ENIS = 2048  # the chains of so many ENIs are kept


@dataclass(frozen=True)
class Surroundings:
    """What the fixed part depends on besides the ENIs' own addresses."""

    placement: Placement
    options: Options
    ifnames: tuple[str, ...]
    """The interfaces of all ENIs, sorted."""
    internal: tuple[str, ...]
    uplinks: tuple[str, ...]
    private: tuple[Prefix, ...]
    """The private addresses of all ENIs, if there are uplinks."""
    elsewhere: tuple[Rule, ...]
    """Rules that set timeouts for packets that leave by no ENI's interface."""
    needed: frozenset[str]
    """Chains that not every table has, and that the ENIs' own chains lead to."""


@lru_cache(maxsize=4)
def _compile_shared_part(around: Surroundings) -> Part:
    """Compile the fixed chains that name no address of an ENI. Tables with equal ones share them as objects."""
    site = SITES[around.placement]
    slots = site.marks.slots(around.ifnames)
    chains = [skeleton.midstream_chain(site)]
    maps = [skeleton.make_adoption_map(), *verdicts.mark_maps(slots)]
    arriving = ACCEPT
    if around.uplinks:
        of_uplinks, here = skeleton.uplink_chains(around.private)
        arriving = goto(of_uplinks[0].name)
        chains += of_uplinks
        maps += here
    for hook in Direction:
        uplink, timeouts = (goto(pass_name(hook)), around.elsewhere) if site.is_leaving(hook) else (arriving, ())
        # Uplinks first: all packets to and from elsewhere come this way, and each name takes a packet 25 ns.
        passing = {ifname: uplink for ifname in around.uplinks if not ifname.endswith("*")}
        passing |= dict.fromkeys((LOOPBACK, *around.internal), ACCEPT) | dict.fromkeys(around.uplinks, uplink)
        shared = make_shared_chains(around.placement, hook, around.options)
        chains += skeleton.gate_chain(site, hook), skeleton.entry_chain(site, hook, timeouts, passing)
        chains += shared.link, shared.checks, make_errors_chain(around.placement, hook), *shared.foreign
        chains += [chain for chain in shared.far if chain.name in around.needed]
        if site.placement.is_outside:
            chains.append(limit_chain(site, hook, around.options.sessions_per_eni))
    maps += limit_sets(around.options.sessions_per_eni if site.placement.is_outside else 0)
    needed = around.needed.union(*(chain.ways.chains for chain in chains))
    if site.origin is not None:
        needed |= {drop_name(Direction.INGRESS, INJECTED)}
    for hook in Direction:
        chains += [chain for chain in verdicts.cause_chains(site, hook) if chain.name in needed]
        chains.append(verdicts.refuse_chain(hook))
        maps.append(verdicts.drops_map(hook, around.ifnames))
    counters = [Counter(eni_counter(side, ifname)) for side in Direction for ifname in around.ifnames]
    return Part.of(chains, maps, [*counters, *skeleton.list_fixed_counters()])


@dataclass(frozen=True)
class EniPart:
    """What a table has for one ENI."""

    ifname: str
    opening: Mapping[Direction, Chain]
    """The ENI's chain at each hook."""
    ends: Chain
    """The chain that checks which sessions the ICMP errors are about that the ENI sends."""
    optional: frozenset[str]
    """The chains that a table has only if an ENI needs them."""

    @cached_property
    def part(self) -> Part:
        """The ENI's own chains, as a part of the table."""
        return Part.of([*self.opening.values(), self.ends], ())

    @cached_property
    def needed(self) -> frozenset[str]:
        """The optional chains to which its own chains lead."""
        return self.optional.intersection(name for chain in self.part.chains for name in chain.ways.chains)


@lru_cache(maxsize=MAX_ENIS)
def _eni_part(placement: Placement, interface: EniInterface, options: Options) -> EniPart:
    """Compile an ENI's own chains.

    They are made again only if something about the ENI changes, or where its rules begin.
    """
    site = SITES[placement]
    ends = ends_chain(site, interface)
    of_hook = {Direction.EGRESS: ends}
    opening = {hook: eni_chain(site, hook, interface, options, of_hook.get(hook)) for hook in Direction}
    far = make_shared_chains(placement, Direction.EGRESS, options).far
    optional = verdicts.cause_names().union(chain.name for chain in far)
    return EniPart(interface.ifname, opening, ends, optional)


def _dispatch_part(parts: Sequence[EniPart]) -> Part:
    """Compile the maps from interfaces to the chains of their ENIs."""
    opening = ({entry.ifname: entry.opening[hook] for entry in parts} for hook in Direction)
    return Part.of((), list(map(skeleton.dispatch, Direction, opening)))


def compile_policy(
    policy: HostPolicy, options: Options, epoch: int = FIRST_EPOCH, secret: int = 0, memo: Memo | None = None
) -> Table:
    """Return the table that makes a namespace obey a policy.

    It marks the sessions that it accepts with `epoch`, from 1 to the layout's last one. It marks packets that may leave
    with `secret`, for the fence (fence.py), unless that is 0. `memo` is what an earlier compile of a similar policy
    left; it only makes this one faster.

    Raises:
        LimitError: The namespace has more ENIs than the mark has slots.
    """
    most = SITES[policy.placement].marks.max_links
    if len(policy.enis) > most:
        raise LimitError("one namespace's ENIs", most, len(policy.enis))
    with no_collection():
        memo = memo or Memo()
        parts = _parts(policy, options, memo)
        digest = names.digest(" ".join([part.digest for part in parts]), 32)
        memo.joined = Joined.of(parts, memo.joined)
        return _stamp_table(memo.joined.table, SITES[policy.placement], Stamp(epoch, digest, secret=secret))


def _parts(policy: HostPolicy, options: Options, memo: Memo) -> tuple[Part, ...]:
    """Return all of the table except the chains that name the epoch, and the stamp."""
    site = SITES[policy.placement]
    rules = _rules(policy, site, memo)
    of_enis = policy.enis, policy.placement, policy.internal, policy.uplinks, policy.idle
    basis = of_enis, options, rules.numbers
    if memo.fixed is None or memo.fixed[0] != basis:
        memo.fixed = basis, tuple(_compile_fixed_parts(policy, options, rules.numbers))
    return rules.part, *memo.fixed[1], *_compile_audits(policy, site, memo)


def _compile_fixed_parts(
    policy: HostPolicy, options: Options, numbers: Sequence[dict[Direction, int]]
) -> Iterator[Part]:
    """Yield all parts except that of profiles. `numbers` are those of the sides of each profile."""
    idle = IdleTimeouts.of(policy)
    links = [
        EniInterface(
            eni.ifname,
            eni.private,
            eni.own,
            eni.link,
            always.on_link(eni.own, options, policy.placement),
            numbers[eni.profile],
            idle.rules(eni.ifname),
        )
        for eni in policy.enis
    ]
    own = [_eni_part(policy.placement, link, options) for link in links]
    around = Surroundings(
        policy.placement,
        options,
        tuple(sorted(link.ifname for link in links)),
        policy.internal,
        policy.uplinks,
        tuple(prefix for eni in policy.enis for prefix in eni.private) if policy.uplinks else (),
        idle.elsewhere(),
        frozenset[str]().union(*(entry.needed for entry in own)),
    )
    yield _compile_shared_part(around)
    yield from (entry.part for entry in own)
    yield _dispatch_part(own)
    yield Part.of(idle.chains.values(), idle.maps.values(), (), idle.objects)


def _rules(policy: HostPolicy, site: Site, memo: Memo) -> Rules:
    """Return what profiles make, taken from the memo if the policy's is the same."""
    if memo.rules is not None and memo.rules.is_for(policy, site):
        memo.keep()
        return memo.rules
    memo.follow(policy.members)
    compiled = Profiles(policy, site, memo)
    roots = [compiled.profile(profile) for profile in policy.profiles]
    memo.rules = compiled.rules(roots, memo.rules)
    memo.evict_unused()
    return memo.rules


def _compile_audits(policy: HostPolicy, site: Site, memo: Memo) -> tuple[Part, ...]:
    """Return the part for ENIs in audit mode, if there are any."""
    assert memo.order is not None
    basis = policy.enis, policy.profiles, site, memo.order
    if memo.audits is None or memo.audits[0] != basis:
        memo.audits = basis, audit_part(policy, site, memo.order.ranks)
    part = memo.audits[1]
    return () if part is None else (part,)


def with_epoch(table: Table, epoch: int, secret: int = 0) -> Table:
    """Return the table with another epoch, the same for all ENIs, and another secret."""
    return with_stamp(table, Stamp(epoch, "", secret=secret))


def with_stamp(table: Table, stamp: Stamp) -> Table:
    """Return the table with the epochs and the secret of another stamp.

    Base chains, chains that write marks, sets of sessions and the stamp are other ones then. The digest stays: it is of
    everything else, so that it is equal for equal policies.
    """
    return _stamp_table(table, _site_of(table), replace(stamp, digest=stamp_of(table).digest, generation=None))


def _stamp_table(table: Table, site: Site, stamp: Stamp) -> Table:
    """Return the table with all that names the epoch or the secret, and with the stamp."""
    last = site.marks.last_epoch
    if not all(1 <= epoch <= last for epoch in stamp.every_epoch):
        raise InternalError(f"of the epochs {sorted(stamp.every_epoch)}, some are outside 1..{last}")
    ifnames = tuple(str(ifname) for ifname, _ in table.map[dispatch_name(Direction.INGRESS)].elements)
    first = tuple(skeleton.first_rules(table, site))
    marks = _marks(site.placement, ifnames, replace(stamp, digest="", is_unsettled=False, is_lenient=False))
    has_audited = name_audited_enis_map(Direction.INGRESS) in table.map
    moving = _epoch_chains(site.placement, ById(marks), stamp.secret, first, has_audited)
    sets = verdicts.session_sets(marks)
    own = {entry.name: entry for entry in (skeleton.make_stamp_map(stamp), *sets)}
    maps = [entry for entry in table.maps if entry.name not in own]
    return replace(
        table,
        chains=_with_moving(ById(table.chains), ById(moving)),
        maps=by_name([*maps, *own.values()]),
    )


@lru_cache(maxsize=8)
def _with_moving(chains: ById[tuple[Chain, ...]], moving: ById[tuple[Chain, ...]]) -> tuple[Chain, ...]:
    """Return the chains with those that name the epoch, which take the place of others of their name."""
    places, replaced = _places(chains), list(chains.value)
    for chain in moving.value:
        if chain.name in places:
            replaced[places[chain.name]] = chain
    missing = [chain for chain in moving.value if chain.name not in places]
    return by_name([*replaced, *missing]) if missing else tuple(replaced)


@lru_cache(maxsize=8)
def _places(chains: ById[tuple[Chain, ...]]) -> dict[str, int]:
    """Return the index of each chain, by name."""
    return {chain.name: place for place, chain in enumerate(chains.value)}


@lru_cache(maxsize=4)
def _marks(placement: Placement, ifnames: tuple[str, ...], stamp: Stamp) -> verdicts.Marks:
    """Return what each ENI writes to the sessions that it accepts."""
    layout = SITES[placement].marks
    slots = layout.slots(ifnames)
    epochs = stamp.epochs(slots.values())
    return {
        side: {ifname: layout.encode_acceptance(side, epochs[slot], slot) for ifname, slot in slots.items()}
        for side in Direction
    }


@lru_cache(maxsize=4)
def _epoch_chains(
    placement: Placement,
    marks: ById[verdicts.Marks],
    secret: int,
    first: tuple[tuple[Rule, ...], ...],
    has_audited: bool,  # by position: the cache remembers results by their parameters
) -> tuple[Chain, ...]:
    """Compile the chains that name an epoch or the secret, once for the same marks."""
    by_hook = dict(zip(Direction, first, strict=True))
    return tuple(verdicts.epoch_chains(SITES[placement], marks.value, secret, by_hook, has_audited=has_audited))


def with_adoption(table: Table, ifnames: Iterable[str], milliseconds: int) -> Table:
    """Return the table with open adoption windows for these interfaces. Its digest stays the same."""
    opened = skeleton.make_adoption_map(ifnames, milliseconds)
    return replace(table, maps=tuple(opened if entry.name == opened.name else entry for entry in table.maps))


def _site_of(table: Table) -> Site:
    """Return where a compiled table stands, which its base chains show."""
    hooks = {side: table.chain_of(side.value).hook for side in Direction}
    return next(site for site in SITES.values() if site.hooks == hooks)
