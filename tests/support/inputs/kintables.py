"""Random tables in which packets carry priorities from one map to the next, and random changes of them.

Owns their shape: the interface has a number, which leads to a root; there the address has a number in a map of members;
a map of ranks makes another number of it, and one of winners a leaf. All of them return to the base chain, as in our
tables. Each part of a change is as likely to leave things as they are.
The numbers are few, so that changes reuse them in all ways: also in those that no compile of ours does.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sgdataplane.contract.fields import Field, Hook, KeyType, Nfproto
from sgdataplane.nft.ir import (
    ACCEPT,
    DROP,
    RETURN,
    Chain,
    Count,
    Counter,
    Key,
    Map,
    MapPriority,
    Match,
    Range,
    Rule,
    SetPriority,
    Table,
    Verdict,
    VerdictMap,
    goto,
    is_value,
    jump,
    rule,
)
from sgdataplane.nft.snapshot import with_generation

PROFILES, ACCEPTED, REFUSED = (0x40000010, 0x40000011), 0x40000001, 0x40000002
ROOTS, LEAVES = ("root-a", "root-b"), ("leaf-1", "leaf-2", "leaf-3", "leaf-4")
RANKS, IFNAMES, ADDRESSES = ("ranks-a", "ranks-b"), ("eth0", "eth1"), range(6)
GROUP_SETS, NUMBERS = range(0x80000000, 0x80000004), range(1, 6)
FAMILIES = {Nfproto.IPV4: (Field.IP_SADDR, KeyType.IPV4), Nfproto.IPV6: (Field.IP6_SADDR, KeyType.IPV6)}
IS_NONE = Match(Field.PACKET_PRIORITY, (Range.of(0),))
Numbers = dict[Key, int]


@dataclass(frozen=True, slots=True)
class Policy:
    """All that differs between these tables."""

    enis: dict[Key, Verdict]
    profiles: dict[Key, Verdict]
    members: dict[Nfproto, Numbers]
    ranks: dict[str, Numbers]
    winners: dict[Key, Verdict]
    asked: dict[str, str]
    beaten: int
    rest: str
    refusing: frozenset[str]

    @classmethod
    def any_of(cls, chance: random.Random) -> Policy:
        return cls(
            _some(chance, IFNAMES, [goto(f"eni-{number:x}") for number in PROFILES]),
            _some(chance, PROFILES, [jump(name) for name in ROOTS]),
            {family: _some(chance, ADDRESSES, GROUP_SETS) for family in FAMILIES},
            {name: _some(chance, GROUP_SETS, NUMBERS) for name in RANKS},
            _some(chance, NUMBERS, [jump(name) for name in LEAVES]),
            {root: chance.choice(RANKS) for root in ROOTS},
            chance.choice(NUMBERS),
            chance.choice(LEAVES),
            frozenset(name for name in LEAVES if chance.random() < 0.5),
        )

    def changed(self, chance: random.Random) -> Policy:
        """Another policy, which is the same in most parts."""
        other = Policy.any_of(chance)
        parts = {name: getattr(other if chance.random() < 0.3 else self, name) for name in self.__slots__}
        return Policy(**parts)

    def table(self, name: str, digest: int) -> Table:
        chains = sorted(self._chains(), key=lambda chain: chain.name)
        counters = tuple(Counter(leaf) for leaf in LEAVES)
        maps = tuple(sorted(self._maps(digest), key=lambda entry: entry.name))
        return with_generation(Table(name, tuple(chains), maps, counters), 0)

    def _chains(self) -> Iterator[Chain]:
        asked = (rule(VerdictMap(Field.PACKET_PRIORITY, name=name)) for name in ("profiles", "winners"))
        end = rule(is_value(Field.PACKET_PRIORITY, ACCEPTED), ACCEPT), rule(DROP)
        yield Chain("ingress", (rule(jump("gate")), *asked, *end), Hook("prerouting", -150))
        yield Chain("gate", (rule(VerdictMap(Field.IIFNAME, name="enis")), rule(DROP)))
        for number in PROFILES:
            yield Chain(f"eni-{number:x}", (rule(SetPriority(number)),))
        for root in ROOTS:
            looked_up = (rule(MapPriority(asked, members_name(family))) for family, (asked, _) in FAMILIES.items())
            to_ranks = rule(goto(f"of-{self.asked[root]}"))
            yield Chain(root, (rule(SetPriority(0)), *looked_up, rule(IS_NONE, goto("rest")), to_ranks))
        for ranks in RANKS:
            yield Chain(f"of-{ranks}", (rule(MapPriority(Field.PACKET_PRIORITY, ranks)), rule(goto("rest"))))
        beaten = Match(Field.PACKET_PRIORITY, (Range(1, self.beaten),))
        yield Chain("rest", (rule(beaten, RETURN), rule(goto(self.rest))))
        for leaf in LEAVES:
            yield Chain(leaf, self._leaf(leaf))

    def _leaf(self, name: str) -> tuple[Rule, ...]:
        return (rule(Count(name)), rule(SetPriority(REFUSED if name in self.refusing else ACCEPTED)))

    def _maps(self, digest: int) -> Iterator[Map]:
        words = ((0, 1), *((word, digest) for word in range(1, 5)))
        yield Map("applied", KeyType.MARK, words, holds=KeyType.MARK)
        yield Map("enis", KeyType.IFNAME, tuple(self.enis.items()))
        yield Map("profiles", KeyType.CLASSID, tuple(self.profiles.items()))
        for family, (_, kind) in FAMILIES.items():
            yield Map(members_name(family), kind, tuple(self.members[family].items()), holds=KeyType.CLASSID)
        for ranks, elements in self.ranks.items():
            yield Map(ranks, KeyType.CLASSID, tuple(elements.items()), holds=KeyType.CLASSID)
        yield Map("winners", KeyType.CLASSID, tuple(self.winners.items()))


def members_name(family: Nfproto) -> str:
    return f"members-{family.name.lower()}"


def packets() -> Iterator[dict[Field, Key]]:
    """Every packet that these tables tell apart. None of them has priority none when it comes."""
    for ifname in (*IFNAMES, "other"):
        for family, (asked, _) in FAMILIES.items():
            for address in ADDRESSES:
                yield {
                    Field.IIFNAME: ifname,
                    Field.NFPROTO: int(family),
                    asked: address,
                    Field.PACKET_PRIORITY: NUMBERS[0],
                }


Value = TypeVar("Value")


def _some(chance: random.Random, keys: Sequence[Key], values: Sequence[Value]) -> dict[Key, Value]:
    return {key: chance.choice(values) for key in keys if chance.random() < 0.6}
