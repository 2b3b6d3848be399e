"""Traffic of known composition for trials: each datagram opens a session of its own."""

from __future__ import annotations

import random
import socket
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Self

from sgdataplane.host import netns

PORT_OF_SENDER = 20_000  # the first one: each datagram has another


def state_text(*rules: str, egress: str = "") -> str:
    """Two instances of one group with these ingress rules for UDP, each a range of ports."""
    every = "".join(
        f"      - {{type: ingress, ip_protocol: udp, port_range: {ports}, cidr_ip: 0.0.0.0/0,"
        f" security_group_rule_id: sgr-{ports.replace('/', '-')}}}\n"
        for ports in rules
    )
    return f"""
version: 1
vpcs: [{{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16]}}]
security_groups:
  - security_group_id: sg-a
    vpc_id: vpc-a
    security_group_type: normal
    inner_access_policy: Drop
    rules:
{every}{egress}
instances: [{{instance_id: i-a}}, {{instance_id: i-b}}]
network_interfaces:
  - {{network_interface_id: eni-a, instance_id: i-a, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     mac_address: "00:16:3e:00:00:01", private_ip_addresses: [10.0.0.1]}}
  - {{network_interface_id: eni-b, instance_id: i-b, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     mac_address: "00:16:3e:00:00:02", private_ip_addresses: [10.0.0.2]}}
"""


class Opener:
    """Opens sessions from a namespace, a few at a time, and counts what was sent to each port."""

    def __init__(self, namespace: str, target: str, ports: Sequence[int], seed: int) -> None:
        self.sent: Counter[int] = Counter()
        self._place, self._target, self._ports = namespace, target, ports
        self._chance, self._next = random.Random(seed), PORT_OF_SENDER
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def send(self, count: int) -> None:
        """So many datagrams, each to one of the ports."""
        with netns.inside(self._place):
            for _ in range(count):
                self._open(self._chance.choice(self._ports))

    def _open(self, port: int) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind(("", self._next))
            sender.sendto(b"trial", (self._target, port))
        self._next += 1
        self.sent[port] += 1

    def _run(self) -> None:
        while not self._end.wait(0.001) and self._next < 60_000:
            self.send(10)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
