"""Random answers of AWS and OpenStack, and small judges of what these clouds do with a packet.

A judge works on the raw answers, knows nothing of sgdataplane's records, and says only what rules say: whether some
rule of some group of the interface accepts the packet.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

Json = dict[str, Any]
GROUPS = ("sg-1", "sg-2", "sg-3")
PEER = "sg-peer"  # a group in another VPC
LISTS = {"pl-4": ("IPv4", ["198.51.100.0/24", "10.0.0.2/32"]), "pl-6": ("IPv6", ["2001:db8:1::/48"])}
BLOCKS4 = ("0.0.0.0/0", "10.0.0.0/30", "10.0.0.1/32", "198.51.100.128/25")
BLOCKS6 = ("::/0", "2001:db8::/64", "2001:db8:1::/48")
FAR4 = ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.1.0.4", "198.51.100.1", "198.51.100.200", "203.0.113.9")
FAR6 = ("2001:db8::1", "2001:db8::2", "2001:db8::5", "2001:db8:1::5", "2001:db8:ffff::1")
PORTS = ((22, 22), (80, 443), (0, 65535), (1, 65535), (0, 0), (443, 443))
ASKED_PORTS = (1, 21, 22, 80, 200, 443, 444, 65535)


@dataclass(frozen=True)
class Asked:
    """A packet at one interface. `kind`: the ICMP type, with code 0."""

    interface: str
    is_ingress: bool
    far: str
    own: str
    protocol: int
    port: int = 0
    kind: int = 0


def asked_of(interface: str, own: list[str], chance: random.Random) -> Asked:
    local = chance.choice(own)
    is_ipv6 = ":" in local
    protocol = chance.choice((6, 6, 6, 17, 17, 58 if is_ipv6 else 1, 47, 50, 132))
    far = chance.choice([each for each in (FAR6 if is_ipv6 else FAR4) if each not in own])
    kind = chance.choice((8, 3, 128))
    return Asked(interface, chance.random() < 0.5, far, local, protocol, chance.choice(ASKED_PORTS), kind)


# AWS


def aws_answers(chance: random.Random, *, is_odd: bool = False) -> Json:
    """All answers in one document, as describe-... print them. `is_odd`: with much that can't be said exactly, for
    several reasons at once."""
    groups = [
        {"GroupId": group, "GroupName": group, "VpcId": "vpc-1", "IpPermissions": aws_permissions(chance, is_odd),
         "IpPermissionsEgress": aws_permissions(chance, is_odd)}
        for group in GROUPS
    ]  # fmt: skip
    interfaces = [aws_interface(number, chance) for number in (1, 2, 3)]
    if is_odd:
        groups.append({"GroupId": PEER, "VpcId": "vpc-2", "IpPermissions": [], "IpPermissionsEgress": []})
        interfaces += [aws_peer(), aws_ipv6_alone(chance)]
    return {
        "SecurityGroups": groups,
        "NetworkInterfaces": interfaces,
        "PrefixLists": [{"PrefixListId": name, "Cidrs": blocks, "AddressFamily": family, "MaxEntries": 9}
                        for name, (family, blocks) in LISTS.items()],
    }  # fmt: skip


def aws_interface(number: int, chance: random.Random) -> Json:
    return {
        "NetworkInterfaceId": f"eni-{number}", "VpcId": "vpc-1", "MacAddress": f"02:00:00:00:00:0{number}",
        "PrivateIpAddresses": [{"PrivateIpAddress": f"10.0.0.{number}"}],
        "Ipv6Addresses": [{"Ipv6Address": f"2001:db8::{number}"}] if number < 3 else [],
        "Groups": [{"GroupId": group} for group in chance.sample(GROUPS, chance.randint(1, 3))],
        "Attachment": {"InstanceId": f"i-{number}", "DeviceIndex": 0}, "SourceDestCheck": chance.random() < 0.8,
    }  # fmt: skip


def aws_peer() -> Json:
    return {
        "NetworkInterfaceId": "eni-4", "VpcId": "vpc-2", "MacAddress": "02:00:00:00:00:04",
        "PrivateIpAddresses": [{"PrivateIpAddress": "10.1.0.4"}], "Ipv6Addresses": [], "Groups": [{"GroupId": PEER}],
        "Attachment": {"InstanceId": "i-4", "DeviceIndex": 0}, "SourceDestCheck": True,
    }  # fmt: skip


def aws_ipv6_alone(chance: random.Random) -> Json:
    return {
        **aws_interface(5, chance), "PrivateIpAddresses": [], "Ipv6Addresses": [{"Ipv6Address": "2001:db8::5"}],
    }  # fmt: skip


def aws_permissions(chance: random.Random, is_odd: bool) -> list[Json]:
    return [aws_permission(chance, is_odd) for _ in range(chance.randint(0, 4))]


def aws_permission(chance: random.Random, is_odd: bool) -> Json:
    protocol = chance.choice(("icmp", "icmpv6") if is_odd and chance.random() < 0.5 else
                             ("-1", "tcp", "tcp", "udp", "icmp", "icmpv6", "47", "50"))  # fmt: skip
    found: Json = {
        "IpProtocol": protocol,
        "IpRanges": [],
        "Ipv6Ranges": [],
        "UserIdGroupPairs": [],
        "PrefixListIds": [],
    }
    if protocol in ("tcp", "udp"):
        found["FromPort"], found["ToPort"] = chance.choice(PORTS)
    elif protocol.startswith("icmp"):
        found["FromPort"], found["ToPort"] = chance.choice(((-1, -1), (8, -1), (8, 0), (128, -1)))
    groups = (*GROUPS, PEER) if is_odd else (*GROUPS, "sg-elsewhere")
    for _ in range(chance.randint(1, 3)):
        key, inner, values = chance.choice((
            ("IpRanges", "CidrIp", BLOCKS4), ("Ipv6Ranges", "CidrIpv6", BLOCKS6),
            ("UserIdGroupPairs", "GroupId", groups), ("PrefixListIds", "PrefixListId", tuple(LISTS)),
        ))  # fmt: skip
        found[key].append({inner: chance.choice(values)})
    return found


def aws_accepts(answers: Json, asked: Asked) -> bool:
    """What AWS says: the rules of all groups of the interface together, and nothing else passes."""
    (interface,) = [e for e in answers["NetworkInterfaces"] if e["NetworkInterfaceId"] == asked.interface]
    mine = {group["GroupId"] for group in interface["Groups"]}
    key = "IpPermissions" if asked.is_ingress else "IpPermissionsEgress"
    permissions = [p for group in answers["SecurityGroups"] if group["GroupId"] in mine for p in group[key]]
    return any(aws_is_about(p, asked) and asked_is_in(aws_blocks(answers, p), asked.far) for p in permissions)


def aws_is_about(permission: Json, asked: Asked) -> bool:
    protocol = permission["IpProtocol"]
    if protocol == "-1":
        return True
    numbers = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58}
    if asked.protocol != numbers.get(protocol, int(protocol) if protocol.isdigit() else -1):
        return False
    if protocol in ("tcp", "udp"):
        return bool(permission["FromPort"] <= asked.port <= permission["ToPort"])
    if protocol in ("icmp", "icmpv6"):
        return permission["FromPort"] in (-1, asked.kind) and permission["ToPort"] in (-1, 0)
    return True


def aws_blocks(answers: Json, permission: Json) -> Iterator[str]:
    yield from (each["CidrIp"] for each in permission["IpRanges"])
    yield from (each["CidrIpv6"] for each in permission["Ipv6Ranges"])
    for each in permission["PrefixListIds"]:
        yield from LISTS[each["PrefixListId"]][1]
    for each in permission["UserIdGroupPairs"]:
        for interface in answers["NetworkInterfaces"]:
            if each["GroupId"] in {group["GroupId"] for group in interface["Groups"]}:
                yield from (address["PrivateIpAddress"] for address in interface["PrivateIpAddresses"])
                yield from (address["Ipv6Address"] for address in interface["Ipv6Addresses"])


def asked_is_in(blocks: Iterator[str], address: str) -> bool:
    found = ip_address(address)
    return any(found in ip_network(block) for block in blocks if (":" in block) is (":" in address))


# OpenStack


def openstack_answers(chance: random.Random, *, is_odd: bool = False) -> Json:
    """What the API answers about groups, with their rules, and ports. `is_odd`: as of AWS."""
    ports = [openstack_port(number, chance, is_odd) for number in (1, 2, 3)]
    if is_odd:
        alone = openstack_port(5, chance, is_odd)
        ports.append({**alone, "fixed_ips": [{"subnet_id": "s", "ip_address": "2001:db8::5"}]})
    return {
        "security_groups": [
            {"id": group, "name": group, "security_group_rules": [
                openstack_rule(f"{group}-{number}", group, chance, is_odd) for number in range(chance.randint(0, 5))
            ]} for group in GROUPS
        ],
        "ports": ports,
        "address_groups": [{"id": "ag-1", "name": "ag", "addresses": ["198.51.100.0/24", "2001:db8:1::/48"]}],
    }  # fmt: skip


def openstack_port(number: int, chance: random.Random, is_odd: bool) -> Json:
    addresses = [f"10.0.0.{number}"] + ([f"2001:db8::{number}"] if number < 3 else [])
    return {
        "id": f"port-{number}", "name": "", "mac_address": f"fa:16:3e:00:00:0{number}",
        "fixed_ips": [{"subnet_id": "s", "ip_address": address} for address in addresses],
        "security_groups": chance.sample(GROUPS, chance.randint(1, 3)),
        "allowed_address_pairs": [{"ip_address": "10.0.0.4"}] if chance.random() < (0.5 if is_odd else 0.2) else [],
    }  # fmt: skip


def openstack_rule(rule_id: str, group: str, chance: random.Random, is_odd: bool) -> Json:
    family = chance.choice(("IPv4", "IPv6"))
    protocol = chance.choice((None, "tcp", "tcp", "udp", "icmp", "gre", "sctp", "132"))
    if is_odd and chance.random() < 0.5:
        protocol = "icmp"
    found: Json = {
        "id": rule_id, "security_group_id": group, "direction": chance.choice(("ingress", "egress")),
        "ethertype": family, "protocol": protocol, "port_range_min": None, "port_range_max": None,
        "remote_ip_prefix": None, "remote_group_id": None, "remote_address_group_id": None,
    }  # fmt: skip
    if protocol in ("tcp", "udp", "sctp") and chance.random() < 0.8:
        found["port_range_min"], found["port_range_max"] = chance.choice(PORTS[:2] + PORTS[3:4])
    if protocol == "icmp" and chance.random() < 0.5:
        found["port_range_min"], found["port_range_max"] = 8, chance.choice((None, 0))
    match chance.randint(1 if is_odd else 0, 1 if is_odd and chance.random() < 0.5 else 3):
        case 0:
            found["remote_ip_prefix"] = chance.choice(BLOCKS4 if family == "IPv4" else BLOCKS6)
        case 1:
            found["remote_group_id"] = chance.choice(GROUPS)
        case 2 if chance.random() < 0.5:
            found["remote_address_group_id"] = "ag-1"
    return found


def openstack_rows(answers: Json) -> dict[str, object]:
    """The same as the client prints it: file -> rows, or one object."""
    rules = [rule for group in answers["security_groups"] for rule in group["security_group_rules"]]
    shown = {f"ag-{number}": each for number, each in enumerate(answers["address_groups"])}
    return {
        "rules": [openstack_row(rule) for rule in rules],
        "groups": [{"ID": group["id"], "Name": group["name"], "Description": "", "Project": "p", "Tags": []}
                   for group in answers["security_groups"]],
        "ports": [{"ID": port["id"], "Name": port["name"], "MAC Address": port["mac_address"],
                   "Fixed IP Addresses": port["fixed_ips"], "Security Groups": port["security_groups"]}
                  for port in answers["ports"]],
        **shown,
    }  # fmt: skip


def openstack_row(rule: Json) -> Json:
    """A rule as the client prints it. It doesn't print an ICMP type or code of 0."""
    first, last = rule["port_range_min"], rule["port_range_max"]
    ports = "" if first is None else f"{first}:{last}"
    if rule["protocol"] == "icmp" and first:
        ports = f"type={first}"
    return {
        "ID": rule["id"], "IP Protocol": rule["protocol"], "Ethertype": rule["ethertype"],
        "IP Range": rule["remote_ip_prefix"] or ("::/0" if rule["ethertype"] == "IPv6" else "0.0.0.0/0"),
        "Port Range": ports, "Direction": rule["direction"], "Remote Security Group": rule["remote_group_id"],
        "Remote Address Group": rule["remote_address_group_id"], "Security Group": rule["security_group_id"],
    }  # fmt: skip


def openstack_accepts(answers: Json, asked: Asked) -> bool:
    (port,) = [each for each in answers["ports"] if each["id"] == asked.interface]
    direction, family = "ingress" if asked.is_ingress else "egress", "IPv6" if ":" in asked.far else "IPv4"
    rules = [rule for group in answers["security_groups"] if group["id"] in port["security_groups"]
             for rule in group["security_group_rules"]]  # fmt: skip
    return any(
        openstack_is_about(rule, asked) and asked_is_in(openstack_blocks(answers, rule), asked.far)
        for rule in rules
        if (rule["direction"], rule["ethertype"]) == (direction, family)
    )


def openstack_is_about(rule: Json, asked: Asked) -> bool:
    protocol, first, last = rule["protocol"], rule["port_range_min"], rule["port_range_max"]
    if protocol is None:
        return True
    icmp = 58 if rule["ethertype"] == "IPv6" else 1
    numbers = {"tcp": 6, "udp": 17, "icmp": icmp, "gre": 47, "sctp": 132, "132": 132}
    if numbers[protocol] != asked.protocol:
        return False
    if protocol == "icmp":
        return first in (None, asked.kind) and last in (None, 0)
    return first is None or first <= asked.port <= last


def openstack_blocks(answers: Json, rule: Json) -> Iterator[str]:
    if rule["remote_group_id"]:
        for port in answers["ports"]:
            if rule["remote_group_id"] in port["security_groups"]:
                yield from (each["ip_address"] for each in (*port["fixed_ips"], *port["allowed_address_pairs"]))
    elif rule["remote_address_group_id"]:
        yield from answers["address_groups"][0]["addresses"]
    else:
        yield rule["remote_ip_prefix"] or ("::/0" if rule["ethertype"] == "IPv6" else "0.0.0.0/0")
