"""A protected end and a far one, with the namespace between them where the policy is; and sessions on that way.

Owns the namespaces, and whether a message arrives beside another one. Must not know features, or what a test expects.

    host placement        far --- router (policy) --- near                            ways: out, eni-a
    instance placement    far --- instance (policy), which forwards --- near          ways: eth0 (eni-a), eth1 (eni-b)

The instance forwards between two ENIs: `near` has addresses that are delegated to the first one, and the second one may
send in the name of anybody on the far side, and in its direction everything passes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from sgdataplane.enforce import ApplyReport, Desired, Settings
from sgdataplane.host import netns, sysctl
from sgdataplane.lab.topology import GATEWAYS, LENGTHS
from sgdataplane.model.options import Placement
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Family, Prefix
from tests.support.events.talks import Ends, Side, Talk, TcpTalk, UdpTalk
from tests.support.inputs.builders import mac_of, make_eni, make_group, make_state
from tests.support.inputs.building import enforce
from tests.support.kernel.nft import nft
from tests.support.probes.flood import wait_until
from tests.support.scenes.labs import run_in
from tests.support.scenes.pair import HERE, LINKS, Pair, made_pair
from tests.support.scenes.sessionlab import Place

CLIENT, SERVER = Side.CLIENT, Side.SERVER
BEHIND = ("10.0.16.0/28", "2001:db8:1::/80")  # delegated to eni-a
INNER, INNER_GATEWAY = ("10.0.16.2", "2001:db8:1::2"), ("10.0.16.1", "2001:db8:1::1")
BEFORE = ("10.0.0.0/24", "2001:db8::/64")  # where the far end is
EVERYONE = ("0.0.0.0/0", "::/0")
KINDS: dict[str, type[Talk]] = {"tcp": TcpTalk, "udp": UdpTalk}
QUICK = Settings(adoption_window=0)


@dataclass
class Passage:
    """`pair`: the namespaces by role. `ways`: the interfaces of the namespace where the policy is, to each end.
    `uplink`: a router's, as the policy knows it."""

    placement: str
    pair: Pair
    far: Place
    near: Place
    ways: tuple[str, str]
    stack: ExitStack
    uplink: str = LINKS["peer"]
    previous: Desired | None = None
    reports: list[ApplyReport] = field(default_factory=list)

    @property
    def enforced(self) -> str:
        return self.pair["policy"]

    def apply(self, *rules: str, **settings: object) -> ApplyReport:
        """Enforce a state in which eni-a has these rules, each for all addresses of both families. A router has a fence
        only if it is asked for, since that drops what flowtables send."""
        settings = {"fence": self.placement != "host", **settings}
        wanted = self._desired(state_of(*rules))
        chosen = replace(QUICK, **settings)  # type: ignore[arg-type]  # fields by name
        report = enforce(self.enforced, wanted, self.previous, chosen)
        assert report.leftover == ""
        self.previous = wanted
        self.reports.append(report)
        return report

    def _desired(self, state: CloudState) -> Desired:
        if self.placement == "host":
            return Desired(state, {"eni-a": self.ways[1]}, placement=Placement.HOST, uplinks=(self.uplink,))
        return Desired(state, dict(zip(("eni-a", "eni-b"), self.ways, strict=True)))

    def talk(self, kind: str, family: Family, port: int, client: str = "far") -> Talk:
        """A session to that port from that end to the other one: it is there."""
        made = self.unopened(kind, family, port, client)
        made.open()
        return made

    def unopened(self, kind: str, family: Family, port: int, client: str = "far") -> Talk:
        ends = {"far": (self.far, self.near), "near": (self.near, self.far)}[client]
        made = KINDS[kind](Ends(family, *ends, port, port + 10000))
        self.stack.callback(made.close)
        return made


def state_of(*rules: str) -> CloudState:
    """`ingress udp 5000/5000` and the like, of eni-a."""
    texts = []
    for rule in rules:
        direction, protocol, ports, *rest = rule.split()
        word = "from" if direction == "ingress" else "to"
        texts += [" ".join((direction, protocol, ports, word, remote, *rest)) for remote in EVERYONE]
    everything = [f"ingress all from {remote}" for remote in EVERYONE]
    pairs = tuple(map(Prefix.parse, BEFORE))
    enis = (
        make_eni("eni-a", " ".join((*HERE["instance"], *BEHIND)), "sg-a"),
        make_eni("eni-b", " ".join(INNER_GATEWAY), "sg-b", instance_id="i-a", allowed_address_pairs=pairs),
    )
    return make_state([make_group("sg-a", texts), make_group("sg-b", everything)], enis)


def arrives(talk: Talk, side: Side, beside: Talk) -> bool:
    """Whether one more message from that end arrives, before one of `beside`, which goes the same way and has to."""
    talk.say(side)
    beside.say(side)
    wait_until(lambda: beside.has_arrived(side))
    return talk.has_arrived(side)


def must_arrive(talk: Talk, *sides: Side) -> None:
    """One more message from each of these ends, one after the other."""
    for side in sides:
        talk.say(side)
        wait_until(lambda: talk.has_arrived(side))  # noqa: B023  (called here only)


@contextmanager
def made_passage(make_name: Callable[[], str], placement: str) -> Iterator[Passage]:
    with made_pair(make_name, placement) as pair, ExitStack() as stack:
        far = Place(pair["peer"], HERE["peer"])
        if placement == "host":
            near, ways = Place(pair["instance"], HERE["instance"]), (LINKS["peer"], LINKS["instance"])
        else:
            inner = make_name()
            netns.create(inner)
            stack.callback(netns.remove, inner)
            _join_inner(pair, inner)
            near, ways = Place(inner, INNER), ("eth0", "eth1")
        yield Passage(placement, pair, far, near, ways, stack)


def _join_inner(pair: Pair, inner: str) -> None:
    """By a link whose ends are `eth1` and `eth0`; the instance forwards."""
    instance = pair["instance"]
    with netns.inside(instance):
        sysctl.write_all({"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"})
    link = ("address", mac_of("eni-b"), "type", "veth", "peer", "name", "eth0", "netns", inner)
    run_in(instance, "ip", "link", "add", "eth1", *link)
    number(instance, "eth1", INNER_GATEWAY)
    number(inner, "eth0", INNER)
    for gateway, near_gateway, prefix in zip(HERE["instance"], INNER_GATEWAY, BEHIND, strict=True):
        run_in(inner, "ip", "route", "add", "default", "via", near_gateway)
        run_in(pair["peer"], "ip", "route", "add", prefix, "via", gateway)


def number(namespace: str, ifname: str, addresses: Iterable[str]) -> None:
    """Give an interface these addresses of BEHIND, and take it up."""
    for address, prefix in zip(addresses, BEHIND, strict=True):
        nodad = ["nodad"] if ":" in address else []
        length = prefix.partition("/")[2]
        run_in(namespace, "ip", "address", "add", f"{address}/{length}", "dev", ifname, *nodad)
    run_in(namespace, "ip", "link", "set", ifname, "up")


def bridge_uplink(passage: Passage) -> None:
    """The router's way to the far end becomes a bridge, of which the link is a port. While the kernel makes the bridge
    operational, it may lose a packet."""
    way, router = passage.ways[0], passage.enforced
    run_in(router, "ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
    run_in(router, "ip", "link", "set", way, "master", "br0")
    run_in(router, "ip", "address", "flush", "dev", way)
    run_in(router, "ip", "link", "set", "br0", "up")
    for gateway, far, length in zip(GATEWAYS.values(), passage.far.addresses, LENGTHS.values(), strict=True):
        run_in(router, "ip", "address", "replace", f"{gateway}/{length}", "dev", "br0", *(["nodad"] * (length > 32)))
        run_in(router, "ip", "route", "replace", far, "dev", "br0")
    wait_until(lambda: json.loads(run_in(router, "ip", "-json", "link", "show", "br0"))[0]["operstate"] == "UP")
    passage.uplink = "br0"


def masquerade(passage: Passage) -> None:
    """What leaves towards the far end has the address of the namespace where the policy is."""
    nft(
        passage.enforced,
        "add table ip nat",
        "add chain ip nat out { type nat hook postrouting priority 100 ; }",
        f"add rule ip nat out oifname {passage.ways[0]} masquerade",
    )
