"""What is odd about a state but not wrong; a finding never makes anything accept more.

Owns Finding. Must not know files, hosts or nftables.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Severity(enum.Enum):
    """`info` is worth knowing, `warning` is probably a mistake, `high` probably an open door."""

    INFO = "info"
    WARNING = "warning"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Finding:
    """`subject` names the objects concerned: sorted (field, id) pairs such as ("security_group_id", "sg-web")."""

    code: str
    severity: Severity
    message: str
    subject: tuple[tuple[str, str], ...] = ()


def subject(**ids: str) -> tuple[tuple[str, str], ...]:
    """The subject of a finding; empty ids are left out."""
    return tuple(sorted((name, value) for name, value in ids.items() if value))
