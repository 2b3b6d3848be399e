"""Every refusal of an object other than a rule: code, place and wording."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.statefile.documents import POINTERS, document, marked_line, refusals


@dataclass(frozen=True)
class Row:
    """An object with one mistake. `field`: where it is; "" for the whole object."""

    name: str
    slot: str
    text: str
    code: str
    field: str
    message: str
    expected: str


def vpc(name: str, text: str, *said: str) -> Row:
    return Row(name, "VPC", f"{{{text}}}", *said)


def prefix_list(name: str, text: str, *said: str) -> Row:
    return Row(name, "PREFIX_LIST", f"{{prefix_list_id: pl-x, address_family: IPv4, {text}}}", *said)


def port_list(name: str, text: str, *said: str) -> Row:
    return Row(name, "PORT_LIST", f"{{port_list_id: prl-x, {text}}}", *said)


def group(name: str, text: str, *said: str) -> Row:
    return Row(name, "GROUP", f"{{security_group_id: sg-x, {text}}}", *said)


def eni(name: str, text: str, *said: str) -> Row:
    """An ENI of vpc-a in sg-a. The text is added to that, so it must not repeat these keys."""
    own = "network_interface_id: eni-x, vpc_id: vpc-a, security_group_ids: [sg-a]"
    return Row(name, "ENI", f"{{{own}, {text}}}", *said)


def bare_eni(name: str, text: str, *said: str) -> Row:
    return Row(name, "ENI", f"{{network_interface_id: eni-x, {text}}}", *said)


ADDRESS = "private_ip_addresses: [10.0.0.7]"
MANY_TAGS = ", ".join(f"k{number}: v" for number in range(21))
NO_HOST_BITS = "an IPv4 CIDR block such as 192.0.2.0/24, without host bits"
UNICAST_IPV4, UNICAST_IPV6 = "a unicast IPv4 address", "a unicast IPv6 address"
TRACKING = "InvalidParameter.EniConnectionTrackingConfiguration"
ROWS = (
    vpc("vpc without id", "cidr_blocks: []", "MissingParameter.VpcId", "", "vpc_id is missing", "an id"),
    vpc("vpc id of wrong type", "vpc_id: 7", "InvalidDocument.WrongType", "vpc_id", "wrong type", "text"),
    vpc("vpc id malformed", "vpc_id: 'vpc a'", "InvalidVpcId.Malformed", "vpc_id", "vpc_id is not an id", "letters"),
    vpc("vpc id too long", f"vpc_id: v{'x' * 63}", "InvalidVpcId.Malformed", "vpc_id", "is not an id", "at most 63"),
    vpc("vpc id taken", "vpc_id: vpc-a", "InvalidDocument.DuplicateId", "vpc_id", "the id is taken by /vpcs/0",
        "an id of its own"),
    vpc("vpc unknown key", "vpc_id: v, cidrs: []", "InvalidDocument.UnknownKey", "cidrs", "this key is unknown",
        "cidr_blocks, which is the nearest known key"),
    vpc("vpc unknown network type", "vpc_id: v, network_type: lan", "InvalidNetworkType.ValueNotSupported",
        "network_type", "network_type is not a known value", "vpc or classic"),
    vpc("vpc blocks not a list", "vpc_id: v, cidr_blocks: 10.0.0.0/8", "InvalidDocument.WrongType", "cidr_blocks",
        "cidr_blocks has the wrong type", "a list"),
    vpc("vpc block with host bits", "vpc_id: v, cidr_blocks: [10.0.0.0/8, 10.1.0.0/8]", "InvalidCidrBlock.Malformed",
        "cidr_blocks/1", "an element of cidr_blocks is malformed", "without host bits"),
    prefix_list("prefix list without size", "entries: []", "MissingParameter.MaxEntries", "", "max_entries is missing",
                "a whole number from 1"),
    prefix_list("prefix list of size 0", "max_entries: 0", "InvalidMaxEntries.Malformed", "max_entries",
                "max_entries is out of range", "a whole number from 1"),
    prefix_list("prefix list over the quota of entries", "max_entries: 201", "InvalidMaxEntries.Malformed",
                "max_entries", "too many entries in a prefix list", "at most 200 (profile seed)"),
    prefix_list("more entries than the size", "max_entries: 1, entries: [{cidr: 10.0.0.0/8}, {cidr: 11.0.0.0/8}]",
                "LimitExceed.Entries", "entries", "the list has more entries than its max_entries", "at most 1"),
    prefix_list("entry with host bits", "max_entries: 1, entries: [{cidr: 10.0.0.1/8}]", "InvalidEntryCidr.Malformed",
                "entries/0/cidr", "cidr is malformed", NO_HOST_BITS),
    prefix_list("entry of the other family", "max_entries: 1, entries: [{cidr: '::/0'}]",
                "InvalidEntryCidr.Malformed", "entries/0/cidr", "cidr is malformed", NO_HOST_BITS),
    prefix_list("entry without cidr", "max_entries: 1, entries: [{description: x}]", "MissingParameter.Cidr",
                "entries/0", "cidr is missing", NO_HOST_BITS),
    prefix_list("entry twice", "max_entries: 2, entries: [{cidr: 10.0.0.0/8}, {cidr: 10.0.0.0/8}]",
                "InvalidEntry.Duplicate", "entries/1", "the list has this entry twice", "each entry once"),
    prefix_list("entries not a list", "max_entries: 2, entries: {cidr: 10.0.0.0/8}", "InvalidDocument.WrongType",
                "entries", "the value has the wrong type", "a list of mappings"),
    prefix_list("unknown key in an entry", "max_entries: 2, entries: [{cidr: 10.0.0.0/8, descripton: x}]",
                "InvalidDocument.UnknownKey", "entries/0/descripton", "this key is unknown",
                "description, which is the nearest"),
    Row("prefix list without family", "PREFIX_LIST", "{prefix_list_id: pl-x, max_entries: 1}",
        "MissingParameter.AddressFamily", "", "address_family is missing", "IPv4 or IPv6"),
    Row("prefix list of unknown family", "PREFIX_LIST", "{prefix_list_id: pl-x, max_entries: 1, address_family: IPX}",
        "InvalidAddressFamily.ValueNotSupported", "address_family", "not a known value", "ipv4 or ipv6"),
    Row("prefix list id taken", "PREFIX_LIST", "{prefix_list_id: pl-a, max_entries: 1, address_family: ipv4}",
        "InvalidDocument.DuplicateId", "prefix_list_id", "taken by /prefix_lists/0", "an id of its own"),
    port_list("port list without size", "entries: []", "MissingParameter.MaxEntries", "", "max_entries is missing",
              "a whole number from 1"),
    port_list("port list over its size", "max_entries: 1, entries: [{port_range: 1/1}, {port_range: 2/2}]",
              "LimitExceed.Entries", "entries", "more entries than its max_entries", "at most 1"),
    port_list("port entry malformed", "max_entries: 1, entries: [{port_range: -1/-1}]",
              "InvalidEntryPortRange.Malformed", "entries/0/port_range", "port_range is malformed", "from/to"),
    port_list("port entry without ports", "max_entries: 1, entries: [{}]", "MissingParameter.PortRange", "entries/0",
              "port_range is missing", "from/to"),
    port_list("port entry twice", "max_entries: 2, entries: [{port_range: 1/2}, {port_range: 1/2}]",
              "InvalidEntry.Duplicate", "entries/1", "the list has this entry twice", "each entry once"),
    group("group without vpc", "description: x", "MissingParameter.VpcId", "", "vpc_id is missing", "an id"),
    group("group of unknown vpc", "vpc_id: vpc-aa", "InvalidVpcId.NotFound", "vpc_id",
          "the group's VPC is not in the state", "the id of one of the vpcs, perhaps vpc-a"),
    group("group of unknown type", "vpc_id: vpc-a, security_group_type: advanced",
          "InvalidSecurityGroupType.ValueNotSupported", "security_group_type", "is not a known value",
          "normal or enterprise"),
    group("unknown inner policy", "vpc_id: vpc-a, inner_access_policy: deny", "InvalidPolicy.Malformed",
          "inner_access_policy", "inner_access_policy is not a known value", "accept or drop"),
    group("advanced group with inner Accept",
          "vpc_id: vpc-a, security_group_type: enterprise, inner_access_policy: Accept",
          "InvalidGroupParameter.OperationDenied", "inner_access_policy",
          "an advanced group's inner access policy is always Drop", "Drop, or a basic group"),
    group("advanced group in the classic network", "vpc_id: vpc-old, security_group_type: Enterprise",
          "InvalidOperation.NotSupportEnterpriseGroup", "security_group_type",
          "the classic network has basic groups only", "normal"),
    group("managed flag as a word of YAML 1.1", "vpc_id: vpc-a, service_managed: yes", "InvalidDocument.WrongType",
          "service_managed", "service_managed has the wrong type", "true or false"),
    group("too many tags", f"vpc_id: vpc-a, tags: {{{MANY_TAGS}}}", "InvalidTagCount", "tags", "has too many tags",
          "at most 20"),
    group("tag that is a number", "vpc_id: vpc-a, tags: {k: 5}", "InvalidDocument.WrongType", "tags",
          "tags has the wrong type", "a mapping of text to text; put numbers in quotes"),
    group("tags not a mapping", "vpc_id: vpc-a, tags: [k]", "InvalidDocument.WrongType", "tags", "wrong type",
          "a mapping of text to text"),
    group("tag with an empty key", 'vpc_id: vpc-a, tags: {"": v}', "InvalidTagKey.Malformed", "tags",
          "a tag's key is malformed", "1 to 128 characters"),
    group("rules not a list", "vpc_id: vpc-a, rules: {}", "InvalidDocument.WrongType", "rules",
          "the value has the wrong type", "a list of mappings"),
    group("name of wrong type", "vpc_id: vpc-a, security_group_name: [x]", "InvalidDocument.WrongType",
          "security_group_name", "security_group_name has the wrong type", "text"),
    Row("group id taken", "GROUP", "{security_group_id: sg-a, vpc_id: vpc-a}", "InvalidDocument.DuplicateId",
        "security_group_id", "taken by /security_groups/0", "an id of its own"),
    Row("group without id", "GROUP", "{vpc_id: vpc-a}", "MissingParameter.SecurityGroupId", "",
        "security_group_id is missing", "an id"),
    Row("instance without id", "INSTANCE", "{instance_name: x}", "MissingParameter.InstanceId", "",
        "instance_id is missing", "an id"),
    Row("instance id taken", "INSTANCE", "{instance_id: i-a}", "InvalidDocument.DuplicateId", "instance_id",
        "taken by /instances/0", "an id of its own"),
    Row("object that is a list", "INSTANCE", "[i-c]", "InvalidDocument.WrongType", "", "the value has the wrong type",
        "a mapping"),
    Row("eni without id", "ENI", f"{{vpc_id: vpc-a, {ADDRESS}, security_group_ids: [sg-a]}}",
        "MissingParameter.NetworkInterfaceId", "", "network_interface_id is missing", "an id"),
    Row("eni id taken", "ENI",
        f"{{network_interface_id: eni-a, vpc_id: vpc-a, {ADDRESS}, security_group_ids: [sg-a]}}",
        "InvalidDocument.DuplicateId", "network_interface_id", "taken by /network_interfaces/0", "an id of its own"),
    bare_eni("eni without vpc", f"{ADDRESS}, security_group_ids: [sg-a]", "MissingParameter.VpcId", "",
             "vpc_id is missing", "an id"),
    bare_eni("eni without groups", f"vpc_id: vpc-a, {ADDRESS}", "MissingParameter.SecurityGroupIds",
             "security_group_ids", "the ENI belongs to no security group", "a list of group ids"),
    bare_eni("eni with no group", f"vpc_id: vpc-a, {ADDRESS}, security_group_ids: []",
             "MissingParameter.SecurityGroupIds", "security_group_ids", "belongs to no security group", "a list"),
    bare_eni("eni with a group twice", f"vpc_id: vpc-a, {ADDRESS}, security_group_ids: [sg-a, sg-a]",
             "InvalidParameter.SecurityGroupIdRepeated", "security_group_ids/1", "the ENI names this group twice",
             "each group once"),
    bare_eni("group id of wrong type", f"vpc_id: vpc-a, {ADDRESS}, security_group_ids: [sg-a, 5]",
             "InvalidSecurityGroupId.Malformed", "security_group_ids/1", "an element of security_group_ids",
             "letters, digits"),
    bare_eni("unknown group", f"vpc_id: vpc-a, {ADDRESS}, security_group_ids: [sg-a, sg-aa]",
             "InvalidSecurityGroupId.NotFound", "security_group_ids/1", "the security group is not in the state",
             "perhaps sg-a"),
    bare_eni("basic and advanced together", f"vpc_id: vpc-a, {ADDRESS}, security_group_ids: [sg-a, sg-adv]",
             "InvalidOperation.MultiGroupType", "security_group_ids",
             "an ENI can't have basic and advanced groups together", "groups of one type"),
    bare_eni("group of another vpc", f"vpc_id: vpc-a, {ADDRESS}, security_group_ids: [sg-a, sg-b]",
             "InvalidOperation.VpcMismatch", "security_group_ids/1", "the group is in vpc-b, but the ENI is in vpc-a",
             "groups of the ENI's own VPC"),
    bare_eni("unknown vpc", f"vpc_id: vpc-aa, {ADDRESS}, security_group_ids: [sg-none]", "InvalidVpcId.NotFound",
             "vpc_id", "the ENI's VPC is not in the state", "perhaps vpc-a"),
    eni("unknown instance", f"{ADDRESS}, instance_id: i-aa", "InvalidInstanceId.NotFound", "instance_id",
        "the ENI's instance is not in the state", "perhaps i-a"),
    eni("unknown type", f"{ADDRESS}, type: tertiary", "InvalidType.ValueNotSupported", "type",
        "type is not a known value", "primary or secondary"),
    eni("second primary", f"{ADDRESS}, instance_id: i-a", "InvalidOperation.InvalidEniType", "type",
        "i-a has a primary ENI already: eni-a", "one ENI of type primary, the others secondary"),
    bare_eni("enis of two vpcs",
             f"vpc_id: vpc-b, {ADDRESS}, instance_id: i-a, type: secondary, security_group_ids: [sg-b]",
             "InvalidVpcId.Mismatch", "vpc_id", "i-a has an ENI of another VPC already", "vpc-a"),
    eni("no primary", f"{ADDRESS}, instance_id: i-b, type: secondary", "InvalidOperation.InvalidEniType", "type",
        "i-b has no primary ENI", "one ENI of type primary, the others secondary"),
    eni("internet nic in a vpc", f"{ADDRESS}, nic_type: internet", "InvalidNicType.Mismatch", "nic_type",
        "ENIs of a VPC are always of nic type intranet", "intranet"),
    eni("no address", "private_ip_addresses: []", "MissingParameter.PrivateIpAddresses", "private_ip_addresses",
        "the ENI has no primary private IPv4 address", UNICAST_IPV4),
    eni("address malformed", "private_ip_addresses: [10.0.0.7, 10.0.0.300]", "InvalidIp.Address",
        "private_ip_addresses/1", "an element of private_ip_addresses is malformed", UNICAST_IPV4),
    eni("multicast address", "private_ip_addresses: [224.0.0.1]", "InvalidIp.Address", "private_ip_addresses/0",
        "malformed", UNICAST_IPV4),
    eni("link-local address", "private_ip_addresses: [169.254.1.1]", "InvalidIp.Address", "private_ip_addresses/0",
        "malformed", UNICAST_IPV4),
    eni("ipv6 among ipv4", "private_ip_addresses: ['2001:db8:a::7']", "InvalidIp.Address", "private_ip_addresses/0",
        "malformed", UNICAST_IPV4),
    eni("ipv6 address with a scope", f"{ADDRESS}, ipv6_addresses: ['fe80::1%eth0']", "InvalidIp.Address",
        "ipv6_addresses/0", "an element of ipv6_addresses is malformed", UNICAST_IPV6),
    eni("ipv6 link-local", f"{ADDRESS}, ipv6_addresses: ['fe80::1']", "InvalidIp.Address", "ipv6_addresses/0",
        "malformed", UNICAST_IPV6),
    eni("outside the vpc", "private_ip_addresses: [10.1.0.1]", "InvalidIp.OutOfVpc", "private_ip_addresses/0",
        "10.1.0.1 is outside the blocks of vpc-a", "within 10.0.0.0/16"),
    eni("ipv6 outside the vpc", f"{ADDRESS}, ipv6_addresses: ['2001:db8:b::1']", "InvalidIp.OutOfVpc",
        "ipv6_addresses/0", "2001:db8:b::1 is outside the blocks of vpc-a", "within 2001:db8:a::/48"),
    eni("delegated prefix outside the vpc", f"{ADDRESS}, ipv4_prefixes: [10.1.0.0/28]", "InvalidIp.OutOfVpc",
        "ipv4_prefixes/0", "10.1.0.0/28 is outside the blocks of vpc-a", "within 10.0.0.0/16"),
    eni("address of another eni", "private_ip_addresses: [10.0.0.7, 10.0.0.1]", "InvalidIp.IpAssigned",
        "private_ip_addresses/1", "10.0.0.1 is taken by eni-a (10.0.0.1)", "an address of its own in the VPC"),
    eni("address in another's delegated prefix", "private_ip_addresses: [10.0.9.3]", "InvalidIp.IpAssigned",
        "private_ip_addresses/0", "10.0.9.3 is taken by eni-a (10.0.9.0/28)", "an address of its own in the VPC"),
    eni("delegated prefix inside another's", f"{ADDRESS}, ipv4_prefixes: [10.0.9.8/29]", "InvalidIp.IpAssigned",
        "ipv4_prefixes/0", "10.0.9.8/29 is taken by eni-a (10.0.9.0/28)", "an address of its own in the VPC"),
    eni("address twice on one eni", "private_ip_addresses: [10.0.0.7, 10.0.0.7]", "InvalidIp.IpAssigned",
        "private_ip_addresses/0", "10.0.0.7 is taken by the ENI itself", "an address of its own"),
    eni("delegated prefix with host bits", f"{ADDRESS}, ipv4_prefixes: [10.0.1.1/28]", "InvalidPrefix.Malformed",
        "ipv4_prefixes/0", "an element of ipv4_prefixes is malformed", NO_HOST_BITS),
    eni("ipv4 prefix among ipv6 ones", f"{ADDRESS}, ipv6_prefixes: [10.0.1.0/28]", "InvalidPrefix.Malformed",
        "ipv6_prefixes/0", "an element of ipv6_prefixes is malformed", "an IPv6 CIDR block"),
    eni("allowed pair with host bits", f"{ADDRESS}, allowed_address_pairs: [192.0.2.1/24]",
        "InvalidAddressPair.Malformed", "allowed_address_pairs/0", "an element of allowed_address_pairs", "CIDR block"),
    eni("mac malformed", f"{ADDRESS}, mac_address: '00:16:3e:1'", "InvalidMacAddress.Malformed", "mac_address",
        "mac_address is malformed", "a unicast MAC, 00:16:3e:00:00:01"),
    eni("multicast mac", f"{ADDRESS}, mac_address: '01:16:3e:00:00:05'", "InvalidMacAddress.Malformed", "mac_address",
        "mac_address is malformed", "a unicast MAC"),
    eni("mac of zeros", f"{ADDRESS}, mac_address: '00:00:00:00:00:00'", "InvalidMacAddress.Malformed", "mac_address",
        "mac_address is malformed", "a unicast MAC"),
    eni("mac of another eni", f"{ADDRESS}, mac_address: '00-16-3E-00-00-01'", "InvalidMacAddress.Duplicate",
        "mac_address", "the MAC is taken by eni-a", "a MAC of its own, or none: one is made"),
    eni("unknown mode", f"{ADDRESS}, mode: observe", "InvalidMode.ValueNotSupported", "mode",
        "mode is not a known value", "enforce or audit"),
    eni("time of audit without a zone", f"{ADDRESS}, mode: audit, audit_until: '2026-12-24T00:00:00'",
        "InvalidAuditUntil.Malformed", "audit_until", "audit_until is malformed", "a time in UTC"),
    eni("a day that isn't there", f"{ADDRESS}, mode: audit, audit_until: '2026-02-30T00:00:00Z'",
        "InvalidAuditUntil.Malformed", "audit_until", "audit_until is malformed", "a time in UTC"),
    eni("time of audit without audit", f"{ADDRESS}, audit_until: '2026-12-24T00:00:00Z'",
        "InvalidAuditUntil.NotAudited", "audit_until", "is audited at no time", "mode: audit beside it"),
    eni("timeout that no one offers", f"{ADDRESS}, connection_tracking: {{tcp_established_timeout: 911}}", TRACKING,
        "connection_tracking/tcp_established_timeout", "is not a value that the cloud takes",
        "one of 30 60 80 100 200 300 500 700 910 (seconds)"),
    eni("closed timeout out of range", f"{ADDRESS}, connection_tracking: {{tcp_closed_and_time_wait_timeout: 2}}",
        TRACKING, "connection_tracking/tcp_closed_and_time_wait_timeout", "is not a value", "one of 3 4 5"),
    eni("udp timeout that no one offers", f"{ADDRESS}, connection_tracking: {{udp_timeout: 31}}", TRACKING,
        "connection_tracking/udp_timeout", "is not a value that the cloud takes", "one of 10 20 30 60 80 100"),
    eni("timeout as text", f"{ADDRESS}, connection_tracking: {{udp_timeout: '30'}}", "InvalidDocument.WrongType",
        "connection_tracking/udp_timeout", "udp_timeout has the wrong type", "a whole number"),
    eni("timeouts not a mapping", f"{ADDRESS}, connection_tracking: 910", "InvalidDocument.WrongType",
        "connection_tracking", "the value has the wrong type", "a mapping"),
    bare_eni("classic instance with two intranet enis",
             "vpc_id: vpc-old, instance_id: i-old, private_ip_addresses: [10.9.0.2], security_group_ids: [sg-old]",
             "InvalidNicType.Duplicate", "nic_type", "i-old has an ENI of that nic type already",
             "one intranet and one internet ENI"),
)  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_wrong_object_is_refused_with_code_place_and_wording(row: Row, tmp_path: Path) -> None:
    text = document(row.slot, row.text)
    problem = next(p for p in refusals(tmp_path, text) if p.code == row.code)
    pointer = POINTERS[row.slot] + (f"/{row.field}" if row.field else "")
    place = (str(tmp_path / "state.yaml"), marked_line(text), pointer)
    assert (problem.where.file, problem.where.line, problem.where.pointer) == place
    assert row.message in problem.message
    assert row.expected in problem.expected


@pytest.mark.parametrize("row", [row for row in ROWS if row.name != "unknown vpc"], ids=lambda row: row.name)
def test_one_mistake_is_one_problem(row: Row, tmp_path: Path) -> None:
    assert [problem.code for problem in refusals(tmp_path, document(row.slot, row.text))] == [row.code]


WRONG_ALL_OVER = """\
version: 1
vpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/33]}]
security_groups:
  - security_group_id: sg-a
    vpc_id: vpc-b
    rules:
      - {type: ingress, ip_protocol: tcp, port_range: 0/0, source_security_group_id: sg-b}
network_interfaces:
  - {network_interface_id: eni-a, vpc_id: vpc-a, private_ip_addresses: [10.0.0.1, x], security_group_ids: [sg-c]}
"""


def test_all_mistakes_are_reported_together_in_the_order_of_the_document(tmp_path: Path) -> None:
    found = [(problem.where.line, problem.code) for problem in refusals(tmp_path, WRONG_ALL_OVER)]
    assert found == [
        (2, "InvalidCidrBlock.Malformed"),
        (5, "InvalidVpcId.NotFound"),
        (7, "InvalidParam.PortRange"),
        (7, "InvalidSourceGroupId.NotFound"),
        (9, "InvalidIp.Address"),
        (9, "InvalidSecurityGroupId.NotFound"),
    ]
