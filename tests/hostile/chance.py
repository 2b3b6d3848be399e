"""Objects at random, as root of a namespace may make them in our tables: names, kinds, notes, rules, elements.

Owns the odds. Must not know what is done about them.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sgdataplane.host.netlink import attribute, nest
from tests.hostile.scene import OURS
from tests.support.kernel import rawnft
from tests.support.kernel.rawnft import INET, NETDEV, In, Message, word

PROGRAMS = (
    b'x\ninclude "/etc/shadow"\n',
    b'x;include "/etc/shadow";',
    b'"}\ninclude "/a"',
    b"x }\nflush ruleset\n",
    b"x { policy accept; }",
    b"$a",
    b"@a",
    b"#",
    b"*",
    b"\\",
    b"'",
    b'"',
    b"1|" * 60,
    b"-1",
    b"accept",
    b"\xff\xfe",
    b"\xe2\x80\xae",
    b"\x1b[2J",
    b"\r\n",
    b"a" * 127,
    b" ",
    b"%n%n%s",
    b"__set0",
    b"__map%d",
)
HOOKS = {INET: range(6), NETDEV: range(2)}
CHAIN_TYPES = (b"filter", b"filter", b"filter", b"nat", b"route")
USERDATA = {"chain": 12, "set": 13, "object": 8}


@dataclass
class Chance:
    """`names`: all that it gave to something; `ours`: names of ours, which it sometimes takes as a model."""

    seed: int
    ours: tuple[bytes, ...]
    names: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def name(self, longest: int = 127) -> bytes:
        """Not one that we have made, which would be no name of theirs."""
        kind = self.random.randrange(4)
        if kind == 0:
            found = self.random.choice(PROGRAMS) + self.any_bytes(3)
        elif kind == 1:
            found = self.random.choice(self.ours) + self.random.choice((b".1", b".77", b"\n", b"-", b" ", b"\xff"))
        else:
            found = self.any_bytes(self.random.choice((1, 4, 16, longest)))
        found = found.replace(b"\0", b"x")[:longest] or b"x"
        if found in self.ours:
            found = b"\x7f" + found[: longest - 1]
        self.names.add(found)
        return found

    def any_bytes(self, longest: int) -> bytes:
        return self.random.randbytes(self.random.randint(0, longest)).replace(b"\0", b"y")

    def note(self, what: str) -> bytes:
        """What user space notes of an object: mostly no notes at all."""
        data = self.random.choice((b"", self.random.randbytes(self.random.randint(1, 255))))
        return attribute(USERDATA[what], data) if data else b""

    def batch(self, count: int, families: tuple[int, ...] = (INET, NETDEV)) -> list[Message]:
        """Messages for so many objects of our tables."""
        makers = (self._chain, self._base_chain, self._rule, self._set, self._map, self._object, self._element)
        found: list[Message] = []
        for _ in range(count):
            family = self.random.choice(families)
            found += self.random.choice(makers)(In(OURS, family))
        return found

    def idle(self, count: int) -> list[Message]:
        """For so many objects that no packet is the worse or the better for."""
        found: list[Message] = []
        for _ in range(count):
            there, own, target = In(OURS), self.name(), self.name()
            hook, priority = self.random.choice(HOOKS[INET][:5]), self.random.choice((-500, -151, 0, 151, 1000))
            goto = there.rule(own, [rawnft.immediate(-4, target)])
            found += self.random.choice(
                (
                    [there.chain(own)],
                    [there.base_chain(own, hook, priority)],
                    [there.object(own, rawnft.COUNTER)],
                    [there.verdict_map(own, rawnft.KEYS["ipv4"])],
                    [there.chain(own), there.chain(target), goto],
                )
            )
        return found

    # one kind each

    def _chain(self, there: In) -> Iterator[Message]:
        yield there.chain(self.name(), self.note("chain"))

    def _base_chain(self, there: In) -> Iterator[Message]:
        hook, priority = self.random.choice(HOOKS[there.family]), self.random.choice((-500, -150, 0, 5, 150, 2**31 - 1))
        device = b"eth0" if there.family == NETDEV or hook == 5 else b""
        yield there.base_chain(self.name(), hook, priority, device, self.random.choice(CHAIN_TYPES))

    def _rule(self, there: In) -> Iterator[Message]:
        """In a chain of theirs, or of ours; often to another chain, whose name is a program, too."""
        target, own = self.name(), self.name()
        yield there.chain(target)
        yield there.chain(own)
        where = self.random.choice((own, *self.ours))
        said: Callable[[], bytes] = self.random.choice(
            (
                lambda: rawnft.immediate(-3, target),
                lambda: rawnft.immediate(-4, target),
                lambda: rawnft.immediate(self.random.choice((0, 1, -5))),
                lambda: rawnft.expression(b"counter"),
                lambda: rawnft.expression(b"log", rawnft.text(2, self.name(100))),
                lambda: rawnft.expression(b"meta", word(2, self.random.randrange(20)) + word(1, 1)),
                lambda: rawnft.expression(self.any_bytes(20) or b"x"),
            )
        )
        yield there.rule(where, [said()], self.random.randbytes(self.random.randint(0, 200)))

    def _set(self, there: In) -> Iterator[Message]:
        key = self.random.choice((*rawnft.KEYS.values(), (self.random.randrange(1 << 32), self.random.randint(1, 64))))
        flags = self.random.choice((0, 0, rawnft.INTERVAL, rawnft.TIMEOUT, 2, rawnft.EVAL))
        yield there.set(self.name(), key, flags, self.note("set"))

    def _map(self, there: In) -> Iterator[Message]:
        name, chain = self.name(), self.name()
        kind, size = self.random.choice((*rawnft.KEYS.values(), (self.random.randrange(1 << 32), 4)))
        yield there.chain(chain)
        yield there.verdict_map(name, (kind, size), 0, self.note("set"))
        keys = {self.random.randbytes(size) for _ in range(3)}
        yield there.elements(name, [rawnft.element(key, rawnft.verdict(2, -4, chain)) for key in keys])

    def _object(self, there: In) -> Iterator[Message]:
        number = struct.pack("!Q", self.random.randint(1, 1 << 30))
        kind, data = self.random.choice(
            (
                (rawnft.COUNTER, b""),
                (rawnft.QUOTA, attribute(1, number)),
                (rawnft.LIMIT, attribute(1, number) + attribute(2, struct.pack("!Q", 1))),
                (rawnft.CONNLIMIT, word(1, 5)),
                (rawnft.CT_HELPER, rawnft.text(1, b"ftp") + attribute(3, b"\6")),
                (rawnft.CT_TIMEOUT, attribute(1, b"\0\2") + attribute(2, b"\x11") + nest(3, [])),
                (rawnft.CT_EXPECT, attribute(1, b"\0\2") + attribute(2, b"\6") + attribute(3, b"\0\1") + word(4, 9)),
                (rawnft.SYNPROXY, attribute(1, b"\5\xb4") + attribute(2, b"\7") + word(3, 3)),
                (rawnft.SECMARK, rawnft.text(1, b"x")),
                (self.random.randrange(20), self.random.randbytes(8)),
            )
        )
        yield there.object(self.name(255), kind, data, self.note("object"))

    def _element(self, there: In) -> Iterator[Message]:
        """In a map of ours, whichever takes it."""
        where = self.random.choice(self.ours)
        ifname = self.name(16).ljust(16, b"\0")
        keys = self.random.choice((ifname, self.random.randbytes(4), self.random.randbytes(16)))
        value = self.random.choice((rawnft.verdict(2, 0), nest(2, [attribute(1, self.random.randbytes(4))])))
        lasting = rawnft.lasting(60_000) if self.random.randrange(2) else b""
        yield there.elements(where, [rawnft.element(keys, value + lasting)])
