"""The state that running containers suggest: what they can reach now, as groups and rules.

Owns which group stands for what. Its input is running containers. Must not know engines, nor formats of states.

    all networks of the engines     one VPC, with their blocks
    a network                       a group whose members reach each other
    a container                     an instance; if it publishes ports, a group that lets everybody reach these
    its end in a network            an ENI, in both groups

So the policy closes what nobody has published, and the networks against each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain

from sgdataplane.attach.containers import NetworkEnd, Running
from sgdataplane.model.modes import Mode
from sgdataplane.model.state import (
    CloudState,
    Eni,
    EniType,
    GroupType,
    Instance,
    SecurityGroup,
    SecurityGroupRule,
    Vpc,
)
from sgdataplane.net.ranges import unite
from sgdataplane.net.values import Address, Direction, Family, PortRange, Prefix, Protocol, Verdict

VPC_ID = "vpc-containers"
ANYWHERE = {Family.IPV4: Prefix.parse("0.0.0.0/0"), Family.IPV6: Prefix.parse("::/0")}
MAX_NAME = 50  # so that an id made of it isn't longer than ids may be


def suggest_state(containers: Iterable[Running]) -> CloudState:
    """Return a state of the containers that have an IPv4 address.

    It drops nothing yet: the ENIs are in audit mode.
    """
    held = [each for each in containers if _ends(each)]
    ends = list(chain.from_iterable(map(_ends, held)))
    networks = sorted({end.network for end in ends})
    return CloudState(
        vpcs=(Vpc(VPC_ID, _blocks(ends)),),
        security_groups=(*map(_network_group, networks), *(_own_group(each) for each in held if each.published)),
        instances=tuple(Instance(f"i-{_slug(each.name)}", each.name) for each in held),
        network_interfaces=tuple(chain.from_iterable(map(_enis, held))),
    )


def eni_ids(container: Running) -> tuple[str, ...]:
    """Return the ids of a container's ENIs, in the order of its networks."""
    return tuple(eni.network_interface_id for eni in _enis(container))


def _ends(container: Running) -> list[NetworkEnd]:
    return [end for end in container.ends if any(address.family is Family.IPV4 for address, _ in end.addresses)]


def _blocks(ends: Iterable[NetworkEnd]) -> tuple[Prefix, ...]:
    return tuple(sorted({Prefix.parse(f"{address}/{length}") for end in ends for address, length in end.addresses}))


def _slug(name: str) -> str:
    """Return a name as a part of ids. A long one keeps its beginning, and gets a hash of the whole."""
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _network_group(network: str) -> SecurityGroup:
    name = f"network {network}"
    words = "members reach each other"
    return SecurityGroup(f"net-{_slug(network)}", VPC_ID, security_group_name=name, description=words)


def _own_group(container: Running) -> SecurityGroup:
    families = {address.family for end in _ends(container) for address, _ in end.addresses}
    rules = tuple(chain.from_iterable(_rules(container, family) for family in Family if family in families))
    return SecurityGroup(
        f"sg-{_slug(container.name)}",
        VPC_ID,
        GroupType.NORMAL,
        Verdict.DROP,
        rules,
        container.name,
        f"the ports that {container.name} publishes",
    )


def _rules(container: Running, family: Family) -> Iterator[SecurityGroupRule]:
    for protocol in sorted({protocol for protocol, _ in container.published}):
        ports = unite((port, port) for kind, port in container.published if kind == protocol)
        for number, (first, last) in enumerate(ports):
            yield SecurityGroupRule(
                f"sgr-{protocol}-{family.value}-{number}",
                Direction.INGRESS,
                Protocol.parse(protocol),
                ANYWHERE[family],
                PortRange(first, last),
            )


def _enis(container: Running) -> Iterator[Eni]:
    for number, end in enumerate(_ends(container)):
        yield Eni(
            f"eni-{_slug(container.name)}" + (f"-{number + 1}" if number else ""),
            VPC_ID,
            end.mac,
            _of(Family.IPV4, end),
            _groups(container, end),
            f"i-{_slug(container.name)}",
            EniType.SECONDARY if number else EniType.PRIMARY,
            _of(Family.IPV6, end),
            mode=Mode.AUDIT,
        )


def _of(family: Family, end: NetworkEnd) -> tuple[Address, ...]:
    return tuple(address for address, _ in end.addresses if address.family is family)


def _groups(container: Running, end: NetworkEnd) -> tuple[str, ...]:
    own = (f"sg-{_slug(container.name)}",) if container.published else ()
    return (f"net-{_slug(end.network)}", *own)
