"""Rule sets like those of real routers and firewalls, made from a seed, as a policy of this product.

Owns how parameters (classbench_seeds.py names their source) become rules. Must not know the compiler.

    for each rule   a protocol, a joint class of ports and a pair of prefix lengths, as often as the seed says
    for each side   an address for every length, shortest first, by a walk down a tree whose nodes branch, and lean to
                    one side, as the seed says; a walk that would nest deeper than the seed's threshold is done again
    then            rules that differ in nothing become one; the narrowest come first, as in the original generator

A security group differs from a filter set:

- The source becomes the remote and the destination the ENI's own side, so all rules are ingress rules. An ENI with a
  few addresses would match few of them, so this one is a router's: everything is among its allowed addresses.
- Rules of a filter set have no verdict. Here two thirds accept.
- Priorities are 1..100, so `count` / 100 neighbours in the list share one, and among these drop comes before accept.
  So the policy isn't the list from top to bottom.
- No rule matches port 0: WC is 1..65535 and LO 1..1023. `all` and ICMP rules match it, where it exists.
- Above 1,000 rules the quota profile is `unlimited`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from sgdataplane.model.state import CloudState, SecurityGroupRule
from sgdataplane.net.values import Direction, Family, PortRange, Prefix, Protocol, Verdict
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.chooser import LAST_PORT, LAST_PRIORITY, local_address, with_ids
from tests.support.inputs.classbench_seeds import SEEDS, Ranges, Seed, Tree
from tests.support.inputs.hardpolicies import GROUPS, TARGET

Item = TypeVar("Item")
BITS = 32
MAX_DRAWS = 50  # for each rule wanted: a seed has only so many different ones
MAX_WALKS = 20  # for each address
FIXED: Mapping[str, PortRange | None] = {
    "wc": None,
    "lo": PortRange(1, 1023),
    "hi": PortRange(1024, LAST_PORT),
}
EVERYTHING = Prefix(BITS, 0, 0)
ANY_PORT = PortRange(1, LAST_PORT)


@dataclass(frozen=True, slots=True)
class Shape:
    """A rule without addresses. Ports are None for any port, and where there are none."""

    protocol: Protocol
    source_ports: PortRange | None
    ports: PortRange | None
    lengths: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Filter:
    """One entry of a ClassBench filter set."""

    shape: Shape
    source: Prefix
    destination: Prefix

    @property
    def scope(self) -> int:
        """Roughly how many header bits the filter leaves open. 0 is a single five-tuple."""
        ranges = (self.shape.source_ports or ANY_PORT, self.shape.ports or ANY_PORT)
        of_ports = sum((part.last - part.first + 1).bit_length() - 1 for part in ranges)
        return 2 * BITS - self.source.length - self.destination.length + of_ports + 8 * self.shape.protocol.is_all


def classbench(kind: str, seed: int, count: int) -> CloudState:
    """One ENI in ten advanced groups that have `count` rules together. `kind`: acl, fw, ipc or wide."""
    chance = random.Random(f"classbench {kind} {seed}")
    filters = filter_set(SEEDS[kind], chance, count)
    rules = [_rule(entry, chance, 1 + n * LAST_PRIORITY // count) for n, entry in enumerate(filters)]
    names = [f"sg-{n:02}" for n in range(GROUPS)]
    groups = [make_group(name, with_ids(rules[n::GROUPS]), advanced=True) for n, name in enumerate(names)]
    own = str(local_address(Family.IPV4, 0))
    return make_state(groups, [make_eni(TARGET, own, " ".join(names), allowed_address_pairs=(EVERYTHING,))])


def filter_set(seed: Seed, chance: random.Random, count: int) -> list[Filter]:
    """That many different filters, the narrowest first. ValueError if the seed hasn't so many."""
    found: dict[Filter, None] = {}
    trees = (AddressTree(seed.source, chance), AddressTree(seed.destination, chance))
    for _ in range(MAX_DRAWS):
        shapes = [_shape(seed, chance) for _ in range(count - len(found))]
        sides = [trees[side].prefixes([shape.lengths[side] for shape in shapes]) for side in range(2)]
        found |= {Filter(*parts): None for parts in zip(shapes, *sides, strict=True)}
        if len(found) == count:
            return sorted(found, key=lambda entry: (entry.scope, entry.source, entry.destination))
    raise ValueError(f"only {len(found)} different filters of {count}")


def _shape(seed: Seed, chance: random.Random) -> Shape:
    name, _, classes = chance.choices(seed.protocols, [weight for _, weight, _ in seed.protocols])[0]
    joint = _weighted(classes, chance)
    source_class, port_class = joint.split("_")
    lengths = _weighted(seed.lengths.get(joint) or seed.lengths[""], chance)
    return Shape(
        Protocol.parse(name),
        _ports(source_class, seed.source_exact, seed.source_ranges, chance),
        _ports(port_class, seed.port_exact, seed.port_ranges, chance),
        lengths,
    )


def _ports(name: str, exact: Ranges, ranges: Ranges, chance: random.Random) -> PortRange | None:
    """A port range of one class."""
    if name in FIXED:
        return FIXED[name]
    return PortRange(*_weighted(exact if name == "em" else ranges, chance))


def _weighted(items: Iterable[tuple[Item, int]], chance: random.Random) -> Item:
    pairs = tuple(items)
    return chance.choices([item for item, _ in pairs], [weight for _, weight in pairs])[0]


@dataclass
class AddressTree:
    """Addresses that share prefixes and lean to one side, as those of a real set do. A node's properties are drawn when
    a walk first reaches it, and stay.

    A node is an integer: a one, followed by the bits on the way to it from the root, which is 1.
    """

    tree: Tree
    chance: random.Random
    _used: set[int] = field(default_factory=set)
    _kinds: dict[int, tuple[int, float]] = field(default_factory=dict)

    def prefixes(self, lengths: list[int]) -> list[Prefix]:
        """An address for each length, in their order."""
        found: dict[int, Prefix] = {}
        for index in sorted(range(len(lengths)), key=lengths.__getitem__):
            length = lengths[index]
            node = self._fitting(length)
            self._used.add(node)
            found[index] = Prefix(BITS, (node - (1 << length)) << (BITS - length), length)
        return [found[index] for index in range(len(lengths))]

    def _fitting(self, length: int) -> int:
        """A node at that depth, by a walk that keeps the nesting threshold, or by the last walk that was tried."""
        node = self._walk(length)
        for _ in range(MAX_WALKS):
            above = sum(node >> up in self._used for up in range(1, length + 1))
            if node in self._used or above < self.tree.nesting:
                break
            node = self._walk(length)
        return node

    def _walk(self, length: int) -> int:
        node = 1
        for depth in range(length):
            favoured, share = self._kind(node, depth)
            node = 2 * node + (favoured if self.chance.random() < share else 1 - favoured)
        return node

    def _kind(self, node: int, depth: int) -> tuple[int, float]:
        """The next bit of most addresses below a node, and the fraction that has it."""
        if node not in self._kinds:
            two, skew = next((two, skew) for below, two, skew in self.tree.bands if depth < below)
            share = 1 / (2 - skew / 100) if self.chance.random() < two / 100 else 1.0
            self._kinds[node] = (self.chance.getrandbits(1), share)
        return self._kinds[node]


def _rule(entry: Filter, chance: random.Random, priority: int) -> SecurityGroupRule:
    shape = entry.shape
    return SecurityGroupRule(
        "",
        Direction.INGRESS,
        shape.protocol,
        entry.source,
        (shape.ports or ANY_PORT) if shape.protocol.has_ports else None,
        Verdict.ACCEPT if chance.random() < 2 / 3 else Verdict.DROP,
        priority,
        shape.source_ports,
        narrowing=entry.destination if entry.destination.length else None,
    )
