"""Terraform states: the alicloud provider's resources become a native state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.errors import Problem, StateFileError
from sgdataplane.model.state import EniType, GroupRef, GroupType, NetworkType, PrefixListRef
from sgdataplane.net.values import Family, PortRange, Prefix, Verdict
from sgdataplane.statefile import Loaded, load

Attributes = dict[str, Any]
VPC = (
    "alicloud_vpc",
    {"id": "vpc-a", "cidr_block": "10.0.0.0/16", "ipv6_cidr_block": "", "secondary_cidr_blocks": ["10.8.0.0/16"]},
)
SWITCH = ("alicloud_vswitch", {"id": "vsw-a", "vpc_id": "vpc-a"})
GROUP = (
    "alicloud_security_group",
    {
        "id": "sg-a",
        "name": "old name",
        "security_group_name": "a",
        "vpc_id": "vpc-a",
        "security_group_type": "normal",
        "inner_access_policy": "Drop",
        "description": None,
        "tags": {"k": "v"},
    },
)
RULE: Attributes = {
    "id": "sg-a:ingress:tcp:22/22:intranet:10.0.0.0/8:accept:1", "security_group_id": "sg-a", "type": "ingress",
    "ip_protocol": "tcp", "port_range": "22/22", "nic_type": "intranet", "policy": "accept", "priority": 1,
    "cidr_ip": "10.0.0.0/8", "ipv6_cidr_ip": "", "source_security_group_id": "", "source_group_owner_account": "",
    "prefix_list_id": None, "description": "",
}  # fmt: skip


def tfstate(*resources: tuple[str, Attributes], version: int = 4) -> str:
    entries = [
        {"mode": "managed", "type": kind, "name": "x", "provider": "p", "instances": [{"attributes": attributes}]}
        for kind, attributes in resources
    ]
    return json.dumps({"version": version, "terraform_version": "1.5.7", "resources": entries}, indent=1)


def read(folder: Path, *resources: tuple[str, Attributes]) -> Loaded:
    path = folder / "terraform.tfstate"
    path.write_text(tfstate(*resources), encoding="utf-8")
    return load(path)


def refused(folder: Path, text: str) -> tuple[Problem, ...]:
    path = folder / "terraform.tfstate"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(StateFileError) as caught:
        load(path)
    return caught.value.problems


def rule(**said: object) -> tuple[str, Attributes]:
    return "alicloud_security_group_rule", {**RULE, **said}


def test_groups_and_their_rules_are_joined(tmp_path: Path) -> None:
    egress = rule(type="egress", ip_protocol="all", port_range="-1/-1", cidr_ip="", source_security_group_id="sg-else",
                  policy="drop", priority=5)  # fmt: skip
    state = read(tmp_path, VPC, GROUP, rule(), egress).state
    group = state.group["sg-a"]
    assert (group.security_group_name, group.inner_access_policy, group.tags) == ("a", Verdict.DROP, (("k", "v"),))
    assert group.security_group_type is GroupType.NORMAL
    out, into = sorted(group.rules, key=lambda read_rule: read_rule.direction.value)
    assert (into.port_range, into.remote) == (PortRange(22, 22), Prefix.parse("10.0.0.0/8"))
    assert (out.remote, out.policy, out.priority) == (GroupRef("sg-else"), Verdict.DROP, 5)
    assert [str(block) for block in state.vpc["vpc-a"].cidr_blocks] == ["10.0.0.0/16", "10.8.0.0/16"]


def test_prefix_lists_are_read(tmp_path: Path) -> None:
    attributes = {"id": "pl-a", "prefix_list_name": "office", "address_family": "IPv4", "max_entries": 5,
                  "entry": [{"cidr": "192.0.2.0/24", "description": "hq"}]}  # fmt: skip
    by_list = rule(cidr_ip="", prefix_list_id="pl-a")
    state = read(tmp_path, VPC, GROUP, by_list, ("alicloud_ecs_prefix_list", attributes)).state
    prefix_list = state.prefix_list["pl-a"]
    assert (prefix_list.address_family, prefix_list.max_entries) == (Family.IPV4, 5)
    assert prefix_list.entries[0].description == "hq"
    assert state.group["sg-a"].rules[0].remote == PrefixListRef("pl-a")


INSTANCE: Attributes = {
    "id": "i-a", "instance_name": "web", "primary_ip_address": "10.0.0.5", "private_ip": "10.0.0.5",
    "secondary_private_ips": ["10.0.0.6"], "network_interface_id": "eni-p", "security_groups": ["sg-a"],
    "vswitch_id": "vsw-a", "ipv6_addresses": ["2001:db8::5"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("alicloud_ecs_network_interface", {"primary_ip_address": "10.0.0.9", "private_ip_addresses": ["10.0.0.10"],
         "security_group_ids": ["sg-a"], "mac": "00:16:3E:00:11:22"}),
        ("alicloud_network_interface", {"private_ip": "10.0.0.9", "private_ips": ["10.0.0.10"],
         "security_groups": ["sg-a"], "mac": "00:16:3e:00:11:22"}),
    ],
    ids=["new name", "old name"],
)  # fmt: skip
def test_an_instance_has_its_primary_eni_and_those_attached(kind: str, attributes: Attributes, tmp_path: Path) -> None:
    attachment = (f"{kind}_attachment", {"id": "z", "instance_id": "i-a", "network_interface_id": "eni-s"})
    secondary = (kind, {"id": "eni-s", "vswitch_id": "vsw-a", **attributes})
    state = read(tmp_path, VPC, SWITCH, GROUP, ("alicloud_instance", INSTANCE), secondary, attachment).state
    found = [(e.network_interface_id, e.type, [str(a) for a in e.addresses]) for e in state.enis_of_instance["i-a"]]
    assert found == [
        ("eni-p", EniType.PRIMARY, ["10.0.0.5", "10.0.0.6", "2001:db8::5"]),
        ("eni-s", EniType.SECONDARY, ["10.0.0.9", "10.0.0.10"]),
    ]
    assert state.eni["eni-s"].mac_address == "00:16:3e:00:11:22"
    assert {eni.vpc_id for eni in state.network_interfaces} == {"vpc-a"}


def test_a_vpc_that_terraform_only_refers_to_is_known_by_id(tmp_path: Path) -> None:
    instance = {**INSTANCE, "vswitch_id": "vsw-elsewhere"}
    state = read(tmp_path, GROUP, ("alicloud_instance", instance)).state
    assert state.vpc["vpc-a"].cidr_blocks == ()
    assert state.eni["eni-p"].vpc_id == "vpc-a"


def test_a_group_without_vpc_is_classic(tmp_path: Path) -> None:
    state = read(tmp_path, ("alicloud_security_group", {"id": "sg-old", "vpc_id": ""})).state
    assert state.vpc[state.group["sg-old"].vpc_id].network_type is NetworkType.CLASSIC


def test_rules_of_a_group_that_is_not_there_are_ignored_and_reported(tmp_path: Path) -> None:
    (finding,) = read(tmp_path, VPC, GROUP, rule(security_group_id="sg-x"), rule()).findings
    assert (finding.code, dict(finding.subject)) == ("IgnoredRules", {"security_group_id": "sg-x"})
    assert finding.message == "1 rule of sg-x is ignored, as the group isn't in the Terraform state"


def test_a_wrong_attribute_is_refused_at_its_place(tmp_path: Path) -> None:
    text = tfstate(VPC, GROUP, rule(port_range="0/0"))
    (problem,) = refused(tmp_path, text)
    assert (problem.code, problem.where.pointer) == (
        "InvalidParam.PortRange", "/resources/2/instances/0/attributes/port_range",
    )  # fmt: skip
    assert '"port_range": "0/0"' in text.splitlines()[problem.where.line - 1]


@pytest.mark.parametrize("text", [tfstate(version=3), '{"version": 4}'], ids=["3", "4"])
def test_what_is_no_terraform_state_is_refused(text: str, tmp_path: Path) -> None:
    (problem,) = refused(tmp_path, text)
    assert (problem.code, problem.message) == (
        "InvalidSource.NotTerraform", "not a readable Terraform state or plan",
    )  # fmt: skip
    assert problem.expected == "a terraform.tfstate of version 4, or what `terraform show -json` prints"


def test_a_made_up_mac_is_reported(tmp_path: Path) -> None:
    loaded = read(tmp_path, VPC, GROUP, ("alicloud_instance", INSTANCE))
    (finding,) = loaded.findings
    assert (finding.code, finding.message) == ("MadeUpMac", "the MAC of eni-p is made up, as Terraform doesn't say")


def test_data_sources_are_no_objects_of_the_state(tmp_path: Path) -> None:
    document = json.loads(tfstate(VPC, GROUP))
    document["resources"].append({**document["resources"][1], "mode": "data", "name": "same"})
    path = tmp_path / "terraform.tfstate"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert list(load(path).state.group) == ["sg-a"]
