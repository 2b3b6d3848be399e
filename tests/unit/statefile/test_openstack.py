"""Groups and ports of OpenStack, as its client prints them and as its API answers. What rules decide is held against a
judge in tests/property/test_other_clouds.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sgdataplane.errors import StateFileError
from tests.unit.statefile.aws_documents import codes, read, rows

Json = dict[str, Any]


def printed(rule_id: str, **more: object) -> Json:
    """A row of `openstack security group rule list -f json`."""
    return {
        "ID": rule_id, "IP Protocol": "tcp", "Ethertype": "IPv4", "IP Range": "0.0.0.0/0", "Port Range": "22:22",
        "Direction": "ingress", "Remote Security Group": None, "Remote Address Group": None, "Security Group": "web",
        **more,
    }  # fmt: skip


def without(row: Json, name: str) -> Json:
    return {key: value for key, value in row.items() if key != name}


def port(number: int, **more: object) -> Json:
    """A row of `openstack port list --long -f json`."""
    return {
        "ID": f"port-{number}", "Name": "", "MAC Address": f"fa:16:3e:00:00:0{number}", "Status": "ACTIVE",
        "Fixed IP Addresses": [{"subnet_id": "s", "ip_address": f"10.0.0.{number}"}], "Security Groups": ["web"],
        "Device Owner": "compute:nova", "Tags": [], **more,
    }  # fmt: skip


def test_rows_of_the_client_are_read(tmp_path: Path) -> None:
    loaded = read(tmp_path, rules=[printed("r-1"), printed("r-2", **{"IP Protocol": None, "Port Range": ""})],
                  ports=[port(1)], groups=[{"ID": "web", "Name": "web servers", "Description": ""}])  # fmt: skip
    assert rows(loaded, "web") == ["ingress all 0.0.0.0/0", "ingress tcp 22/22 0.0.0.0/0"]
    assert loaded.state.group["web"].security_group_name == "web servers"
    assert [str(address) for address in loaded.state.eni["port-1"].addresses] == ["10.0.0.1"]
    assert loaded.origin == "openstack"


def test_a_port_of_which_the_server_is_not_said_is_known_by_its_name(tmp_path: Path) -> None:
    known = port(2, **{"Device ID": "vm-2", "Name": "db"})
    loaded = read(
        tmp_path, rules=[printed("r-1")], ports=[port(1, Name="web1"), known, port(3, **{"Device ID": "vm-2"})]
    )
    assert [(i.instance_id, i.instance_name) for i in loaded.state.instances] == [("port-1", "web1"), ("vm-2", "db")]
    assert {e.network_interface_id: e.instance_id for e in loaded.state.network_interfaces} == {
        "port-1": "port-1", "port-2": "vm-2", "port-3": "vm-2",
    }  # fmt: skip


def test_texts_of_older_clients_are_read(tmp_path: Path) -> None:
    old = port(1, **{"Fixed IP Addresses": "ip_address='10.0.0.9', subnet_id='s'", "Security Groups": "web, db"})
    loaded = read(tmp_path, rules=[printed("r-1"), printed("r-2", **{"Security Group": "db"})], ports=[old])
    eni = loaded.state.eni["port-1"]
    assert (str(eni.addresses[0]), eni.security_group_ids) == ("10.0.0.9", ("db", "web"))


def test_a_remote_group_wins_over_the_block_that_the_client_prints_beside_it(tmp_path: Path) -> None:
    loaded = read(tmp_path, rules=[printed("r-1", **{"Remote Security Group": "web"})], ports=[port(1)])
    (rule,) = [r for r in loaded.state.group["web"].rules if r.security_group_rule_id == "r-1"]
    assert str(getattr(rule.remote, "security_group_id", "")) == "web.self"
    assert str(rule.narrowing) == "0.0.0.0/0"


@pytest.mark.parametrize(
    ("more", "lacks"),
    [
        pytest.param({"IP Protocol": "icmp", "Port Range": "type=8:code=0"}, "icmp of type 8, code 0", id="icmp"),
        pytest.param({"IP Protocol": "sctp", "Port Range": "5:9"}, "ports 5-9 of protocol 132", id="sctp"),
    ],
)
def test_what_cannot_be_said_is_refused(tmp_path: Path, more: Json, lacks: str) -> None:
    with pytest.raises(StateFileError, match=lacks) as error:
        read(tmp_path, rules=[printed("r-1", **more)])
    assert [problem.code for problem in error.value.problems] == ["InvalidSource.NotExact"]
    assert codes(read(tmp_path, "widen")) == ["Widened"]


def test_allowed_address_pairs_of_members_are_not_members_here(tmp_path: Path) -> None:
    shared = {**port(1), "allowed_address_pairs": [{"ip_address": "10.0.0.100"}]}
    files = {"rules": [printed("r-1", **{"Remote Security Group": "web"})], "ports": [shared]}
    with pytest.raises(StateFileError, match="allowed address pairs"):
        read(tmp_path, **files)
    names = {rule.security_group_rule_id for rule in read(tmp_path, "narrow").state.group["web"].rules}
    assert {"r-1", "r-1-narrowed"} <= names


def test_the_command_is_named_whose_answer_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StateFileError, match="openstack security group rule list") as error:
        read(tmp_path, ports=[port(1)])
    assert error.value.problems[0].code == "InvalidSource.MissingAnswer"


GROUP_ROW = {"ID": "web", "Name": "web", "Description": "", "Project": "p", "Tags": []}
OLD_TEXT = "created_at='2019-01-01T00:00:00Z', direction='egress', ethertype='IPv4', id='r-1'"
SHOWN = {"id": "web", "name": "web", "description": ""}
SERVERS = [{"ID": "s-1", "Name": "vm", "Status": "ACTIVE", "Networks": {"n": ["10.0.0.1"]}, "Image": "", "Flavor": ""}]


@pytest.mark.parametrize(
    ("files", "place"),
    [
        pytest.param({"groups": [GROUP_ROW]}, "groups.json:1 /0", id="rows of groups alone"),
        pytest.param({"web": {**SHOWN, "rules": OLD_TEXT}}, "/rules", id="rules as an older client's text"),
        pytest.param({"all": {"security_groups": [SHOWN], "ports": []}}, "/security_groups/0", id="the API's groups"),
        pytest.param({"servers": SERVERS}, "servers.json", id="servers"),
        pytest.param({"rules": [without(printed("r-1"), "Security Group")]}, "/0", id="one group's rules"),
    ],
)
def test_groups_whose_rules_are_not_there_are_refused(tmp_path: Path, files: Json, place: str) -> None:
    with pytest.raises(StateFileError, match="openstack security group rule list") as error:
        read(tmp_path, **files)
    (problem,) = error.value.problems
    assert problem.code == "InvalidSource.MissingAnswer"
    assert str(problem.where).endswith(place)


def test_what_is_something_else_is_ignored_and_said(tmp_path: Path) -> None:
    loaded = read(tmp_path, rules=[printed("r-1")], servers=SERVERS)
    assert codes(loaded) == ["IgnoredAnswer"]
    assert [group.security_group_id for group in loaded.state.security_groups] == ["web"]


def test_a_group_without_any_rule_is_one_that_accepts_nothing(tmp_path: Path) -> None:
    loaded = read(tmp_path, all={"security_groups": [{**SHOWN, "security_group_rules": []}]})
    assert rows(loaded, "web") == []
    listed = read(tmp_path, all={"security_groups": [SHOWN], "security_group_rules": []})
    assert rows(listed, "web") == []


@pytest.mark.parametrize(("stateful", "found"), [(True, []), (None, []), (False, ["Stateless"])])
def test_a_stateless_group_is_said(tmp_path: Path, stateful: bool | None, found: list[str]) -> None:
    group: Json = {**SHOWN, "security_group_rules": [], "stateful": stateful}
    assert codes(read(tmp_path, all={"security_groups": [group]})) == found


def test_rules_of_a_group_that_is_shown_need_not_name_it(tmp_path: Path) -> None:
    rule = {"id": "r-1", "direction": "ingress", "ethertype": "IPv4", "remote_ip_prefix": "10.0.0.0/8"}
    assert rows(read(tmp_path, web={**SHOWN, "rules": [rule]}), "web") == ["ingress all 10.0.0.0/8"]


def test_allowed_address_pairs_may_be_the_text_of_an_older_client(tmp_path: Path) -> None:
    text = "ip_address='10.0.0.100/30', mac_address='fa:16:3e:00:00:01'"
    loaded = read(tmp_path, rules=[printed("r-1")], ports=[port(1, **{"Allowed Address Pairs": text})])
    assert [str(each) for each in loaded.state.eni["port-1"].allowed_address_pairs] == ["10.0.0.100/30"]


@pytest.mark.parametrize(
    ("more", "code", "expected"),
    [
        pytest.param({"Port Range": "any"}, "InvalidParam.PortRange", "22:80", id="ports"),
        pytest.param({"Port Range": 22}, "InvalidParam.PortRange", "22:80", id="ports-as-a-number"),
        pytest.param({"Port Range": "80:22"}, "InvalidParam.PortRange", "from 80 to 65535", id="ports-reversed"),
        pytest.param({"Port Range": "22:70000"}, "InvalidParam.PortRange", "0 to 65535", id="port-too-high"),
        pytest.param({"Direction": "both"}, "InvalidDirection.ValueNotSupported", "ingress or egress", id="direction"),
        pytest.param({"Ethertype": "ARP"}, "InvalidEthertype.ValueNotSupported", "ipv4 or ipv6", id="ethertype"),
        pytest.param({"IP Protocol": "tpc"}, "InvalidIpProtocol.ValueNotSupported", "null for all", id="protocol"),
        pytest.param({"Remote Security Group": 5}, "InvalidDocument.WrongType", "text", id="group"),
    ],
)
def test_what_cannot_be_read_never_means_all(tmp_path: Path, more: Json, code: str, expected: str) -> None:
    with pytest.raises(StateFileError) as error:
        read(tmp_path, rules=[printed("r-1", **more)])
    (problem,) = error.value.problems
    assert (problem.code, problem.value) == (code, str(next(iter(more.values()))).split(":")[-1])
    assert expected in problem.expected


def test_rules_without_a_direction_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StateFileError, match="--long"):
        read(tmp_path, rules=[without(printed("r-1"), "Direction")])


def test_an_address_group_is_a_prefix_list_of_each_family(tmp_path: Path) -> None:
    named = [printed("r-1", **{"Remote Address Group": "ag"}),
             printed("r-2", **{"Remote Address Group": "ag", "Ethertype": "IPv6"})]  # fmt: skip
    loaded = read(tmp_path, rules=named, ag={"id": "ag", "name": "x", "addresses": ["192.0.2.0/24", "2001:db8::/32"]})
    assert {p.prefix_list_id: [str(e.cidr) for e in p.entries] for p in loaded.state.prefix_lists} == {
        "ag.ipv4": ["192.0.2.0/24"], "ag.ipv6": ["2001:db8::/32"],
    }  # fmt: skip
