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


def test_rules_without_a_direction_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StateFileError, match="--long"):
        read(tmp_path, rules=[{k: v for k, v in printed("r-1").items() if k != "Direction"}])


def test_an_address_group_is_a_prefix_list_of_each_family(tmp_path: Path) -> None:
    named = [printed("r-1", **{"Remote Address Group": "ag"}),
             printed("r-2", **{"Remote Address Group": "ag", "Ethertype": "IPv6"})]  # fmt: skip
    loaded = read(tmp_path, rules=named, ag={"id": "ag", "name": "x", "addresses": ["192.0.2.0/24", "2001:db8::/32"]})
    assert {p.prefix_list_id: [str(e.cidr) for e in p.entries] for p in loaded.state.prefix_lists} == {
        "ag.ipv4": ["192.0.2.0/24"], "ag.ipv6": ["2001:db8::/32"],
    }  # fmt: skip
