"""A lab for each module and placement, and a way to send a capture through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from scapy.packet import Packet

from sgdataplane.lab.manage import Enforcer, Lab
from sgdataplane.lab.policy import enforce_policy
from sgdataplane.lab.replay.capture import Capture
from sgdataplane.lab.replay.endpoints import Mapping
from sgdataplane.lab.replay.flows import Report
from sgdataplane.lab.replay.run import Replay
from sgdataplane.lab.replay.stage import built_lab
from sgdataplane.net.values import Address
from tests.replay.generator import OPEN, SERVER, SERVER6, write_pcap
from tests.support.labs import assert_gone, state_of

RANGE = f"{OPEN}/{OPEN}"
STATE = f"""
version: 1
vpcs: [{{vpc_id: vpc-r, cidr_blocks: [10.77.0.0/16, "2001:db8:77::/48"]}}]
security_groups:
  - security_group_id: sg-r
    vpc_id: vpc-r
    inner_access_policy: Drop
    rules:
      - {{type: ingress, ip_protocol: tcp, port_range: {RANGE}, cidr_ip: 0.0.0.0/0, security_group_rule_id: sgr-t4}}
      - {{type: ingress, ip_protocol: tcp, port_range: {RANGE}, ipv6_cidr_ip: "::/0", security_group_rule_id: sgr-t6}}
      - {{type: ingress, ip_protocol: udp, port_range: {RANGE}, cidr_ip: 0.0.0.0/0, security_group_rule_id: sgr-u4}}
      - {{type: ingress, ip_protocol: udp, port_range: {RANGE}, ipv6_cidr_ip: "::/0", security_group_rule_id: sgr-u6}}
      - {{type: ingress, ip_protocol: icmp, port_range: -1/-1, cidr_ip: 0.0.0.0/0, security_group_rule_id: sgr-ping}}
instances: [{{instance_id: i-server, instance_name: server}}, {{instance_id: i-other}}]
network_interfaces:
  - {{network_interface_id: eni-server, instance_id: i-server, type: primary, vpc_id: vpc-r, security_group_ids: [sg-r],
     private_ip_addresses: [{SERVER}], ipv6_addresses: ["{SERVER6}"]}}
  - {{network_interface_id: eni-other, instance_id: i-other, type: primary, vpc_id: vpc-r, security_group_ids: [sg-r],
     private_ip_addresses: [10.77.1.11], ipv6_addresses: ["2001:db8:77:1::11"]}}
"""


@dataclass(frozen=True)
class Stage:
    """A lab that captures are sent through, one after the other."""

    lab: Lab
    everybody: str
    folder: Path

    def replay(self, packets: Iterable[Packet], maps: dict[str, str] | None = None) -> Report:
        return self.replay_file(write_pcap(self.folder / "capture.pcap", packets), maps)

    def replay_file(self, path: Path, maps: dict[str, str] | None = None) -> Report:
        mapping = Mapping({Address.parse(a): node for a, node in (maps or {}).items()}, self.everybody)
        with Capture(path) as capture:
            return Replay(self.lab, mapping, is_shared=False).run(capture, lambda _: None, is_real_time=False)


MakeStage = Callable[[Enforcer], Stage]


@pytest.fixture(scope="module")
def stage(
    make_lab_name: Callable[[], str], placement: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    name = make_lab_name()
    with built_lab(name, state_of(STATE), placement, enforce_policy) as (lab, everybody):
        yield Stage(lab, everybody, tmp_path_factory.mktemp("captures"))
    assert_gone(name)
