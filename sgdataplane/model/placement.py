"""Where a ruleset stands, as seen from the instances that it protects.

Owns the two names. Must not know hooks.
"""

from __future__ import annotations

from enum import Enum


class Placement(Enum):
    """INSTANCE: in the namespace that stands for the instance, on its ENIs' own interfaces. HOST: out of the instance's
    reach, in the namespace of its VPC's router, on the host ends of the ENIs' links."""

    INSTANCE = "instance"
    HOST = "host"
