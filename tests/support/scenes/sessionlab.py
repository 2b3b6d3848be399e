"""A lab of three hosts: a protected instance, a neighbour in its VPC, and a host outside. Only the first has a policy.

Owns how a test applies states to that instance, in its own namespace or in its router's, where the other two are behind
uplinks. Must not know what is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from sgdataplane.contract.sites import SITES
from sgdataplane.enforce import ApplyReport, Desired, Settings
from sgdataplane.lab.manage import Lab
from sgdataplane.lab.parts import LabNode
from sgdataplane.lab.topology import DEFAULT_EXTERNALS
from sgdataplane.model.options import DEFAULTS, Options, Placement
from sgdataplane.model.state import CloudState, Eni, SecurityGroup
from sgdataplane.net.values import Family
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.building import enforce
from tests.support.probes.witness import PROTECTED, Watch, Witness
from tests.support.scenes import labs

# One ENI may have a crowd of 100,000 sessions. Their limit has tests of its own (tests/hostile/test_session_limit.py).
CROWDED = replace(DEFAULTS, sessions_per_eni=1 << 18)

NEAR, FAR = "10.0.0.1 2001:db8::1", "10.0.0.2 2001:db8::2"
OUTSIDE = " ".join(map(str, DEFAULT_EXTERNALS[0]))
IFNAME = "eth0"
FAMILIES = (Family.IPV4, Family.IPV6)


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace and its address in each family."""

    netns: str
    addresses: tuple[str, str]

    def address(self, family: Family) -> str:
        return self.addresses[FAMILIES.index(family)]


def make_enis(near_groups: str, far_groups: str) -> tuple[Eni, Eni]:
    return make_eni("eni-a", NEAR, near_groups), make_eni("eni-b", FAR, far_groups)


def state_with(
    groups: Sequence[SecurityGroup], near: str, far: str = "sg-far", prefix_lists: dict[str, str] | None = None
) -> CloudState:
    """The two instances in these groups. `sg-far` has no rules and exists already."""
    return make_state([*groups, make_group("sg-far")], make_enis(near, far), prefix_lists=prefix_lists)


@dataclass(frozen=True, slots=True)
class Site:
    """Where the policy of `near` is enforced: a namespace, and the name of its interface there."""

    placement: str
    netns: str
    ifname: str
    uplinks: tuple[str, ...] = ()

    def desired(self, state: CloudState, options: Options = CROWDED) -> Desired:
        return Desired(state, {"eni-a": self.ifname}, options, Placement(self.placement), self.uplinks)

    def witness(self, watches: Sequence[Watch]) -> Witness:
        """Counters just before and just behind our hooks, for what `near` gets and sends."""
        return Witness(self.netns, PROTECTED[self.placement], tuple(watches), self.ifname)

    @property
    def last_epoch(self) -> int:
        return SITES[Placement(self.placement)].marks.last_epoch


@dataclass
class SessionLab:
    """`near` is protected; `far` is its neighbour and `outside` a host beyond the VPC, both without a policy."""

    near: Place
    far: Place
    outside: Place
    site: Site
    previous: Desired | None = None
    reports: list[ApplyReport] = field(default_factory=list)

    def apply(self, state: CloudState, settings: Settings | None = None) -> ApplyReport:
        """Enforce a state for `near`. It remembers what the last call enforced."""
        desired = self.site.desired(state)
        report = enforce(self.site.netns, desired, self.previous, settings or Settings())
        assert report.leftover == ""
        self.previous = desired
        self.reports.append(report)
        return report


@contextmanager
def session_lab(name: str, placement: str = "instance") -> Iterator[SessionLab]:
    with labs.running(name, state_with([], "sg-far"), placement=placement) as lab:
        nodes = lab.topology.node
        outside = next(node for node in nodes.values() if not node.is_instance)
        yield SessionLab(_place(nodes["i-a"]), _place(nodes["i-b"]), _place(outside), site_of(lab))


def site_of(lab: Lab) -> Site:
    """The site of eni-a in a lab that enforces nothing yet. All other interfaces are behind uplinks."""
    (entry,) = (entry for entry in lab.enforced if "eni-a" in entry.desired.interfaces)
    carried = dict(entry.desired.interfaces)
    own = carried.pop("eni-a")
    uplinks = (*entry.desired.uplinks, *carried.values())
    return Site(lab.placement.value, entry.netns, own, uplinks)


def _place(node: LabNode) -> Place:
    ipv4, ipv6 = (str(node.interfaces[0].primary(family)) for family in FAMILIES)
    return Place(node.netns, (ipv4, ipv6))
