"""The native format: every field gets into its record, and what is made up where the document says nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from sgdataplane.errors import StateFileError
from sgdataplane.model.modes import Mode
from sgdataplane.model.state import (
    CloudState,
    ConnectionTracking,
    Eni,
    EniType,
    GroupRef,
    GroupTrial,
    GroupType,
    Instance,
    NetworkType,
    NicType,
    PortList,
    PortListEntry,
    PrefixList,
    PrefixListEntry,
    PrefixListRef,
    SecurityGroup,
    SecurityGroupRule,
    Vpc,
)
from sgdataplane.net.values import (
    ALL,
    GRE,
    TCP,
    UDP,
    Address,
    Direction,
    Family,
    PortRange,
    Prefix,
    Protocol,
    Verdict,
)
from sgdataplane.policy.findings import Severity
from sgdataplane.statefile import load
from sgdataplane.statefile.yamltext import parse_yaml
from tests.unit.statefile.documents import load_text, refusals, rule_document

EVERY_FIELD = """\
version: 1
unknown_security_group_ids: [sg-foreign]
vpcs:
  - {vpc_id: vpc-b, network_type: CLASSIC}
  - {vpc_id: vpc-a, cidr_blocks: ["2001:db8:a::/48", 10.0.0.0/16]}
prefix_lists:
  - prefix_list_id: pl-a
    prefix_list_name: office
    description: all of it
    address_family: ipv4
    max_entries: 10
    entries: [{cidr: 192.0.2.0/24, description: head office}, {cidr: 198.51.100.7}]
port_lists:
  - {port_list_id: prl-a, port_list_name: web, description: d, max_entries: 2,
     entries: [{port_range: 80/90, description: x}]}
security_groups:
  - security_group_id: sg-web
    security_group_name: web
    description: "front: end"
    security_group_type: Normal
    vpc_id: vpc-a
    inner_access_policy: DROP
    service_managed: true
    tags: {env: prod, cost: "5"}
    rules:
      - {security_group_rule_id: sgr-2, type: Ingress, ip_protocol: TCP, port_range: 443/443, cidr_ip: 0.0.0.0/0}
      - {security_group_rule_id: sgr-1, type: EGRESS, ip_protocol: 17, port_range: 53/54, source_port_range: 1/9,
         ipv6_cidr_ip: "2001:db8::/32", ipv6_source_cidr_ip: "2001:db8:a::1", policy: Drop, priority: 20,
         description: d}
      - {security_group_rule_id: sgr-3, type: ingress, ip_protocol: tcp, port_list_id: prl-a, prefix_list_id: pl-a,
         dest_cidr_ip: 10.0.0.0/24}
      - {security_group_rule_id: sgr-4, type: egress, ip_protocol: gre, port_range: -1/-1,
         source_security_group_id: sg-foreign, source_cidr_ip: 10.0.0.1}
      - {security_group_rule_id: sgr-5, type: egress, ip_protocol: all, dest_security_group_id: sg-foreign}
      - {security_group_rule_id: sgr-6, type: ingress, ip_protocol: all, source_security_group_id: sg-foreign,
         ipv6_dest_cidr_ip: "2001:db8:a::/64"}
  - security_group_id: sg-adv
    vpc_id: vpc-a
    security_group_type: ENTERPRISE
    trial: {since: "2026-12-24T00:00:00Z", until: "2026-12-25T00:00:00Z", inner_access_policy: DROP, rules: [
      {security_group_rule_id: sgr-8, type: ingress, ip_protocol: all, cidr_ip: 0.0.0.0/0}]}
  - security_group_id: sg-old
    vpc_id: vpc-b
    rules:
      - {security_group_rule_id: sgr-7, type: ingress, ip_protocol: icmp, cidr_ip: 0.0.0.0/0, nic_type: Internet,
         priority: 110}
instances:
  - {instance_id: i-b}
  - {instance_id: i-a, instance_name: web one}
network_interfaces:
  - network_interface_id: eni-b
    vpc_id: vpc-b
    type: Secondary
    nic_type: internet
    mac_address: 00:16:3E:00:00:02
    private_ip_addresses: [198.51.100.9]
    security_group_ids: [sg-old]
  - network_interface_id: eni-a
    instance_id: i-a
    type: Primary
    vpc_id: vpc-a
    mac_address: 00-16-3e-00-00-01
    private_ip_addresses: [10.0.0.9, 10.0.0.8, 10.0.0.7]
    ipv6_addresses: ["2001:DB8:A::2", "2001:db8:a::1"]
    ipv4_prefixes: [10.0.1.0/28]
    ipv6_prefixes: ["2001:db8:a:1::/80"]
    security_group_ids: [sg-web]
    allowed_address_pairs: [192.0.2.9, "2001:db8:f::/64"]
    connection_tracking: {tcp_established_timeout: 700, tcp_closed_and_time_wait_timeout: 15, udp_timeout: 60}
    member_only: false
    mode: audit
    audit_until: "2026-12-24T00:00:00Z"
"""
DIRECTION_IN, DIRECTION_OUT = Direction.INGRESS, Direction.EGRESS
FOREIGN = GroupRef("sg-foreign")
RULES = (
    SecurityGroupRule(
        "sgr-1", DIRECTION_OUT, Protocol(UDP), Prefix.parse("2001:db8::/32"), PortRange(53, 54), Verdict.DROP, 20,
        PortRange(1, 9), "", Prefix.parse("2001:db8:a::1"), NicType.INTRANET, "d",
    ),
    SecurityGroupRule("sgr-2", DIRECTION_IN, Protocol(TCP), Prefix.parse("0.0.0.0/0"), PortRange(443, 443)),
    SecurityGroupRule(
        "sgr-3", DIRECTION_IN, Protocol(TCP), PrefixListRef("pl-a"), port_list_id="prl-a",
        narrowing=Prefix.parse("10.0.0.0/24"),
    ),
    SecurityGroupRule("sgr-4", DIRECTION_OUT, Protocol(GRE), FOREIGN, narrowing=Prefix.parse("10.0.0.1")),
    SecurityGroupRule("sgr-5", DIRECTION_OUT, ALL, FOREIGN),
    SecurityGroupRule("sgr-6", DIRECTION_IN, ALL, FOREIGN, narrowing=Prefix.parse("2001:db8:a::/64")),
)  # fmt: skip
ENTRY = PrefixListEntry(Prefix.parse("192.0.2.0/24"), "head office")
EXPECTED = CloudState(
    vpcs=(
        Vpc("vpc-a", (Prefix.parse("10.0.0.0/16"), Prefix.parse("2001:db8:a::/48"))),
        Vpc("vpc-b", (), NetworkType.CLASSIC),
    ),
    prefix_lists=(
        PrefixList(
            "pl-a", Family.IPV4, 10,
            (ENTRY, PrefixListEntry(Prefix.parse("198.51.100.7"))),
            "office", "all of it",
        ),
    ),
    port_lists=(PortList("prl-a", 2, (PortListEntry(PortRange(80, 90), "x"),), "web", "d"),),
    security_groups=(
        SecurityGroup(
            "sg-adv", "vpc-a", GroupType.ENTERPRISE, Verdict.DROP,
            trial=GroupTrial(
                "2026-12-24T00:00:00Z", "2026-12-25T00:00:00Z", Verdict.DROP,
                (SecurityGroupRule("sgr-8", DIRECTION_IN, ALL, Prefix.parse("0.0.0.0/0")),),
            ),
        ),
        SecurityGroup(
            "sg-old", "vpc-b", rules=(
                SecurityGroupRule(
                    "sgr-7", DIRECTION_IN, Protocol.parse("icmp"), Prefix.parse("0.0.0.0/0"), priority=110,
                    nic_type=NicType.INTERNET,
                ),
            ),
        ),
        SecurityGroup(
            "sg-web", "vpc-a", GroupType.NORMAL, Verdict.DROP, RULES, "web", "front: end",
            (("cost", "5"), ("env", "prod")), service_managed=True,
        ),
    ),
    instances=(Instance("i-a", "web one"), Instance("i-b")),
    network_interfaces=(
        Eni(
            "eni-a", "vpc-a", "00:16:3e:00:00:01",
            tuple(map(Address.parse, ("10.0.0.9", "10.0.0.7", "10.0.0.8"))), ("sg-web",), "i-a", EniType.PRIMARY,
            tuple(map(Address.parse, ("2001:db8:a::1", "2001:db8:a::2"))),
            (Prefix.parse("10.0.1.0/28"),), (Prefix.parse("2001:db8:a:1::/80"),),
            (Prefix.parse("192.0.2.9"), Prefix.parse("2001:db8:f::/64")), NicType.INTRANET,
            ConnectionTracking(700, 15, 60), mode=Mode.AUDIT, audit_until="2026-12-24T00:00:00Z",
        ),
        Eni(
            "eni-b", "vpc-b", "00:16:3e:00:00:02", (Address.parse("198.51.100.9"),), ("sg-old",), "",
            EniType.SECONDARY, nic_type=NicType.INTERNET,
        ),
    ),
)  # fmt: skip


def test_every_field_of_the_format_reaches_its_record(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, EVERY_FIELD)
    assert loaded.state == EXPECTED
    assert loaded.findings == ()


def test_json_says_the_same_as_yaml(tmp_path: Path) -> None:
    assert load_text(tmp_path, json.dumps(parse_yaml(EVERY_FIELD)), name="state.json").state == EXPECTED


@pytest.mark.parametrize("name", ["state", "state.txt"])
def test_a_name_that_tells_nothing_is_read_by_its_content(name: str, tmp_path: Path) -> None:
    assert load_text(tmp_path, '{"version": 1}', name=name).state == CloudState()
    assert load_text(tmp_path, "version: 1", name=name).state == CloudState()


def test_the_documents_of_a_folder_are_merged(tmp_path: Path) -> None:
    top = "version: 1\n"
    heads = ("unknown", "vpcs", "prefix_lists", "port_lists", "security_groups", "instances", "network_interfaces")
    parts = dict.fromkeys(heads, "")
    head = ""
    for line in EVERY_FIELD.splitlines()[1:]:
        head = next((name for name in heads if line.startswith(name)), head)
        parts[head] += line + "\n"
    for number, text in enumerate(parts.values()):
        (tmp_path / f"{number}.{'yml' if number % 2 else 'yaml'}").write_text(top + text, encoding="utf-8")
    (tmp_path / "README.md").write_text("not a state", encoding="utf-8")
    (tmp_path / ".hidden.yaml").write_text("not: a state", encoding="utf-8")
    assert load(tmp_path).state == EXPECTED


def test_an_id_that_two_files_give_is_refused_with_both_places(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("vpcs:\n  - {vpc_id: vpc-a}\n", encoding="utf-8")
    with pytest.raises(StateFileError) as caught:
        load(tmp_path)
    (problem,) = caught.value.problems
    assert (problem.where.file, problem.where.line) == (str(tmp_path / "b.yaml"), 2)
    assert problem.message == f"the id is taken by /vpcs/0 of {tmp_path / 'a.yaml'}"


RULE = "type: ingress, ip_protocol: tcp, port_range: 22/22"


def rule_ids(folder: Path, *rules: str) -> list[str]:
    text = rule_document("\n      - ".join(f"{{{rule}}}" for rule in rules))
    return [rule.security_group_rule_id for rule in load_text(folder, text).state.group["sg-rule"].rules]


def test_a_rule_without_an_id_gets_one_made_from_what_it_says(tmp_path: Path) -> None:
    (made,) = rule_ids(tmp_path, f"{RULE}, cidr_ip: 10.0.0.0/8")
    assert made == "sgr-9a25f1dc68b7aa2b"
    assert rule_ids(tmp_path, f"{RULE}, cidr_ip: 10.0.0.0/8, description: other words, priority: 1") == [made]
    assert made not in rule_ids(tmp_path, f"{RULE}, cidr_ip: 10.0.0.0/8, priority: 2")


def test_of_rules_without_ids_that_say_the_same_one_is_kept(tmp_path: Path) -> None:
    text = rule_document(f"{{{RULE}, cidr_ip: 10.0.0.0/8}}\n      - {{{RULE}, cidr_ip: 10.0.0.0/8}}")
    loaded = load_text(tmp_path, text)
    assert len(loaded.state.group["sg-rule"].rules) == 1
    assert [(finding.code, finding.message) for finding in loaded.findings] == [
        ("DuplicateRule", "the group has this rule twice; it is kept once")
    ]


def test_a_mac_is_made_from_the_id_and_belongs_to_no_one_else(tmp_path: Path) -> None:
    enis = "\n".join(
        f"  - {{network_interface_id: eni-{number}, vpc_id: v, security_group_ids: [g],"
        f" private_ip_addresses: [10.{number >> 8}.{number & 255}.1]}}"
        for number in range(8192)  # enough that about two pairs of hashes meet in 24 bits
    )
    text = (
        f"vpcs: [{{vpc_id: v}}]\nsecurity_groups: [{{security_group_id: g, vpc_id: v}}]\nnetwork_interfaces:\n{enis}\n"
    )
    macs = {
        eni.network_interface_id: eni.mac_address
        for eni in load_text(tmp_path, text, profile="unlimited").state.network_interfaces
    }
    assert macs["eni-0"] == "00:16:3e:10:86:c6"
    assert len(set(macs.values())) == 8192
    assert all(mac.startswith("00:16:3e:") for mac in macs.values())


ODD = (
    ("host bits in a rule's block", f"{RULE}, cidr_ip: 10.1.2.3/8", "MaskedHostBits",
     "cidr_ip 10.1.2.3/8 has host bits; it is read as 10.0.0.0/8", Prefix.parse("10.0.0.0/8")),
    ("group beside a block", f"{RULE}, cidr_ip: 10.0.0.0/8, source_security_group_id: sg-none", "IgnoredRemote",
     "source_security_group_id is ignored, as cidr_ip wins over it", Prefix.parse("10.0.0.0/8")),
    ("prefix list beside a block", f"{RULE}, ipv6_cidr_ip: '::/0', prefix_list_id: pl-none", "IgnoredRemote",
     "prefix_list_id is ignored, as ipv6_cidr_ip wins over it", Prefix.parse("::/0")),
    ("prefix list beside a group", f"{RULE}, source_security_group_id: sg-a, prefix_list_id: pl-a", "IgnoredRemote",
     "prefix_list_id is ignored, as source_security_group_id wins over it", GroupRef("sg-a")),
)  # fmt: skip


@pytest.mark.parametrize(("rule", "code", "message", "remote"), [row[1:] for row in ODD], ids=[row[0] for row in ODD])
def test_what_is_odd_in_a_rule_is_reported_and_accepts_no_more(
    rule: str, code: str, message: str, remote: object, tmp_path: Path
) -> None:
    loaded = load_text(tmp_path, rule_document(f"{{{rule}}}"))
    (read,) = loaded.state.group["sg-rule"].rules
    (finding,) = loaded.findings
    assert read.remote == remote
    assert (finding.code, finding.message) == (code, message)
    about = {"security_group_id": "sg-rule", "security_group_rule_id": read.security_group_rule_id}
    assert dict(finding.subject) == about


def test_host_bits_of_a_narrowing_address_are_masked_and_reported(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, rule_document(f"{{{RULE}, cidr_ip: 10.0.0.0/8, dest_cidr_ip: 10.0.0.5/24}}"))
    assert loaded.state.group["sg-rule"].rules[0].narrowing == Prefix.parse("10.0.0.0/24")
    assert [finding.code for finding in loaded.findings] == ["MaskedHostBits"]


def test_all_three_remotes_report_both_losers(tmp_path: Path) -> None:
    rule = f"{{{RULE}, cidr_ip: 10.0.0.0/8, source_security_group_id: sg-a, prefix_list_id: pl-a}}"
    findings = load_text(tmp_path, rule_document(rule)).findings
    assert [finding.message.split()[0] for finding in findings] == ["source_security_group_id", "prefix_list_id"]
    assert {finding.severity for finding in findings} == {Severity.HIGH}, "the rule may do more than was meant"


def test_a_managed_group_may_name_a_managed_group(tmp_path: Path) -> None:
    rule = f"{{{RULE}, source_security_group_id: sg-managed}}"
    assert refusals(tmp_path, rule_document(rule, "vpc_id: vpc-a, service_managed: true")) == ()


@pytest.mark.parametrize("rule", ["cidr_ip: 0.0.0.0/0, priority: 110", "cidr_ip: 0.0.0.0/0, priority: 100"])
def test_the_priorities_of_default_groups_are_read(rule: str, tmp_path: Path) -> None:
    assert refusals(tmp_path, rule_document(f"{{{RULE}, {rule}}}")) == ()


@pytest.mark.parametrize("version", ["2", "1.0", "true", "one"])
def test_an_unknown_version_is_refused(version: str, tmp_path: Path) -> None:
    (problem,) = refusals(tmp_path, f"vpcs: []\nversion: {version}\n")
    assert (problem.code, problem.where.line, problem.where.pointer, problem.value, problem.expected) == (
        "InvalidDocument.UnsupportedVersion", 2, "/version", version, "1",
    )  # fmt: skip


def test_an_unknown_section_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    (problem,) = refusals(tmp_path, "version: 1\nsecurity_group: []\n")
    assert (problem.code, problem.where.line, problem.where.pointer) == (
        "InvalidDocument.UnknownKey", 2, "/security_group",
    )  # fmt: skip
    assert problem.expected == "security_groups, which is the nearest known key"


@pytest.mark.parametrize(
    ("text", "pointer"),
    [("vpcs: {}", "/vpcs"), ("unknown_security_group_ids: [5]", "/unknown_security_group_ids"), ("vpcs: x", "/vpcs")],
)
def test_a_section_of_the_wrong_type_is_refused(text: str, pointer: str, tmp_path: Path) -> None:
    (problem,) = refusals(tmp_path, text)
    assert (problem.code, problem.where.line, problem.where.pointer) == ("InvalidDocument.WrongType", 1, pointer)


ALIASED = """\
vpcs: [{vpc_id: &vpc vpc-a}]
security_groups:
  - &base
    security_group_id: sg-a
    vpc_id: *vpc
    inner_access_policy: Drop
    rules: &rules
      - &ssh {type: ingress, ip_protocol: tcp, port_range: 22/22, cidr_ip: 10.0.0.0/8}
      - {<<: *ssh, port_range: 23/23}
  - {<<: *base, security_group_id: sg-b}
  - {<<: [{inner_access_policy: Accept}, *base], security_group_id: sg-c, rules: [*ssh]}
  - {security_group_id: sg-d, vpc_id: *vpc, inner_access_policy: Drop, rules: *rules}
"""
PLAIN = """\
vpcs: [{vpc_id: vpc-a}]
security_groups:
  - {security_group_id: sg-a, vpc_id: vpc-a, inner_access_policy: Drop, rules: [SSH, TELNET]}
  - {security_group_id: sg-b, vpc_id: vpc-a, inner_access_policy: Drop, rules: [SSH, TELNET]}
  - {security_group_id: sg-c, vpc_id: vpc-a, inner_access_policy: Accept, rules: [SSH]}
  - {security_group_id: sg-d, vpc_id: vpc-a, inner_access_policy: Drop, rules: [SSH, TELNET]}
"""


def test_aliases_and_merge_keys_say_the_same_as_what_they_stand_for(tmp_path: Path) -> None:
    ssh = "{type: ingress, ip_protocol: tcp, port_range: 22/22, cidr_ip: 10.0.0.0/8}"
    plain = PLAIN.replace("SSH", ssh).replace("TELNET", ssh.replace("22/22", "23/23"))
    assert load_text(tmp_path, ALIASED).state == load_text(tmp_path, plain).state


def test_what_is_wrong_behind_an_alias_is_placed_where_the_alias_stands(tmp_path: Path) -> None:
    text = "vpcs:\n  - &a {vpc_id: vpc-a, cidr: x}\n  - vpc_id: vpc-b\n  - <<: *a\n    vpc_id: vpc-c\n"
    assert [problem.where.line for problem in refusals(tmp_path, text)] == [2, 4]


def test_what_pyyaml_writes_is_read(tmp_path: Path) -> None:
    rules = [{"type": "ingress", "ip_protocol": "tcp", "port_range": "22/22", "cidr_ip": "10.0.0.0/8"}]
    groups = [{"security_group_id": f"sg-{name}", "vpc_id": "vpc-a", "rules": rules} for name in "ab"]
    text = yaml.safe_dump({"vpcs": [{"vpc_id": "vpc-a"}], "security_groups": groups})
    assert "*id001" in text
    first, second = load_text(tmp_path, text).state.security_groups
    assert [rule.port_range for rule in (*first.rules, *second.rules)] == [PortRange(22, 22)] * 2
