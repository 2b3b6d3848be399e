"""Every refusal of a rule: code, place and wording."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.statefile.documents import POINTERS, marked_line, refusals, rule_document


@dataclass(frozen=True)
class Row:
    """A rule with one mistake. `field`: where it is; "" for the whole rule."""

    name: str
    rule: str
    code: str
    field: str
    message: str
    expected: str
    group: str = "vpc_id: vpc-a"


TCP = "type: ingress, ip_protocol: tcp, port_range: 22/22"
ALL_OUT = "type: egress, ip_protocol: all"
ADVANCED = "vpc_id: vpc-a, security_group_type: enterprise"
ROWS = (
    Row(
        "unknown key", f"{{{TCP}, cidr_ip: 10.0.0.0/8, polcy: drop}}", "InvalidDocument.UnknownKey", "polcy",
        "this key is unknown", "policy, which is the nearest known key",
    ),
    Row("a key that is meant", f"{{{TCP}, cidr_ip: 10.0.0.0/8, action: drop}}", "InvalidDocument.UnknownKey", "action",
        "this key is unknown", "policy, which is the nearest known key"),
    Row("no direction", "{ip_protocol: tcp, port_range: 22/22, cidr_ip: 10.0.0.0/8}", "MissingParameter.Type", "",
        "type is missing", "ingress or egress"),
    Row("unknown direction", "{type: in, ip_protocol: all, cidr_ip: 10.0.0.0/8}",
        "InvalidDirection.ValueNotSupported", "type", "type is not a known value", "ingress or egress"),
    Row("unknown policy", f"{{{TCP}, cidr_ip: 10.0.0.0/8, policy: allow}}", "InvalidPolicy.Malformed", "policy",
        "policy is not a known value", "accept or drop"),
    Row("empty policy", f'{{{TCP}, cidr_ip: 10.0.0.0/8, policy: ""}}', "InvalidPolicy.Malformed", "policy",
        "policy is not a known value", "accept or drop"),
    Row("null policy", f"{{{TCP}, cidr_ip: 10.0.0.0/8, policy: null}}", "InvalidPolicy.Malformed", "policy",
        "policy is not a known value", "accept or drop"),
    Row("no protocol", "{type: ingress, port_range: 22/22, cidr_ip: 10.0.0.0/8}", "MissingParameter.IpProtocol", "",
        "ip_protocol is missing", "tcp, udp, icmp, icmpv6, gre, all or a number 0..255"),
    Row("unknown protocol", "{type: ingress, ip_protocol: tpc, cidr_ip: 10.0.0.0/8}",
        "InvalidIpProtocol.ValueNotSupported", "ip_protocol", "not a known protocol", "tcp, udp, icmp, icmpv6, gre"),
    Row("protocol number over 255", "{type: ingress, ip_protocol: 256, cidr_ip: 10.0.0.0/8}",
        "InvalidIpProtocol.ValueNotSupported", "ip_protocol", "not a known protocol", "a number 0..255"),
    Row("protocol of wrong type", "{type: ingress, ip_protocol: [tcp], cidr_ip: 10.0.0.0/8}",
        "InvalidIpProtocol.ValueNotSupported", "ip_protocol", "not a known protocol", "a number 0..255"),
    Row("tcp without ports", "{type: ingress, ip_protocol: tcp, cidr_ip: 10.0.0.0/8}", "InvalidPortRange.Malformed",
        "", "a tcp rule needs port_range or port_list_id", "from/to with 1 <= from <= to <= 65535"),
    Row("tcp with -1/-1", "{type: ingress, ip_protocol: TCP, port_range: -1/-1, cidr_ip: 10.0.0.0/8}",
        "InvalidParam.PortRange", "port_range", "port_range is malformed", "from/to with 1 <= from <= to <= 65535"),
    Row("port 0", "{type: ingress, ip_protocol: udp, port_range: 0/10, cidr_ip: 10.0.0.0/8}",
        "InvalidParam.PortRange", "port_range", "port_range is malformed", "from/to with 1 <= from <= to <= 65535"),
    Row("port over 65535", "{type: ingress, ip_protocol: udp, port_range: 1/65536, cidr_ip: 10.0.0.0/8}",
        "InvalidParam.PortRange", "port_range", "port_range is malformed", "from/to with 1 <= from <= to <= 65535"),
    Row("ports the wrong way round", "{type: ingress, ip_protocol: udp, port_range: 9/8, cidr_ip: 10.0.0.0/8}",
        "InvalidParam.PortRange", "port_range", "port_range is malformed", '<= 65535; perhaps "8/9"'),
    Row("ports with a dash", "{type: ingress, ip_protocol: udp, port_range: 80-90, cidr_ip: 10.0.0.0/8}",
        "InvalidParam.PortRange", "port_range", "port_range is malformed", '<= 65535; perhaps "80/90"'),
    Row("a block of the other family", "{type: ingress, ip_protocol: all, cidr_ip: '::/0'}",
        "InvalidSourceCidrIp.Malformed", "cidr_ip", "cidr_ip is malformed", "192.0.2.0/24; perhaps ipv6_cidr_ip: ::/0"),
    Row("one port alone", "{type: ingress, ip_protocol: tcp, port_range: 22, cidr_ip: 10.0.0.0/8}",
        "InvalidDocument.WrongType", "port_range", "port_range has the wrong type", 'quotes; perhaps "22/22"'),
    Row("icmp with ports", "{type: ingress, ip_protocol: icmp, port_range: 8/8, cidr_ip: 10.0.0.0/8}",
        "InvalidParam.PortRange", "port_range", "icmp has no ports", "-1/-1"),
    Row("all with every port", "{type: ingress, ip_protocol: all, port_range: 1/65535, cidr_ip: 10.0.0.0/8}",
        "InvalidParam.PortRange", "port_range", "all has no ports", "-1/-1"),
    Row("number 47 with ports", "{type: ingress, ip_protocol: 47, port_range: 1/1, cidr_ip: 10.0.0.0/8}",
        "InvalidParam.PortRange", "port_range", "gre has no ports", "-1/-1"),
    Row("source ports malformed", f"{{{TCP}, source_port_range: 80, cidr_ip: 10.0.0.0/8}}",
        "InvalidDocument.WrongType", "source_port_range", "wrong type", "text; put a number in quotes"),
    Row("source ports -1/-1", f"{{{TCP}, source_port_range: -1/-1, cidr_ip: 10.0.0.0/8}}",
        "InvalidSourcePortRange.Malformed", "source_port_range", "source_port_range is malformed", "from/to"),
    Row("source ports of icmp", "{type: ingress, ip_protocol: icmp, source_port_range: 1/2, cidr_ip: 10.0.0.0/8}",
        "InvalidSourcePortRange.Malformed", "source_port_range", "icmp has no ports", "-1/-1"),
    Row("port list of icmp", "{type: ingress, ip_protocol: icmp, port_list_id: prl-a, cidr_ip: 10.0.0.0/8}",
        "InvalidParam.ProtocolNotSupportPortRangeList", "port_list_id", "can't use a port list", "tcp or udp"),
    Row("port list and ports", f"{{{TCP}, port_list_id: prl-a, cidr_ip: 10.0.0.0/8}}", "InvalidParam.PortRange",
        "port_range", "a rule can't have both port_range and port_list_id", "one of them"),
    Row("unknown port list", "{type: ingress, ip_protocol: tcp, port_list_id: prl-b, cidr_ip: 10.0.0.0/8}",
        "InvalidPortRangeListId.NotFound", "port_list_id", "the port list is not in the state", "perhaps prl-a"),
    Row("no remote on ingress", f"{{{TCP}}}", "MissingParameter.Source", "", "the rule has no remote",
        "one of cidr_ip, ipv6_cidr_ip, a group or prefix_list_id"),
    Row("no remote on egress", f"{{{ALL_OUT}}}", "MissingParameter.Dest", "", "the rule has no remote", "one of"),
    Row("remote malformed", f"{{{TCP}, cidr_ip: 10.0.0.0/33}}", "InvalidSourceCidrIp.Malformed", "cidr_ip",
        "cidr_ip is malformed", "IPv4 CIDR block such as 192.0.2.0/24"),
    Row("egress remote malformed", f"{{{ALL_OUT}, cidr_ip: everywhere}}", "InvalidDestCidrIp.Malformed", "cidr_ip",
        "cidr_ip is malformed", "IPv4 CIDR block"),
    Row("ipv6 in cidr_ip", f'{{{TCP}, cidr_ip: "::/0"}}', "InvalidSourceCidrIp.Malformed", "cidr_ip",
        "cidr_ip is malformed", "IPv4 CIDR block"),
    Row("ipv4 in ipv6_cidr_ip", f"{{{TCP}, ipv6_cidr_ip: 10.0.0.0/8}}", "InvalidParam.Ipv6SourceCidrIp",
        "ipv6_cidr_ip", "ipv6_cidr_ip is malformed", "IPv6 CIDR block such as 2001:db8::/32"),
    Row("egress ipv6 remote malformed", f"{{{ALL_OUT}, ipv6_cidr_ip: any}}", "InvalidParam.Ipv6DestCidrIp",
        "ipv6_cidr_ip", "ipv6_cidr_ip is malformed", "IPv6 CIDR block"),
    Row("both families as source", f'{{{TCP}, cidr_ip: 0.0.0.0/0, ipv6_cidr_ip: "::/0"}}', "InvalidParam.SourceIp",
        "ipv6_cidr_ip", "a rule can't have both cidr_ip and ipv6_cidr_ip", "two rules for both"),
    Row("both families as destination", f'{{{ALL_OUT}, cidr_ip: 0.0.0.0/0, ipv6_cidr_ip: "::/0"}}',
        "InvalidParam.DestIp", "ipv6_cidr_ip", "can't have both", "two rules"),
    Row("group id malformed", f"{{{TCP}, source_security_group_id: 'a b'}}", "InvalidSourceSecurityGroupId.Malformed",
        "source_security_group_id", "source_security_group_id is not an id", "letters, digits, dots"),
    Row("dest group on ingress", f"{{{TCP}, dest_security_group_id: sg-a, cidr_ip: 10.0.0.0/8}}",
        "InvalidDocument.MisplacedKey", "dest_security_group_id", "means nothing in an ingress rule",
        "source_security_group_id"),
    Row("two different groups on egress",
        f"{{{ALL_OUT}, source_security_group_id: sg-a, dest_security_group_id: sg-managed}}",
        "InvalidParameter.Conflict", "source_security_group_id", "name different groups", "one of them"),
    Row("group that is not there", f"{{{TCP}, source_security_group_id: sg-aa}}", "InvalidSourceGroupId.NotFound",
        "source_security_group_id", "the group named as remote is not in the state", "perhaps sg-a"),
    Row("egress group that is not there", f"{{{ALL_OUT}, dest_security_group_id: sg-aa}}",
        "InvalidDestGroupId.NotFound", "dest_security_group_id", "is not in the state", "perhaps sg-a"),
    Row("egress group under the source's name", f"{{{ALL_OUT}, source_security_group_id: sg-aa}}",
        "InvalidDestGroupId.NotFound", "source_security_group_id", "is not in the state", "perhaps sg-a"),
    Row("group naming itself", f"{{{TCP}, source_security_group_id: sg-rule}}", "InvalidParamter.Conflict",
        "source_security_group_id", "a group can't name itself as remote", "another group, or inner_access_policy"),
    Row("advanced group as remote", f"{{{TCP}, source_security_group_id: sg-adv}}",
        "InvalidGroupAuthParameter.OperationDenied", "source_security_group_id", "an advanced group can't be a remote",
        "a basic group, a CIDR block or a prefix list"),
    Row("group remote in an advanced group", f"{{{TCP}, source_security_group_id: sg-a}}",
        "InvalidGroupParameter.OperationDenied", "source_security_group_id",
        "rules of an advanced group can't name a group", "a CIDR block or a prefix list", group=ADVANCED),
    Row("managed group as remote", f"{{{TCP}, source_security_group_id: sg-managed}}",
        "InvalidOperation.ResourceManagedByCloudProduct", "source_security_group_id",
        "a group managed by a cloud service can't be the remote of a user's rule", "a group of the user's own"),
    Row("classic group as remote in a VPC", f"{{{TCP}, source_security_group_id: sg-old}}",
        "InvalidNetworkType.Conflict", "source_security_group_id", "one group is in the classic network",
        "a group of the same network type"),
    Row("unknown prefix list", f"{{{TCP}, prefix_list_id: pl-b}}", "InvalidPrefixListId.NotFound", "prefix_list_id",
        "the prefix list is not in the state", "perhaps pl-a"),
    Row("prefix list in the classic network", f"{{{TCP}, prefix_list_id: pl-a}}",
        "NotSupported.ClassicNetworkPrefixList", "prefix_list_id", "the classic network has no prefix lists",
        "a CIDR block or a group", group="vpc_id: vpc-old"),
    Row("narrowing of the other direction", f"{{{TCP}, cidr_ip: 10.0.0.0/8, source_cidr_ip: 10.0.0.1}}",
        "InvalidDocument.MisplacedKey", "source_cidr_ip", "source_cidr_ip means nothing in an ingress rule",
        "cidr_ip for the other end, or dest_cidr_ip for the ENI's own addresses"),
    Row("egress narrowing of the other direction", f"{{{ALL_OUT}, cidr_ip: 10.0.0.0/8, ipv6_dest_cidr_ip: '::1'}}",
        "InvalidDocument.MisplacedKey", "ipv6_dest_cidr_ip", "means nothing in an egress rule",
        "ipv6_cidr_ip for the other end, or ipv6_source_cidr_ip for the ENI's own addresses"),
    Row("narrowing malformed", f"{{{TCP}, cidr_ip: 10.0.0.0/8, dest_cidr_ip: 10.0.0}}", "InvalidDestCidrIp.Malformed",
        "dest_cidr_ip", "dest_cidr_ip is malformed", "IPv4 CIDR block"),
    Row("ipv6 narrowing malformed", f"{{{TCP}, ipv6_cidr_ip: '::/0', ipv6_dest_cidr_ip: 10.0.0.1}}",
        "InvalidParam.Ipv6DestCidrIp", "ipv6_dest_cidr_ip", "is malformed", "IPv6 CIDR block"),
    Row("egress narrowing malformed", f"{{{ALL_OUT}, cidr_ip: 10.0.0.0/8, source_cidr_ip: '::1'}}",
        "InvalidSourceCidrIp.Malformed", "source_cidr_ip", "is malformed", "IPv4 CIDR block"),
    Row("egress ipv6 narrowing malformed", f"{{{ALL_OUT}, ipv6_cidr_ip: '::/0', ipv6_source_cidr_ip: here}}",
        "InvalidParam.Ipv6SourceCidrIp", "ipv6_source_cidr_ip", "is malformed", "IPv6 CIDR block"),
    Row("narrowing of another family than the remote", f"{{{TCP}, cidr_ip: 10.0.0.0/8, ipv6_dest_cidr_ip: '::1'}}",
        "InvalidParameter.Conflict", "ipv6_dest_cidr_ip", "are of different families", "an IPv4 CIDR block"),
    Row("narrowing of both families", f"{{{TCP}, source_security_group_id: sg-a, dest_cidr_ip: 10.0.0.1, "
        "ipv6_dest_cidr_ip: '::1'}", "InvalidParam.DestIp", "ipv6_dest_cidr_ip", "can't have both", "two rules"),
    Row("egress narrowing of both families", f"{{{ALL_OUT}, dest_security_group_id: sg-a, source_cidr_ip: 10.0.0.1, "
        "ipv6_source_cidr_ip: '::1'}", "InvalidParam.SourceIp", "ipv6_source_cidr_ip", "can't have both", "two rules"),
    Row("priority 0", f"{{{TCP}, cidr_ip: 10.0.0.0/8, priority: 0}}", "InvalidPriority.ValueNotSupported", "priority",
        "priority is out of range", "1..100, 1 is the strongest"),
    Row("priority 101", f"{{{TCP}, cidr_ip: 0.0.0.0/0, priority: 101}}", "InvalidPriority.ValueNotSupported",
        "priority", "priority is out of range", "1..100, 1 is the strongest"),
    Row("priority 110 of no default rule", f"{{{TCP}, cidr_ip: 10.0.0.0/8, priority: 110}}",
        "InvalidPriority.ValueNotSupported", "priority", "priority is out of range", "1..100"),
    Row("priority as text", f'{{{TCP}, cidr_ip: 10.0.0.0/8, priority: "5"}}', "InvalidDocument.WrongType", "priority",
        "priority has the wrong type", "a whole number"),
    Row("priority as fraction", f"{{{TCP}, cidr_ip: 10.0.0.0/8, priority: 1.5}}", "InvalidDocument.WrongType",
        "priority", "priority has the wrong type", "a whole number"),
    Row("unknown nic type", f"{{{TCP}, cidr_ip: 10.0.0.0/8, nic_type: extranet}}",
        "InvalidNicType.ValueNotSupported", "nic_type", "nic_type is not a known value", "intranet or internet"),
    Row("internet in a VPC", f"{{{TCP}, cidr_ip: 10.0.0.0/8, nic_type: internet}}", "InvalidNicType.Mismatch",
        "nic_type", "rules of a VPC are always of nic type intranet", "intranet"),
    Row("internet with a group as remote", f"{{{TCP}, source_security_group_id: sg-old, nic_type: internet}}",
        "InvalidSourceGroupId.Mismatch", "nic_type", "a rule with a group as remote is of nic type intranet",
        "intranet", group="vpc_id: vpc-old"),
    Row("internet with a group as egress remote", f"{{{ALL_OUT}, dest_security_group_id: sg-old, nic_type: internet}}",
        "InvalidDestGroupId.Mismatch", "nic_type", "is of nic type intranet", "intranet", group="vpc_id: vpc-old"),
    Row("rule id malformed", f"{{{TCP}, cidr_ip: 10.0.0.0/8, security_group_rule_id: 'sgr:1'}}",
        "InvalidSecurityGroupRuleId.Malformed", "security_group_rule_id", "security_group_rule_id is not an id",
        "letters, digits, dots, dashes and underscores"),
    Row("description of wrong type", f"{{{TCP}, cidr_ip: 10.0.0.0/8, description: 5}}", "InvalidDocument.WrongType",
        "description", "description has the wrong type", "text; put a number in quotes"),
    Row("not a mapping", "tcp", "InvalidDocument.WrongType", "", "the value has the wrong type", "a mapping"),
)  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_wrong_rule_is_refused_with_code_place_and_wording(row: Row, tmp_path: Path) -> None:
    text = rule_document(row.rule, row.group)
    (problem,) = refusals(tmp_path, text)
    pointer = POINTERS["RULE"] + (f"/{row.field}" if row.field else "")
    place = (str(tmp_path / "state.yaml"), marked_line(text), pointer)
    assert (problem.code, (problem.where.file, problem.where.line, problem.where.pointer)) == (row.code, place)
    assert row.message in problem.message
    assert row.expected in problem.expected


def test_the_base_that_the_rows_change_is_valid(tmp_path: Path) -> None:
    assert refusals(tmp_path, rule_document(f"{{{TCP}, cidr_ip: 10.0.0.0/8}}")) == ()


def test_two_rules_of_a_group_with_one_id_are_refused(tmp_path: Path) -> None:
    rule = f"{{{TCP}, cidr_ip: 10.0.0.0/8, security_group_rule_id: sgr-1}}"
    text = rule_document(f"{rule}\n      - {rule}")
    (problem,) = refusals(tmp_path, text)
    assert (problem.code, problem.where.pointer) == (
        "InvalidDocument.DuplicateId",
        "/security_groups/5/rules/1/security_group_rule_id",
    )
    assert problem.where.line == marked_line(text)
    assert problem.message == "two rules of one group have the same id"
