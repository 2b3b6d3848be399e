"""`sgdp suggest --live` on a lab: the suggestion is put in force, and real packets show what passes and what not."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from sgdataplane.cli.main import main
from sgdataplane.net.values import Direction
from tests.support.documents.schemas import assert_conforms
from tests.support.probes.ends import Ends
from tests.support.scenes import labs
from tests.support.scenes.labs import enforce_policy

pytestmark = pytest.mark.traffic

STATE = labs.state_of("""
version: 1
vpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16]}]
security_groups:
  - security_group_id: sg-app
    vpc_id: vpc-a
    inner_access_policy: Drop
    rules:
      - {security_group_rule_id: sgr-wide, type: ingress, ip_protocol: tcp, port_range: 1/65535, cidr_ip: 0.0.0.0/0}
      - {security_group_rule_id: sgr-ping, type: ingress, ip_protocol: icmp, port_range: -1/-1, cidr_ip: 0.0.0.0/0}
  - security_group_id: sg-db
    vpc_id: vpc-a
    inner_access_policy: Drop
    rules:
      - {security_group_rule_id: sgr-all, type: ingress, ip_protocol: all, port_range: -1/-1, cidr_ip: 0.0.0.0/0}
instances: [{instance_id: i-app}, {instance_id: i-db}]
network_interfaces:
  - {network_interface_id: eni-app, instance_id: i-app, vpc_id: vpc-a, security_group_ids: [sg-app],
     private_ip_addresses: [10.0.0.1]}
  - {network_interface_id: eni-db, instance_id: i-db, vpc_id: vpc-a, security_group_ids: [sg-db],
     private_ip_addresses: [10.0.0.2]}
""")
APP, DB, OUTSIDE = "10.0.0.1", "10.0.0.2", "ext-198.51.100.7"


def test_what_was_seen_goes_on_and_nothing_else_passes(
    make_lab_name: Callable[[], str], placement: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, new = make_lab_name(), tmp_path / "new"
    with labs.running(name, STATE, enforce_policy, placement=placement, hosts=1), ExitStack() as stack:
        ends = Ends(name, stack)
        web, other = ends.listen("i-app", APP, 443), ends.listen("i-app", APP, 8080)
        database, admin = ends.listen("i-db", DB, 5432), ends.listen("i-db", DB, 22)
        sessions = [ends.tcp(OUTSIDE, APP, 443, web), ends.tcp("i-app", DB, 5432, database)]
        assert main(["suggest", "--live", "--name", name, "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert_conforms("suggest", document)
        assert said(document) == {
            ("sg-app", Direction.INGRESS.value, "443/443", "198.51.100.7/32"),
            ("sg-app", Direction.EGRESS.value, "5432/5432", "sg-db"),
            ("sg-db", Direction.INGRESS.value, "5432/5432", "sg-app"),
        }
        assert main(["suggest", "--live", "--name", name, "-o", str(new)]) == 0
        assert main(["lab", "apply", str(new), "--name", name]) == 0
        for client, served in sessions:
            client.sendall(b"still here")
            assert served.recv(64) == b"still here"
        ends.tcp(OUTSIDE, APP, 443, web)
        ends.tcp("i-app", DB, 5432, database)
        for node, address, port in ((OUTSIDE, APP, 8080), ("i-app", DB, 22)):
            assert not connects(ends, node, address, port), f"{port} was not seen"
        del other, admin


def said(document: dict[str, list[dict[str, dict[str, str]]]]) -> set[tuple[str, str, str, str]]:
    found = set()
    for one in document["rules"]:
        rule = one["rule"]
        end = next(
            rule[key] for key in ("cidr_ip", "source_security_group_id", "dest_security_group_id") if key in rule
        )
        found.add((str(one["security_group_id"]), rule["type"], rule["port_range"], end))
    return found


def connects(ends: Ends, node: str, address: str, port: int) -> bool:
    client = ends.open(node, socket.SOCK_STREAM, address)
    client.settimeout(1.0)
    try:
        client.connect((address, port))
    except TimeoutError:
        return False
    return True
