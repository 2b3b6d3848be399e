"""How a lab's instances get their policy: the product's own enforcement, asked once per namespace.

Owns the way from the lab's request to it. Must not know how policy is compiled.
"""

from __future__ import annotations

from sgdataplane.enforce import Settings, enforce
from sgdataplane.lab.manage import EnforceRequest


def enforce_policy(request: EnforceRequest) -> None:
    """Put one instance's policy in force. KernelError if refused: then nothing changed there."""
    enforce(request.netns, request.wanted, request.former, Settings(time_scale=request.time_scale))
