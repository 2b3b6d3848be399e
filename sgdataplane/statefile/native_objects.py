"""The types of a state's objects in the native format, for code that writes and reads their fields by name.

Owns these types; keys.py says what each field means, and tests/unit/statefile/test_native_objects.py compares both. No
field is required here: an absent one means its default, and the same type fits a change of some fields. Whether a value
is right is for the reader to say.
"""

from __future__ import annotations

from typing import TypedDict


class NativeVpc(TypedDict, total=False):
    """A VPC."""

    vpc_id: str
    cidr_blocks: list[str]
    network_type: str


class NativePrefixEntry(TypedDict, total=False):
    """An entry of a prefix list."""

    cidr: str
    description: str


class NativePrefixList(TypedDict, total=False):
    """A prefix list."""

    prefix_list_id: str
    prefix_list_name: str
    description: str
    address_family: str
    max_entries: int
    entries: list[NativePrefixEntry]


class NativePortEntry(TypedDict, total=False):
    """An entry of a port list."""

    port_range: str
    description: str


class NativePortList(TypedDict, total=False):
    """A port list."""

    port_list_id: str
    port_list_name: str
    description: str
    max_entries: int
    entries: list[NativePortEntry]


class NativeRule(TypedDict, total=False):
    """A rule of a group."""

    security_group_rule_id: str
    type: str
    policy: str
    priority: int
    ip_protocol: str
    port_range: str
    source_port_range: str
    port_list_id: str
    cidr_ip: str
    ipv6_cidr_ip: str
    source_security_group_id: str
    dest_security_group_id: str
    prefix_list_id: str
    dest_cidr_ip: str
    source_cidr_ip: str
    ipv6_dest_cidr_ip: str
    ipv6_source_cidr_ip: str
    nic_type: str
    description: str


class NativeTrial(TypedDict, total=False):
    """What is on trial for a security group."""

    since: str
    until: str
    inner_access_policy: str
    rules: list[NativeRule]


class NativeGroup(TypedDict, total=False):
    """A security group with its rules."""

    security_group_id: str
    security_group_name: str
    description: str
    security_group_type: str
    vpc_id: str
    inner_access_policy: str
    service_managed: bool
    tags: dict[str, str]
    rules: list[NativeRule]
    trial: NativeTrial


class NativeInstance(TypedDict, total=False):
    """An instance."""

    instance_id: str
    instance_name: str


class NativeEni(TypedDict, total=False):
    """An ENI."""

    network_interface_id: str
    instance_id: str
    type: str
    vpc_id: str
    nic_type: str
    mac_address: str
    private_ip_addresses: list[str]
    ipv6_addresses: list[str]
    ipv4_prefixes: list[str]
    ipv6_prefixes: list[str]
    security_group_ids: list[str]
    allowed_address_pairs: list[str]
    connection_tracking: dict[str, int]
    member_only: bool
    mode: str
    audit_until: str
