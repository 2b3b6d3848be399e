"""Answers of AWS: which ones are needed, what they mean, and what is refused. What rules decide is held against a judge
in tests/property/test_other_clouds.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgdataplane.errors import StateFileError
from sgdataplane.model.semantics import decide
from sgdataplane.model.state import EniType
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import TCP, Address, Direction, Verdict
from tests.unit.statefile.aws_documents import blocks, codes, group, interface, pairs, permission, read, rows

WEB = group("sg-web", permission("tcp", 443, 443, IpRanges=blocks("0.0.0.0/0"), Ipv6Ranges=blocks("::/0")))


def test_a_permission_makes_a_rule_for_each_far_end(tmp_path: Path) -> None:
    loaded = read(tmp_path, groups={"SecurityGroups": [WEB]})
    assert rows(loaded, "sg-web") == [
        "egress all 0.0.0.0/0", "ingress tcp 443/443 0.0.0.0/0", "ingress tcp 443/443 ::/0",
    ]  # fmt: skip
    assert {rule.security_group_rule_id for rule in loaded.state.group["sg-web"].rules} == {
        "in-tcp-443-from-any-ipv4", "in-tcp-443-from-any-ipv6", "out-all-to-any-ipv4", "nothing-else-ipv4",
        "nothing-else-ipv6",
    }  # fmt: skip
    assert [finding.code for finding in loaded.findings] == ["OtherCloud"]
    assert "on_change = keep" in loaded.findings[0].message


def test_what_no_rule_accepts_is_dropped_in_both_directions(tmp_path: Path) -> None:
    closed = group("sg-web", egress=(permission("tcp", 443, 443, IpRanges=blocks("0.0.0.0/0")),))
    loaded = read(tmp_path, groups={"SecurityGroups": [closed]}, enis={"NetworkInterfaces": [interface(1, "sg-web")]})

    def verdict(direction: Direction, port: int) -> Verdict:
        far, own = Address.parse("192.0.2.1"), Address.parse("10.0.0.1")
        return decide(loaded.state, Packet("eni-1", direction, far, own, TCP, port, 40000)).verdict

    assert [verdict(Direction.EGRESS, port) for port in (443, 80)] == [Verdict.ACCEPT, Verdict.DROP]
    assert verdict(Direction.INGRESS, 443) is Verdict.DROP


def test_a_group_that_names_itself_means_its_members(tmp_path: Path) -> None:
    own = group("sg-own", permission("-1", UserIdGroupPairs=pairs("sg-own")))
    loaded = read(tmp_path, groups={"SecurityGroups": [own]}, enis={"NetworkInterfaces": [interface(1, "sg-own")]})
    assert loaded.state.eni["eni-1"].security_group_ids == ("sg-own", "sg-own.self")
    assert [
        r.security_group_rule_id for r in loaded.state.group["sg-own"].rules if "in-" in r.security_group_rule_id
    ] == ["in-all-from-sg-own"]


def test_instances_have_their_names_and_their_first_interface_is_the_primary_one(tmp_path: Path) -> None:
    second = interface(2, "sg-web", Attachment={"InstanceId": "i-1", "DeviceIndex": 1})
    loaded = read(
        tmp_path, groups={"SecurityGroups": [WEB]}, enis={"NetworkInterfaces": [second, interface(1, "sg-web")]},
        instances={"Reservations": [{"Instances": [
            {"InstanceId": "i-1", "Tags": [{"Key": "Name", "Value": "web"}], "NetworkInterfaces": []}]}]},
    )  # fmt: skip
    assert [(i.instance_id, i.instance_name) for i in loaded.state.instances] == [("i-1", "web")]
    assert {eni.network_interface_id: eni.type for eni in loaded.state.network_interfaces} == {
        "eni-1": EniType.PRIMARY, "eni-2": EniType.SECONDARY,
    }  # fmt: skip


def test_interfaces_of_instances_are_enough(tmp_path: Path) -> None:
    inside = {"InstanceId": "i-1", "NetworkInterfaces": [interface(1, "sg-web")]}
    loaded = read(tmp_path, groups={"SecurityGroups": [WEB]}, instances={"Reservations": [{"Instances": [inside]}]})
    assert [eni.instance_id for eni in loaded.state.network_interfaces] == ["i-1"]


def test_an_interface_without_groups_is_left_out_and_said(tmp_path: Path) -> None:
    loaded = read(tmp_path, groups={"SecurityGroups": [WEB]}, enis={"NetworkInterfaces": [interface(1)]})
    assert loaded.state.network_interfaces == ()
    assert codes(loaded) == ["Unfiltered"]


def test_an_interface_that_routes_may_send_from_any_address(tmp_path: Path) -> None:
    router = interface(1, "sg-web", SourceDestCheck=False)
    loaded = read(tmp_path, groups={"SecurityGroups": [WEB]}, enis={"NetworkInterfaces": [router]})
    assert list(map(str, loaded.state.eni["eni-1"].allowed_address_pairs)) == ["0.0.0.0/0", "::/0"]


def test_a_prefix_list_has_its_size_in_one_answer_and_its_entries_in_a_file_of_its_name(tmp_path: Path) -> None:
    listed = group("sg-web", permission("tcp", 22, 22, PrefixListIds=[{"PrefixListId": "pl-1"}]))
    described = {"PrefixLists": [{"PrefixListId": "pl-1", "AddressFamily": "IPv4", "MaxEntries": 10,
                                  "PrefixListName": "offices"}]}  # fmt: skip
    loaded = read(
        tmp_path, groups={"SecurityGroups": [listed]}, lists=described, pl_1={"Entries": [{"Cidr": "192.0.2.0/24"}]}
    )
    (found,) = loaded.state.prefix_lists
    assert (found.prefix_list_name, found.max_entries, str(found.entries[0].cidr)) == ("offices", 10, "192.0.2.0/24")


def refused(folder: Path, **files: object) -> dict[str, str]:
    with pytest.raises(StateFileError) as error:
        read(folder, **files)
    return {problem.code: f"{problem.message}; {problem.expected}" for problem in error.value.problems}


def test_the_call_is_named_whose_answer_is_missing(tmp_path: Path) -> None:
    listed = group("sg-web", permission("tcp", 22, 22, PrefixListIds=[{"PrefixListId": "pl-1"}]))
    found = refused(tmp_path, groups={"SecurityGroups": [listed]})
    assert "get-managed-prefix-list-entries --prefix-list-id pl-1 > pl-1.json" in found["InvalidSource.MissingAnswer"]


def test_without_groups_there_is_nothing_to_review(tmp_path: Path) -> None:
    assert (
        "describe-security-groups"
        in refused(tmp_path, enis={"NetworkInterfaces": [interface(1, "sg-web")]})["InvalidSource.MissingAnswer"]
    )


def test_a_group_without_one_of_its_lists_is_not_the_whole(tmp_path: Path) -> None:
    for key in ("IpPermissions", "IpPermissionsEgress"):
        partial = {name: value for name, value in WEB.items() if name != key}
        found = refused(tmp_path, groups={"SecurityGroups": [partial]})
        assert key in found["InvalidSource.MissingAnswer"]


def test_a_page_is_not_the_whole(tmp_path: Path) -> None:
    assert "InvalidSource.IncompletePages" in refused(tmp_path, groups={"SecurityGroups": [WEB], "NextToken": "x"})


PING = group("sg-web", permission("icmp", 8, -1, IpRanges=blocks("10.0.0.0/8")))
FAR_GROUP = [group("sg-web", permission("tcp", 22, 22, UserIdGroupPairs=pairs("sg-far"))), group("sg-far", vpc="vpc-2")]


@pytest.mark.parametrize(
    ("groups", "lacks"),
    [
        pytest.param([PING], "icmp of type 8", id="icmp-type"),
        pytest.param(FAR_GROUP, "the members of sg-far, which is in vpc-2", id="group-of-another-vpc"),
    ],
)
def test_what_cannot_be_said_is_refused_with_its_rule_or_widened_or_narrowed(
    tmp_path: Path, groups: list[object], lacks: str
) -> None:
    said = refused(tmp_path, groups={"SecurityGroups": groups})["InvalidSource.NotExact"]
    assert lacks in said
    assert "of sg-web" in said
    assert "--inexact widen" in said
    for way, code, policy in (("widen", "Widened", "accept"), ("narrow", "Narrowed", "drop")):
        loaded = read(tmp_path, way)
        assert codes(loaded) == [code]
        marked = [r for r in loaded.state.group["sg-web"].rules if f"-{code.lower()}" in r.security_group_rule_id]
        assert marked
        assert {rule.policy.value for rule in marked} == {policy}


def test_a_rule_that_is_inexact_for_two_reasons_is_widened_for_both(tmp_path: Path) -> None:
    ping = group("sg-web", permission("icmp", 8, 0, UserIdGroupPairs=pairs("sg-far")))
    both = {"groups": {"SecurityGroups": [ping, group("sg-far", vpc="vpc-2")]}}
    said = refused(tmp_path, **both)["InvalidSource.NotExact"]
    assert "icmp of type 8, code 0 and the members of sg-far, which is in vpc-2" in said
    assert "all of icmp with any address" in said
    assert [row for row in rows(read(tmp_path, "widen"), "sg-web") if "icmp" in row] == [
        "ingress icmp 0.0.0.0/0", "ingress icmp ::/0",
    ]  # fmt: skip


def test_rules_that_name_a_group_of_which_an_interface_is_left_out_are_not_exact(tmp_path: Path) -> None:
    only = interface(2, "sg-web", PrivateIpAddresses=[], Ipv6Addresses=[{"Ipv6Address": "2001:db8::1"}])
    own = group("sg-web", permission("tcp", 22, 22, UserIdGroupPairs=pairs("sg-web")), egress=())
    files = {"groups": {"SecurityGroups": [own]}, "enis": {"NetworkInterfaces": [interface(1, "sg-web"), only]}}
    assert rows(read(tmp_path, "widen", **files), "sg-web") == [
        "ingress tcp 22/22 0.0.0.0/0", "ingress tcp 22/22 ::/0",
        "ingress tcp 22/22 GroupRef(security_group_id='sg-web.self')",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ports", "value", "expected"),
    [
        pytest.param(("rubbish", 443), "rubbish", "a number from 0 to 65535", id="text"),
        pytest.param((443, None), "", "a number from 0 to 65535", id="missing"),
        pytest.param((-1, -1), "-1", "a number from 0 to 65535", id="minus-one"),
        pytest.param((443, 80), "80", "a number from 443 to 65535", id="reversed"),
    ],
)
def test_a_port_that_cannot_be_read_is_no_range_of_all(
    tmp_path: Path, ports: tuple[object, object], value: str, expected: str
) -> None:
    first, last = ports
    odd = {**permission("tcp", IpRanges=blocks("10.0.0.0/8", "192.0.2.0/24")), "FromPort": first, "ToPort": last}
    with pytest.raises(StateFileError) as error:
        read(tmp_path, groups={"SecurityGroups": [group("sg-web", odd)]})
    assert {(problem.value, problem.expected) for problem in error.value.problems} == {(value, expected)}
    assert "/IpPermissions/0/" in error.value.problems[0].where.pointer


@pytest.mark.parametrize(
    ("kind", "code", "value"),
    [
        pytest.param("rubbish", -1, "rubbish", id="text"),
        pytest.param(300, -1, "300", id="too-large"),
        pytest.param(-1, 3, "3", id="a-code-of-any-type"),
        pytest.param(None, -1, "", id="missing"),
    ],
)
def test_an_icmp_type_that_cannot_be_read_is_not_all_of_icmp(
    tmp_path: Path, kind: object, code: object, value: str
) -> None:
    odd = {**permission("icmp", IpRanges=blocks("10.0.0.0/8")), "FromPort": kind, "ToPort": code}
    with pytest.raises(StateFileError) as error:
        read(tmp_path, groups={"SecurityGroups": [group("sg-web", odd)]})
    assert {(problem.code, problem.value) for problem in error.value.problems} == {("InvalidParam.IcmpType", value)}


def test_a_group_of_another_account_is_known_by_id_alone(tmp_path: Path) -> None:
    other = group("sg-web", permission("tcp", 22, 22, UserIdGroupPairs=pairs("sg-theirs")))
    assert read(tmp_path, groups={"SecurityGroups": [other]}).state.unknown_groups == {"sg-theirs"}


def test_port_zero_is_left_out_and_said(tmp_path: Path) -> None:
    zero = group("sg-web", permission("tcp", 0, 65535, IpRanges=blocks("10.0.0.0/8")),
                 permission("udp", 0, 0, IpRanges=blocks("10.0.0.0/8")))  # fmt: skip
    loaded = read(tmp_path, groups={"SecurityGroups": [zero]})
    assert rows(loaded, "sg-web") == ["egress all 0.0.0.0/0", "ingress tcp 1/65535 10.0.0.0/8"]
    assert codes(loaded) == ["PortZero"]


def test_an_interface_with_ipv6_alone_is_refused_or_left_out(tmp_path: Path) -> None:
    only = interface(1, "sg-web", PrivateIpAddresses=[], Ipv6Addresses=[{"Ipv6Address": "2001:db8::1"}])
    files = {"groups": {"SecurityGroups": [WEB]}, "enis": {"NetworkInterfaces": [only]}}
    assert "MissingParameter.PrivateIpAddresses" in refused(tmp_path, **files)
    assert codes(read(tmp_path, "narrow")) == ["Narrowed"]


def test_quotas_of_another_cloud_do_not_hold(tmp_path: Path) -> None:
    many = [group(f"sg-{number}") for number in range(12)]
    enis = {"NetworkInterfaces": [interface(1, *(f"sg-{number}" for number in range(12)))]}
    assert len(read(tmp_path, groups={"SecurityGroups": many}, enis=enis).state.eni["eni-1"].security_group_ids) == 12


def test_answers_that_no_rule_depends_on_are_ignored(tmp_path: Path) -> None:
    loaded = read(tmp_path, groups={"SecurityGroups": [WEB]}, subnets={"Subnets": [{"SubnetId": "subnet-1"}]})
    assert codes(loaded) == ["IgnoredAnswer"]


def test_lists_may_be_null(tmp_path: Path) -> None:
    odd = {**WEB, "IpPermissions": [{"IpProtocol": "-1", "IpRanges": None, "UserIdGroupPairs": pairs("sg-web")}]}
    assert len(read(tmp_path, groups={"SecurityGroups": [odd]}).state.security_groups) == 2
