"""Documents for the loader's tests: a valid base with one slot, and what loading it says.

Owns the base and the marker: the line that a refusal must name is the one that ends in `# HERE`.
"""

from __future__ import annotations

from pathlib import Path

from sgdataplane.errors import Problem, StateFileError
from sgdataplane.statefile import Loaded, load

HERE = "# HERE"
BASE = """\
version: 1
vpcs:
  - {vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16, "2001:db8:a::/48"]}
  - {vpc_id: vpc-b}
  - {vpc_id: vpc-old, network_type: classic}
VPC
prefix_lists:
  - {prefix_list_id: pl-a, address_family: IPv4, max_entries: 3, entries: [{cidr: 192.0.2.0/24}]}
PREFIX_LIST
port_lists:
  - {port_list_id: prl-a, max_entries: 2, entries: [{port_range: 80/90}]}
PORT_LIST
security_groups:
  - {security_group_id: sg-a, vpc_id: vpc-a}
  - {security_group_id: sg-adv, vpc_id: vpc-a, security_group_type: enterprise}
  - {security_group_id: sg-managed, vpc_id: vpc-a, service_managed: true}
  - {security_group_id: sg-b, vpc_id: vpc-b}
  - {security_group_id: sg-old, vpc_id: vpc-old}
GROUP
instances:
  - {instance_id: i-a}
  - {instance_id: i-b}
  - {instance_id: i-old}
INSTANCE
network_interfaces:
  - {network_interface_id: eni-a, instance_id: i-a, vpc_id: vpc-a, mac_address: "00:16:3e:00:00:01",
     private_ip_addresses: [10.0.0.1], ipv4_prefixes: [10.0.9.0/28], security_group_ids: [sg-a]}
  - {network_interface_id: eni-old, instance_id: i-old, vpc_id: vpc-old, private_ip_addresses: [10.9.0.1],
     security_group_ids: [sg-old]}
ENI
"""
SLOTS = ("VPC", "PREFIX_LIST", "PORT_LIST", "GROUP", "INSTANCE", "ENI")
# Where the object in a slot stands.
POINTERS = {
    "VPC": "/vpcs/3",
    "PREFIX_LIST": "/prefix_lists/1",
    "PORT_LIST": "/port_lists/1",
    "GROUP": "/security_groups/5",
    "INSTANCE": "/instances/3",
    "ENI": "/network_interfaces/2",
    "RULE": "/security_groups/5/rules/0",
}


def document(slot: str, text: str) -> str:
    """The base with a flow mapping in one slot, on the line marked HERE."""
    filled = dict.fromkeys(SLOTS, "") | {slot: f"  - {text} {HERE}\n"}
    return "".join(filled.get(line.strip(), line) for line in BASE.splitlines(keepends=True))


def rule_document(rule: str, group: str = "vpc_id: vpc-a") -> str:
    """The base with a group sg-rule that has the rule, which is on the line marked HERE."""
    rules = f"  - security_group_id: sg-rule\n    {group.replace(', ', chr(10) + '    ')}\n    rules:\n"
    return document("GROUP", "{}").replace(f"  - {{}} {HERE}\n", f"{rules}      - {rule} {HERE}\n")


def marked_line(text: str) -> int:
    """The 1-based line marked HERE."""
    return next(number for number, line in enumerate(text.splitlines(), 1) if line.endswith(HERE))


def load_text(folder: Path, text: str, *, name: str = "state.yaml", profile: str = "seed") -> Loaded:
    """What `load` makes of a text in a file of that name; StateFileError if it is refused."""
    path = folder / name
    path.write_bytes(text.encode())
    return load(path, profile=profile)


def refusals(folder: Path, text: str, *, name: str = "state.yaml", profile: str = "seed") -> tuple[Problem, ...]:
    """Everything that `load` finds wrong in a text; () if it accepts it."""
    try:
        load_text(folder, text, name=name, profile=profile)
    except StateFileError as error:
        return error.problems
    return ()
