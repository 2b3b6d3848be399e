"""The cloud's names, by native name, as data that reading and writing share.

Owns these tables. Must not know how they are used.
"""

from __future__ import annotations

from sgdataplane.net.values import Direction

CLASSIC_VPC = "classic"  # the VPC record of objects without a VpcId, which are in the classic network
# Keys of our own, for what the cloud's answers have no key for.
NETWORK_TYPE = "SgdpNetworkType"
NIC_TYPE = "SgdpNicType"
ALLOWED_PAIRS = "SgdpAllowedAddressPairs"

VPC = {"vpc_id": "VpcId", "network_type": NETWORK_TYPE}
VPC_BLOCKS = ("CidrBlock", "Ipv6CidrBlock")
VPC_BLOCK_LISTS = (
    ("SecondaryCidrBlocks", "SecondaryCidrBlock", ""),
    ("Ipv6CidrBlocks", "Ipv6CidrBlock", "Ipv6CidrBlock"),
)
GROUP = {
    "security_group_id": "SecurityGroupId",
    "security_group_name": "SecurityGroupName",
    "description": "Description",
    "security_group_type": "SecurityGroupType",
    "service_managed": "ServiceManaged",
}
# A rule's source is the remote on ingress, and the ENI's own side on egress.
RULE = {
    direction: {
        "security_group_rule_id": "SecurityGroupRuleId",
        "type": "Direction",
        "policy": "Policy",
        "priority": "Priority",
        "ip_protocol": "IpProtocol",
        "port_range": "PortRange",
        "source_port_range": "SourcePortRange",
        "port_list_id": "PortRangeListId",
        "cidr_ip": f"{far}CidrIp",
        "ipv6_cidr_ip": f"Ipv6{far}CidrIp",
        group_field: f"{far}GroupId",
        "prefix_list_id": f"{far}PrefixListId",
        near_field: f"{near}CidrIp",
        f"ipv6_{near_field}": f"Ipv6{near}CidrIp",
        "nic_type": "NicType",
        "description": "Description",
    }
    for direction, far, near, group_field, near_field in (
        (Direction.INGRESS, "Source", "Dest", "source_security_group_id", "dest_cidr_ip"),
        (Direction.EGRESS, "Dest", "Source", "dest_security_group_id", "source_cidr_ip"),
    )
}
# Every string of a permission: the cloud gives them all, and leaves those empty that say nothing.
PERMISSION = (
    "SecurityGroupRuleId", "Direction", "Policy", "Priority", "IpProtocol", "PortRange", "PortRangeListId",
    "PortRangeListName", "SourcePortRange", "NicType", "SourceCidrIp", "Ipv6SourceCidrIp", "SourceGroupId",
    "SourceGroupName", "SourceGroupOwnerAccount", "SourcePrefixListId", "SourcePrefixListName", "DestCidrIp",
    "Ipv6DestCidrIp", "DestGroupId", "DestGroupName", "DestGroupOwnerAccount", "DestPrefixListId",
    "DestPrefixListName", "Description", "CreateTime",
)  # fmt: skip
# These keys mean nothing on the ENI's own side of a permission; every answer has them, empty.
MISPLACED = {
    Direction.INGRESS: ("DestGroupId", "DestPrefixListId"),
    Direction.EGRESS: ("SourceGroupId", "SourcePrefixListId"),
}
PREFIX_LIST = {
    "prefix_list_id": "PrefixListId",
    "prefix_list_name": "PrefixListName",
    "address_family": "AddressFamily",
    "max_entries": "MaxEntries",
    "description": "Description",
}
PREFIX_ENTRY = {"cidr": "Cidr", "description": "Description"}
PORT_LIST = {
    "port_list_id": "PortRangeListId",
    "port_list_name": "PortRangeListName",
    "max_entries": "MaxEntries",
    "description": "Description",
}
PORT_ENTRY = {"port_range": "PortRange", "description": "Description"}
INSTANCE = {"instance_id": "InstanceId", "instance_name": "InstanceName"}
ENI = {
    "network_interface_id": "NetworkInterfaceId",
    "type": "Type",
    "mac_address": "MacAddress",
    "nic_type": NIC_TYPE,
}
# An ENI's lists, and where they are: outer key, inner key, and the key inside each element ("" for plain text).
ENI_LISTS = {
    "private_ip_addresses": ("PrivateIpSets", "PrivateIpSet", "PrivateIpAddress"),
    "ipv6_addresses": ("Ipv6Sets", "Ipv6Set", "Ipv6Address"),
    "ipv4_prefixes": ("Ipv4PrefixSets", "Ipv4PrefixSet", "Ipv4Prefix"),
    "ipv6_prefixes": ("Ipv6PrefixSets", "Ipv6PrefixSet", "Ipv6Prefix"),
    "security_group_ids": ("SecurityGroupIds", "SecurityGroupId", ""),
}
TRACKING = "ConnectionTrackingConfiguration"
TRACKING_NAMES = {
    "tcp_established_timeout": "TcpEstablishedTimeout",
    "tcp_closed_and_time_wait_timeout": "TcpClosedAndTimeWaitTimeout",
    "udp_timeout": "UdpTimeout",
}
NUMBERS = ("priority", "max_entries", *TRACKING_NAMES)
