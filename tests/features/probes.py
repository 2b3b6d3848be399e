"""What a kernel may lack, and how to tell: it is tried in a namespace of its own, which goes at once.

Owns these features and the reason of a skip. Must not know what is tested with them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from sgdataplane.host import netns


@dataclass(frozen=True, slots=True)
class Feature:
    """`name`: what is missing, in a skip's words. `options`: what a kernel that has it is built with. `commands`: they
    succeed there one after the other, and nowhere else."""

    name: str
    options: str
    commands: tuple[str, ...]


FLOWTABLES = Feature(
    "flowtables of nftables",
    "CONFIG_NF_FLOW_TABLE_INET, CONFIG_NFT_FLOW_OFFLOAD",
    (
        "nft add table inet probe",
        "nft add flowtable inet probe f { hook ingress priority 0 ; devices = { lo } ; }",
        "nft add chain inet probe c { type filter hook forward priority 0 ; }",
        "nft add rule inet probe c flow add @f",
    ),
)
BRIDGES = Feature("bridges", "CONFIG_BRIDGE", ("ip link add probe type bridge",))
BRIDGE_CONNTRACK = Feature(
    "connection tracking in bridges",
    "CONFIG_NF_CONNTRACK_BRIDGE",
    (
        "nft add table bridge probe",
        "nft add chain bridge probe c { type filter hook forward priority 0 ; }",
        "nft add rule bridge probe c ct state established accept",
    ),
)
BRIDGE_NETFILTER = Feature(  # its module changes the bridges of the whole machine, so no test loads it
    "bridges whose IP packets meet the hooks of IP",
    "CONFIG_BRIDGE_NETFILTER, and br_netfilter loaded",
    ("test -e /proc/sys/net/bridge/bridge-nf-call-iptables",),
)
VLANS = Feature(
    "VLAN devices",
    "CONFIG_VLAN_8021Q",
    ("ip link add probe type veth", "ip link add link probe name upper type vlan id 7"),
)
NETEM = Feature("the queueing discipline netem", "CONFIG_NET_SCH_NETEM", ("tc qdisc add dev lo root netem delay 1ms",))
QUEUES = Feature(
    "queues of packets to programs",
    "CONFIG_NFT_QUEUE, CONFIG_NETFILTER_NETLINK_QUEUE",
    (
        "nft add table inet probe",
        "nft add chain inet probe c { type filter hook forward priority 0 ; }",
        "nft add rule inet probe c queue num 0 bypass",
    ),
)
MACVLAN = Feature(
    "macvlan devices",
    "CONFIG_MACVLAN",
    ("ip link add probe type veth", "ip link add link probe name upper type macvlan mode bridge"),
)
MACVTAP = Feature(
    "macvtap devices",
    "CONFIG_MACVTAP",
    ("ip link add probe type veth", "ip link add link probe name upper type macvtap mode bridge"),
)
IPVLAN = Feature(
    "ipvlan devices",
    "CONFIG_IPVLAN",
    ("ip link add probe type veth", "ip link add link probe name upper type ipvlan mode l2"),
)
FUSE = Feature("file systems of programs", "CONFIG_FUSE_FS", ("test -w /dev/fuse",))
BONDS = Feature("bonds of devices", "CONFIG_BONDING", ("ip link add probe type bond mode active-backup",))


def require(*features: Feature) -> None:
    """Skip unless this kernel has them."""
    for feature in features:
        refusal = missing(feature)
        if refusal:
            pytest.skip(f"this kernel lacks {feature.name} ({feature.options}): {refusal}")


def missing(feature: Feature) -> str:
    """What the kernel says to the first command that it refuses; "" if it has the feature."""
    with netns.nowhere():
        return next(filter(None, map(_refusal, (command.split() for command in feature.commands))), "")


def _refusal(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    said = (done.stderr or done.stdout).strip().partition("\n")[0]
    return "" if done.returncode == 0 else said or f"{' '.join(command)}: exit code {done.returncode}"
