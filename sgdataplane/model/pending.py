"""PendingEni: an interface that a plan makes, whose address isn't known yet.

Owns the record. Is given checked values by `statefile`. Must not know files or policies.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PendingEni:
    """`name`: what the plan calls it, as it has no id yet."""

    name: str
    vpc_id: str
    security_group_ids: tuple[str, ...]
