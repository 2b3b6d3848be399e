from __future__ import annotations

import pytest

from sgdataplane.errors import LabError
from sgdataplane.lab.probe import Service, default_services, parse_services
from tests.support.scenes.labs import state_of


def test_services_are_read_once_each_in_order() -> None:
    assert parse_services("udp/53, TCP/22,icmp,gre,proto/47,proto/132,tcp/22") == (
        Service(17, 53),
        Service(6, 22),
        Service(1),
        Service(47),
        Service(132),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tcp/0", "the port must be 1..65535"),
        ("all", "one transport protocol"),
        ("proto/44", "one transport protocol"),
        ("proto/136", "can't send UDP-Lite"),
        ("132", r"could be a port \(tcp/132 or udp/132\) or a protocol \(proto/132\)"),
    ],
)
def test_service_is_refused(text: str, words: str) -> None:
    with pytest.raises(LabError, match=words):
        parse_services(text)


def test_a_range_is_all_of_its_ports() -> None:
    assert parse_services("tcp/8000-8002,tcp/8001") == (Service(6, 8000), Service(6, 8001), Service(6, 8002))
    with pytest.raises(LabError, match="these are 65535; a matrix tries at most 1000"):
        parse_services("udp/1-65535")


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(LabError, match=r"'22' alone.*'80' alone.*'quic' is neither"):
        parse_services("22,80,tcp/443,quic")


@pytest.mark.parametrize("text", ["tcp/22", "udp/53", "icmp", "gre", "proto/132"])
def test_a_service_is_printed_as_it_is_read(text: str) -> None:
    (service,) = parse_services(text)
    assert str(service) == text


def test_no_service_at_all_is_refused() -> None:
    with pytest.raises(LabError, match="name at least one"):
        parse_services(" , ")


def test_default_services_are_what_the_rules_name() -> None:
    state = state_of("""
version: 1
vpcs: [{vpc_id: v, cidr_blocks: [10.0.0.0/8]}]
security_groups:
  - security_group_id: sg
    vpc_id: v
    security_group_type: normal
    rules:
      - {type: ingress, ip_protocol: tcp, port_range: 8000/8100, cidr_ip: 0.0.0.0/0}
      - {type: ingress, ip_protocol: udp, port_range: 500/500, cidr_ip: 0.0.0.0/0}
      - {type: egress, ip_protocol: tcp, port_range: 1/65535, cidr_ip: 0.0.0.0/0}
      - {type: egress, ip_protocol: all, port_range: -1/-1, cidr_ip: 0.0.0.0/0}
""")
    assert [str(service) for service in default_services(state)] == ["tcp/22", "tcp/8000", "udp/53", "udp/500", "icmp"]
