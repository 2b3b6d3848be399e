"""The cloud's names for what the native format names otherwise, as data that reading and writing share.

Owns these tables. Must not know how they are used.
"""

from __future__ import annotations

from sgdataplane.net.values import Direction

CLASSIC_VPC = "classic"  # the implicit VPC record of what has no VpcId

GROUP_NAMES = {
    "security_group_id": "SecurityGroupId",
    "security_group_name": "SecurityGroupName",
    "description": "Description",
    "security_group_type": "SecurityGroupType",
    "service_managed": "ServiceManaged",
}
# A rule's source is the remote on ingress and the ENI's own side on egress; its destination the other way round.
RULE_NAMES = {
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
# Every string of a permission, empty unless it says something, as the cloud gives them.
PERMISSION = (
    "SecurityGroupRuleId", "Direction", "Policy", "Priority", "IpProtocol", "PortRange", "PortRangeListId",
    "PortRangeListName", "SourcePortRange", "NicType", "SourceCidrIp", "Ipv6SourceCidrIp", "SourceGroupId",
    "SourceGroupName", "SourceGroupOwnerAccount", "SourcePrefixListId", "SourcePrefixListName", "DestCidrIp",
    "Ipv6DestCidrIp", "DestGroupId", "DestGroupName", "DestGroupOwnerAccount", "DestPrefixListId",
    "DestPrefixListName", "Description", "CreateTime",
)  # fmt: skip
# What a permission has no use for on the ENI's own side; present and empty in every answer.
MISPLACED = {
    Direction.INGRESS: ("DestGroupId", "DestPrefixListId"),
    Direction.EGRESS: ("SourceGroupId", "SourcePrefixListId"),
}
PREFIX_LIST_NAMES = {
    "prefix_list_id": "PrefixListId",
    "prefix_list_name": "PrefixListName",
    "address_family": "AddressFamily",
    "max_entries": "MaxEntries",
    "description": "Description",
}
PREFIX_ENTRY_NAMES = {"cidr": "Cidr", "description": "Description"}
PORT_LIST_NAMES = {
    "port_list_id": "PortRangeListId",
    "port_list_name": "PortRangeListName",
    "max_entries": "MaxEntries",
    "description": "Description",
}
PORT_ENTRY_NAMES = {"port_range": "PortRange", "description": "Description"}
INSTANCE_NAMES = {"instance_id": "InstanceId", "instance_name": "InstanceName"}
ENI_NAMES = {
    "network_interface_id": "NetworkInterfaceId",
    "type": "Type",
    "mac_address": "MacAddress",
}
# An ENI's lists: native name -> outer key, inner key, and the key inside each element ("" for plain text).
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

# Keys of ours, for what the cloud's answers don't tell.
NETWORK_TYPE = "SgdpNetworkType"
NIC_TYPE = "SgdpNicType"
ALLOWED_PAIRS = "SgdpAllowedAddressPairs"
