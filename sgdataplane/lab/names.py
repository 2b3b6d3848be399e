"""What a lab's things are called: nodes, namespaces, interfaces, and the marks by which a lost lab is found again.

Owns every name the lab gives. Is given ids. Must not do I/O.
"""

from __future__ import annotations

import re

from sgdataplane.errors import LabError
from sgdataplane.net.values import Address

LAB_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}")
ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+-]{0,127}")  # what netns.NAME allows, less the lab's name
MARK = "sgdataplane-lab"


def check_lab_name(name: str) -> str:
    """The name itself; LabError if it can't be a lab's."""
    if not LAB_NAME.fullmatch(name):
        raise LabError(f"lab name {name!r}", "use 1 to 32 of a-z 0-9 _ . - and begin with a letter or digit")
    return name


def netns_of(lab: str, node: str) -> str:
    """The namespace of an instance, a VPC's router or an external host. LabError if the id can't be in a file name."""
    if not ID.fullmatch(node):
        raise LabError(f"id {node!r}", "a lab makes namespaces of ids: use 1 to 128 letters, digits and _ . : + -")
    return f"{lab}-{node}"


def router_name(vpc_id: str, host: int) -> str:
    """The router of a VPC on one of the lab's hosts, which are counted from 1."""
    return vpc_id if host == 1 else f"{vpc_id}.host{host}"


def uplink_ifname(host: int) -> str:
    """A router's interface that leads to another host."""
    return f"host{host}"


def external_node(address: Address) -> str:
    """`ext-198.51.100.7`, `ext-2001-db8-ffff--7`: file names everywhere, even where a colon is none."""
    return "ext-" + str(address).replace(":", "-")


def namespace_mark(lab: str, node: str) -> str:
    """What the loopback's alias says in each namespace of a lab."""
    return f"{MARK} lab={lab} node={node}"


def lab_of_mark(alias: str) -> str | None:
    """The lab that a loopback's alias names; None if it isn't one of ours."""
    match = re.fullmatch(rf"{MARK} lab=(\S+) node=\S+", alias)
    return match[1] if match else None


def link_mark(node: str, key: str) -> str:
    """What both ends of a finished link say in their alias: whose it is."""
    return f"{MARK} node={node} link={key}"
