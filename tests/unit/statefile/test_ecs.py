"""The cloud's own answers: every shape that is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgdataplane.model.state import (
    ConnectionTracking,
    EniType,
    GroupRef,
    GroupType,
    NetworkType,
    NicType,
    PrefixListRef,
    SecurityGroupRule,
)
from sgdataplane.net.values import Direction, PortRange, Prefix, Protocol, Verdict
from sgdataplane.statefile import Loaded, load
from tests.unit.statefile.ecs_documents import (
    BASE,
    GROUPS,
    IN_TCP,
    INSTANCES,
    INTERFACES,
    LIST,
    SETS,
    WEB,
    Answers,
    attribute,
    eni,
    group,
    page,
    permission,
    write,
)


def read(folder: Path, **more: Answers) -> Loaded:
    return load(write(folder, {**BASE, **more}))


def rules_of(folder: Path, *permissions: dict[str, object]) -> tuple[SecurityGroupRule, ...]:
    return read(folder, **{WEB: attribute("sg-web", *permissions)}).state.group["sg-web"].rules


def test_answers_become_records(tmp_path: Path) -> None:
    state = read(tmp_path).state
    assert [vpc.vpc_id for vpc in state.vpcs] == ["vpc-a"]
    assert [entry.security_group_id for entry in state.security_groups] == ["sg-db", "sg-web"]
    assert [entry.instance_id for entry in state.instances] == ["i-1"]
    assert [str(address) for address in state.network_interfaces[0].addresses] == ["10.0.0.5"]
    (rule,) = state.group["sg-web"].rules
    assert (rule.direction, rule.port_range, rule.remote) == (
        Direction.INGRESS, PortRange(443, 443), Prefix.parse("198.51.100.0/24"),
    )  # fmt: skip


def test_one_file_may_hold_all_answers_by_call(tmp_path: Path) -> None:
    keyed = {
        "DescribeSecurityGroups": BASE["DescribeSecurityGroups"],
        "DescribeSecurityGroupAttribute": [value for name, value in BASE.items() if "Attribute" in name],
        "DescribeNetworkInterfaces": BASE["DescribeNetworkInterfaces"],
    }
    path = tmp_path / "all.json"
    path.write_text(json.dumps(keyed), encoding="utf-8")
    write(tmp_path, {})
    (tmp_path / "folder").mkdir()
    assert load(path).state == load(write(tmp_path / "folder", BASE)).state


def test_file_names_mean_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    renamed = {f"x{number}": answer for number, answer in enumerate(BASE.values())}
    assert load(write(tmp_path / "a", renamed)).state == load(write(tmp_path / "b", BASE)).state


def test_pages_are_put_together(tmp_path: Path) -> None:
    pages = {
        "g1": page("x", *GROUPS, group("sg-web"), total=2)["x"],
        "g2": page("x", *GROUPS, group("sg-db"), total=2)["x"],
        "w1": attribute("sg-web", permission("sgr-1", **IN_TCP, SourceCidrIp="10.0.0.0/8"), NextToken="t"),
        "w2": attribute("sg-web", permission("sgr-2", **IN_TCP, SourceCidrIp="11.0.0.0/8")),
        "d": attribute("sg-db"),
    }
    state = load(write(tmp_path, pages)).state
    assert [rule.security_group_rule_id for rule in state.group["sg-web"].rules] == ["sgr-1", "sgr-2"]


def test_a_group_is_read_from_both_of_its_answers(tmp_path: Path) -> None:
    tags = {"Tag": [{"TagKey": "b", "TagValue": "2"}, {"Key": "a", "Value": "1"}]}
    said = {"SecurityGroupName": "web", "Description": "d", "ServiceManaged": True, "SecurityGroupType": "Enterprise"}
    pages = page(LIST, *GROUPS, group("sg-web", **said, Tags=tags), group("sg-db"))
    state = read(tmp_path, **pages, **{WEB: attribute("sg-web", InnerAccessPolicy="drop")}).state
    web = state.group["sg-web"]
    assert (web.security_group_name, web.description, web.service_managed) == ("web", "d", True)
    assert (web.security_group_type, web.inner_access_policy) == (GroupType.ENTERPRISE, Verdict.DROP)
    assert web.tags == (("a", "1"), ("b", "2"))


def test_a_rule_of_each_kind_is_read(tmp_path: Path) -> None:
    prefix_list: Answers = {
        "PrefixListId": "pl-a",
        "AddressFamily": "IPv4",
        "MaxEntries": "5",
        "Entries": {"Entry": [{"Cidr": "192.0.2.0/24", "Description": "hq"}]},
    }
    ports: Answers = {"RequestId": "R", "Entries": [{"PortRange": "80/90", "Description": "w"}]}
    lists = {"pl": prefix_list, "DescribePortRangeListEntries-prl-a": ports}
    egress = {"Direction": "EGRESS", "IpProtocol": "ALL", "PortRange": "-1/-1"}
    web = attribute(
        "sg-web",
        permission("sgr-1", **IN_TCP, SourceGroupId="sg-db", DestCidrIp="10.0.0.5", Priority="7", Policy="DROP"),
        permission("sgr-2", **egress, DestGroupId="sg-foreign", Ipv6SourceCidrIp="2001:db8::5"),
        permission("sgr-3", **{**IN_TCP, "PortRange": ""}, PortRangeListId="prl-a", SourcePrefixListId="pl-a"),
        permission("sgr-4", **egress, Ipv6DestCidrIp="::/0", Description="out"),
        permission("sgr-5", Direction="egress", IpProtocol="17", PortRange="53/53", SourcePortRange="1/2",
                   DestPrefixListId="pl-a", Policy="accept"),
    )  # fmt: skip
    loaded = read(tmp_path, **lists, **{WEB: web})
    one, two, three, four, five = loaded.state.group["sg-web"].rules
    assert (one.remote, one.narrowing, one.priority, one.policy) == (
        GroupRef("sg-db"), Prefix.parse("10.0.0.5"), 7, Verdict.DROP,
    )  # fmt: skip
    assert (two.remote, two.direction, two.narrowing) == (
        GroupRef("sg-foreign"), Direction.EGRESS, Prefix.parse("2001:db8::5"),
    )  # fmt: skip
    assert (three.port_list_id, three.port_range, three.remote) == ("prl-a", None, PrefixListRef("pl-a"))
    assert (four.remote, four.description) == (Prefix.parse("::/0"), "out")
    assert (five.ip_protocol, five.source_port_range, five.remote) == (
        Protocol(17), PortRange(1, 2), PrefixListRef("pl-a"),
    )  # fmt: skip
    assert loaded.state.port_list["prl-a"].entries[0].description == "w"
    assert [finding.message for finding in loaded.findings] == [
        "the size of prl-a is unknown, so the number of its entries is taken: 1"
    ]


def test_a_group_known_only_as_remote_is_taken_and_has_no_members(tmp_path: Path) -> None:
    (rule,) = rules_of(tmp_path, permission("sgr-1", **IN_TCP, SourceGroupId="sg-foreign"))
    assert rule.remote == GroupRef("sg-foreign")


def test_an_eni_of_every_kind_is_read(tmp_path: Path) -> None:
    whole = eni(
        "eni-1", "10.0.0.5",
        Type="secondary", InstanceId="", Attachment={"InstanceId": "i-1"}, MacAddress="00:16:3E:00:00:09",
        PrivateIpSets={"PrivateIpSet": [{"PrivateIpAddress": "10.0.0.7"}, {"PrivateIpAddress": "10.0.0.5"}]},
        Ipv6Sets={"Ipv6Set": [{"Ipv6Address": "2001:db8::5"}]},
        Ipv4PrefixSets={"Ipv4PrefixSet": [{"Ipv4Prefix": "10.0.1.0/28"}]},
        Ipv6PrefixSets={"Ipv6PrefixSet": [{"Ipv6Prefix": "2001:db8:1::/80"}]},
        SecurityGroupIds={"SecurityGroupId": ["sg-web", "sg-db"]},
        ConnectionTrackingConfiguration={"TcpEstablishedTimeout": 300, "UdpTimeout": "60"},
        SgdpAllowedAddressPairs=["192.0.2.0/24"],
    )  # fmt: skip
    primary = eni("eni-0", "10.0.0.4", InstanceId="i-1")
    sets = page(INTERFACES, *SETS, whole, primary)
    read_back = read(tmp_path, **sets).state.eni["eni-1"]
    assert [str(address) for address in read_back.private_ip_addresses] == ["10.0.0.5", "10.0.0.7"]
    assert (read_back.type, read_back.instance_id) == (EniType.SECONDARY, "i-1")
    assert read_back.mac_address == "00:16:3e:00:00:09"
    assert [str(prefix) for prefix in read_back.delegated_prefixes] == ["10.0.1.0/28", "2001:db8:1::/80"]
    assert read_back.security_group_ids == ("sg-db", "sg-web")
    assert read_back.connection_tracking == ConnectionTracking(300, 3, 60)
    assert read_back.allowed_address_pairs == (Prefix.parse("192.0.2.0/24"),)


def test_an_answer_about_one_eni_adds_its_timeouts(tmp_path: Path) -> None:
    one = {"RequestId": "R", "NetworkInterfaceId": "eni-1", "MacAddress": "", "VpcId": "vpc-a",
           "ConnectionTrackingConfiguration": {"UdpTimeout": 100}}  # fmt: skip
    assert read(tmp_path, one=one).state.eni["eni-1"].connection_tracking.udp_timeout == 100


def test_an_eni_known_only_by_its_own_answer_is_read(tmp_path: Path) -> None:
    one = {"RequestId": "R", **eni("eni-2", "10.0.0.6")}
    assert [entry.network_interface_id for entry in read(tmp_path, one=one).state.network_interfaces] == [
        "eni-1",
        "eni-2",
    ]


def test_blocks_of_a_vpc_come_from_its_own_answer(tmp_path: Path) -> None:
    vpc = {
        "VpcId": "vpc-a",
        "CidrBlock": "10.0.0.0/16",
        "SecondaryCidrBlocks": {"SecondaryCidrBlock": ["10.2.0.0/16"]},
        "Ipv6CidrBlock": "2001:db8::/48",
        "Ipv6CidrBlocks": {"Ipv6CidrBlock": [{"Ipv6CidrBlock": "2001:db8::/48"}]},
    }
    state = read(tmp_path, **page("DescribeVpcs", "Vpcs", "Vpc", vpc)).state
    assert [str(block) for block in state.vpcs[0].cidr_blocks] == ["10.0.0.0/16", "10.2.0.0/16", "2001:db8::/48"]


def test_what_has_no_vpc_is_classic(tmp_path: Path) -> None:
    instance = {"InstanceId": "i-old", "InstanceName": "old", "InstanceNetworkType": "classic",
                "SecurityGroupIds": {"SecurityGroupId": ["sg-old"]}, "InnerIpAddress": {"IpAddress": ["10.9.0.1"]},
                "PublicIpAddress": {"IpAddress": ["198.51.100.9"]}}  # fmt: skip
    groups = page(LIST, *GROUPS, group("sg-web"), group("sg-db"), group("sg-old", VpcId=""))
    state = read(tmp_path, **groups, old=attribute("sg-old"), **page(*INSTANCES, instance)).state
    assert state.vpc["classic"].network_type is NetworkType.CLASSIC
    assert state.group["sg-old"].vpc_id == "classic"
    inner, outer = state.eni["i-old-intranet"], state.eni["i-old-internet"]
    assert [(e.nic_type, str(e.addresses[0]), e.vpc_id) for e in (inner, outer)] == [
        (NicType.INTRANET, "10.9.0.1", "classic"),
        (NicType.INTERNET, "198.51.100.9", "classic"),
    ]
    assert state.instance["i-old"].instance_name == "old"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"RequestId": "R", "Regions": {"Region": []}}, "it answers no call that a state is made of"),
        ({"RequestId": "R", "Entries": [{"PortRange": "1/2"}]},
         "it doesn't say which list it is about; name the file DescribePortRangeListEntries-<id>.json"),
    ],
    ids=["unknown call", "port list entries without an id"],
)  # fmt: skip
def test_an_answer_of_no_use_is_ignored_and_reported(answer: Answers, message: str, tmp_path: Path) -> None:
    (finding,) = read(tmp_path, other=answer).findings
    assert finding.code == "IgnoredAnswer"
    assert finding.message == f"{tmp_path / 'other.json'} is ignored: {message}"


def test_sizes_and_names_of_port_lists_come_from_their_own_answer(tmp_path: Path) -> None:
    lists = [{"PortRangeListId": "prl-a", "PortRangeListName": "n", "MaxEntries": 9, "Description": "d"}]
    loaded = read(
        tmp_path,
        lists={"RequestId": "R", "NextToken": "", "PortRangeLists": lists},
        entries={"RequestId": "R", "PortRangeListId": "prl-a", "Entries": [{"PortRange": "1/2"}]},
    )
    port_list = loaded.state.port_list["prl-a"]
    assert (port_list.max_entries, port_list.port_list_name, port_list.description) == (9, "n", "d")
    assert loaded.findings == ()


def test_one_answer_about_a_group_is_enough_to_review_it(tmp_path: Path) -> None:
    said = {"Direction": "ingress", "IpProtocol": "TCP", "PortRange": "22/22", "SourceCidrIp": "0.0.0.0/0"}
    loaded = load(write(tmp_path, {"x": attribute("sg-x", permission("sgr-a", **said))}))
    assert [len(group.rules) for group in loaded.state.security_groups] == [1]
    assert [finding.code for finding in loaded.findings] == ["AssumedBasic"]
