"""Both ways to write a state: what the text looks like, and that the same state gives the same bytes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from sgdataplane.statefile import dump_ecs, dump_native, load
from sgdataplane.statefile.dump_native import scalar
from sgdataplane.statefile.yamltext import parse_yaml
from tests.unit.statefile.documents import load_text
from tests.unit.statefile.test_native import EVERY_FIELD, EXPECTED

PLEASANT = """\
version: 1
vpcs:
  - {vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16, "2001:db8:a::/48"]}
prefix_lists:
  - prefix_list_id: pl-a
    address_family: IPv4
    max_entries: 10
    entries:
      - {cidr: 192.0.2.0/24, description: head office}
security_groups:
  - security_group_id: sg-adv
    security_group_type: enterprise
    vpc_id: vpc-a
    inner_access_policy: Drop
  - security_group_id: sg-web
    security_group_name: web
    security_group_type: normal
    vpc_id: vpc-a
    inner_access_policy: Accept
    tags: {env: prod}
    rules:
      - {type: egress, ip_protocol: all, port_range: -1/-1, cidr_ip: 203.0.113.0/24, policy: drop, priority: 5}
      - {type: ingress, ip_protocol: tcp, port_range: 443/443, cidr_ip: 0.0.0.0/0, security_group_rule_id: sgr-web}
instances:
  - {instance_id: i-web1, instance_name: web1}
network_interfaces:
  - network_interface_id: eni-web1
    instance_id: i-web1
    type: primary
    vpc_id: vpc-a
    mac_address: "00:16:3e:00:00:01"
    private_ip_addresses: [10.0.0.11]
    security_group_ids: [sg-web]
    connection_tracking: {udp_timeout: 60}
"""


def test_a_document_in_the_written_form_is_written_back_byte_for_byte(tmp_path: Path) -> None:
    assert dump_native(load_text(tmp_path, PLEASANT).state) == PLEASANT


def test_every_field_is_written_natively(tmp_path: Path) -> None:
    text = dump_native(EXPECTED)
    assert load_text(tmp_path, text).state == EXPECTED
    assert dump_native(load_text(tmp_path, text).state) == text


def test_every_field_is_written_as_answers(tmp_path: Path) -> None:
    """But what is on trial, for which the cloud's answers have no place, and which decides nothing."""
    files = dump_ecs(EXPECTED)
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    state = load(tmp_path).state
    groups = tuple(replace(group, trial=None) for group in EXPECTED.security_groups)
    assert state == replace(EXPECTED, security_groups=groups)
    assert dump_ecs(state) == files


def test_answers_are_named_by_their_calls(tmp_path: Path) -> None:
    assert sorted(dump_ecs(load_text(tmp_path, EVERY_FIELD).state)) == [
        "DescribeInstances.json",
        "DescribeNetworkInterfaces.json",
        "DescribePortRangeListEntries-prl-a.json",
        "DescribePortRangeLists.json",
        "DescribePrefixListAttributes-pl-a.json",
        "DescribeSecurityGroupAttribute-sg-adv.json",
        "DescribeSecurityGroupAttribute-sg-old.json",
        "DescribeSecurityGroupAttribute-sg-web.json",
        "DescribeSecurityGroups.json",
        "DescribeVpcs.json",
    ]


def test_a_permission_has_every_string_of_the_cloud_s_empty_or_not(tmp_path: Path) -> None:
    files = dump_ecs(load_text(tmp_path, PLEASANT).state)
    answer = json.loads(files["DescribeSecurityGroupAttribute-sg-web.json"])
    permission = answer["Permissions"]["Permission"][1]
    assert {key: value for key, value in permission.items() if value != ""} == {
        "SecurityGroupRuleId": "sgr-web",
        "Direction": "ingress",
        "Policy": "Accept",
        "Priority": 1,
        "IpProtocol": "TCP",
        "PortRange": "443/443",
        "NicType": "intranet",
        "SourceCidrIp": "0.0.0.0/0",
    }
    assert len(permission) == 26


def test_many_enis_are_written_in_pages_that_are_read_together(tmp_path: Path) -> None:
    enis = "".join(
        f"  - {{network_interface_id: e{n}, vpc_id: v, security_group_ids: [g],"
        f" private_ip_addresses: [10.0.{n >> 8}.{n & 255}]}}\n"
        for n in range(1, 1202)
    )
    text = f"vpcs: [{{vpc_id: v}}]\nsecurity_groups: [{{security_group_id: g, vpc_id: v}}]\nnetwork_interfaces:\n{enis}"
    state = load_text(tmp_path, text).state
    files = dump_ecs(state)
    (tmp_path / "ecs").mkdir()
    for name, content in files.items():
        (tmp_path / "ecs" / name).write_text(content, encoding="utf-8")
    assert [name for name in files if "Interfaces" in name] == [
        f"DescribeNetworkInterfaces-000{number}.json" for number in (1, 2, 3)
    ]
    assert load(tmp_path / "ecs").state == state


def test_the_implicit_classic_network_has_no_vpc_id_in_answers(tmp_path: Path) -> None:
    text = (
        "vpcs: [{vpc_id: classic, network_type: classic}]\nsecurity_groups: [{security_group_id: g, vpc_id: classic}]\n"
    )
    state = load_text(tmp_path, text).state
    files = dump_ecs(state)
    assert json.loads(files["DescribeSecurityGroupAttribute-g.json"])["VpcId"] == ""
    (tmp_path / "ecs").mkdir()
    for name, content in files.items():
        (tmp_path / "ecs" / name).write_text(content, encoding="utf-8")
    assert load(tmp_path / "ecs").state == state


PLAIN = ("web", "head office", "10.0.0.0/8", "10.0.0.1", "22/22", "-1/-1", "i-web1", "a.b_c/d-e")
QUOTED = (
    "", " a", "a ", "yes", "No", "on", "y", "null", "true", "~", "12", "1e3", "0x10", "1.5", "00:16:3e:00:00:01",
    "22:22", "2001:db8::/32", "a: b", "a #b", "[x]", "{x}", "*x", "&x", "!x", "- x", "-", "x,y", "'", '"', "\\", "a\nb",
    "a\tb",
    "\u0085", "\u2028", "\ufeff", "\x00\x7f", "é", "日本", "\U0001f600", "2020-01-01", ".5", "=", "<<", "10.0.0.0.1",
)  # fmt: skip


@pytest.mark.parametrize("text", PLAIN)
def test_safe_text_is_written_plain(text: str) -> None:
    assert scalar(text) == text


@pytest.mark.parametrize("text", PLAIN + QUOTED, ids=ascii)
def test_text_is_read_back_as_it_was_by_us_and_by_any_yaml_reader(text: str) -> None:
    document = f"- {scalar(text)}\n- {{k: {scalar(text)}}}\n"
    assert parse_yaml(document) == [text, {"k": text}]
    assert yaml.safe_load(document) == [text, {"k": text}]
