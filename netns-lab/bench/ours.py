"""Our own filter on the path: the policy as rules of security groups, put in force by build() and enforce().

Owns the states with this policy, and the trial that may stand beside it. Must not know what is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache

from bench.path import HOST_END, UPLINK
from bench.policy import CHANGE, PORT, RECEIVER, STRANGER, Rule, member, policy
from sgdataplane import enforce as product
from sgdataplane.analyse.diff import StateDiff
from sgdataplane.enforce import DEFAULT_SETTINGS, Desired, Proven, Settings, build, enforce
from sgdataplane.host import netns
from sgdataplane.model.modes import Mode
from sgdataplane.model.options import Placement
from sgdataplane.model.state import CloudState, Eni, GroupRef, Instance, SecurityGroup, SecurityGroupRule, Vpc
from sgdataplane.net.values import Address, Direction, PortRange, Prefix, Protocol
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.trial import running
from sgdataplane.trial.lines import lines_at
from sgdataplane.trial.tables import TrialPlace, compile_trial

VPC, ENI = "vpc-bench", "eni-probe"
GROUP_RULES = 200  # the cloud's own limit for one group; an ENI is in five of them at most
RULES_AMONG_ENIS, OTHER_RULES, OTHER_GROUPS = 100, 10, 50  # of the ENI on the path; of each other group; so many groups
LAST_PRIORITY = 100
SHIFT = 10_000  # of ports, in the state on trial
# What to enforce: in turn `n` (see Ours.turn), with policy.CHANGE or without.
Make = Callable[[int, bool], Desired]


class Ours:
    """build() and enforce() in this process, as the agent calls them, with what was in force before."""

    def __init__(self, namespace: str, make: Make, settings: Settings = DEFAULT_SETTINGS) -> None:
        self._namespace, self._make, self._settings = namespace, make, settings
        self._turn, self._is_changed = 0, False
        self._next = make(0, True)
        self._in_force: Proven | None = None

    def load(self) -> None:
        self._enforce(self._make(self._turn, False))

    def unload(self) -> None:
        product.remove(self._namespace)
        self._in_force = None

    def turn(self) -> None:
        """Alter something that the next change isn't about. So that change leads to a policy that this process has
        never compiled or proven, and no memory of an earlier round can answer for it."""
        self._turn += 1
        self._enforce(self._make(self._turn, self._is_changed))
        self._next = self._make(self._turn, not self._is_changed)

    def add(self) -> None:
        self._enforce(self._next)
        self._is_changed = True

    def remove(self) -> None:
        self._enforce(self._next)
        self._is_changed = False

    def _enforce(self, desired: Desired) -> None:
        proven = build(desired, self._settings, self._in_force)
        enforce(self._namespace, proven, self._in_force, self._settings)
        self._in_force = proven

    def close(self) -> None:
        """Do nothing, as no process runs on."""


class OursOnTrial(Ours):
    """The same beside a trial of a state in which no rule has the ports that it has now, so that each line counts."""

    def load(self) -> None:
        super().load()
        now = self._make(self._turn, False)
        lines = lines_at(StateDiff(now.state, _with_other_ports(now.state), now.options), [ENI])
        table = compile_trial("bench", TrialPlace(now.site, now.interfaces, now.options), lines)
        with NetlinkKernel(str(netns.path_of(self._namespace))) as kernel:
            running.put(kernel, table)


def _with_other_ports(state: CloudState) -> CloudState:
    groups = (replace(group, rules=tuple(map(_shifted, group.rules))) for group in state.security_groups)
    return replace(state, security_groups=tuple(groups))


def _shifted(rule: SecurityGroupRule) -> SecurityGroupRule:
    assert rule.port_range is not None
    return replace(rule, port_range=PortRange(rule.port_range.first + SHIFT, rule.port_range.last + SHIFT))


def by_rules(mac: str, size: int, mode: Mode = Mode.ENFORCE) -> Make:
    """One ENI with so many rules."""

    def make(turn: int, is_changed: bool) -> Desired:
        groups = _groups(size, turn, is_changed)
        return Desired(_state(groups, [replace(_probe(mac, groups), mode=mode)]), {ENI: "eth0"})

    return make


def by_enis(mac: str, count: int, placement: Placement) -> Make:
    """So many ENIs in one namespace. That of the path comes last, by name and in the state, and has most rules."""
    others = _other_groups(min(count - 1, OTHER_GROUPS))
    enis = tuple(_other_eni(number, others[number % len(others)]) for number in range(count - 1))
    names = {eni.network_interface_id: eni.network_interface_id for eni in enis}
    is_outside = placement is Placement.HOST

    def make(turn: int, is_changed: bool) -> Desired:
        groups = _groups(RULES_AMONG_ENIS, turn, is_changed)
        state = _state([*others, *groups], [*enis, _probe(mac, groups)])
        interfaces = {**names, ENI: HOST_END if is_outside else "eth0"}
        return Desired(state, interfaces, placement=placement, uplinks=(UPLINK,) if is_outside else ())

    return make


def by_members(mac: str, count: int) -> Make:
    """One ENI whose rules are for a group with so many members. A turn gives the last member another address."""
    groups = (SecurityGroup("sg-members", VPC), SecurityGroup("sg-probe", VPC, rules=tuple(_rules_for_members())))
    first, last = _members(count)[:-1], _members(count)[-1]
    stranger = _eni("eni-stranger", _mac(0xFFFFFF), STRANGER, ["sg-members"])

    def make(turn: int, is_changed: bool) -> Desired:
        moved = replace(last, private_ip_addresses=(Address.parse(f"10.200.0.{turn}"),)) if turn else last
        more = (stranger,) if is_changed else ()
        return Desired(_state(groups, [*first, moved, _probe(mac, groups[1:]), *more]), {ENI: "eth0"})

    return make


@cache
def _members(count: int) -> tuple[Eni, ...]:
    return tuple(_eni(f"eni-{n:06}", _mac(n), member(n), ["sg-members"]) for n in range(count))


def _rules_for_members() -> Iterable[SecurityGroupRule]:
    for number, (protocol, last) in enumerate((("udp", CHANGE.port), ("tcp", PORT))):
        yield _accept(number, protocol, GroupRef("sg-members"), PortRange(PORT, last), 1)


def _state(groups: Sequence[SecurityGroup], enis: Sequence[Eni]) -> CloudState:
    return CloudState(
        vpcs=(Vpc(VPC),),
        security_groups=tuple(groups),
        instances=(Instance("i-bench"),),
        network_interfaces=tuple(enis),
    )


def _groups(size: int, turn: int, is_changed: bool) -> tuple[SecurityGroup, ...]:
    """The policy as basic groups, which let their ENIs send anything. The last rule has the lowest priority. A turn
    gives the first rule another range of ports. The change opens no group and moves no priority."""
    rules = (*policy(size), CHANGE) if is_changed else policy(size)
    most = max(size - 1, 2)
    made = [_permission(rule, number, 1 + (LAST_PRIORITY - 1) * number // most) for number, rule in enumerate(rules)]
    made[0] = _wider(made[0], turn)
    starts = range(0, len(made), GROUP_RULES)
    return tuple(SecurityGroup(f"sg-probe-{n:04}", VPC, rules=tuple(made[n : n + GROUP_RULES])) for n in starts)


def _other_groups(count: int) -> tuple[SecurityGroup, ...]:
    return tuple(SecurityGroup(f"sg-{n:04}", VPC, rules=tuple(_other_rules(n))) for n in range(count))


def _other_rules(group: int) -> Iterable[SecurityGroupRule]:
    for number in range(OTHER_RULES):
        yield _permission(Rule("tcp", 1000 + group + number, f"192.168.{group % 256}.0/24"), number, 1 + number)


@cache
def _permission(rule: Rule, number: int, priority: int) -> SecurityGroupRule:
    """Always the same object, as a state that is loaded anew keeps the rules that say the same."""
    source = Prefix.parse(rule.source if "/" in rule.source else f"{rule.source}/32")
    return _accept(number, rule.protocol, source, PortRange(rule.port, rule.port), priority)


@cache
def _wider(rule: SecurityGroupRule, turn: int) -> SecurityGroupRule:
    assert rule.port_range is not None
    return replace(rule, port_range=PortRange(rule.port_range.first, rule.port_range.first + turn))


def _accept(
    number: int, protocol: str, remote: Prefix | GroupRef, ports: PortRange, priority: int
) -> SecurityGroupRule:
    rule_id = f"sgr-{number:04}"
    return SecurityGroupRule(rule_id, Direction.INGRESS, Protocol.parse(protocol), remote, ports, priority=priority)


def _probe(mac: str, groups: Sequence[SecurityGroup]) -> Eni:
    return _eni(ENI, mac, RECEIVER, [group.security_group_id for group in groups])


def _other_eni(number: int, group: SecurityGroup) -> Eni:
    address = f"10.1.{number // 250}.{number % 250 + 1}"
    return _eni(f"eni-{number:04}", _mac(number), address, [group.security_group_id])


def _mac(number: int) -> str:
    return f"02:16:3e:{number >> 16:02x}:{number >> 8 & 0xFF:02x}:{number & 0xFF:02x}"


def _eni(eni_id: str, mac: str, address: str, groups: Iterable[str]) -> Eni:
    return _same_eni(eni_id, mac, address, tuple(groups))


@cache
def _same_eni(eni_id: str, mac: str, address: str, groups: tuple[str, ...]) -> Eni:
    return Eni(eni_id, VPC, mac, (Address.parse(address),), groups, "i-bench")
