"""The state that running containers suggest: what they can reach now, as groups and rules.

Owns which group stands for what. Its input is running containers. Must not know engines, nor formats of states.

    all networks of the engines     one VPC, with their blocks
    a network                       a group without rules, which says who is in that network
    a container                     an instance
    its end in a network            an ENI, and a group of its own, which lets the network's members and, at the ports
                                    that are published, everybody reach it

So the policy closes what nobody has published, and the networks against each other. As each end has a group of its
own, what is changed for one container later opens nothing at the others.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from itertools import chain

from sgdataplane.attach.containers import NetworkEnd, Running
from sgdataplane.model.modes import Mode
from sgdataplane.model.state import (
    CloudState,
    Eni,
    EniType,
    GroupRef,
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
NUMBERED = re.compile(r"--[0-9]+\Z")  # how the ids of a container's second and further ends go on


def suggest_state(containers: Iterable[Running]) -> CloudState:
    """Return a state of the containers that have an IPv4 address.

    It drops nothing yet: the ENIs are in audit mode.
    """
    held = [each for each in containers if _ends(each)]
    ends = list(chain.from_iterable(map(_ends, held)))
    networks = sorted({end.network for end in ends})
    return CloudState(
        vpcs=(Vpc(VPC_ID, _blocks(ends)),),
        security_groups=(*map(_network_group, networks), *chain.from_iterable(map(_own_groups, held))),
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
    """Return a name as a part of ids, another one for each name.

    A long one keeps its beginning, and gets a hash of the whole. So does one that ends as if it were numbered.
    """
    if len(name) <= MAX_NAME and not NUMBERED.search(name):
        return name
    return f"{name[: MAX_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _network_group(network: str) -> SecurityGroup:
    name = f"network {network}"
    words = "who is in this network; the group of each member lets the others reach it"
    return SecurityGroup(_network_id(network), VPC_ID, GroupType.NORMAL, Verdict.DROP, (), name, words)


def _network_id(network: str) -> str:
    return f"net-{_slug(network)}"


def _own_groups(container: Running) -> Iterator[SecurityGroup]:
    """Yield the group of each end."""
    for number, end in enumerate(_ends(container)):
        yield SecurityGroup(
            f"sg-{_name_end(container, number)}",
            VPC_ID,
            GroupType.NORMAL,
            Verdict.DROP,
            tuple(_rules(container, end)),
            container.name + (f" in {end.network}" if number else ""),
            f"what reaches {container.name} from network {end.network}, and at the ports that it publishes",
        )


def _name_end(container: Running, number: int) -> str:
    """Return what the ids of an end's ENI and group have behind their prefix."""
    return _slug(container.name) + (f"--{number + 1}" if number else "")


def _rules(container: Running, end: NetworkEnd) -> Iterator[SecurityGroupRule]:
    network = GroupRef(_network_id(end.network))
    yield SecurityGroupRule("sgr-network", Direction.INGRESS, Protocol.parse("all"), network)
    for family in Family:
        if _of(family, end):
            yield from _open_published(container, family)


def _open_published(container: Running, family: Family) -> Iterator[SecurityGroupRule]:
    """Yield the rules for the ports that a container publishes."""
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
            f"eni-{_name_end(container, number)}",
            VPC_ID,
            end.mac,
            _of(Family.IPV4, end),
            (_network_id(end.network), f"sg-{_name_end(container, number)}"),
            f"i-{_slug(container.name)}",
            EniType.SECONDARY if number else EniType.PRIMARY,
            _of(Family.IPV6, end),
            mode=Mode.AUDIT,
        )


def _of(family: Family, end: NetworkEnd) -> tuple[Address, ...]:
    return tuple(address for address, _ in end.addresses if address.family is family)
