"""Policies that are legal and hard to compile: each a function of a seed, the same seed giving the same state.

Owns what makes a policy hard. Is given a seed and the size. Must not know the compiler.

Sizes are in the quota's terms (semantics.md, section 5, profile `2026`): `rules` is what all groups of one ENI cost
together, so a rule on a list counts as often as the list may have entries. At 1,000 every policy here uses its
whole quota. Even seeds speak IPv4 and odd ones IPv6; `typical`, `mixture`, `kinships` and `host` speak both.

The ENIs that a policy is about are those whose ids begin with `eni-target`; the others are there as members.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from sgdataplane.model.state import (
    CloudState,
    Eni,
    GroupRef,
    PortList,
    PortListEntry,
    PrefixList,
    PrefixListEntry,
    PrefixListRef,
    Remote,
    SecurityGroup,
    SecurityGroupRule,
)
from sgdataplane.net.values import Address, Family, PortRange, Prefix, Verdict
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.chooser import LAST_PORT, LAST_PRIORITY, Chooser, local_address, with_ids

QUOTA = 1000  # rules of one ENI
GROUPS = 10  # of one ENI
GROUP_REMOTES = 20  # rules with a group as remote, of one basic group
TARGET = "eni-target"

Policy = Callable[[int, int], CloudState]
Lists = Mapping[str, Sequence[Prefix]]


def typical(seed: int, rules: int = QUOTA) -> CloudState:
    """What a large application has: ten basic groups; a fifth of the quota goes to rules on other groups, two fifths to
    prefix lists of ten entries, the rest to CIDR blocks; few ports, mostly priority 1, mostly accept."""
    choose = Chooser.of("typical", seed)
    peers = _peers(20)
    lists = {f"pl-{n:02}": _office_list(choose, tuple(Family)[n % 2]) for n in range(10)}
    of_groups, of_lists = rules // 5, rules // 25
    remotes: list[Remote] = [GroupRef(choose.one(peers)) for _ in range(of_groups)]
    remotes += [PrefixListRef(choose.one(sorted(lists))) for _ in range(of_lists)]
    remotes += [choose.typical_cidr(choose.one(tuple(Family))) for _ in range(rules - of_groups - 10 * of_lists)]
    members = [_member(n, choose.sample(peers, choose.between(1, 3))) for n in range(400)]
    made = [choose.typical_rule(remote) for remote in remotes]
    return _basic(made, [_target(_own_groups(), 1), *members], lists, peers)


def _office_list(choose: Chooser, family: Family) -> list[Prefix]:
    """Ten different blocks."""
    found: dict[Prefix, None] = {}
    while len(found) < 10:
        found[choose.typical_cidr(family)] = None
    return sorted(found)


def alternating(seed: int, rules: int = QUOTA) -> CloudState:
    """Each priority turns over what the next weaker one says: no two neighbours in the order can be joined."""
    choose = Chooser.of("alternating", seed)
    anchors = [choose.address() for _ in range(8)]
    made = []
    for number in range(rules):
        priority = 1 + number * LAST_PRIORITY // rules
        remote = choose.around(choose.one(anchors), choose.between(0, choose.family.bits))
        made.append(choose.rule(remote, priority, _turn(priority)))
    return _advanced(made)


def nested_cidrs(seed: int, rules: int = QUOTA) -> CloudState:
    """Towers of CIDR blocks, from everything down to one address, the narrower block the stronger, each with other
    ports and the other verdict than the block around it."""
    choose = Chooser.of("nested", seed)
    bits = choose.family.bits
    made: list[SecurityGroupRule] = []
    while len(made) < rules:
        anchor = choose.address()
        for length in range(bits, -1, -1 if bits == 32 else -4):
            priority = 1 + (bits - length) * (LAST_PRIORITY - 1) // bits
            made.append(choose.rule(choose.around(anchor, length), priority, _turn(length // (bits // 32))))
    return _advanced(made[:rules])


def overlapping_ports(seed: int, rules: int = QUOTA) -> CloudState:
    """Stairs of port ranges that overlap their neighbours, and ranges around them, for few remotes."""
    choose = Chooser.of("ports", seed)
    remotes = [choose.around(choose.address(), length) for length in (0, 0, 1, 8, choose.family.bits)]
    step = max(1, 60_000 // rules)
    made = []
    for number in range(rules):
        first = 1 + number * step
        last = min(LAST_PORT, first + step * choose.one((2, 3, 10, 100)))
        made.append(choose.rule(choose.one(remotes), choose.priority(), choose.verdict(), ports=(first, last)))
    return _advanced(made)


def five_tuple(seed: int, rules: int = QUOTA) -> CloudState:
    """Every field of every rule at random: source ports, the ENI's own side, remotes around few addresses."""
    choose = Chooser.of("five", seed)
    anchors = [choose.address() for _ in range(8)]
    return _advanced([_five_tuple_rule(choose, anchors) for _ in range(rules)])


def prefix_lists(seed: int, rules: int = QUOTA) -> CloudState:
    """Four lists of nested entries around common addresses, which four fifths of the quota go to, under rules on CIDR
    blocks that cut them."""
    choose = Chooser.of("lists", seed)
    anchors = [choose.address() for _ in range(8)]
    entries = rules // 5
    lists = {f"pl-{n}": _nested_entries(choose, anchors, entries) for n in range(4)}
    made = [choose.rule(PrefixListRef(name), choose.priority(), choose.verdict()) for name in lists]
    made += [_five_tuple_rule(choose, anchors) for _ in range(rules - entries * len(lists))]
    return _advanced(made, lists)


def port_lists(seed: int, rules: int = QUOTA) -> CloudState:
    """Three fifths of the quota for a list of scattered ports, which few rules of all fields at random use; a tenth of
    the rules on a list without a port; the rest with ranges of their own."""
    choose = Chooser.of("portlists", seed)
    anchors = [choose.address() for _ in range(2)]
    many = rules // 10
    ports = sorted(choose.sample(range(1, LAST_PORT, 2), many))
    lists = (
        PortList("plp-many", many, tuple(PortListEntry(PortRange(port, port)) for port in ports)),
        PortList("plp-none", 1, ()),
    )
    names = ["plp-many"] * 6 + ["plp-none"] * many + [""] * (rules - 7 * many)
    made = [_five_tuple_rule(choose, anchors) for _ in names]
    listed = [replace(r, port_range=None, port_list_id=n) if n else r for r, n in zip(made, names, strict=True)]
    return replace(_advanced(listed), port_lists=lists)


def mixture(seed: int, rules: int = QUOTA) -> CloudState:
    """All of these in one policy, in both families: basic groups with groups, lists and CIDR blocks as remotes."""
    choosers = [Chooser.of("mixture", seed, family) for family in Family]
    anchors = [[choose.address() for _ in range(8)] for choose in choosers]
    choose, peers, entries = choosers[0], _peers(20), max(1, rules // 20)
    lists = {f"pl-{n}": _nested_entries(choosers[n], anchors[n], entries) for n in range(2)}
    remotes: list[Remote] = [PrefixListRef(name) for name in lists for _ in range(4)]
    remotes += [GroupRef(choose.one(peers)) for _ in range(rules // 5)]
    made = [choose.rule(remote, choose.priority(), choose.verdict()) for remote in remotes]
    rest = range(rules - 8 * entries - rules // 5)
    made += [_five_tuple_rule(choosers[number % 2], anchors[number % 2]) for number in rest]
    members = [_member(n, choose.sample(peers, choose.between(1, 4))) for n in range(400)]
    return _basic(made, [_target(_own_groups(), 8), *members], lists, peers)


def kinships(seed: int, rules: int = QUOTA) -> CloudState:
    """Two hundred rules on forty groups, and for each unit of quota six members, each in other ones of the groups."""
    choose = Chooser.of("kinships", seed)
    peers = _peers(40)
    count = min(rules, GROUPS * GROUP_REMOTES)
    made = [choose.rule(GroupRef(peers[n % len(peers)]), choose.priority(), choose.verdict()) for n in range(count)]
    members = [_member(n, choose.sample(peers, choose.between(1, 9))) for n in range(6 * rules)]
    return _basic(made, [_target(_own_groups(), 1), *members], {}, peers)


def host(seed: int, rules: int = QUOTA) -> CloudState:
    """As many ENIs as quota, in few combinations of ten groups out of a hundred: at 1,000 there are fifty, each of
    1,000 rules, and 65,536 addresses in the groups, those of the ENIs among them."""
    choose = Chooser.of("host", seed)
    names = [f"sg-{n:02}" for n in range(100)]
    combinations, members = max(1, rules // 20), rules * 65_536 // 1000
    spread = [choose.sample(names, GROUPS) for _ in range(combinations)]
    rest = [choose.sample(names, choose.between(1, 5)) for _ in range(10 * combinations)]
    targets = [_eni(f"{TARGET}-{n:04}", n, spread[n % combinations]) for n in range(rules)]
    others = [_member(n, rest[n % len(rest)]) for n in range(members // 2 - rules)]
    groups = [make_group(name, with_ids(_host_rules(choose, name, names, rules // GROUPS))) for name in names]
    return make_state(groups, [*targets, *others])


def _host_rules(choose: Chooser, name: str, names: Sequence[str], count: int) -> Iterator[SecurityGroupRule]:
    """A group of a host: a fifth of its rules on other groups, the rest on CIDR blocks."""
    others = [other for other in names if other != name]
    for number in range(count):
        is_on_group = number < count // 5
        yield choose.typical_rule(
            GroupRef(choose.one(others)) if is_on_group else choose.typical_cidr(choose.one(tuple(Family)))
        )


POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        "typical": typical,
        "alternating": alternating,
        "nested_cidrs": nested_cidrs,
        "overlapping_ports": overlapping_ports,
        "five_tuple": five_tuple,
        "prefix_lists": prefix_lists,
        "port_lists": port_lists,
        "mixture": mixture,
        "kinships": kinships,
        "host": host,
    }
)


def targets(state: CloudState) -> tuple[Eni, ...]:
    """The ENIs that the policy is about."""
    return tuple(eni for eni in state.network_interfaces if eni.network_interface_id.startswith(TARGET))


def _turn(number: int) -> Verdict:
    return Verdict.ACCEPT if number % 2 else Verdict.DROP


def _five_tuple_rule(choose: Chooser, anchors: Sequence[Address]) -> SecurityGroupRule:
    remote = choose.around(choose.one(anchors), choose.between(0, choose.family.bits))
    return choose.five_tuple(remote, choose.priority(), choose.verdict())


def _nested_entries(choose: Chooser, anchors: Sequence[Address], count: int) -> list[Prefix]:
    """So many different blocks around the addresses, none of which is everything."""
    found: dict[Prefix, None] = {}
    while len(found) < count:
        found[choose.around(choose.one(anchors), choose.between(1, choose.family.bits))] = None
    return sorted(found)


def _own_groups() -> list[str]:
    return [f"sg-{n:02}" for n in range(GROUPS)]


def _peers(count: int) -> list[str]:
    """Groups that rules name as remotes."""
    return [f"sg-peer-{n:02}" for n in range(count)]


def _basic(rules: Sequence[SecurityGroupRule], enis: Sequence[Eni], lists: Lists, peers: Sequence[str]) -> CloudState:
    """The rules dealt out to the target's ten groups, so that each has its share of each kind."""
    own = [make_group(name, with_ids(rules[n::GROUPS]), inner=_turn(n)) for n, name in enumerate(_own_groups())]
    return _with_lists([*own, *(make_group(name) for name in peers)], enis, lists)


def _advanced(rules: Sequence[SecurityGroupRule], lists: Lists = MappingProxyType({})) -> CloudState:
    """One ENI of eight addresses of each family in two advanced groups that have the rules between them."""
    names = ("sg-0", "sg-1")
    groups = [make_group(name, with_ids(rules[n::2]), advanced=True) for n, name in enumerate(names)]
    return _with_lists(groups, [_target(names, 8)], lists)


def _with_lists(groups: Sequence[SecurityGroup], enis: Sequence[Eni], lists: Lists) -> CloudState:
    """Lists that may have no more entries than they have, since that is what their rules cost."""
    made = (
        PrefixList(name, entries[0].family, len(entries), tuple(map(PrefixListEntry, entries)))
        for name, entries in sorted(lists.items())
    )
    return replace(make_state(groups, enis), prefix_lists=tuple(made))


def _target(groups: Sequence[str], addresses: int) -> Eni:
    own = (str(local_address(family, n)) for family in Family for n in range(addresses))
    return make_eni(TARGET, " ".join(own), " ".join(groups))


def _member(number: int, groups: Sequence[str]) -> Eni:
    """Some other ENI, with none of the targets' addresses."""
    return _eni(f"eni-{number:05}", 1000 + number, groups)


def _eni(eni_id: str, number: int, groups: Sequence[str]) -> Eni:
    own = (str(local_address(family, number)) for family in Family)
    return make_eni(eni_id, " ".join(own), " ".join(sorted(groups)))
