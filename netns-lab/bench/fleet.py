"""The documents of a large account: hosts with ENIs in many VPCs, and revisions of them.

Owns its numbers and names. Each VPC has its own hosts, groups and lists, and each host gets about the same, however
many hosts there are. Must not know stores, relays or streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sgdataplane.store.documents import ResourceKind, path_of
from sgdataplane.store.interface import Body, Json, Path

HOSTS_A_VPC, ENIS_A_HOST, GROUPS_A_VPC, RULES_A_GROUP = 20, 20, 10, 20


@dataclass(frozen=True, slots=True)
class Fleet:
    """`hosts`: how many. Host 0 is called host-00000.fleet.example."""

    hosts: int
    enis_a_host: int = ENIS_A_HOST
    rules: int = RULES_A_GROUP
    hosts_a_vpc: int = HOSTS_A_VPC

    @property
    def vpcs(self) -> int:
        return max(1, self.hosts // self.hosts_a_vpc)

    @property
    def enis(self) -> int:
        return self.hosts * self.enis_a_host

    def documents(self) -> Iterator[tuple[Path, Body]]:
        for vpc in range(self.vpcs):
            state: dict[str, Json] = {"vpc_id": vpc_id(vpc), "cidr_blocks": ["10.0.0.0/8"]}
            yield path_of(ResourceKind.VPC, vpc_id(vpc)), {"state": state, "about": {"created": CREATED}}
            yield self._list(vpc)
            for number in range(GROUPS_A_VPC):
                yield self.group(vpc, number)
        for host in range(self.hosts):
            yield f"host/{host_name(host)}", {"about": {"created": 1.0, "revoked": False, "refused_serials": []}}
            for number in range(self.enis_a_host):
                yield from self.eni(host, number)

    def _list(self, vpc: int) -> tuple[Path, Body]:
        entries: list[Json] = [{"cidr": f"192.0.{number}.0/24"} for number in range(20)]
        state: dict[str, Json] = {
            "prefix_list_id": list_id(vpc), "address_family": "IPv4", "max_entries": 20, "entries": entries,
        }  # fmt: skip
        return path_of(ResourceKind.PREFIX_LIST, list_id(vpc)), {"state": state, "about": {"created": CREATED}}

    def group(self, vpc: int, number: int, more: int = 0) -> tuple[Path, Body]:
        """A group; `more`: a port that one more rule opens, if it isn't 0."""
        rules: list[Json] = [
            _rule(vpc, number, index, {"cidr_ip": f"10.{index}.0.0/16"}) for index in range(self.rules - 2)
        ]
        rules.append(_rule(vpc, number, 98, {"source_security_group_id": group_id(vpc, (number + 1) % GROUPS_A_VPC)}))
        rules.append(_rule(vpc, number, 99, {"prefix_list_id": list_id(vpc)}))
        if more:
            rules.append(_rule(vpc, number, 100, {"cidr_ip": "203.0.113.0/24", "port_range": f"{more}/{more}"}))
        state: dict[str, Json] = {
            "security_group_id": group_id(vpc, number), "vpc_id": vpc_id(vpc), "security_group_type": "normal",
            "inner_access_policy": "Accept" if number % 2 else "Drop", "rules": rules,
        }  # fmt: skip
        return path_of(ResourceKind.GROUP, group_id(vpc, number)), {"state": state, "about": {"created": CREATED}}

    def eni(self, host: int, number: int, move: int = 0) -> Iterator[tuple[Path, Body]]:
        """An ENI and, with every other one, its instance. `move`: another address than it has at first."""
        vpc, index = host % self.vpcs, host * self.enis_a_host + number
        instance = f"i-{index // 2:017x}"
        local = (host // self.vpcs) * self.enis_a_host + number + move * 65_536
        groups: list[Json] = [group_id(vpc, (local + step * 3) % GROUPS_A_VPC) for step in range(2)]
        state: dict[str, Json] = {
            "network_interface_id": eni_id(host, number, self.enis_a_host), "vpc_id": vpc_id(vpc),
            "mac_address": "00:16:" + ":".join(f"{index >> shift & 255:02x}" for shift in (24, 16, 8, 0)),
            "private_ip_addresses": [f"10.{local >> 16 & 255}.{local >> 8 & 255}.{local & 255}"],
            "security_group_ids": groups, "instance_id": instance, "type": "secondary" if number % 2 else "primary",
        }  # fmt: skip
        about: dict[str, Json] = {
            "created": CREATED, "host": host_name(host), "vswitch_id": f"vsw-{vpc:017x}", "status": "InUse",
        }  # fmt: skip
        yield path_of(ResourceKind.ENI, str(state["network_interface_id"])), {"state": state, "about": about}
        if not number % 2:
            named: dict[str, Json] = {"instance_id": instance, "instance_name": f"server {index // 2}"}
            yield path_of(ResourceKind.INSTANCE, instance), {"state": named, "about": {"created": CREATED}}


CREATED = "2026-11-28T05:00:00Z"


def _rule(vpc: int, group: int, index: int, remote: dict[str, Json]) -> Json:
    rule: dict[str, Json] = {"type": "ingress", "ip_protocol": "tcp", "port_range": f"{8000 + index}/{8000 + index}"}
    return {
        **rule,
        **remote,
        "priority": 1 + index % 100,
        "security_group_rule_id": f"sgr-{vpc:06x}{group:05x}{index:06x}",
    }


def host_name(host: int) -> str:
    return f"host-{host:05}.fleet.example"


def vpc_id(vpc: int) -> str:
    return f"vpc-{vpc:017x}"


def group_id(vpc: int, number: int) -> str:
    return f"sg-{vpc:012x}{number:05x}"


def list_id(vpc: int) -> str:
    return f"pl-{vpc:017x}"


def eni_id(host: int, number: int, enis_a_host: int = ENIS_A_HOST) -> str:
    return f"eni-{host * enis_a_host + number:017x}"
