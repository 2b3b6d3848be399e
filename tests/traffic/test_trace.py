"""`sgdp trace` and `sgdp counters` on a lab: what they say of a packet is what became of it, and they leave nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from sgdataplane.cli.main import main
from sgdataplane.host import netns
from sgdataplane.lab import manage
from sgdataplane.lab.status import read_health
from tests.support.documents.schemas import assert_conforms
from tests.support.kernel.nft import nft
from tests.support.probes.ends import Ends
from tests.support.probes.flood import wait_until
from tests.support.scenes import labs
from tests.support.scenes.labs import enforce_policy

pytestmark = pytest.mark.traffic

STATE = labs.state_of(
    """
version: 1
vpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16, "2001:db8:a::/48"]}]
security_groups:
  - security_group_id: sg-a
    vpc_id: vpc-a
    security_group_type: normal
    inner_access_policy: Drop
    rules:
      - {security_group_rule_id: sgr-ssh, type: ingress, ip_protocol: tcp, port_range: 22/22, cidr_ip: 0.0.0.0/0}
      - {security_group_rule_id: sgr-no-alt, type: ingress, ip_protocol: tcp, port_range: 8080/8080, policy: drop,
         priority: 7, source_group_id: sg-b}
      - {security_group_rule_id: sgr-shadow, type: ingress, ip_protocol: tcp, port_range: 8080/8080, policy: accept,
         priority: 8, source_group_id: sg-b}
      - {security_group_rule_id: sgr-dns, type: ingress, ip_protocol: udp, port_range: 53/53, cidr_ip: 0.0.0.0/0}
      - {security_group_rule_id: sgr-dns6, type: ingress, ip_protocol: udp, port_range: 53/53, ipv6_cidr_ip: "::/0"}
      - {security_group_rule_id: sgr-no-out, type: egress, ip_protocol: udp, port_range: 99/99, policy: drop,
         priority: 3, cidr_ip: 0.0.0.0/0}
  - {security_group_id: sg-b, vpc_id: vpc-a, security_group_type: normal, inner_access_policy: Drop}
instances: [{instance_id: i-a}, {instance_id: i-b}]
network_interfaces:
  - {network_interface_id: eni-a, instance_id: i-a, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a, sg-b],
     private_ip_addresses: [10.0.0.1], ipv6_addresses: ["2001:db8:a::1"]}
  - {network_interface_id: eni-b, instance_id: i-b, type: primary, vpc_id: vpc-a, security_group_ids: [sg-b],
     private_ip_addresses: [10.0.0.2]}
""".replace("source_group_id", "source_security_group_id")
)
A, A6, B, EXT = "10.0.0.1", "2001:db8:a::1", "10.0.0.2", "ext-198.51.100.7"
KEYS = ("verdict", "reason", "security_group_id", "security_group_rule_id", "priority")


@pytest.fixture(scope="module")
def lab(make_lab_name: Callable[[], str], placement: str) -> Iterator[manage.Lab]:
    with labs.running(make_lab_name(), STATE, enforce_policy, placement=placement) as lab:
        yield lab


@pytest.fixture
def ends(lab: manage.Lab) -> Iterator[Ends]:
    with ExitStack() as stack:
        yield Ends(lab.record.name, stack)


def place_of(lab: manage.Lab, eni_id: str) -> str:
    return next(entry.netns for entry in lab.enforced if eni_id in entry.desired.interfaces)


def said(capsys: pytest.CaptureFixture[str], verb: str, lab: manage.Lab, *more: str, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main([verb, "--name", lab.record.name, "--json", *more]) == code
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert_conforms(verb, document)
    return document


def assert_nothing_left(lab: manage.Lab) -> None:
    for entry in lab.enforced:
        assert "sgdataplane-trace" not in nft(entry.netns, "list tables")


@pytest.mark.parametrize(
    ("sender", "receiver", "service"),
    [
        ("i-b", A, "tcp/8080"),
        ("i-a", B, "udp/99"),
        ("i-a", EXT, "icmp"),
        (EXT, A6, "udp/53"),
        (EXT, B, "tcp/22"),
    ],
)
def test_what_decided_is_what_the_policy_says(
    capsys: pytest.CaptureFixture[str], lab: manage.Lab, sender: str, receiver: str, service: str
) -> None:
    protocol, _, port = service.partition("/")
    asked = ["--from", sender, "--to", receiver, "--protocol", protocol, *(["--port", port] if port else [])]
    document = said(capsys, "trace", lab, *asked)
    probe, packets = document["probe"], document["packets"]
    gates = [gate for packet in packets for gate in packet["gates"] if gate["kind"] != "other"]  # the lab's own watch
    judging = [gate for gate in gates if gate["kind"] == "policy" and gate["eni"]]
    deciding = next((gate for gate in judging if gate["verdict"] == "drop"), judging[-1])
    assert probe["observed"] == probe["expected"]
    assert {key: deciding[key] for key in KEYS} == {key: probe[key] for key in KEYS}
    assert packets[-1]["verdict"] == probe["verdict"]
    assert all(gate["steps"] and (gate["eni"] or gate["reason"] == "interface") for gate in gates)
    assert_nothing_left(lab)


@contextmanager
def following(lab: manage.Lab, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`sgdp trace` as a process, which has begun to mark packets of eni-a."""
    command = [sys.executable, "-m", "sgdataplane", "trace", "--name", lab.record.name, "--eni", "eni-a", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: process.poll() is not None or "meta nftrace" in nft(place_of(lab, "eni-a"), "list ruleset"))
        assert process.poll() is None, process.stderr
        yield process
    finally:
        process.kill()
        process.communicate()


def test_real_packets_are_followed_and_those_of_a_session_tell_that(lab: manage.Lab, ends: Ends) -> None:
    listener = ends.listen("i-a", A, 53, socket.SOCK_DGRAM)
    asked = ("--direction", "ingress", "--protocol", "udp", "--port", "53", "--remote", f"{B}/32", "--count", "2")
    with following(lab, *asked, "--json") as process:
        client = ends.open("i-b", socket.SOCK_DGRAM, A)
        other = ends.open(EXT, socket.SOCK_DGRAM, A)
        for sender in (client, other, client):
            sender.sendto(b"?", (A, 53))
            listener.recv(64)
        out, _ = process.communicate(timeout=60)
    document = json.loads(out)
    assert_conforms("trace", document)
    packets = document["packets"]
    ports = (client.getsockname()[1], 53)
    assert [(p["source"], p["source_port"], p["port"], p["verdict"]) for p in packets] == [(B, *ports, "accept")] * 2
    gates = [
        next(g for g in packet["gates"] if (g["eni"], g["direction"]) == ("eni-a", "ingress")) for packet in packets
    ]
    assert [(gate["reason"], gate["security_group_rule_id"]) for gate in gates] == [
        ("rule", "sgr-dns"),
        ("session", None),
    ]
    assert process.returncode == 0
    assert_nothing_left(lab)


@pytest.mark.placement("instance")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_who_is_killed_leaves_nothing_behind(lab: manage.Lab, number: signal.Signals) -> None:
    with following(lab) as process:
        os.kill(process.pid, number)
        process.wait(timeout=30)
    wait_until(lambda: "sgdataplane-trace" not in nft(place_of(lab, "eni-a"), "list tables"))


def test_it_changes_no_verdict_and_is_no_user_of_marks(lab: manage.Lab) -> None:
    with following(lab, "--count", "1000", "--seconds", "300"):
        assert labs.disagreements(lab, "tcp/22,udp/53") == []
        assert all(found.mark_users == () for found in read_health(lab).values())


def test_where_no_packet_comes_the_answer_is_no(capsys: pytest.CaptureFixture[str], lab: manage.Lab) -> None:
    asked = ("--eni", "eni-a", "--protocol", "tcp", "--port", "1", "--seconds", "0.1")
    assert said(capsys, "trace", lab, *asked, code=1)["packets"] == []


def test_an_eni_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str], lab: manage.Lab) -> None:
    for verb in ("trace", "counters"):
        assert main([verb, "--name", lab.record.name, "--eni", "eni-c"]) == 5
        assert "eni-c" in capsys.readouterr().err


def test_a_lab_counts_what_rules_decide_about(
    capsys: pytest.CaptureFixture[str], make_lab_name: Callable[[], str]
) -> None:
    with labs.running(make_lab_name(), STATE, enforce_policy) as lab, ExitStack() as stack:
        ends = Ends(lab.record.name, stack)
        listener = ends.listen("i-a", A, 53, socket.SOCK_DGRAM)
        for _ in range(4):
            ends.open("i-b", socket.SOCK_DGRAM, A).sendto(b"?", (A, 53))
            listener.recv(64)
        document = said(capsys, "counters", lab, "--eni", "eni-a")
        (scope,) = document["scopes"]
        counted = {row["security_group_rule_id"]: row for row in scope["counters"] if row["kind"] == "rule"}
        assert {rule: row["packets"] for rule, row in counted.items() if row["packets"]} == {"sgr-dns": 4}
        assert counted["sgr-dns"]["bytes"] == 4 * (20 + 8 + 1)
        unused = {entry["security_group_rule_id"] for entry in document["unused"]}
        assert unused == {"sgr-ssh", "sgr-no-alt", "sgr-shadow", "sgr-dns6", "sgr-no-out"}
        assert netns.exists(scope["namespace"])
        assert document["unused"][0]["since"] <= document["at"]
