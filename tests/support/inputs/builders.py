"""Small states for tests, said in a line a thing: groups with rules as text, ENIs with addresses and groups.

make_rule("ingress tcp 443/443 from 0.0.0.0/0")
make_rule("egress all to sg-db drop 5", source_port_range="1000/2000")
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

from sgdataplane.model.state import (
    CloudState,
    Eni,
    EniType,
    GroupRef,
    GroupType,
    Instance,
    NetworkType,
    NicType,
    PortList,
    PortListEntry,
    PrefixList,
    PrefixListEntry,
    PrefixListRef,
    Remote,
    SecurityGroup,
    SecurityGroupRule,
    Vpc,
)
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import Address, Direction, Family, PortRange, Prefix, Protocol, Verdict

VPC_ID = "vpc-test"
OWN = {4: "10.0.0.1", 6: "2001:db8::1"}  # of the ENI at which packets are, unless said


def make_rule(
    text: str,
    rule_id: str = "",
    *,
    source_port_range: str = "",
    narrowing: str = "",
    port_list_id: str = "",
    nic_type: NicType = NicType.INTRANET,
) -> SecurityGroupRule:
    """`direction protocol [ports] from|to remote [drop|accept] [priority]`; the id is the text unless given."""
    words = text.split()
    direction, protocol = Direction(words[0]), Protocol.parse(words[1])
    at = 2 if words[2] in ("from", "to") else 3
    rest = words[at + 2 :]
    numbers = [int(word) for word in rest if word.isdigit()]
    return SecurityGroupRule(
        rule_id or text.replace(" ", "_"),
        direction,
        protocol,
        make_remote(words[at + 1]),
        PortRange.parse(words[2]) if at == 3 else None,
        Verdict.DROP if "drop" in rest else Verdict.ACCEPT,
        numbers[0] if numbers else 1,
        PortRange.parse(source_port_range) if source_port_range else None,
        port_list_id,
        Prefix.parse(narrowing) if narrowing else None,
        nic_type,
    )


def make_remote(text: str) -> Remote:
    """`sg-...` is a group, `pl-...` a prefix list, anything else a prefix."""
    if text.startswith("sg-"):
        return GroupRef(text)
    return PrefixListRef(text) if text.startswith("pl-") else Prefix.parse(text)


def make_group(
    group_id: str,
    rules: Sequence[str | SecurityGroupRule] = (),
    *,
    inner: Verdict = Verdict.ACCEPT,
    advanced: bool = False,
    vpc_id: str = VPC_ID,
) -> SecurityGroup:
    made = tuple(rule if isinstance(rule, SecurityGroupRule) else make_rule(rule) for rule in rules)
    kind = GroupType.ENTERPRISE if advanced else GroupType.NORMAL
    return SecurityGroup(group_id, vpc_id, kind, Verdict.DROP if advanced else inner, made)


def mac_of(eni_id: str) -> str:
    """Locally administered; its 40 bits keep 30,000 ENIs apart."""
    return "02:" + hashlib.sha256(eni_id.encode()).digest()[:5].hex(":")


def make_eni(eni_id: str, addresses: str, groups: str, **fields: object) -> Eni:
    """Addresses and groups as words; delegated prefixes are written with their length."""
    words = addresses.split()
    singles = [Address.parse(word) for word in words if "/" not in word]
    delegated = [Prefix.parse(word) for word in words if "/" in word]
    eni = Eni(
        eni_id,
        VPC_ID,
        mac_of(eni_id),
        tuple(a for a in singles if a.family is Family.IPV4),
        tuple(groups.split()),
        eni_id.replace("eni-", "i-", 1),
        EniType.PRIMARY,
        tuple(a for a in singles if a.family is Family.IPV6),
        tuple(p for p in delegated if p.family is Family.IPV4),
        tuple(p for p in delegated if p.family is Family.IPV6),
    )
    return dataclasses.replace(eni, **fields)  # type: ignore[arg-type]


def make_state(
    groups: Sequence[SecurityGroup],
    enis: Sequence[Eni],
    *,
    prefix_lists: Mapping[str, str] | None = None,
    port_lists: Mapping[str, str] | None = None,
    network_type: NetworkType = NetworkType.VPC,
) -> CloudState:
    """A state of one VPC; prefix lists and port lists as words."""
    return CloudState(
        (Vpc(VPC_ID, (), network_type),),
        tuple(make_prefix_list(key, words) for key, words in sorted((prefix_lists or {}).items())),
        tuple(
            PortList(key, 100, tuple(PortListEntry(PortRange.parse(word)) for word in words.split()))
            for key, words in sorted((port_lists or {}).items())
        ),
        tuple(sorted(groups, key=lambda group: group.security_group_id)),
        tuple(Instance(instance) for instance in sorted({eni.instance_id for eni in enis})),
        tuple(sorted(enis, key=lambda eni: eni.network_interface_id)),
    )


def as_member(state: CloudState, eni_id: str) -> CloudState:
    """The state as a host has it to which that ENI isn't bound: a member of groups without rules."""
    far = state.eni[eni_id]
    member = Eni(
        eni_id,
        far.vpc_id,
        "",
        far.private_ip_addresses,
        far.security_group_ids,
        ipv6_addresses=far.ipv6_addresses,
        ipv4_prefixes=far.ipv4_prefixes,
        ipv6_prefixes=far.ipv6_prefixes,
        member_only=True,
    )
    own = {group for eni in state.network_interfaces if eni is not far for group in eni.security_group_ids}
    return dataclasses.replace(
        state,
        instances=tuple(one for one in state.instances if one.instance_id != far.instance_id),
        security_groups=tuple(
            group if group.security_group_id in own else dataclasses.replace(group, rules=())
            for group in state.security_groups
        ),
        network_interfaces=tuple(member if eni is far else eni for eni in state.network_interfaces),
    )


def make_prefix_list(prefix_list_id: str, words: str) -> PrefixList:
    cidrs = tuple(Prefix.parse(word) for word in words.split())
    family = cidrs[0].family if cidrs else Family.IPV4
    return PrefixList(prefix_list_id, family, 200, tuple(PrefixListEntry(cidr) for cidr in cidrs))


def make_packet(text: str, **fields: object) -> Packet:
    """`direction protocol[/port] address`, at eni-a; `local` and other fields by name."""
    direction, what, remote = text.split()
    name, _, port = what.partition("/")
    protocol = Protocol.parse(name).number
    local = str(fields.pop("local", OWN[6 if ":" in remote else 4]))
    eni_id = str(fields.pop("eni_id", "eni-a"))
    base: dict[str, object] = {"port": int(port), "source_port": 40000} if port else {}
    return Packet(
        eni_id,
        Direction(direction),
        Address.parse(remote),
        Address.parse(local),
        protocol,
        **(base | fields),  # type: ignore[arg-type]
    )
