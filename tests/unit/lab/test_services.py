from __future__ import annotations

import pytest

from sgdataplane.errors import LabError
from sgdataplane.lab.probe import Service
from sgdataplane.lab.services import default_services, parse_service, parse_services
from tests.support.labs import state_of


def test_services_are_read_once_each_in_order() -> None:
    assert parse_services("udp/53, TCP/22,icmp,gre,47,132,tcp/22") == (
        Service(17, 53),
        Service(6, 22),
        Service(1),
        Service(47),
        Service(132),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tcp", "tcp and udp take a port"),
        ("icmp/8", "other protocols none"),
        ("tcp/", "the port must be 1..65535"),
        ("tcp/0", "the port must be 1..65535"),
        ("udp/65536", "the port must be 1..65535"),
        ("udp/-1", "the port must be 1..65535"),
        ("udp/٣", "the port must be 1..65535"),
        ("all", "one transport protocol"),
        ("44", "one transport protocol"),
        ("136", "can't send UDP-Lite"),
        ("256", "a number 0..255"),
        ("quic", "a number 0..255"),
        ("", "a number 0..255"),
    ],
)
def test_service_is_refused(text: str, words: str) -> None:
    with pytest.raises(LabError, match=words):
        parse_service(text)


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
