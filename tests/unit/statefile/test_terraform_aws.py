"""Terraform's resources of the aws provider, in states and plans."""

from __future__ import annotations

from pathlib import Path

from sgdataplane.model.pending import PendingEni
from sgdataplane.statefile import Loaded, load, load_plan
from tests.unit.statefile.aws_documents import codes, rows
from tests.unit.statefile.terraform_documents import Attributes, module, plan, refers, shown

USUAL: dict[str, Attributes] = {
    "aws_vpc": {"id": "vpc-1", "cidr_block": "10.0.0.0/16"},
    "aws_security_group": {"id": "sg-1", "name": "web", "vpc_id": "vpc-1", "ingress": [], "egress": []},
    "aws_vpc_security_group_ingress_rule": {
        "id": "sgr-1", "security_group_id": "sg-1", "ip_protocol": "tcp", "from_port": 22, "to_port": 22,
        "cidr_ipv4": "10.0.0.0/8",
    },
    "aws_security_group_rule": {
        "id": "sgrule-1", "security_group_id": "sg-1", "type": "ingress", "protocol": "tcp", "from_port": 80,
        "to_port": 80, "cidr_blocks": ["10.0.0.0/8"], "self": False,
    },
    "aws_instance": {
        "id": "i-1", "private_ip": "10.0.0.1", "primary_network_interface_id": "eni-1",
        "vpc_security_group_ids": ["sg-1"], "security_groups": ["web"], "tags": {"Name": "web"},
    },
    "aws_network_interface": {
        "id": "eni-2", "private_ip": "10.0.0.2", "private_ips": ["10.0.0.2"], "mac_address": "02:00:00:00:00:02",
        "security_groups": ["sg-1"],
    },
    "aws_ec2_managed_prefix_list": {
        "id": "pl-1", "name": "offices", "address_family": "IPv4", "max_entries": 4,
        "entry": [{"cidr": "192.0.2.0/24", "description": ""}],
    },
}  # fmt: skip


def resource(address: str, **values: object) -> Attributes:
    kind = next(part for part in address.split(".") if part.startswith("aws_"))
    return {"address": address, "mode": "managed", "type": kind, "values": {**USUAL[kind], **values}}


def inline(**more: object) -> Attributes:
    """A rule in a group's own attributes."""
    lists: Attributes = {"cidr_blocks": [], "ipv6_cidr_blocks": [], "prefix_list_ids": [], "security_groups": []}
    return {**lists, "protocol": "tcp", "from_port": 443, "to_port": 443, "self": False, "description": "", **more}


def read(folder: Path, text: str) -> Loaded:
    path = folder / "plan.json"
    path.write_text(text, encoding="utf-8")
    return load(path)


VPC = resource("aws_vpc.a")


def test_all_ways_to_write_a_rule_are_read(tmp_path: Path) -> None:
    group = resource("aws_security_group.a", egress=[inline(protocol="-1", from_port=0, to_port=0,
                                                            cidr_blocks=["0.0.0.0/0"])],
                     ingress=[inline(cidr_blocks=["192.0.2.0/24"], self=True)])  # fmt: skip
    found = module(
        VPC, group, resource("aws_vpc_security_group_ingress_rule.a"), resource("aws_security_group_rule.a"),
        resource("aws_instance.a"), resource("aws_network_interface.a"),
    )  # fmt: skip
    loaded = read(tmp_path, shown(values=found))
    assert rows(loaded, "sg-1") == [
        "egress all 0.0.0.0/0", "ingress tcp 22/22 10.0.0.0/8",
        "ingress tcp 443/443 192.0.2.0/24", "ingress tcp 443/443 GroupRef(security_group_id='sg-1.self')",
        "ingress tcp 80/80 10.0.0.0/8",
    ]  # fmt: skip
    assert {e.network_interface_id: e.instance_id for e in loaded.state.network_interfaces} == {
        "eni-1": "i-1", "eni-2": "",
    }  # fmt: skip
    assert loaded.state.instances[0].instance_name == "web"
    assert loaded.origin == "aws"


def test_a_rule_that_group_and_resource_both_have_is_one_rule(tmp_path: Path) -> None:
    group = resource("aws_security_group.a", ingress=[inline(from_port=22, to_port=22, cidr_blocks=["10.0.0.0/8"])])
    loaded = read(tmp_path, shown(values=module(VPC, group, resource("aws_vpc_security_group_ingress_rule.a"))))
    assert rows(loaded, "sg-1") == ["ingress tcp 22/22 10.0.0.0/8"]
    assert "sgr-1" in {rule.security_group_rule_id for rule in loaded.state.group["sg-1"].rules}


def test_a_rule_that_the_plan_removes_is_gone_though_the_group_still_repeats_it(tmp_path: Path) -> None:
    group = resource("aws_security_group.a", ingress=[inline(from_port=22, to_port=22, cidr_blocks=["10.0.0.0/8"])])
    old = module(VPC, group, resource("aws_vpc_security_group_ingress_rule.a"))
    path = tmp_path / "plan.json"
    path.write_text(plan(module(VPC, group), {}, {}, prior=old), encoding="utf-8")
    before, after = load_plan(path)
    assert (rows(before, "sg-1"), rows(after, "sg-1")) == (["ingress tcp 22/22 10.0.0.0/8"], [])


def test_a_rule_that_the_plan_does_not_manage_stays(tmp_path: Path) -> None:
    by_hand = [inline(from_port=23, to_port=23, cidr_blocks=["10.0.0.0/8"])]
    path = tmp_path / "plan.json"
    both = module(VPC, resource("aws_security_group.a", ingress=by_hand))
    path.write_text(plan(both, {}, {}, prior=both), encoding="utf-8")
    assert rows(load_plan(path)[1], "sg-1") == ["ingress tcp 23/23 10.0.0.0/8"]


def test_an_unknown_block_is_a_rule_that_accepts_nothing_and_is_said(tmp_path: Path) -> None:
    name = "aws_vpc_security_group_ingress_rule.a"
    rule = resource(name, cidr_ipv4=None)
    configuration = {"root_module": {"resources": [refers(name, cidr_ipv4=["aws_eip.a.public_ip", "aws_eip.a"])]}}
    found = module(VPC, resource("aws_security_group.a"), rule)
    loaded = read(tmp_path, plan(found, {name: {"cidr_ipv4": True, "id": True}}, configuration))
    assert (rows(loaded, "sg-1"), codes(loaded)) == ([], ["KnownAfterApply"])


def test_a_group_that_a_plan_makes_is_known_by_its_address(tmp_path: Path) -> None:
    made = resource("aws_security_group.lb", id=None, ingress=None, egress=None)
    rule = resource("aws_vpc_security_group_ingress_rule.a", cidr_ipv4=None, referenced_security_group_id=None)
    reference = ["aws_security_group.lb.id", "aws_security_group.lb"]
    configuration = {"root_module": {"resources": [refers(rule["address"], referenced_security_group_id=reference)]}}
    unknown: dict[str, Attributes] = {
        made["address"]: {"id": True, "ingress": True, "egress": True},
        rule["address"]: {"referenced_security_group_id": True},
    }
    loaded = read(tmp_path, plan(module(VPC, resource("aws_security_group.a"), made, rule), unknown, configuration))
    assert rows(loaded, "sg-1") == ["ingress tcp 22/22 GroupRef(security_group_id='aws_security_group.lb')"]
    assert codes(loaded) == []


def test_groups_that_the_blocks_of_a_group_name_are_followed(tmp_path: Path) -> None:
    made = resource("aws_security_group.lb", id=None)
    known, open_to = inline(from_port=22, to_port=22, cidr_blocks=["10.0.0.0/8"]), inline(security_groups=[None])
    lost = inline(from_port=9, to_port=9, cidr_blocks=[None])
    group = resource("aws_security_group.a", ingress=[known, open_to, lost])
    block: Attributes = {
        "from_port": {"constant_value": 443}, "to_port": {"constant_value": 443}, "protocol": {"constant_value": "tcp"},
        "security_groups": {"references": ["aws_security_group.lb.id", "aws_security_group.lb"]},
    }  # fmt: skip
    configuration = {"root_module": {"resources": [{"address": group["address"], "expressions": {"ingress": [block]}}]}}
    marks = [{"cidr_blocks": [False]}, {"security_groups": True}, {"cidr_blocks": [True]}]
    unknown: dict[str, Attributes] = {made["address"]: {"id": True}, group["address"]: {"ingress": marks}}
    loaded = read(tmp_path, plan(module(VPC, group, made), unknown, configuration))
    assert rows(loaded, "sg-1") == [
        "ingress tcp 22/22 10.0.0.0/8", "ingress tcp 443/443 GroupRef(security_group_id='aws_security_group.lb')",
    ]  # fmt: skip
    assert codes(loaded) == ["KnownAfterApply"]


def test_an_instance_without_an_address_is_judged_with_any(tmp_path: Path) -> None:
    instance = resource("aws_instance.a", private_ip=None, primary_network_interface_id=None)
    unknown: dict[str, Attributes] = {"aws_instance.a": {"private_ip": True, "primary_network_interface_id": True}}
    loaded = read(tmp_path, plan(module(VPC, resource("aws_security_group.a"), instance), unknown, {}))
    assert loaded.pending == (PendingEni("aws_instance.a", "vpc-1", ("sg-1",)),)
    assert codes(loaded) == ["AddressKnownAfterApply"]


def test_prefix_lists_are_read_and_those_that_terraform_lacks_are_said(tmp_path: Path) -> None:
    rule = "aws_vpc_security_group_ingress_rule"
    found = module(
        VPC, resource("aws_security_group.a"), resource("aws_ec2_managed_prefix_list.a"),
        resource(f"{rule}.a", cidr_ipv4=None, prefix_list_id="pl-1"),
        resource(f"{rule}.b", id="sgr-2", cidr_ipv4=None, prefix_list_id="pl-s3"),
    )  # fmt: skip
    loaded = read(tmp_path, shown(values=found))
    assert rows(loaded, "sg-1") == ["ingress tcp 22/22 PrefixListRef(prefix_list_id='pl-1')"]
    assert codes(loaded) == ["IgnoredRules"]


def test_objects_have_the_addresses_of_their_resources(tmp_path: Path) -> None:
    group = resource("module.shop.aws_security_group.db", ingress=[inline(cidr_blocks=["10.0.0.0/8"])])
    loaded = read(tmp_path, shown(values=module(VPC, resource("aws_security_group_rule.web[2]"), shop=[group])))
    places = loaded.places
    assert places.address("sg-1") == "module.shop.aws_security_group.db"
    assert places.address("sg-1", "sgrule-1") == "aws_security_group_rule.web[2]"
    assert places.address("sg-1", "in-tcp-443-from-10.0.0.0_8") == "module.shop.aws_security_group.db.ingress[0]"
