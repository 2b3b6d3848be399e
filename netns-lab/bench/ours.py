"""Our own filter on the path: the policy as rules of security groups, put in force by enforce().

Owns the state with this policy. Must not know what is measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.policy import CHANGE, RECEIVER, Rule
from sgdataplane import enforce as product
from sgdataplane.enforce import Desired, Proven, Settings, build, enforce
from sgdataplane.model.state import CloudState, Eni, Instance, SecurityGroup, SecurityGroupRule, Vpc
from sgdataplane.net.values import Address, Direction, PortRange, Prefix, Protocol

VPC, ENI = "vpc-bench", "eni-probe"
GROUP_RULES = 200  # the cloud's own limit for one group; an ENI is in five of them at most
OTHER_RULES = 10
LAST_PRIORITY = 100


class Ours:
    """enforce() in this process, as the daemon calls it, with what was in force before."""

    def __init__(
        self, namespace: str, mac: str, rules: Sequence[Rule], *, enis: int = 1, is_fenced: bool = True
    ) -> None:
        self._namespace = namespace
        self._settings = Settings(fence=is_fenced)
        self._base = _desired(mac, rules, enis)
        self._wider = _desired(mac, (*rules, CHANGE), enis)
        self._in_force: Proven | None = None

    def load(self) -> None:
        self._enforce(self._base)

    def unload(self) -> None:
        product.remove(self._namespace)
        self._in_force = None

    def add(self) -> None:
        self._enforce(self._wider)

    def remove(self) -> None:
        self._enforce(self._base)

    def _enforce(self, desired: Desired) -> None:
        proven = build(desired, self._settings, self._in_force)
        enforce(self._namespace, proven, self._in_force, self._settings)
        self._in_force = proven

    def close(self) -> None:
        """Do nothing, as no process runs on."""


def _desired(mac: str, rules: Sequence[Rule], enis: int) -> Desired:
    groups = _groups(rules)
    probe = _eni(ENI, mac, RECEIVER, [group.security_group_id for group in groups])
    others, theirs = _other_enis(enis - 1)
    state = CloudState(
        vpcs=(Vpc(VPC),),
        security_groups=(*theirs, *groups),
        instances=(Instance("i-bench"),),
        network_interfaces=(*others, probe),
    )
    names = {eni.network_interface_id: eni.network_interface_id for eni in others}
    return Desired(state, {**names, ENI: "eth0"})


def _other_enis(count: int) -> tuple[list[Eni], list[SecurityGroup]]:
    """ENIs beside the one on the path, each in a group with rules of its own. Their names sort before its name, so
    anything that goes through ENIs one by one reaches it last.

    THE ONE PLACE to replace when a table serves a host's ENIs: until then they all belong to one instance.
    """
    groups = [_group(f"sg-{number:04}", _other_rules(number), 0, OTHER_RULES) for number in range(count)]
    enis = [
        _eni(f"eni-{number:04}", _mac(number), f"10.1.{number // 250}.{number % 250 + 1}", [group.security_group_id])
        for number, group in enumerate(groups)
    ]
    return enis, groups


def _other_rules(number: int) -> list[Rule]:
    return [Rule("tcp", 1000 + number + rule, f"192.168.{number % 256}.0/24") for rule in range(OTHER_RULES)]


def _mac(number: int) -> str:
    return f"00:16:3e:00:{number >> 8:02x}:{number & 0xFF:02x}"


def _eni(eni_id: str, mac: str, address: str, groups: Iterable[str]) -> Eni:
    return Eni(eni_id, VPC, mac, (Address.parse(address),), tuple(groups), "i-bench")


def _groups(rules: Sequence[Rule]) -> list[SecurityGroup]:
    """The rules as basic groups, which let their ENIs send anything. The last rule has the lowest priority."""
    starts = range(0, len(rules), GROUP_RULES)
    return [_group(f"sg-probe-{start:04}", rules[start : start + GROUP_RULES], start, len(rules)) for start in starts]


def _group(group_id: str, rules: Sequence[Rule], start: int, total: int) -> SecurityGroup:
    numbered = enumerate(rules, start)
    return SecurityGroup(group_id, VPC, rules=tuple(_permission(rule, number, total) for number, rule in numbered))


def _permission(rule: Rule, number: int, total: int) -> SecurityGroupRule:
    source = rule.source if "/" in rule.source else f"{rule.source}/32"
    return SecurityGroupRule(
        f"sgr-{number:04}",
        Direction.INGRESS,
        Protocol.parse(rule.protocol),
        Prefix.parse(source),
        PortRange.parse(f"{rule.port}/{rule.port}"),
        priority=1 + (LAST_PRIORITY - 1) * number // max(1, total - 1),
    )
