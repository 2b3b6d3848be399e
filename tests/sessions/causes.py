"""The ways to take a permission away: for each a state that allows the sessions under test and one that doesn't.

Owns those states. The sessions are between `eni-a`, which is protected, and `eni-b`; either of them opens them. In each
state an allowed host outside has its control sessions: TCP to CONTROL_IN at `eni-a`, and to CONTROL_OUT from there.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sgdataplane.model.state import CloudState, SecurityGroupRule
from sgdataplane.net.values import Verdict
from tests.support.inputs.builders import make_group, make_rule
from tests.support.scenes.sessionlab import FAR, NEAR, OUTSIDE, state_with

CONTROL_IN, CONTROL_OUT = 7001, 7002
WIDE, APART = ("10.0.0.0/28", "2001:db8::/112"), ("10.0.0.8/29", "2001:db8::8/125")  # with eni-b in it, and without


class Way(enum.Enum):
    """Who opens the sessions: towards `eni-a`, or from it."""

    INGRESS = "ingress"
    EGRESS = "egress"

    @property
    def word(self) -> str:
        return "from" if self is Way.INGRESS else "to"


Rules = Sequence[str | SecurityGroupRule]


@dataclass(frozen=True, slots=True)
class Cause:
    """`allowing` and `refusing` are states; sessions of protocols in `spares` are allowed in both, and with
    `spares_ingress` so are all that come in. `in_both`: tried in both placements where time is short, else in one."""

    name: str
    allowing: Callable[[Way], CloudState]
    refusing: Callable[[Way], CloudState]
    spares: tuple[str, ...] = ()
    spares_ingress: bool = False
    in_both: bool = False

    def is_spared(self, way: Way, protocol: str) -> bool:
        return protocol in self.spares or (self.spares_ingress and way is Way.INGRESS)


def control() -> list[str]:
    outside = OUTSIDE.split()
    return [
        *(f"ingress tcp {CONTROL_IN}/{CONTROL_IN} from {address} 1" for address in outside),
        *(f"egress tcp {CONTROL_OUT}/{CONTROL_OUT} to {address} 1" for address in outside),
    ]


def each(way: Way, text: str, far: Sequence[str] = tuple(FAR.split())) -> list[str]:
    """A rule for each family: `{}` in the text is the far address."""
    return [f"{way.value} {text.format(f'{way.word} {address}')}" for address in far]


def closed(rules: Rules) -> list[str | SecurityGroupRule]:
    """These rules and the control's; else nothing goes out, and nothing comes in as always."""
    return [*control(), *rules, *(f"egress all to {far} drop 90" for far in ("0.0.0.0/0", "::/0"))]


def with_rules(rules: Callable[[Way], Rules]) -> Callable[[Way], CloudState]:
    """A state in which `eni-a` is in one basic group with these rules, and `eni-b` in another one."""
    return lambda way: state_with([make_group("sg-near", closed(rules(way)))], "sg-near")


def nothing(_: Way) -> Rules:
    return []


def by_group(far_groups: str) -> Callable[[Way], CloudState]:
    def state(way: Way) -> CloudState:
        groups = [
            make_group("sg-near", closed([f"{way.value} all {way.word} sg-remote 10"])),
            make_group("sg-remote"),
        ]
        return state_with(groups, "sg-near", far_groups)

    return state


def in_groups(near_groups: str) -> Callable[[Way], CloudState]:
    def state(way: Way) -> CloudState:
        groups = [make_group("sg-near", closed([])), make_group("sg-more", each(way, "all {} 10"))]
        return state_with(groups, near_groups)

    return state


def by_list(entries: Sequence[str]) -> Callable[[Way], CloudState]:
    def state(way: Way) -> CloudState:
        rules = closed(each(way, "all {} 10", ("pl-4", "pl-6")))
        lists = dict(zip(("pl-4", "pl-6"), entries, strict=True))
        return state_with([make_group("sg-near", rules)], "sg-near", prefix_lists=lists)

    return state


def by_inner(policy: Verdict) -> Callable[[Way], CloudState]:
    """Both are members of `sg-shared`."""

    def state(_: Way) -> CloudState:
        groups = [make_group("sg-near", closed([])), make_group("sg-shared", inner=policy)]
        return state_with(groups, "sg-near sg-shared", "sg-shared")

    return state


def advanced(rules: Callable[[Way], Rules]) -> Callable[[Way], CloudState]:
    """`eni-a` is in an advanced group, where nothing goes out either unless a rule says so."""

    def state(way: Way) -> CloudState:
        group = make_group("sg-near", [*control(), *rules(way)], advanced=True)
        return state_with([group], "sg-near")

    return state


def narrowed(**limits: str) -> Callable[[Way], Rules]:
    """An accept with more conditions; `narrowing` takes both families' addresses."""

    def rules(way: Way) -> Rules:
        far = FAR.split()
        own = limits.get("narrowing", "").split() or ["", ""]
        source_ports = limits.get("source_ports", "")
        protocols = ("tcp 1/65535", "udp 1/65535") if source_ports else ("all",)
        return (echo(way) if source_ports else []) + [
            make_rule(
                f"{way.value} {protocol} {way.word} {address} 10",
                source_port_range=source_ports,
                narrowing=narrowing,
            )
            for protocol in protocols
            for address, narrowing in zip(far, own, strict=True)
        ]

    return rules


def ports(word: str) -> Callable[[Way], Rules]:
    return lambda way: [
        *(rule for name in ("tcp", "udp") for rule in each(way, f"{name} {word} {{}} 10")),
        *echo(way),
    ]


def echo(way: Way) -> list[str | SecurityGroupRule]:
    pairs = zip(("icmp", "icmpv6"), FAR.split(), strict=True)
    return [f"{way.value} {name} {way.word} {far} 10" for name, far in pairs]


def both_ways(*ways: Way) -> Callable[[Way], Rules]:
    return lambda _: [rule for way in ways for rule in each(way, "all {} 10")]


ALLOW = with_rules(lambda way: each(way, "all {} 10"))
CAUSES = (
    Cause("rule deleted", ALLOW, with_rules(nothing), in_both=True),
    Cause("drop rule added", ALLOW, with_rules(lambda way: [*each(way, "all {} 10"), *each(way, "all {} drop 5")])),
    Cause(
        "priority changed",
        with_rules(lambda way: [*each(way, "all {} 10"), *each(way, "all {} drop 20")]),
        with_rules(lambda way: [*each(way, "all {} 30"), *each(way, "all {} drop 20")]),
    ),
    Cause("member leaves the remote group", by_group("sg-remote"), by_group("sg-far")),
    Cause("ENI leaves a group", in_groups("sg-near sg-more"), in_groups("sg-near"), in_both=True),
    Cause("prefix list edited", by_list([f"{a} {b}" for a, b in zip(WIDE, APART, strict=True)]), by_list(APART)),
    Cause("inner policy becomes Drop", by_inner(Verdict.ACCEPT), by_inner(Verdict.DROP), in_both=True),
    Cause(
        "accept narrowed by CIDR",
        with_rules(lambda way: each(way, "all {} 10", WIDE)),
        with_rules(lambda way: each(way, "all {} 10", APART)),
    ),
    Cause(
        "accept narrowed by port",
        with_rules(ports("5000/5999")),
        with_rules(ports("6000/6999")),
        ("icmp",),
        in_both=True,
    ),
    Cause(
        "accept narrowed by source port",
        with_rules(narrowed(source_ports="20000/60000")),
        with_rules(narrowed(source_ports="1/19999")),
        ("icmp",),
    ),
    Cause(
        "accept narrowed by own address",
        with_rules(narrowed(narrowing=NEAR)),
        with_rules(narrowed(narrowing="10.0.0.99 2001:db8::99")),
    ),
    Cause("rule of an advanced group deleted", advanced(lambda way: each(way, "all {} 10")), advanced(nothing)),
    Cause(
        "egress rule of an advanced group deleted",
        advanced(both_ways(Way.INGRESS, Way.EGRESS)),
        advanced(both_ways(Way.INGRESS)),
        spares_ingress=True,
        in_both=True,
    ),
)
