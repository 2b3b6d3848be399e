"""PendingEni: an interface that a plan makes, whose address isn't known yet.

Owns the record. Is given checked values by `statefile`. Must not know files or policies.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PendingEni:
    """An interface of a Terraform plan whose address isn't known yet."""

    name: str
    """What the plan calls it, because it has no id yet."""
    vpc_id: str
    security_group_ids: tuple[str, ...]
