"""What `terraform show -json` prints of a state or plan, for tests.

Owns the usual attributes of each kind of resource.
"""

from __future__ import annotations

import json
from typing import Any

Attributes = dict[str, Any]
VPC: Attributes = {"id": "vpc-a", "cidr_block": "10.0.0.0/16"}
GROUP: Attributes = {"id": "sg-a", "name": "a", "vpc_id": "vpc-a", "inner_access_policy": "Drop"}
RULE: Attributes = {
    "security_group_id": "sg-a", "type": "ingress", "ip_protocol": "tcp", "port_range": "22/22", "policy": "accept",
    "priority": 1, "cidr_ip": "10.0.0.0/8",
}  # fmt: skip
INSTANCE: Attributes = {
    "id": "i-a", "instance_name": "web", "private_ip": "10.0.0.5", "network_interface_id": "eni-a",
    "security_groups": ["sg-a"],
}  # fmt: skip
KINDS = {"vpc": VPC, "security_group": GROUP, "security_group_rule": RULE, "instance": INSTANCE}


def resource(address: str, module: str = "", /, **values: object) -> Attributes:
    """What a plan says of one object. `None` stands for what it doesn't know."""
    kind = address.split(".", maxsplit=1)[0]
    usual = KINDS[kind.removeprefix("alicloud_")]
    return {"address": module + address, "mode": "managed", "type": kind, "values": {**usual, **values}}


def module(*resources: Attributes, **children: list[Attributes]) -> Attributes:
    inner = [{"address": f"module.{name}", "resources": found} for name, found in children.items()]
    return {"root_module": {"resources": list(resources), "child_modules": inner}}


def shown(**parts: object) -> str:
    return json.dumps({"format_version": "1.2", "terraform_version": "1.9.5", **parts}, indent=1)


def plan(planned: Attributes, unknown: dict[str, Attributes], configuration: Attributes, prior: object = None) -> str:
    changes = [
        {"address": address, "change": {"actions": ["create"], "after_unknown": names}}
        for address, names in unknown.items()
    ]
    before = {} if prior is None else {"prior_state": {"format_version": "1.0", "values": prior}}
    return shown(planned_values=planned, resource_changes=changes, configuration=configuration, **before)


def refers(address: str, **references: list[str]) -> Attributes:
    """What the configuration says of an object's attributes."""
    expressions = {name: {"references": found} for name, found in references.items()}
    return {"address": address, "expressions": expressions}
