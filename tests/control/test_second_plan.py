"""The second plan is empty: whatever a client asks for, it reads again, field by field and in the order of the request.

A client such as Terraform compares what it has asked for with what is answered, and changes whatever differs. So for
random resources within the model: create, describe, compare.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from sgdataplane.control.actions.rules import as_given
from sgdataplane.net.values import Prefix
from sgdataplane.store.interface import Json
from tests.support.inputs.controlling import Client, items

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)
TAGS = st.dictionaries(WORDS, WORDS, max_size=4)
IPV4 = st.integers(0, 2**32 - 1).map(lambda value: ".".join(str(value >> shift & 255) for shift in (24, 16, 8, 0)))
IPV6 = st.lists(st.integers(0, 0xFFFF), min_size=8, max_size=8).map(
    lambda parts: ":".join(f"{one:04x}" for one in parts)
)
PORTS = st.tuples(st.integers(1, 65535), st.integers(1, 65535)).map(lambda two: f"{min(two)}/{max(two)}")


def blocks(addresses: st.SearchStrategy[str], most: int) -> st.SearchStrategy[str]:
    """Blocks with host bits or without, and addresses without a length."""
    return st.one_of(addresses, st.tuples(addresses, st.integers(0, most)).map(lambda two: f"{two[0]}/{two[1]}"))


OTHER_GROUP, A_PREFIX_LIST, A_PORT_LIST = "<group>", "<prefixes>", "<ports>"  # what is only known once it is made


@st.composite
def permissions(draw: st.DrawFn, side: str) -> dict[str, Json]:
    """A rule. `side`: of its remote."""
    protocol = draw(st.sampled_from(("TCP", "UDP", "ICMP", "GRE", "ALL")))
    rule: dict[str, Json] = {
        "IpProtocol": protocol,
        "PortRange": draw(PORTS) if protocol in ("TCP", "UDP") else "-1/-1",
        "Policy": draw(st.sampled_from(("Accept", "Drop"))),
        "Priority": str(draw(st.integers(1, 100))),
        "Description": draw(st.one_of(st.just(""), WORDS)),
    }
    if protocol in ("TCP", "UDP") and draw(st.integers(0, 4)) == 0:
        rule |= {"PortRange": "", "PortRangeListId": A_PORT_LIST}
    remotes: tuple[st.SearchStrategy[dict[str, Json]], ...] = (
        blocks(IPV4, 32).map(lambda block: {f"{side}CidrIp": block}),
        blocks(IPV6, 128).map(lambda block: {f"Ipv6{side}CidrIp": block}),
        st.just({f"{side}GroupId": OTHER_GROUP}),
        st.just({f"{side}PrefixListId": A_PREFIX_LIST}),
    )
    remote: dict[str, Json] = draw(st.one_of(*remotes))
    return rule | remote


def tagged(tags: Mapping[str, str]) -> Json:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def tags_in(found: Mapping[str, Any]) -> dict[str, str]:
    """As either product spells them."""
    return {one.get("TagKey", one.get("Key")): one.get("TagValue", one.get("Value")) for one in found["Tags"]["Tag"]}


def same(found: Mapping[str, Any], asked: Mapping[str, Json]) -> None:
    """Each field that was asked for is answered as it was asked for."""
    assert {name: found.get(name) for name in asked} == asked


def listed(client: Client, action: str, outer: str, inner: str, **which: Json) -> dict[str, Any]:
    (found,) = items(client, action, outer, inner, **which)
    return found


def group_of(client: Client, group_id: str) -> dict[str, Any]:
    return listed(client, "DescribeSecurityGroups", "SecurityGroups", "SecurityGroup", SecurityGroupId=group_id)


@given(
    st.fixed_dictionaries({"SecurityGroupName": WORDS, "Description": WORDS, "ResourceGroupId": WORDS}),
    st.sampled_from(("normal", "enterprise")),
    TAGS,
)
def test_a_group(asked: dict[str, Json], kind: str, tags: dict[str, str]) -> None:
    client = Client()
    vpc, _ = client.network()
    asked = {**asked, "VpcId": vpc, "SecurityGroupType": kind}
    group = client.text("CreateSecurityGroup", "SecurityGroupId", **asked, Tag=tagged(tags))
    same(group_of(client, group), asked)
    assert tags_in(group_of(client, group)) == tags
    change: dict[str, Json] = {"SecurityGroupName": "other", "Description": ""}
    client("ModifySecurityGroupAttribute", SecurityGroupId=group, **change)
    same(group_of(client, group), asked | change)


@given(st.lists(permissions("Source"), max_size=6), st.lists(permissions("Dest"), max_size=6))
def test_rules(ingress: list[dict[str, Json]], egress: list[dict[str, Json]]) -> None:
    client = Client()
    vpc, _ = client.network()
    group = client.group(vpc)
    ids = {OTHER_GROUP: client.group(vpc), **lists(client)}
    ingress, egress = ([named(rule, ids) for rule in rules] for rules in (ingress, egress))
    for action, rules in (("AuthorizeSecurityGroup", ingress), ("AuthorizeSecurityGroupEgress", egress)):
        if rules:
            client(action, SecurityGroupId=group, Permissions=cast(Json, rules))
    found = items(
        client, "DescribeSecurityGroupAttribute", "Permissions", "Permission", SecurityGroupId=group, NicType="<nil>"
    )
    for wanted in (*ingress, *egress):
        assert any(is_found(wanted, rule) for rule in found), wanted
    assert len(found) <= len(ingress) + len(egress)


def lists(client: Client) -> dict[str, str]:
    """A prefix list and a port list, by the words that stand for their ids."""
    prefixes: dict[str, Json] = {"AddressFamily": "IPv4", "MaxEntries": 2, "Entry": [{"Cidr": "192.0.2.0/24"}]}
    ports: dict[str, Json] = {"MaxEntries": 2, "Entry": [{"PortRange": "80/80"}]}
    return {
        A_PREFIX_LIST: client.text("CreatePrefixList", "PrefixListId", PrefixListName="a", **prefixes),
        A_PORT_LIST: client.text("CreatePortRangeList", "PortRangeListId", PortRangeListName="a", **ports),
    }


def named(rule: Mapping[str, Json], ids: Mapping[str, str]) -> dict[str, Json]:
    """A rule with the ids that have been made."""
    return {name: ids.get(str(value), value) for name, value in rule.items()}


def is_found(wanted: Mapping[str, Json], rule: Mapping[str, Any]) -> bool:
    """Whether a client takes a rule for the one that it asked for; or it is the same rule, which was asked for before
    with other host bits or another description."""
    block = next((name for name in wanted if name.endswith("CidrIp")), "")
    plain = {name: value for name, value in wanted.items() if name not in (block, "Description")}
    if not block:
        return all(rule[name] == value for name, value in plain.items())
    if not rule[block] or any(rule[name] != value for name, value in plain.items()):
        return False
    return rule[block] == as_given(str(wanted[block])) or network(rule[block]) == network(str(wanted[block]))


def network(block: str) -> str:
    """What a block is enforced as."""
    return str(Prefix.parse(block))


@given(
    st.lists(st.tuples(blocks(IPV4, 32).filter(lambda text: "/" in text), st.one_of(st.just(""), WORDS)), max_size=5),
    WORDS,
)
def test_a_prefix_list(entries: list[tuple[str, str]], name: str) -> None:
    client = Client()
    unique = {network(block): words for block, words in entries}
    asked: list[Json] = [{"Cidr": block, "Description": words} for block, words in unique.items()]
    made = client.text(
        "CreatePrefixList", "PrefixListId", PrefixListName=name, AddressFamily="IPv4", MaxEntries=9, Entry=asked
    )
    found = cast("dict[str, Any]", client("DescribePrefixListAttributes", PrefixListId=made))
    same(found, {"PrefixListName": name, "AddressFamily": "IPv4", "MaxEntries": 9})
    assert found["Entries"]["Entry"] == asked


@given(
    st.fixed_dictionaries({"NetworkInterfaceName": WORDS, "Description": WORDS, "ResourceGroupId": WORDS}),
    st.permutations(range(4)),
    st.lists(st.integers(10, 200), max_size=5, unique=True),
    st.one_of(st.none(), st.integers(201, 240)),
    st.fixed_dictionaries(
        {},
        optional={
            "QueueNumber": st.integers(1, 8),
            "NetworkInterfaceTrafficMode": st.sampled_from(("Standard", "HighPerformance")),
        },
    ),
    TAGS,
)
def test_a_network_interface(  # noqa: PLR0917  # what may be asked for
    asked: dict[str, Json],
    order: list[int],
    secondary: list[int],
    first: int | None,
    hardware: dict[str, Json],
    tags: dict[str, str],
) -> None:
    client = Client()
    vpc, switch = client.network()
    groups = [client.group(vpc) for _ in order]
    wanted: list[Json] = [groups[at] for at in order]
    addresses: list[Json] = [f"10.0.0.{last}" for last in secondary]
    asked = {**asked, **hardware, "VSwitchId": switch}
    more: dict[str, Json] = {"PrimaryIpAddress": f"10.0.0.{first}"} if first else {}
    made = client.text(
        "CreateNetworkInterface",
        "NetworkInterfaceId",
        **asked,
        **more,
        SecurityGroupIds=wanted,
        PrivateIpAddress=addresses,
        Tag=tagged(tags),
    )
    found = listed(
        client,
        "DescribeNetworkInterfaces",
        "NetworkInterfaceSets",
        "NetworkInterfaceSet",
        NetworkInterfaceId=[made],
    )
    same(found, asked)
    private = found["PrivateIpSets"]["PrivateIpSet"]
    assert found["SecurityGroupIds"]["SecurityGroupId"] == wanted
    assert [one["PrivateIpAddress"] for one in private if not one["Primary"]] == addresses
    assert found["PrivateIpAddress"] == more.get("PrimaryIpAddress", found["PrivateIpAddress"])
    assert tags_in(found) == tags
    assert client("DescribeNetworkInterfaceAttribute", NetworkInterfaceId=made) == found


@given(
    st.fixed_dictionaries({"VpcName": WORDS, "Description": WORDS, "ResourceGroupId": WORDS}),
    st.booleans(),
    TAGS,
)
def test_a_vpc(asked: dict[str, Json], has_ipv6: bool, tags: dict[str, str]) -> None:
    client = Client()
    asked = {**asked, "CidrBlock": "172.20.0.0/16"}
    made = client.text("vpc:CreateVpc", "VpcId", **asked, EnableIpv6=has_ipv6, Tag=tagged(tags))
    found = client("vpc:DescribeVpcAttribute", VpcId=made)
    same(found, {**asked, "EnabledIpv6": has_ipv6})
    assert tags_in(found) == tags
    assert listed(client, "vpc:DescribeVpcs", "Vpcs", "Vpc", VpcId=made) == found


@given(
    st.fixed_dictionaries({"VSwitchName": WORDS, "Description": WORDS, "ZoneId": WORDS}),
    st.one_of(st.none(), st.integers(0, 255)),
    st.integers(0, 255),
    TAGS,
)
def test_a_vswitch(asked: dict[str, Json], number: int | None, third: int, tags: dict[str, str]) -> None:
    client = Client()
    vpc = client.text("vpc:CreateVpc", "VpcId", CidrBlock="10.0.0.0/16", EnableIpv6=True)
    asked = {**asked, "VpcId": vpc, "CidrBlock": f"10.0.{third}.0/24"}
    more: dict[str, Json] = {} if number is None else {"Ipv6CidrBlock": number}
    made = client.text("vpc:CreateVSwitch", "VSwitchId", **asked, **more, Tag=tagged(tags))
    found = cast("dict[str, Any]", client("vpc:DescribeVSwitchAttributes", VSwitchId=made))
    same(found, asked)
    assert tags_in(found) == tags
    assert bool(found["Ipv6CidrBlock"]) is (number is not None)
    if number is not None:
        assert int(found["Ipv6CidrBlock"].removesuffix("::/64").rpartition(":")[2], 16) & 255 == number


@given(
    st.fixed_dictionaries(
        {"InstanceName": WORDS, "HostName": WORDS, "Description": WORDS},
        optional={
            "InstanceType": st.sampled_from(("ecs.g7.large", "ecs.of.tomorrow")),
            "ImageId": WORDS,
            "InstanceChargeType": st.sampled_from(("PostPaid", "PrePaid")),
            "InternetMaxBandwidthOut": st.integers(0, 100),
            "SpotStrategy": st.sampled_from(("NoSpot", "SpotAsPriceGo")),
            "KeyPairName": WORDS,
            "DeletionProtection": st.booleans(),
            "CreditSpecification": st.sampled_from(("Standard", "Unlimited")),
        },
    ),
    st.permutations(range(3)),
    TAGS,
)
def test_an_instance(asked: dict[str, Json], order: list[int], tags: dict[str, str]) -> None:
    client = Client()
    vpc, switch = client.network()
    groups = [client.group(vpc) for _ in order]
    wanted: list[Json] = [groups[at] for at in order]
    answer = client("RunInstances", **asked, VSwitchId=switch, SecurityGroupIds=wanted, Tag=tagged(tags))
    (made,) = cast("dict[str, Any]", answer)["InstanceIdSets"]["InstanceIdSet"]
    found = listed(client, "DescribeInstances", "Instances", "Instance", InstanceIds=json.dumps([made]))
    same(found, asked)
    assert found["SecurityGroupIds"]["SecurityGroupId"] == wanted
    assert tags_in(found) == tags
    own = client("DescribeInstanceAttribute", InstanceId=made)
    for name in found.keys() & own.keys() - {"IoOptimized"}:
        assert own[name] == found[name], name
