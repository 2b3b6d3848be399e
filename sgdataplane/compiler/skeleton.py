"""Make the fixed part of a table: dispatch by interface, uplinks, the stamp, counters, and words for all chains.

Owns the chains and maps that every table has, whatever its rules, except those that carry verdicts out (verdicts.py).
Owns also how chains are named after what they hold. It must not know rules of users, or what the kernel holds now.

    <hook>-gate       leads to the ENI of the packet's interface. Packets that rules must judge return
    <hook>-entry      packets at no ENI's interface: lo, internal interfaces and uplinks pass. Base chains (verdicts.py)
                      begin with what it says of the first FEW_UPLINKS, since most packets of a router come and go there
    egress-midstream  TCP that opens nothing: goes on to the rules while its ENI's adoption window is open, else dropped
    uplink            host placement: packets from elsewhere, less those that claim to be from an ENI on this host, and
                      less ICMP errors about packets to such an ENI

A set or map without a name may stand only in a chain that is named after its content. The kernel fills such a set of
ranges a moment after the commit that makes its rule, and empties a map in the commit that deletes it, also for packets
that are still in the old rules; a packet that finds nothing goes on with the next rule. So these chains never change: a
new one is made before anything leads to it, and the old one goes when no packet can be in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from sgdataplane.contract import names
from sgdataplane.contract.counters import CAUSES, name_fixed_counter
from sgdataplane.contract.fields import SOURCE, CtDirection, CtState, Field, KeyType
from sgdataplane.contract.sites import Site
from sgdataplane.contract.stamp import STAMP_MAP, Stamp
from sgdataplane.contract.tables import (
    ADOPTING,
    DEFAULT_WINDOW_MS,
    MIDSTREAM,
    UPLINK,
    dispatch_name,
    drop_name,
    entry_name,
    gate_name,
    here_name,
    pass_name,
)
from sgdataplane.net.values import ICMP, ICMPV6, Direction, Family, Prefix
from sgdataplane.nft.ir import (
    ACCEPT,
    DROP,
    RETURN,
    Chain,
    Count,
    Counter,
    Map,
    Match,
    Range,
    Rule,
    Statement,
    Table,
    Verdict,
    VerdictMap,
    goto,
    is_value,
    jump,
    prefix_range,
    rule,
)
from sgdataplane.nft.text import rule_text

# The protocols of ICMP errors, which carry the entry of the session that they report about.
OF_ERRORS = (ICMP, ICMPV6)
NO_ERROR = tuple(Match(Field.L4PROTO, (Range.of(protocol),), negate=True) for protocol in OF_ERRORS)


def merge_prefixes(prefixes: Iterable[Prefix]) -> tuple[Range, ...]:
    """Return the ranges of prefixes of one family, without those that lie inside another one."""
    found: list[Range] = []
    for prefix in sorted(prefixes, key=lambda p: (p.first, p.length)):
        if not found or prefix.first > int(found[-1].last):
            found.append(prefix_range(prefix))
    return tuple(found)


# So few ranges are compared one by one: a set without a name makes each first load dearer, and no packet cheaper.
FEW_RANGES = 2


def parts(ranges: tuple[Range, ...]) -> tuple[tuple[Range, ...], ...]:
    """Return the ranges one by one if they are few, else together; none if there are none."""
    together = (ranges,) if ranges else ()
    return tuple((span,) for span in ranges) if len(ranges) <= FEW_RANGES else together


def gate_chain(site: Site, hook: Direction) -> Chain:
    """Return the chain that leads to an ENI's own one, or to that for interfaces without an ENI."""
    to_eni = VerdictMap(site.interface(hook), name=dispatch_name(hook))
    never = rule(
        Count(name_fixed_counter(hook, "unknown-interface")), DROP
    )  # for packets that find the entry chain empty
    return Chain(gate_name(hook), (rule(to_eni), rule(goto(entry_name(hook))), never))


def entry_chain(site: Site, hook: Direction, timeouts: Iterable[Rule], passing: Mapping[str, Verdict]) -> Chain:
    """Return the chain for packets at interfaces without an ENI.

    `passing` has the verdicts at the other interfaces that we know; a name that ends in * stands for many. `timeouts`
    are rules that set timeouts.
    """
    rules = (rule(is_value(site.interface(hook), ifname), verdict) for ifname, verdict in passing.items())
    return Chain(entry_name(hook), (*timeouts, *rules, drop(hook, "unknown-interface")))


FEW_UPLINKS = 2  # packets of so many uplinks pass first: each name takes packets of ENIs 25 ns


def first_rules(table: Table, site: Site) -> Iterator[tuple[Rule, ...]]:
    """Yield the rules that the base chain of each hook begins with, for packets at an uplink.

    They do there at once what they do in the entry chain, as no ENI can have accepted them. Only uplinks with names of
    their own are among them: a name that ends in * may stand for ENIs' interfaces, too.
    """
    ways = ((one.statements[0], one.statements[-1]) for one in table.chain_of(entry_name(Direction.EGRESS)).rules)
    names = [str(asked.ranges[0].first) for asked, way in ways if isinstance(asked, Match) and _is_uplink(way)]
    enis = table.elements_of(dispatch_name(Direction.EGRESS))
    few = [name for name in names if name not in enis and not name.endswith("*")][:FEW_UPLINKS]
    return (tuple(_first_rules(table.chain_of(entry_name(hook)), site.interface(hook), few)) for hook in Direction)


def _is_uplink(way: Statement) -> bool:
    return isinstance(way, Verdict) and way.chain.startswith(f"{UPLINK}-")


def _first_rules(entry: Chain, interface: Field, names: Iterable[str]) -> Iterator[Rule]:
    """Yield the entry chain's rules for these interfaces.

    If the entry chain begins with timeouts, packets that may open a session must come there. No other packet can be
    given a timeout.
    """
    asked = [is_value(interface, name) for name in names]
    is_timed = entry.rules[0].statements[0] not in asked
    later = (is_value(Field.CT_STATE, CtState.ESTABLISHED),) if is_timed else ()
    for one in entry.rules:
        if one.statements[0] in asked:
            yield rule(one.statements[0], *later, one.statements[-1])


# The source of a session's packets in each direction, as they come in.
SENT_FROM = {
    CtDirection.ORIGINAL: {Family.IPV4: Field.CT_ORIGINAL_IP_SADDR, Family.IPV6: Field.CT_ORIGINAL_IP6_SADDR},
    CtDirection.REPLY: {Family.IPV4: Field.CT_REPLY_IP_SADDR, Family.IPV6: Field.CT_REPLY_IP6_SADDR},
}


def uplink_chains(private: Sequence[Prefix]) -> tuple[list[Chain], list[Map]]:
    """Return the chains for packets that come by an uplink, the first one first, and their maps.

    They drop packets that claim to be from an ENI on this host, which has these private addresses (ingress filtering,
    RFC 2827), and ICMP errors about packets to such an ENI. An element of a map returns, so that there is one way to
    each end, and not one for each address: an old kernel walks all of them at each commit.
    """
    maps = [_here(family, private) for family in Family]
    asked = [(way, SENT_FROM[way][family]) for way in CtDirection for family in Family]
    ends = [rule(is_value(Field.CT_DIRECTION, way), *one) for way, end in asked for one in _from_here(end, private)]
    of_ends = content_chain(f"{UPLINK}-ends", (*ends, rule(ACCEPT)))
    refused = drop(Direction.EGRESS, "icmp-error-refused")
    of_errors = content_chain(f"{UPLINK}-errors", (rule(*NO_ERROR, RETURN), rule(jump(of_ends.name)), refused))
    sources = [rule(*way) for family in Family for way in _from_here(SOURCE[family], private)]
    to_errors = rule(is_value(Field.CT_STATE, CtState.RELATED), jump(of_errors.name))
    of_sources = content_chain(f"{UPLINK}-sources", (*sources, to_errors, rule(ACCEPT)))
    first = content_chain(UPLINK, (rule(jump(of_sources.name)), drop(Direction.EGRESS, "spoofed")))
    return [first, of_sources, of_errors, of_ends], maps


def _here(family: Family, private: Iterable[Prefix]) -> Map:
    """Return the map of the single addresses of this family."""
    singles = sorted({p.first for p in private if p.family is family and p.first == p.last})
    key_type = KeyType.IPV4 if family is Family.IPV4 else KeyType.IPV6
    return Map(here_name(family), key_type, tuple((value, RETURN) for value in singles))


def _from_here(asked: Field, private: Iterable[Prefix]) -> Iterator[tuple[Statement, ...]]:
    """Yield statements that return if an address is one of these."""
    family = Family.IPV6 if asked.key_type is KeyType.IPV6 else Family.IPV4
    yield (VerdictMap(asked, name=here_name(family)),)
    blocks = merge_prefixes(p for p in private if p.family is family and p.first != p.last)
    if blocks:
        yield Match(asked, blocks), RETURN


def midstream_chain(site: Site) -> Chain:
    """Return the chain for TCP that an ENI sends, that is no bare SYN and belongs to no known session."""
    adopted = rule(VerdictMap(site.interface(Direction.EGRESS), name=ADOPTING))
    return Chain(MIDSTREAM, (adopted, drop(Direction.EGRESS, "midstream")))


def make_adoption_map(ifnames: Iterable[str] = (), milliseconds: int = DEFAULT_WINDOW_MS) -> Map:
    """Return the map of interfaces whose adoption window is to be opened, for so many milliseconds.

    Only the kernel knows which windows are open.
    """
    elements = tuple((ifname, RETURN) for ifname in sorted(ifnames))
    return Map(ADOPTING, KeyType.IFNAME, elements, lifetime=milliseconds)


def dispatch(hook: Direction, chains: Mapping[str, Chain]) -> Map:
    """Return the map from an interface to the chain of the ENI that it carries."""
    return by_interface(dispatch_name(hook), chains)


def by_interface(name: str, chains: Mapping[str, Chain]) -> Map:
    """Return a map from interfaces to chains."""
    return Map(name, KeyType.IFNAME, tuple((ifname, goto(chain.name)) for ifname, chain in sorted(chains.items())))


def make_stamp_map(stamp: Stamp) -> Map:
    """Return the stamp as a map."""
    return Map(STAMP_MAP, KeyType.MARK, stamp.elements, holds=KeyType.MARK)


def list_fixed_counters() -> tuple[Counter, ...]:
    """Return the counters of packets that pass or are dropped before any rule is asked."""
    return tuple(Counter(name_fixed_counter(hook, cause)) for hook in Direction for cause in CAUSES)


def accept(site: Site, hook: Direction, cause: str, *conditions: Statement) -> Rule:
    """Return a rule that counts and accepts packets that meet the conditions. Those that leave are approved, too."""
    end = goto(pass_name(hook)) if site.is_leaving(hook) else ACCEPT
    return rule(*conditions, Count(name_fixed_counter(hook, cause)), end)


def drop(hook: Direction, cause: str, *conditions: Statement) -> Rule:
    """Return a rule that sends packets that meet the conditions to be counted, logged and dropped (verdicts.py)."""
    return rule(*conditions, goto(drop_name(hook, cause)))


SaidRule = tuple[Rule, str]  # a rule and its text


def text_rule(*statements: Statement) -> SaidRule:
    """Return a rule of these statements, with its text."""
    one = rule(*statements)
    return one, rule_text(one)


@lru_cache(maxsize=1 << 10)
def make_shared_rule(*statements: Statement) -> SaidRule:
    """Return a rule that many chains have, with its text.

    It is one object, so that it is made into text and netlink bytes only once.
    """
    return text_rule(*statements)


def text_chain(prefix: str, rules: Iterable[SaidRule]) -> Chain:
    """Return a chain named by the prefix and a hash of its rules."""
    every = tuple(rules)
    return content_chain(prefix, tuple(entry for entry, _ in every), tuple(text for _, text in every))


def content_chain(
    prefix: str, rules: tuple[Rule, ...], texts: tuple[str, ...] = (), comment: str = "", origin: str = ""
) -> Chain:
    """Return a chain named by the prefix and a hash of its rules and comment.

    `texts` are the texts of the rules, if they exist already.
    """
    texts = texts or tuple(map(rule_text, rules))
    text = "\n".join([*texts, *([comment] if comment else [])])
    return Chain(f"{prefix}-{names.digest(text)}", rules, comment=comment, origin=origin).with_texts(texts)
