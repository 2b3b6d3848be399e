"""A process with just CAP_NET_ADMIN asks rtnetlink for anything, by number, in the router of another workload: verbs,
links and attributes by chance. After each act the agent has closed what was put there, or the act was refused.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

import pytest

from sgdataplane.host.links import Links
from sgdataplane.host.netlink import attribute, nest
from tests.support.kernel import netadmin as na
from tests.support.kernel.netadmin import NetAdmin, number
from tests.support.probes.flood import wait_until
from tests.support.scenes.attachbench import Bench
from tests.support.scenes.attachhost import ROUTER
from tests.support.scenes.pair import HERE
from tests.support.scenes.reaching import Scene, reached, routed_to, set_right

pytestmark = pytest.mark.kernel
SEED = 3101
OURS = ("eni-a", "eni-b", "up0", "lo")
VERBS = {"new": na.NEWLINK, "set": na.SETLINK, "get": na.GETLINK, "delete": na.DELLINK}
FLAGS = (na.CREATE, na.CREATE, na.CREATE, 0x400, 0, 0x100, 0x500)
KINDS = (
    "veth",
    "veth",
    "bridge",
    "ifb",
    "macvlan",
    "macvtap",
    "bridge",
    "ifb",
    "vxlan",
    "ipvlan",
    "vlan",
    "dummy",
    "tun",
    "",
)


Act = tuple[str, int, list[bytes]]  # a verb, an index, and attributes


class Chance:
    """One process's acts."""

    def __init__(self, seed: int, scene: Scene) -> None:
        self._random, self._scene, self._made = random.Random(seed), scene, 0
        self._indices = [scene.index(ifname) for ifname in OURS]

    def act(self) -> str:
        """One request; what it was, and the kernel's answer."""
        verb, index, parts = self._random.choice([self._put, self._put, self._cover, self._move, self._anything])()
        pick, more = self._random.choice, self._random.sample(self._parts(), self._random.choice([0, 0, 0, 1, 2]))
        flags, change = pick([0, na.IFF_UP, na.IFF_UP]), pick([na.IFF_UP, na.IFF_UP, na.IFF_PROMISC])
        body = na.link(index, flags, change) + b"".join([*parts, *(part() for part in more)])
        said = self._scene.attacker.ask(VERBS[verb], body, pick(FLAGS) if verb != "get" else 0)
        return f"{verb} {index} {body.hex()}: {said or 'done'}"

    def _put(self) -> Act:
        """A link into the router, with a name and an index of its own, or somebody's."""
        index = self._random.choice([0, 0, self._random.randrange(20, 99)])
        return "new", index, [attribute(na.TARGET, number(self._scene.router)), self._kind(), self._name()]

    def _cover(self) -> Act:
        """A link of its own over one of the router's."""
        over = [attribute(na.LINK, number(self._random.choice(self._indices)))]
        return (
            "new",
            0,
            [*over, attribute(na.LINK_NSID, number(self._scene.router)), self._kind(("macvlan", "macvtap"))],
        )

    def _move(self) -> Act:
        """A link of its own into the router."""
        self._made += 1
        spare = f"s{self._made}"
        self._scene.attacker.make(na.name(spare), na.veth(f"t{self._made}"))
        index = self._scene.attacker.index(spare)
        return "set", index, [attribute(na.TARGET, number(self._scene.router)), self._name()]

    def _anything(self) -> Act:
        verb = self._random.choices(list(VERBS), (10, 5, 1, 2))[0]
        index = self._random.choice([0, *self._indices, self._random.randrange(1, 99)])
        if verb in ("delete", "set") and self._random.random() < 0.95:
            index = self._random.randrange(20, 99)  # a host end that is deleted is lost, as is its own link
        target = [attribute(na.TARGET, number(self._scene.router))]
        return verb, index, target + [part() for part in self._random.sample(self._parts(), 2)]

    def _name(self) -> bytes:
        return na.name(self._random.choice(["eni-a", "eni-b", "up0", "up1", "x", "y", "lo", "eni-c"]))

    def _parts(self) -> list[Callable[[], bytes]]:
        scene, pick = self._scene, self._random.choice
        nsid = lambda: number(pick([scene.router, scene.router, -1, 1, 2, 7]))  # noqa: E731
        index = lambda: number(pick([*self._indices, 0, 7]))  # noqa: E731
        values: dict[int, Callable[[], bytes]] = {
            na.TARGET: lambda: number(scene.router),
            na.LINK_NSID: nsid,
            na.LINK: index,
            na.MASTER: index,
            na.NAME: lambda: pick([b"eni-a", b"eni-b", b"up0", b"up1", b"x", b"lo", b"eni-c"]) + b"\0",
            na.ALTNAME: lambda: pick([b"eni-a", b"alt"]) + b"\0",
            na.MAC: lambda: self._random.randbytes(6),
            na.MTU: lambda: number(pick([68, 576, 1500, 9000])),
            na.TXQLEN: lambda: number(1),
            na.GROUP: lambda: number(pick([7, 8])),
            na.ALIAS: lambda: pick([b"eni-b", b"\x1b[2J", b""]),
            na.CARRIER: lambda: b"\0",
            na.PROTO_DOWN: lambda: b"\1",
            na.NS_PID: lambda: number(pick([scene.attacker.pid, scene.insider.pid])),
            na.NEW_NSID: nsid,
            na.NS_FD: lambda: number(0),
            na.XDP: lambda: attribute(1, number(pick([-1, 0, 1]))),
        }
        plain = [lambda k=key, v=value: attribute(k, v()) for key, value in values.items()]
        return [*plain, self._kind]

    def _kind(self, kinds: Sequence[str] = KINDS) -> bytes:
        name = self._random.choice(kinds)
        data = []
        if name == "veth":
            self._made += 1
            peer = na.link() + na.name(f"p{self._made}") + attribute(na.NS_PID, number(self._scene.attacker.pid))
            data = [nest(na.PEER, [peer])]
        elif name.startswith("macv"):
            data = [attribute(na.MACVLAN_MODE, struct.pack("=I", self._random.choice([1, 2, 4, 8, 16])))]
        return na.kind(name, data)


def is_closed(scene: Scene) -> bool:
    """Whether nothing is up in the router but what was there, no address leads elsewhere, and nothing in the
    attacker's namespace is on top of a link there."""
    with Links(ROUTER) as links:
        found = {link.ifname: link for link in links.links()}
    ends = {b.host_end.ifname: b.host_end.numbers for b in scene.bench.registry.load() if b.host_end is not None}
    known = {name: numbers.index for name, numbers in ends.items() if numbers is not None} | scene.uplinks | {"lo": 1}
    up = {(name, link.index) for name, link in found.items() if link.is_up}
    routed = routed_to(HERE["instance"][0]) <= {"eni-a"} and routed_to(HERE["peer"][0]) <= {"eni-b"}
    own = scene.attacker.links().values()
    stacked = [said for said in own if scene_nsid(said) == scene.router and b"macv" in said.get(na.INFO, b"")]
    return up <= set(known.items()) and routed and not stacked


def scene_nsid(said: dict[int, bytes]) -> int | None:
    return na.value(said[na.LINK_NSID]) if na.LINK_NSID in said else None


def is_whole(scene: Scene) -> bool:
    with Links(ROUTER) as links:
        up = {link.ifname for link in links.links() if link.is_up}
    return up >= {"eni-a", "eni-b"} and "eth0" in scene.attacker.links()


def hold(scene: Scene, seed: int, acts: int) -> list[str]:
    """So many acts, or until one of the host ends is lost; then the agent says so. What was done."""
    chance, done = Chance(seed, scene), []
    for _ in range(acts):
        done.append(chance.act())
        if done[-1].endswith("done"):
            wait_until(lambda: is_closed(scene))
        if not is_whole(scene):
            wait_until(lambda: is_whole(scene) or not scene.agent.status()["healthy"])
        if not is_whole(scene):
            wait_until(lambda: is_closed(scene))
            return done
    wait_until(lambda: is_closed(scene))
    set_right(scene)
    return done


@pytest.mark.parametrize("run", range(2))
def test_whatever_it_asks_for_is_closed(bench: Bench, make_lab_name: Callable[[], str], run: int) -> None:
    seed = SEED + run
    print(f"seed {seed}")
    with reached(bench, make_lab_name) as scene:
        done = hold(scene, seed, 40)
        print("\n".join(done))
        assert not scene.agent.process_has_ended
        assert any(line.endswith("done") for line in done)


@pytest.mark.slow
@pytest.mark.parametrize("run", range(40))
def test_whatever_it_asks_for_is_closed_at_length(bench: Bench, make_lab_name: Callable[[], str], run: int) -> None:
    seed = SEED + 1000 + run
    print(f"seed {seed}")
    with reached(bench, make_lab_name) as scene:
        print("\n".join(hold(scene, seed, 400)))
        assert not scene.agent.process_has_ended


def test_the_process_has_nothing_but_that_capability(bench: Bench) -> None:
    with NetAdmin(bench.place) as attacker, open(f"/proc/{attacker.pid}/status", encoding="ascii") as status:
        said = dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)
    assert {said[key] for key in ("CapPrm", "CapEff", "CapBnd")} == {f"{1 << na.CAP_NET_ADMIN:016x}"}
