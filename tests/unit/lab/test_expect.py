from __future__ import annotations

import pytest

from sgdataplane.lab.expect import Expectation, ProbeResult, expect, explain_result, result_as_json
from sgdataplane.lab.probe import Observation, Probe, ProbeEnd, Service
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import DEFAULTS
from sgdataplane.net.values import Address, Direction, Verdict
from tests.support.scenes.labs import state_of

STATE = state_of("""
version: 1
vpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16]}]
security_groups:
  - security_group_id: sg-a
    vpc_id: vpc-a
    security_group_type: normal
    inner_access_policy: Drop
    rules:
      - {type: egress, ip_protocol: tcp, port_range: 25/25, cidr_ip: 0.0.0.0/0, policy: drop,
         security_group_rule_id: sgr-no-mail}
  - security_group_id: sg-b
    vpc_id: vpc-a
    security_group_type: normal
    rules:
      - {type: ingress, ip_protocol: tcp, port_range: 1/1023, cidr_ip: 0.0.0.0/0, security_group_rule_id: sgr-low}
      - {type: ingress, ip_protocol: udp, port_range: 53/53, source_port_range: 5000/5000, cidr_ip: 0.0.0.0/0,
         security_group_rule_id: sgr-from-5000}
instances: [{instance_id: i-a}, {instance_id: i-b}]
network_interfaces:
  - {network_interface_id: eni-a, instance_id: i-a, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     private_ip_addresses: [10.0.0.1]}
  - {network_interface_id: eni-b, instance_id: i-b, type: primary, vpc_id: vpc-a, security_group_ids: [sg-b],
     private_ip_addresses: [10.0.0.2]}
""")
A = ProbeEnd("i-a", "eth0", Address.parse("10.0.0.1"), "eni-a")
B = ProbeEnd("i-b", "eth0", Address.parse("10.0.0.2"), "eni-b")
OUTSIDE = ProbeEnd("ext-192.0.2.1", "eth0", Address.parse("192.0.2.1"))


@pytest.mark.parametrize(
    ("probe", "verdict", "where", "by"),
    [
        pytest.param(
            Probe(A, B, Service(6, 25)), "drop", "egress", "sgr-no-mail", id="the sender's egress comes first"
        ),
        pytest.param(Probe(A, B, Service(6, 22)), "accept", "", "sgr-low", id="both accept: the receiver's rule"),
        pytest.param(Probe(A, B, Service(6, 8080)), "drop", "ingress", "", id="the receiver's default"),
        pytest.param(
            Probe(B, OUTSIDE, Service(6, 25)), "accept", "", "", id="outside has no policy: the sender's default"
        ),
        pytest.param(
            Probe(OUTSIDE, B, Service(6, 22)), "accept", "", "sgr-low", id="from outside: the receiver's rule"
        ),
        pytest.param(Probe(OUTSIDE, A, Service(1)), "drop", "ingress", "", id="from outside: the receiver's default"),
    ],
)
def test_the_deciding_end_is_named(probe: Probe, verdict: str, where: str, by: str) -> None:
    found = expect(STATE, probe, 40000, DEFAULTS)
    assert (found.verdict, found.where, found.decision.security_group_rule_id) == (verdict, where, by)


def test_source_port_is_the_one_that_was_sent() -> None:
    probe = Probe(OUTSIDE, B, Service(17, 53))
    assert expect(STATE, probe, 5000, DEFAULTS).decision.security_group_rule_id == "sgr-from-5000"
    assert expect(STATE, probe, 5001, DEFAULTS).verdict == "drop"


DROP = Expectation(Decision(Direction.INGRESS, Verdict.DROP, "default"), "ingress")
ACCEPT = Expectation(Decision(Direction.INGRESS, Verdict.ACCEPT, "rule", "sg-b", "sgr-low", 1))


@pytest.mark.parametrize(
    ("expected", "observed", "agrees"),
    [
        (ACCEPT, Observation("accept"), True),
        (DROP, Observation("drop", "ingress"), True),
        (DROP, Observation("drop", "egress"), False),
        (DROP, Observation("accept"), False),
        (DROP, Observation("unknown"), False),
        (ACCEPT, Observation("unknown"), False),
        (ACCEPT, Observation("drop", "ingress"), False),
    ],
)
def test_agreement_is_in_verdict_and_place(expected: Expectation, observed: Observation, agrees: bool) -> None:
    assert ProbeResult(Probe(A, B, Service(6, 22)), expected, observed).agrees is agrees


def test_json_has_the_keys_of_the_command_line_first() -> None:
    cell = ProbeResult(Probe(A, B, Service(6, 22)), ACCEPT, Observation("accept", "", ("seen",), 40000))
    wanted = {
        "verdict": "accept",
        "reason": "rule",
        "security_group_id": "sg-b",
        "security_group_rule_id": "sgr-low",
        "priority": 1,
        "expected": "accept",
        "observed": "accept",
        "from": "i-a",
        "to": "i-b",
        "protocol": "tcp",
        "port": 22,
    }
    document = result_as_json(cell)
    assert list(document)[: len(wanted)] == list(wanted)
    assert {key: document[key] for key in wanted} == wanted


def test_explanation_has_both_sides_and_the_evidence() -> None:
    cell = ProbeResult(Probe(A, B, Service(6, 22)), ACCEPT, Observation("drop", "ingress", ("seen", "and not counted")))
    assert explain_result(cell) == (
        "expected accept by sgr-low of sg-b (priority 1), observed drop at ingress: seen; and not counted"
    )
